//! `weir ask`: asks a server a question, follows its ticket, prints the answer.
//!
//! It talks to the public API with a secret key, as any other client does, and opens no store. What
//! the answer is goes to standard output, everything else to standard error, and the exit code says
//! how it went ([`AskError::exit_code`]). Ctrl-C cancels the ticket.

mod client;
mod question;
mod table;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::client::{Client, Problem, TicketView};
use super::Context;
use super::output::remark;
use crate::analysis::{Away, Completeness};

const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

#[derive(Args, Debug)]
#[command(after_help = "\
The key is best given as WEIR_SECRET_KEY: other people of this machine see command lines. WEIR_SERVER \
names the server.

Exit codes: 0 answered; 1 the ticket failed or was cancelled; 2 the question or the command line is \
wrong; 3 the key is not accepted; 4 the server cannot be reached or has too much to do; 130 interrupted.

  weir ask --event purchased --every day --from -7d
  weir ask --event purchased --measure sum --property amount --by country --where plan=pro
  weir ask --step product_viewed --step added_to_cart --step purchased --window 7d
  weir ask question.json --csv > answer.csv")]
pub struct AskArgs {
    /// The question as JSON, a file with it, or - for standard input. Without it the flags ask.
    #[arg(value_name = "QUESTION", conflicts_with_all = ["events", "measure", "property", "by", "every", "from", "to", "filters", "steps", "window"])]
    question: Option<String>,
    /// Where weir is [env: WEIR_SERVER] [default: http://127.0.0.1:8080].
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A secret key of the project, sk_… [env: WEIR_SECRET_KEY].
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Count these events; all when none is named.
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,
    /// count, persons, per_person, or with --property sum, avg, min, max, median, p90, p95, p99.
    #[arg(long, value_name = "MEASURE", default_value = "count")]
    measure: String,
    #[arg(long, value_name = "NAME")]
    property: Option<String>,
    /// Break down by this property, or by "event".
    #[arg(long, value_name = "PROPERTY")]
    by: Option<String>,
    /// A number for each hour, day, week or month.
    #[arg(long, value_name = "GRANULARITY")]
    every: Option<String>,
    /// A date, an RFC 3339 time, or relative as -30d; it belongs to the range.
    #[arg(long, value_name = "WHEN", default_value = "-30d", allow_hyphen_values = true)]
    from: String,
    /// The same; it does not belong to the range.
    #[arg(long, value_name = "WHEN", default_value = "now", allow_hyphen_values = true)]
    to: String,
    /// Only events with this: country=NL, total>=100, path~/docs; also !=, >, <, <=, !~.
    #[arg(long = "where", value_name = "FILTER")]
    filters: Vec<String>,
    /// A step of a funnel, in order.
    #[arg(long = "step", value_name = "EVENT")]
    steps: Vec<String>,
    /// How long a person may take through the funnel, as 7d.
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    /// Wait until everything that was received before is part of the answer.
    #[arg(long)]
    fresh: bool,
    /// Print the answer as JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the answer as CSV, safe to open in a spreadsheet.
    #[arg(long)]
    csv: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{0}")]
    Usage(String),
    #[error("{}", shown(.0))]
    Invalid(Problem),
    #[error(
        "{server} does not accept the key: give a secret key (sk_…) of the project, which Settings > Keys or `weir key create --kind secret` make"
    )]
    Key { server: String },
    #[error("{server} cannot be reached: {cause}")]
    Unreachable { server: String, cause: String },
    #[error("{server} does not seem to be weir: {found}")]
    NotWeir { server: String, found: String },
    #[error("the server cannot answer now: {detail}")]
    Busy { detail: String },
    #[error("{0}")]
    Failed(String),
    #[error("interrupted; the ticket is cancelled")]
    Interrupted,
}

impl AskError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) | Self::Invalid(_) => 2,
            Self::Key { .. } => 3,
            Self::Unreachable { .. } | Self::NotWeir { .. } | Self::Busy { .. } => 4,
            Self::Interrupted => 130,
        }
    }
}

/// Every problem of a question on a line of its own, with its place.
fn shown(problem: &Problem) -> String {
    if let [only] = problem.errors.as_slice() {
        return format!("{} (at {})", only.detail, only.pointer);
    }
    let lines = problem.errors.iter().map(|error| format!("\n  {}: {}", error.pointer, error.detail));
    problem.detail.clone() + &lines.collect::<String>()
}

pub async fn run(context: &Context, args: AskArgs) -> anyhow::Result<()> {
    let question = question::read(&args)?;
    let from_environment = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let server = args.server.clone().or_else(|| from_environment("WEIR_SERVER"));
    let server = server.unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    if !server.starts_with("http://") && !server.starts_with("https://") {
        return Err(
            AskError::Usage(format!("--server {server:?} begins with neither https:// nor http://")).into()
        );
    }
    let key = args.key.clone().or_else(|| from_environment("WEIR_SECRET_KEY")).ok_or_else(|| {
        AskError::Usage("no key: set WEIR_SECRET_KEY, or give --key, to a secret key (sk_…)".to_owned())
    })?;

    let client = Client::new(&server, &key);
    let current = Current::default();
    let idempotency_key = format!("ask-{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let mut asking = {
        let (client, current) = (client.clone(), current.clone());
        tokio::task::spawn_blocking(move || {
            let ticket = answered(&client, &question, &idempotency_key, &current)?;
            print(&client, &ticket, &args)
        })
    };
    tokio::select! {
        asked = &mut asking => Ok(asked??),
        _ = tokio::signal::ctrl_c() => match current.interrupt() {
            Some(ticket_id) => {
                // Without an answer from the server the ticket ends by itself, when its time is over.
                let _ = tokio::task::spawn_blocking(move || client.cancel(&ticket_id)).await;
                Err(AskError::Interrupted.into())
            }
            // It is being submitted, and cancelled as soon as it has an id.
            None => Ok(asking.await??),
        },
    }
}

/// The ticket that is being followed, and whether somebody has had enough of it.
#[derive(Clone, Default)]
struct Current(Arc<Mutex<(Option<String>, bool)>>);

impl Current {
    /// Whether there was an interrupt before.
    fn follow(&self, ticket_id: &str) -> bool {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.0 = Some(ticket_id.to_owned());
        state.1
    }

    fn interrupt(&self) -> Option<String> {
        let mut state = self.0.lock().expect("nobody panics with it");
        state.1 = true;
        state.0.clone()
    }
}

/// Submits the question and follows its ticket to a result.
fn answered(
    client: &Client,
    question: &Value,
    idempotency_key: &str,
    current: &Current,
) -> Result<TicketView, AskError> {
    let mut ticket = client.submit(question, idempotency_key)?;
    if current.follow(&ticket.id) {
        client.cancel(&ticket.id)?;
        return Err(AskError::Interrupted);
    }
    let bar = (!ticket.is_final() && std::io::stderr().is_terminal()).then(progress_bar);
    while !ticket.is_final() {
        if let Some(bar) = &bar {
            show(bar, &ticket);
        }
        if let Some(changed) = client.follow(&ticket)? {
            ticket = changed;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    match (ticket.state.as_str(), &ticket.error) {
        ("succeeded", _) => Ok(ticket),
        ("cancelled", _) => Err(AskError::Failed("the ticket was cancelled".to_owned())),
        (_, Some(error)) => Err(AskError::Failed(error.detail.clone())),
        (_, None) => Err(AskError::Failed("the ticket failed".to_owned())),
    }
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{spinner} {bar:32} {msg} {elapsed}");
    bar.set_style(style.expect("the template names known fields"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn show(bar: &ProgressBar, ticket: &TicketView) {
    let progress = ticket.progress;
    if ticket.state == "queued" {
        let ahead = ticket.queue_position.map_or(0, |position| position.saturating_sub(1));
        bar.set_message(format!("waiting, {ahead} ahead"));
    } else if progress.rows_total > 0 {
        bar.set_length(progress.rows_total);
        bar.set_position(progress.rows_done);
        let rows = table::grouped(progress.rows_total);
        bar.set_message(format!(
            "shard {} of {}, {rows} rows",
            progress.shards_done.min(progress.shards_total),
            progress.shards_total
        ));
    } else {
        bar.set_message(ticket.state.clone());
    }
}

fn partial_in_words(away: Option<&Away>) -> String {
    let away = match away {
        Some(away) if !away.shards.is_empty() => {
            let shards: Vec<String> = away.shards.iter().map(ToString::to_string).collect();
            let since = away.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
            let (missing, total) = (shards.len(), away.shards_total);
            format!("{missing} of {total} shards could not be read{since} ({})", shards.join(", "))
        }
        _ => "a server could not be read".to_owned(),
    };
    format!("the answer is partial: {away}. Ask again later.")
}

fn print(client: &Client, ticket: &TicketView, args: &AskArgs) -> Result<(), AskError> {
    let mut out = std::io::stdout().lock();
    let is_terminal = out.is_terminal();
    let mut write = |text: &str| {
        // A reader that has seen enough, such as `head`, is no failure.
        let _ = out.write_all(if is_terminal { table::harmless(text) } else { text.into() }.as_bytes());
    };
    let mut away = None;
    if args.csv {
        client.csv(ticket, &mut write)?;
    } else {
        let result = client.result(ticket)?;
        away = serde_json::from_value::<Completeness>(result.clone()).ok().and_then(|said| said.away);
        if args.json {
            write(&format!("{}\n", serde_json::to_string(&result).expect("JSON is written as JSON")));
        } else {
            write(&table::of(&result));
        }
    }
    let _ = out.flush();
    if ticket.partial {
        remark(format_args!("weir: {}", partial_in_words(away.as_ref())));
    }
    if let (false, Some(as_of)) = (args.json || args.csv, &ticket.as_of) {
        remark(format_args!("as of {as_of}, from {}", client.server()));
    }
    Ok(())
}
