//! Projects and who may see them.

use std::sync::Arc;

use super::{Access, Session, keys::make_key};
use crate::model::{AccountId, KeyKind, ProjectId, Role};
use crate::storage::StorageError;
use crate::storage::control::projects::{
    self, InsertProject, PROJECTS_LISTED_MAX, Project, find_project, find_role,
};

pub const PROJECT_NAME_CHARS_MAX: usize = 100;
/// A century is as good as for ever.
pub const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 1..=36_500;

/// A project as one account sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub project: Arc<Project>,
    pub role: Role,
}

pub struct CreateProject {
    pub name: String,
    pub time_zone: String,
    /// Over how many shards its persons are spread; `None` is all.
    pub span: Option<u16>,
    pub owner: Option<AccountId>,
    /// A secret key is shown once, so one is made only where somebody looks.
    pub with_secret_key: bool,
}

pub struct CreatedProject {
    pub project_id: ProjectId,
    pub write_key: String,
    pub secret_key: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("{0}")]
    Name(String),
    #[error("{0}")]
    TimeZone(String),
    #[error("the span is {span}, but it must be between 1 and the {shards} shards of this installation")]
    Span { span: u16, shards: u16 },
    #[error(
        "events can be kept for {} to {} days, or for ever, but not for {days}",
        RETENTION_DAYS.start(),
        RETENTION_DAYS.end()
    )]
    Retention { days: u32 },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Access {
    /// Creates a project with a write key and, when asked for, a secret key.
    pub async fn create_project(&self, create: CreateProject) -> Result<CreatedProject, ProjectError> {
        let name = check_name(&create.name)?;
        let time_zone = check_time_zone(&create.time_zone)?;
        let shards = self.storage.shards.count();
        let span = create.span.unwrap_or(shards);
        if !(1..=shards).contains(&span) {
            return Err(ProjectError::Span { span, shards });
        }
        let now = self.clock.now_ms();
        let make = |kind, name| make_key(kind, name, create.owner, now, &*self.random);
        let (write_key, write) = make(KeyKind::Write, "First write key");
        let (secret_key, secret) =
            create.with_secret_key.then(|| make(KeyKind::Secret, "First secret key")).unzip();
        let insert = InsertProject {
            name,
            time_zone,
            span,
            owner: create.owner,
            keys: std::iter::once(write).chain(secret).collect(),
            created_at: now,
        };
        let project_id = projects::create_project(&self.storage.control, insert).await?;
        if let Some(owner) = create.owner {
            self.projects_of.forget(&owner);
            self.memberships.forget(&(owner, project_id));
        }
        Ok(CreatedProject { project_id, write_key, secret_key })
    }

    /// Renames a project or moves its days to another zone.
    pub async fn update_project(
        &self,
        project_id: ProjectId,
        name: &str,
        time_zone: &str,
    ) -> Result<(), ProjectError> {
        let (name, time_zone) = (check_name(name)?, check_time_zone(time_zone)?);
        projects::update_project(&self.storage.control, project_id, &name, &time_zone).await?;
        self.forget_project(project_id);
        Ok(())
    }

    /// For how many days the project keeps its events; `None`: for ever.
    pub async fn set_retention(&self, project_id: ProjectId, days: Option<u32>) -> Result<(), ProjectError> {
        if let Some(days) = days.filter(|days| !RETENTION_DAYS.contains(days)) {
            return Err(ProjectError::Retention { days });
        }
        projects::set_retention(&self.storage.control, project_id, days).await?;
        self.forget_project(project_id);
        Ok(())
    }

    fn forget_project(&self, project_id: ProjectId) {
        self.memberships.forget_where(|(_, known), _| *known == project_id);
        self.projects_of.forget_where(|_, known| known.iter().any(|m| m.project.project_id == project_id));
        self.secret_keys.forget_where(|_, known| {
            known.as_ref().is_some_and(|(_, project)| project.project_id == project_id)
        });
    }

    /// The project as the account sees it; `None` when there is none or it is a stranger's.
    pub async fn find_membership(
        &self,
        session: &Session,
        project_id: ProjectId,
    ) -> Result<Option<Membership>, StorageError> {
        let now = self.clock.now_ms();
        let key = (session.account_id, project_id);
        if let Some(known) = self.memberships.find(&key, now) {
            return Ok(known);
        }
        let role = match session.is_admin {
            true => Some(Role::Owner),
            false => find_role(&self.storage.control, session.account_id, project_id).await?,
        };
        let membership = match role {
            Some(role) => {
                let project = find_project(&self.storage.control, project_id).await?;
                project.map(|project| Membership { project: Arc::new(project), role })
            }
            None => None,
        };
        self.memberships.keep(key, membership.clone(), now);
        Ok(membership)
    }

    /// Every project that the account sees, the oldest first.
    pub async fn list_projects_of(&self, session: &Session) -> Result<Arc<[Membership]>, StorageError> {
        let now = self.clock.now_ms();
        if let Some(known) = self.projects_of.find(&session.account_id, now) {
            return Ok(known);
        }
        let list: Arc<[Membership]> = if session.is_admin {
            let all = projects::list_projects(&self.storage.control, PROJECTS_LISTED_MAX).await?;
            all.into_iter()
                .map(|project| Membership { project: Arc::new(project), role: Role::Owner })
                .collect()
        } else {
            let own = projects::list_projects_of(&self.storage.control, session.account_id).await?;
            own.into_iter().map(|(project, role)| Membership { project: Arc::new(project), role }).collect()
        };
        self.projects_of.keep(session.account_id, list.clone(), now);
        Ok(list)
    }
}

fn check_name(text: &str) -> Result<String, ProjectError> {
    let name = text.trim();
    let chars = name.chars().count();
    if name.is_empty() {
        return Err(ProjectError::Name("Give the project a name.".to_owned()));
    }
    if chars > PROJECT_NAME_CHARS_MAX {
        return Err(ProjectError::Name(format!(
            "The name has {chars} characters; it may have at most {PROJECT_NAME_CHARS_MAX}."
        )));
    }
    if name.chars().any(|c| c.is_control() || turns_text(c)) {
        return Err(ProjectError::Name("The name may not contain control characters.".to_owned()));
    }
    Ok(name.to_owned())
}

/// Marks that make what follows them, other texts too, run in another direction.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn check_time_zone(text: &str) -> Result<String, ProjectError> {
    let name = text.trim();
    match jiff::tz::TimeZone::get(name) {
        // The database's own spelling, so that "europe/berlin" is stored as people know it.
        Ok(zone) if name.len() <= 64 => Ok(zone.iana_name().unwrap_or(name).to_owned()),
        _ => Err(ProjectError::TimeZone(format!(
            "{name:?} is no known time zone; use a name such as Europe/Berlin or UTC."
        ))),
    }
}
