//! `weir demo`: a project full of a web shop's events, made through the real collection and sealing,
//! and then served.
//!
//! Filling ends with giving the project its final name, so one that was interrupted is filled again
//! the next time: generated events have ids, and count once.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::Context;
use super::filling::Filling;
use super::generate::{GeneratedEvents, Recipe, RecipeArgs};
use super::import::fill::fill;
use super::import::{Chunk, Progress, Unit};
use super::output::line;
use crate::access::{Access, CreateAccount, CreateProject};
use crate::collection::keys::WriteGrant;
use crate::model::{ProjectId, Role};
use crate::storage::Storage;
use crate::storage::control::accounts::find_account_by_email;
use crate::storage::control::projects::{Project, list_projects, set_role};

const DEMO_PROJECT: &str = "Demo shop";
const UNFINISHED_PROJECT: &str = "Demo shop (being filled)";
const DEMO_EMAIL: &str = "demo@weir.local";
const CHUNK_EVENTS: usize = 1_000;
const CHUNKS_WAITING: usize = 4;
const PROJECTS_MAX: u32 = 10_000;

#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Fill and serve the databases of the configuration instead of an embedded store
    #[arg(long)]
    pub on_configured_storage: bool,
}

pub async fn run(args: &DemoArgs, context: &Context) -> anyhow::Result<()> {
    anyhow::ensure!(
        context.config.storage.is_embedded() || args.on_configured_storage,
        "storage.control names a database: the demo would make a project and an account in it. Leave storage.control out, or say --on-configured-storage"
    );
    let recipe = args.recipe.recipe(&*context.clock)?;
    let began = Instant::now();
    let storage = context.open_storage().await?;
    let access = Access::new(storage.clone(), context.clock.clone(), context.random.clone());
    let project = match find_by_name(&storage, DEMO_PROJECT).await? {
        Some(project) => {
            tracing::info!("the demo is filled already: what events it should have is not looked at");
            project
        }
        None => make(context, &storage, &access, recipe).await?,
    };
    let of_accounts = storage.clone();
    let announce = async move || {
        let password = set_login(context, &of_accounts, &access, project.project_id).await?;
        let url = context.config.http.shown_url();
        let overview = format!("{url}/p/{}/overview", project.project_id);
        let _ = match password {
            Some(password) => line(format_args!(
                "\nThe demo is at {overview}\n\n  email     {DEMO_EMAIL}\n  password  {password}\n\n\
                 The password is new with every start of the demo on a terminal."
            )),
            None => line(format_args!(
                "\nThe demo is at {overview}\n\n  email     {DEMO_EMAIL}\n\n\
                 Passwords are only printed to a terminal. To set one: weir account reset-password {DEMO_EMAIL}"
            )),
        };
        Ok(())
    };
    super::serve::serve(context, storage, began, announce).await
}

async fn find_by_name(storage: &Storage, name: &str) -> anyhow::Result<Option<Project>> {
    let projects = list_projects(&storage.control, PROJECTS_MAX).await?;
    Ok(projects.into_iter().find(|project| project.name == name))
}

async fn make(
    context: &Context,
    storage: &Storage,
    access: &Access,
    recipe: Recipe,
) -> anyhow::Result<Project> {
    if find_by_name(storage, UNFINISHED_PROJECT).await?.is_none() {
        let create = CreateProject {
            name: UNFINISHED_PROJECT.to_owned(),
            time_zone: "UTC".to_owned(),
            span: None,
            owner: None,
            with_secret_key: false,
        };
        access.create_project(create).await?;
    }
    let project = find_by_name(storage, UNFINISHED_PROJECT).await?;
    let project = project.context("the project that was just made is gone")?;
    fill_project(context, &project, recipe).await?;
    access.update_project(project.project_id, DEMO_PROJECT, "UTC").await?;
    Ok(project)
}

async fn fill_project(context: &Context, project: &Project, recipe: Recipe) -> anyhow::Result<()> {
    let store = Filling::open(context).await?;
    let events = recipe.events;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let maker = tokio::task::spawn_blocking(move || make_chunks(recipe, &sender));
    let grant = WriteGrant { project_id: project.project_id, span: project.span };
    let mut progress = Progress::start("filling the demo project", Unit::Events, Some(events));
    let tally = fill(&store.collector, grant, chunks, |tally| progress.at(tally.accepted, "")).await?;
    progress.done();
    maker.await.context("the generating thread failed")??;
    anyhow::ensure!(
        tally.rejected_total() == 0,
        "{} generated events were rejected: {:?}",
        tally.rejected_total(),
        tally.rejected
    );
    let mut progress = Progress::start("sealing", Unit::Events, Some(events));
    store.wait_until_sealed(|waiting| progress.at(events.saturating_sub(waiting), "")).await?;
    progress.done();
    store.close().await;
    Ok(())
}

/// Ends early, and quietly, when nobody takes the chunks any more.
fn make_chunks(recipe: Recipe, chunks: &mpsc::Sender<Chunk>) -> anyhow::Result<()> {
    let mut line_number = 0;
    let mut chunk = Chunk::default();
    for event in GeneratedEvents::new(recipe) {
        line_number += 1;
        chunk.text += &serde_json::to_string(&event)?;
        chunk.text.push('\n');
        chunk.line_numbers.push(line_number);
        if chunk.line_numbers.len() == CHUNK_EVENTS
            && chunks.blocking_send(std::mem::take(&mut chunk)).is_err()
        {
            return Ok(());
        }
    }
    if !chunk.line_numbers.is_empty() {
        let _ = chunks.blocking_send(chunk);
    }
    Ok(())
}

/// The demo's account, who owns the demo and sees nothing else. On a terminal with a new password:
/// nobody has to remember one for a demo, and none that is known to the world is ever valid.
/// Elsewhere with the one that it has, so that what `weir account reset-password` set stays.
async fn set_login(
    context: &Context,
    storage: &Storage,
    access: &Access,
    project: ProjectId,
) -> anyhow::Result<Option<String>> {
    let shows = std::io::stdout().is_terminal();
    let (account_id, password) = match find_account_by_email(&storage.control, DEMO_EMAIL).await? {
        Some(account) if shows => (account.account_id, access.reset_password(DEMO_EMAIL, None).await?),
        Some(account) => (account.account_id, None),
        None => {
            let create = CreateAccount { email: DEMO_EMAIL.to_owned(), password: None, is_admin: false };
            access.create_account(create).await?
        }
    };
    set_role(&storage.control, account_id, project, Role::Owner, context.clock.now_ms()).await?;
    Ok(password.filter(|_| shows))
}
