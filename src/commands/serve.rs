//! `weir serve`: the whole program, until it is told to stop.

use std::io::IsTerminal;
use std::time::Instant;

use super::Context;
use super::output::line;
use crate::access::{Access, FirstAccount};
use crate::app::{App, AppParts};
use crate::http::Stop;
use crate::storage::Storage;
use crate::storage::control::accounts::has_accounts;

pub async fn run(context: &Context) -> anyhow::Result<()> {
    let began = Instant::now();
    let storage = context.open_storage().await?;
    let of_accounts = storage.clone();
    serve(context, storage, began, async || {
        show_first_steps(context, first_account(context, &of_accounts).await?.as_ref());
        Ok(())
    })
    .await
}

/// Serves a store that is open; `announce` prints what the person in front of the terminal needs. It is called once
/// nothing is in the way of serving any more: a password is shown once, and not by a start that fails.
pub async fn serve(
    context: &Context,
    storage: Storage,
    began: Instant,
    announce: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let app =
        App::start(AppParts { config: context.config.clone(), storage, random: context.random.clone() })
            .await?;
    let bound = app.bind();
    let announced = match &bound {
        Ok(_) => announce().await,
        Err(_) => Ok(()),
    };
    let server = match (bound, announced) {
        (Ok(server), Ok(())) => server,
        (Err(error), _) | (_, Err(error)) => {
            app.stop().await;
            return Err(error);
        }
    };
    tracing::info!(
        http.address = %server.address(),
        ops.address = %server.ops_address(),
        start.ms = began.elapsed().as_millis() as u64,
        "ready"
    );
    app.serve(server, stop_signal()).await
}

/// Made only when somebody is there to read its password.
async fn first_account(context: &Context, storage: &Storage) -> anyhow::Result<Option<FirstAccount>> {
    if !std::io::stdout().is_terminal() {
        if !has_accounts(&storage.control).await? {
            tracing::warn!(
                "nobody can log in yet. Without a terminal no account is made; run with the same settings: \
                 weir account create YOU@EXAMPLE.COM --admin, and weir project create NAME for keys"
            );
        }
        return Ok(None);
    }
    let access = Access::new(storage.clone(), context.clock.clone(), context.random.clone());
    Ok(access.ensure_first_account().await?)
}

/// Whether somebody reads it changes nothing: the log is elsewhere.
fn show_first_steps(context: &Context, first: Option<&FirstAccount>) {
    let url = context.config.http.shown_url();
    let Some(FirstAccount { email, password, write_key, .. }) = first else {
        let _ = line(format_args!("weir is at {url}"));
        return;
    };
    let _ = line(format_args!(
        "\nweir is at {url}\n\n\
         \x20 email     {email}\n\
         \x20 password  {password}\n\
         \x20 write key {write_key}\n\n\
         This password is shown only now. Send a first event:\n\n\
         \x20 curl {url}/api/v1/events \\\n\
         \x20   -H 'Authorization: Bearer {write_key}' \\\n\
         \x20   -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"event\": \"hello\", \"distinct_id\": \"me\", \"properties\": {{\"from\": \"curl\"}}}}'\n"
    ));
}

/// Ctrl-C or the TERM that service managers send. A second one ends the process at once.
async fn stop_signal() -> Stop {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            tracing::warn!(%error, "TERM cannot be listened to");
            return std::future::pending().await;
        }
    };
    let stop = tokio::select! {
        _ = term.recv() => Stop::Announced,
        // No load balancer looks at what runs in a terminal.
        _ = tokio::signal::ctrl_c() => Stop::Now,
    };
    tracing::info!("stopping: requests in flight are answered first");
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        std::process::exit(130);
    });
    stop
}
