//! `weir key`: makes, lists and revokes keys, also beside a running server, which follows within
//! five seconds.

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use crate::access::Access;
use crate::model::{KeyId, KeyKind, ProjectId};
use crate::storage::Storage;
use crate::storage::control::projects::find_project;

#[derive(Args, Debug)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Create a key and print it. A secret key is not shown again.
    Create {
        #[arg(long, value_name = "ID")]
        project: u32,
        #[arg(long, value_enum, default_value_t = Kind::Write)]
        kind: Kind,
        /// What it is for, to tell it from others.
        #[arg(long, default_value = "Command line")]
        label: String,
    },
    /// List a project's keys, the newest first.
    List {
        #[arg(long, value_name = "ID")]
        project: u32,
    },
    /// Revoke a key by its number in the list. It cannot be undone.
    Revoke {
        #[arg(long, value_name = "ID")]
        project: u32,
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
            let project_id = existing(&storage, project).await?;
            let kind = match kind {
                Kind::Write => KeyKind::Write,
                Kind::Secret => KeyKind::Secret,
            };
            let created = access.create_key(project_id, kind, &label, None).await?;
            println!("{}", created.key);
        }
        KeyCommand::List { project } => {
            for key in access.list_keys(existing(&storage, project).await?).await? {
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                println!(
                    "{:>6}  {:<6}  {state:<7}  {}  {}",
                    key.key_id,
                    key.kind.as_str(),
                    key.shown,
                    key.name
                );
            }
        }
        KeyCommand::Revoke { project, key } => {
            let project_id = existing(&storage, project).await?;
            anyhow::ensure!(
                access.revoke_key(project_id, KeyId(key)).await?,
                "project {project} has no active key {key}; `weir key list --project {project}` shows them"
            );
            println!("Key {key} is revoked. Running servers refuse it within 5 seconds.");
        }
    }
    storage.close().await;
    Ok(())
}

async fn existing(storage: &Storage, project: u32) -> anyhow::Result<ProjectId> {
    let found = find_project(&storage.control, ProjectId(project)).await?;
    let found = found.ok_or_else(|| {
        anyhow::anyhow!("there is no project {project}; `weir project list` shows all of them")
    })?;
    Ok(found.project_id)
}
