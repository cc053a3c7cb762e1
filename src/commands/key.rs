//! `weir key`: makes, lists and revokes keys, also beside a running server, which follows within
//! five seconds.

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::output::say;
use super::project::get_project;
use crate::access::Access;
use crate::model::{KeyId, KeyKind};

#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Create a key and print it. A secret key is not shown again.
    Create {
        /// The project's number or its name.
        #[arg(long)]
        project: String,
        #[arg(long, value_enum, default_value_t = Kind::Write)]
        kind: Kind,
        /// What it is for, to tell it from others.
        #[arg(long, default_value = "Command line")]
        label: String,
    },
    /// List a project's keys, the newest first.
    List {
        /// The project's number or its name.
        #[arg(long)]
        project: String,
    },
    /// Revoke a key by its number in the list. It cannot be undone.
    Revoke {
        /// The project's number or its name.
        #[arg(long)]
        project: String,
        key: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Write,
    Secret,
}

pub async fn run(context: &Context, args: KeyArgs) -> anyhow::Result<()> {
    let storage = context.open_storage().await?;
    let access = Access::new(storage.clone(), context.clock.clone(), context.random.clone());
    match args.command {
        KeyCommand::Create { project, kind, label } => {
            let project_id = get_project(&storage.control, &project).await?.project_id;
            let kind = match kind {
                Kind::Write => KeyKind::Write,
                Kind::Secret => KeyKind::Secret,
            };
            let created = access.create_key(project_id, kind, &label, None).await?;
            say!("{}", created.key);
        }
        KeyCommand::List { project } => {
            for key in access.list_keys(get_project(&storage.control, &project).await?.project_id).await? {
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                say!("{:>6}  {:<6}  {state:<7}  {}  {}", key.key_id, key.kind.as_str(), key.shown, key.name);
            }
        }
        KeyCommand::Revoke { project, key } => {
            let project_id = get_project(&storage.control, &project).await?.project_id;
            anyhow::ensure!(
                access.revoke_key(project_id, KeyId(key)).await?,
                "project {project} has no active key {key}; `weir key list --project {project}` shows them"
            );
            say!("Key {key} is revoked. Running servers refuse it within 5 seconds.");
        }
    }
    storage.close().await;
    Ok(())
}
