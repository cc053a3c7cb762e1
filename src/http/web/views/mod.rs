//! What each page shows, as plain structs that render themselves (askama, `templates/`). Handlers
//! fill them; nothing here reads a store. Every page carries a [`Frame`]: who is signed in, which
//! project, what is selected in the navigation, the form token and how fresh the data is.
//!
//! Texts are escaped by askama; the few `|safe` in templates take SVG made by `chart` and `icon`
//! and `<time>` elements made here, which escape on their own.

use std::borrow::Borrow;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use askama::Template;
use jiff::tz::TimeZone;

use crate::{
    http::web::format,
    model::{Millis, ProjectId},
};

pub mod icon;

mod account;
mod ask;
mod commands;
mod error;
mod keys;
mod live;
mod login;
mod members;
mod overview;
mod persons;
mod projects;
mod range;
mod rejected;
mod retention;
mod start;
mod step_persons;
mod tickets;

pub use account::AccountPage;
pub use ask::{AnswerView, AskPage, Asked, Menus, PropertyMenu, SeriesRow, ValueTable};
pub use commands::Commands;
pub use error::{BareErrorPage, ErrorPage};
pub use keys::{CreatedKey, KeyKind, KeyRow, KeysPage};
pub use live::{LiveFilter, LivePage, LiveRow};
pub use login::LoginPage;
pub use members::{MemberRow, MembersPage};
pub use overview::{Figure, OverviewPage, TopList, TopRow, TopRows};
pub use persons::{ErasePersonPage, PersonPage, PersonsPage, Profile};
pub use projects::{ProjectForm, ProjectRow, ProjectsPage, SettingsPage, time_zone_names};
pub use range::RangeBar;
pub use rejected::{ReasonCount, RejectedPage, RejectedRow};
pub use retention::{RetentionPage, RetentionPreview};
pub use start::{FIRST_EVENT, Sender, SenderState, StartPage};
pub use step_persons::{StepPersonRow, StepPersonsPage, StepPersonsState};
pub use tickets::{TicketPage, TicketRow, TicketsPage};

/// The selected entry of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nav {
    Overview,
    Ask,
    Live,
    Persons,
    Tickets,
    Start,
    Rejected,
    Retention,
    Keys,
    Members,
    Settings,
    Projects,
    None,
}

/// A project as the switcher shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectLink {
    pub id: ProjectId,
    pub name: String,
}

/// A sentence above what it is about: partial, stale, failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub level: NoteLevel,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteLevel {
    Info,
    Warning,
    Failure,
}

impl Note {
    pub fn warning(text: impl Into<String>) -> Self {
        Self { level: NoteLevel::Warning, text: text.into() }
    }

    pub fn failure(text: impl Into<String>) -> Self {
        Self { level: NoteLevel::Failure, text: text.into() }
    }

    fn class(&self) -> &'static str {
        match self.level {
            NoteLevel::Info => "note",
            NoteLevel::Warning => "note warn",
            NoteLevel::Failure => "note bad",
        }
    }

    fn shape(&self) -> &'static str {
        if self.level == NoteLevel::Info { "info" } else { "warning" }
    }
}

/// The place of an answer: what it shows, or why it does not.
#[derive(Clone, PartialEq, Debug)]
pub enum Panel {
    /// A skeleton of the same size, so that nothing shifts when the answer arrives.
    Waiting,
    /// Markup made by `chart`.
    Ready(String),
    Failed {
        detail: String,
        /// The address of the ticket that failed.
        ticket_href: Option<String>,
    },
}

/// What surrounds every page of a signed-in account.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The page's name, for the browser's tab.
    pub title: String,
    pub nav: Nav,
    /// `None`: nobody is signed in, and the page has no navigation.
    pub account_email: Option<String>,
    /// The token that every form posts back as `csrf`.
    pub csrf: String,
    pub project: Option<ProjectLink>,
    /// All projects of the account, for the switcher.
    pub projects: Vec<ProjectLink>,
    /// The current project's zone, in which every time of the page is written.
    pub time_zone: TimeZone,
    /// The data on the page is complete up to here.
    pub as_of: Option<Millis>,
    pub now: Millis,
}

impl Frame {
    /// The frame of a page that needs no account: log-in and errors.
    pub fn signed_out(title: &str, csrf: &str, now: Millis) -> Self {
        Self {
            title: title.to_owned(),
            nav: Nav::None,
            account_email: None,
            csrf: csrf.to_owned(),
            project: None,
            projects: Vec::new(),
            time_zone: TimeZone::UTC,
            as_of: None,
            now,
        }
    }

    /// The address of a page of the current project; `/projects` when there is none.
    pub fn href(&self, page: &str) -> String {
        match &self.project {
            Some(project) => format!("/p/{}/{page}", project.id),
            None => "/projects".to_owned(),
        }
    }

    pub fn asset(&self, name: &str) -> &'static str {
        crate::http::web::assets::url(name)
    }

    /// The address of the same kind of page in another project.
    pub fn switch_href(&self, project: &ProjectLink) -> String {
        let page = match self.nav {
            Nav::Ask => "ask",
            Nav::Live => "live",
            Nav::Persons => "persons",
            Nav::Tickets => "tickets",
            Nav::Start => "start",
            Nav::Rejected => "rejected",
            Nav::Retention => "retention",
            Nav::Keys => "keys",
            Nav::Members => "members",
            Nav::Settings => "settings",
            Nav::Overview | Nav::Projects | Nav::None => "overview",
        };
        format!("/p/{}/{page}", project.id)
    }

    pub fn is_current(&self, project: &ProjectLink) -> bool {
        self.project.as_ref().is_some_and(|current| current.id == project.id)
    }

    pub fn is_settings(&self) -> bool {
        matches!(self.nav, Nav::Settings | Nav::Retention | Nav::Keys | Nav::Members | Nav::Rejected)
    }

    pub fn zone_name(&self) -> &str {
        self.time_zone.iana_name().unwrap_or("UTC")
    }

    /// A time element: "3 min ago", the exact time on hover.
    pub fn ago(&self, at: impl Borrow<Millis>) -> String {
        let at = *at.borrow();
        self.time_element(at, &format::relative(at, self.now))
    }

    /// A time element with the full local time.
    pub fn at(&self, at: impl Borrow<Millis>) -> String {
        let at = *at.borrow();
        self.time_element(at, &format::date_time(at, &self.time_zone))
    }

    /// A time element with the time of day; the day on hover.
    pub fn clock(&self, at: impl Borrow<Millis>) -> String {
        let at = *at.borrow();
        self.time_element(at, &format::clock_time(at, &self.time_zone))
    }

    fn time_element(&self, at: Millis, shown: &str) -> String {
        let zoned = format::zoned(at, &self.time_zone);
        let exact = format::date_time(at, &self.time_zone);
        format!(
            r#"<time datetime="{}" title="{exact} {}">{shown}</time>"#,
            zoned.timestamp(),
            self.zone_name()
        )
    }
}

/// The page as an answer. Pages hold private data, so nothing on the way may keep them.
pub fn respond(status: StatusCode, page: &impl Template) -> Result<HttpResponse, askama::Error> {
    let body = page.render()?;
    Ok(HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body))
}

#[cfg(test)]
mod tests;
