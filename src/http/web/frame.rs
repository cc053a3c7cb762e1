//! What surrounds a page, from who asks for it.

use jiff::tz::TimeZone;

use super::views::{Frame, Nav, ProjectLink};
use crate::access::{Membership, Session};
use crate::http::extract::{ProjectPage, csrf_field};
use crate::http::{ApiError, HttpState};

/// The frame of a page that belongs to no project.
pub async fn account_frame(
    state: &HttpState,
    session: &Session,
    title: &str,
    nav: Nav,
) -> Result<Frame, ApiError> {
    let projects = state.access.list_projects_of(session).await?;
    Ok(Frame {
        title: title.to_owned(),
        nav,
        account_email: Some(session.email.clone()),
        csrf: csrf_field(&session.csrf_token, &*state.random),
        project: None,
        projects: projects.iter().map(link).collect(),
        time_zone: TimeZone::UTC,
        as_of: None,
        now: state.clock.now_ms(),
    })
}

impl ProjectPage {
    /// The frame of a page of this project. `as_of` is left for those who know it.
    pub async fn frame(&self, state: &HttpState, title: &str, nav: Nav) -> Result<Frame, ApiError> {
        let mut frame = account_frame(state, &self.session, title, nav).await?;
        frame.project = Some(ProjectLink { id: self.project.project_id, name: self.project.name.clone() });
        frame.time_zone = self.time_zone();
        Ok(frame)
    }

    /// UTC when this release no longer knows the name that was stored.
    pub fn time_zone(&self) -> TimeZone {
        TimeZone::get(&self.project.time_zone).unwrap_or(TimeZone::UTC)
    }
}

fn link(membership: &Membership) -> ProjectLink {
    ProjectLink { id: membership.project.project_id, name: membership.project.name.clone() }
}
