//! `weir project`: makes and lists projects, also beside a running server.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::output::say;
use crate::access::{Access, CreateProject};
use crate::model::ProjectId;
use crate::storage::Db;
use crate::storage::control::projects::{PROJECTS_LISTED_MAX, Project, find_project, list_projects};

#[derive(Args, Debug)]
pub struct ProjectArgs {
    #[command(subcommand)]
    command: ProjectCommand,
}

#[derive(Subcommand, Debug)]
enum ProjectCommand {
    /// Create a project and print its keys. The secret key is not shown again.
    Create {
        name: String,
        /// The zone in which the project's days begin.
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        time_zone: String,
        /// Over how many shards persons are spread; all by default. Small projects need few.
        #[arg(long, value_name = "N")]
        span: Option<u16>,
        /// Print one line of JSON: project_id, write_key, secret_key.
        #[arg(long)]
        json: bool,
    },
    /// List the projects.
    List {
        /// Print one line of JSON a project.
        #[arg(long)]
        json: bool,
    },
}

/// What scripts read.
#[derive(Serialize)]
struct CreatedJson<'a> {
    project_id: ProjectId,
    write_key: &'a str,
    secret_key: &'a str,
}

#[derive(Serialize)]
struct ListedJson<'a> {
    project_id: ProjectId,
    name: &'a str,
    time_zone: &'a str,
    span: u16,
}

pub async fn run(context: &Context, args: ProjectArgs) -> anyhow::Result<()> {
    let storage = context.open_storage().await?;
    match args.command {
        ProjectCommand::Create { name, time_zone, span, json } => {
            let access = Access::new(storage.clone(), context.clock.clone(), context.random.clone());
            let create = CreateProject { name, time_zone, span, owner: None, with_secret_key: true };
            let created = access.create_project(create).await?;
            let secret_key = created.secret_key.as_deref().expect("one was asked for");
            if json {
                let created =
                    CreatedJson { project_id: created.project_id, write_key: &created.write_key, secret_key };
                say!("{}", serde_json::to_string(&created)?);
            } else {
                say!("project     {}", created.project_id);
                say!("write key   {}   may only send events, and can be public", created.write_key);
                say!("secret key  {secret_key}   reads and manages; it is not shown again");
            }
        }
        ProjectCommand::List { json } => {
            let projects = list_projects(&storage.control, PROJECTS_LISTED_MAX).await?;
            for project in &projects {
                let (project_id, span) = (project.project_id, project.span);
                let (name, time_zone) = (&project.name, &project.time_zone);
                if json {
                    say!("{}", serde_json::to_string(&ListedJson { project_id, name, time_zone, span })?);
                } else {
                    say!("{project_id:>6}  {time_zone:<24}  {name}");
                }
            }
        }
    }
    storage.close().await;
    Ok(())
}

/// A project by its number, else by its name when exactly one has it.
pub async fn get_project(control: &Db, wanted: &str) -> anyhow::Result<Project> {
    if let Ok(number) = wanted.parse::<u32>()
        && let Some(project) = find_project(control, ProjectId(number)).await?
    {
        return Ok(project);
    }
    let projects = list_projects(control, PROJECTS_LISTED_MAX).await?;
    let mut named = projects.into_iter().filter(|project| project.name == wanted);
    match (named.next(), named.next()) {
        (Some(project), None) => Ok(project),
        (Some(_), Some(_)) => anyhow::bail!("several projects are named {wanted:?}: give the number of one"),
        (None, _) => anyhow::bail!("there is no project {wanted:?}; weir project list shows them"),
    }
}
