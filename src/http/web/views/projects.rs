use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::{Millis, ProjectId};

/// The fields of a project as typed, with what is wrong with each. It serves creation and settings.
#[derive(Clone, Default, Debug)]
pub struct ProjectForm {
    pub name: String,
    pub name_error: Option<String>,
    /// An IANA name such as `Europe/Berlin`.
    pub time_zone: String,
    pub time_zone_error: Option<String>,
}

pub struct ProjectRow {
    pub id: ProjectId,
    pub name: String,
    pub time_zone: String,
    pub created_at: Millis,
}

/// `/projects`: all projects of the account, and a form for one more (posts `name`, `time_zone`).
#[derive(Template)]
#[template(path = "projects.html")]
pub struct ProjectsPage {
    pub frame: Frame,
    pub projects: Vec<ProjectRow>,
    pub form: ProjectForm,
    pub time_zones: Vec<String>,
}

/// `/p/{id}/settings` (posts `name`, `time_zone`).
#[derive(Template)]
#[template(path = "settings.html")]
pub struct SettingsPage {
    pub frame: Frame,
    pub form: ProjectForm,
    pub time_zones: Vec<String>,
    pub created_at: Millis,
    /// The form was stored just now.
    pub saved: bool,
    /// Whoever looks is an owner.
    pub may_change: bool,
    /// What is set for all projects, in words.
    pub limits: Vec<(&'static str, String)>,
}

/// The names of all time zones that weir knows, sorted, for the form's menu.
pub fn time_zone_names() -> Vec<String> {
    let mut names: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .filter(|name| {
            name == "UTC" || (name.contains('/') && !name.starts_with("Etc/") && !name.starts_with("posix"))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
