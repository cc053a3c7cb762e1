//! `weir account`: makes accounts and resets passwords, also beside a running server.

use std::io::BufRead;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::output::say;
use super::project::get_project;
use crate::access::{Access, CreateAccount};
use crate::model::Role;
use crate::storage::control::projects::set_role;

#[derive(Args, Debug)]
pub struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Subcommand, Debug)]
enum AccountCommand {
    /// Create an account and print its password, once.
    Create {
        email: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// The account sees and owns every project.
        #[arg(long)]
        admin: bool,
        /// Make the account a member of this project, given by number or name.
        #[arg(long, conflicts_with = "admin")]
        project: Option<String>,
        /// What it may do there.
        #[arg(long, value_enum, default_value_t = MemberRole::Editor, requires = "project")]
        role: MemberRole,
    },
    /// Set a new password, print it once, and end the account's sessions.
    ResetPassword {
        email: String,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MemberRole {
    Viewer,
    Editor,
    Owner,
}

impl MemberRole {
    fn role(self) -> Role {
        match self {
            Self::Viewer => Role::Viewer,
            Self::Editor => Role::Editor,
            Self::Owner => Role::Owner,
        }
    }
}

pub async fn run(context: &Context, args: AccountArgs) -> anyhow::Result<()> {
    let storage = context.open_storage().await?;
    let access = Access::new(storage.clone(), context.clock.clone(), context.random.clone());
    match args.command {
        AccountCommand::Create { email, password_stdin, admin, project, role } => {
            let project = match project {
                Some(project) => Some(get_project(&storage.control, &project).await?.project_id),
                None => None,
            };
            let password = password_stdin.then(read_password).transpose()?;
            let create = CreateAccount { email: email.clone(), password, is_admin: admin };
            let (account_id, made) = access.create_account(create).await?;
            if let Some(project) = project {
                let now = context.clock.now_ms();
                set_role(&storage.control, account_id, project, role.role(), now).await?;
            }
            say!("Account {} is ready.", email.trim().to_lowercase());
            print_made(made)?;
        }
        AccountCommand::ResetPassword { email, password_stdin } => {
            let password = password_stdin.then(read_password).transpose()?;
            let made = access.reset_password(&email, password).await?;
            say!("The password of {} is set, and its sessions have ended.", email.trim().to_lowercase());
            print_made(made)?;
        }
    }
    storage.close().await;
    Ok(())
}

fn print_made(made: Option<String>) -> anyhow::Result<()> {
    if let Some(password) = made {
        say!("Password: {password}   (it is not shown again)");
    }
    Ok(())
}

fn read_password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the password cannot be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
