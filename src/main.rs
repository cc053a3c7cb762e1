//! `weir`: reads the command line and hands over to [`weir::commands`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir::commands::output::{ReaderGone, remark};
use weir::commands::{self, Context};

// Many threads that allocate in bursts make the C library's allocator keep what its arenas once had:
// a minute after filling the demo 258 MB were resident, with this one 164 MB. Without huge pages: each
// thread touches little of many of them, and an idle server had 32 MB instead of 7.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Product analytics on the MySQL and Redis you already run.
#[derive(Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    /// The configuration file; config/weir.toml when it exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve collection, API and pages; what weir does without a command.
    Serve,
    /// Fill a demo project with a web shop's events, once, and serve it.
    Demo(commands::demo::DemoArgs),
    /// Apply the schemas to the control database and to every server, and end.
    Migrate,
    /// Look at the configuration, every server and Redis, and say what to fix.
    Doctor,
    /// List servers and shards: what waits, who works, what is stored.
    Shards(commands::shards::ShardsArgs),
    /// Ask the running server of this configuration whether it is well; fails when it is not.
    Healthcheck(commands::healthcheck::HealthcheckArgs),
    /// Make and list projects.
    Project(commands::project::ProjectArgs),
    /// Make, list and revoke keys.
    Key(commands::key::KeyArgs),
    /// Make accounts and reset passwords.
    Account(commands::account::AccountArgs),
    /// Ask a server a question and print the answer.
    Ask(Box<commands::ask::AskArgs>),
    /// Write believable events of a web shop as NDJSON.
    Generate(commands::generate::GenerateArgs),
    /// Read files of events into a project.
    Import(commands::import::ImportArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match commands::read_config(cli.config.as_ref()) {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    weir::telemetry::start_logging(&config.log);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, meant) in weir::config::misspelt(names) {
        tracing::warn!("{name} is not read: the setting is {meant}, with two underscores between its parts");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command, Context::new(config))),
        Err(error) => Err(error.into()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(command: Option<Command>, context: Context) -> anyhow::Result<()> {
    match command {
        Some(Command::Project(args)) => commands::project::run(&context, args).await,
        Some(Command::Key(args)) => commands::key::run(&context, args).await,
        Some(Command::Account(args)) => commands::account::run(&context, args).await,
        Some(Command::Demo(args)) => commands::demo::run(&args, &context).await,
        Some(Command::Shards(args)) => commands::shards::run(&context, args).await,
        Some(Command::Healthcheck(args)) => commands::healthcheck::run(&context, args).await,
        Some(Command::Ask(args)) => commands::ask::run(&context, *args).await,
        Some(Command::Doctor) => commands::doctor::run(&context).await,
        None | Some(Command::Serve) => commands::serve::run(&context).await,
        Some(Command::Migrate) => commands::migrate::run(&context).await,
        Some(Command::Import(args)) => commands::import::run(&args, &context).await,
        Some(Command::Generate(args)) => commands::generate::run(&args, &*context.clock),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    remark(format_args!("weir: {}", in_one_line(error)));
    match error.downcast_ref::<commands::ask::AskError>() {
        Some(error) => error.exit_code().into(),
        None => ExitCode::FAILURE,
    }
}

/// The chain of causes. The database driver repeats a cause in its own text: it is said once.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text
}
