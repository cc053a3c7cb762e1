//! `/p/{project_id}/start`: how to send a first event.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::live;
use super::views::{self, Nav, StartPage};
use crate::access::find_write_key;
use crate::eventstore::recent::{RecentFilter, list_recent};
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};

/// `GET …/start`.
pub async fn show(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    let keys = state.access.list_keys(project.project_id()).await?;
    let recent = list_recent(&state.storage.shards, project.project_id(), 1, &RecentFilter::default()).await;
    let recent = recent.map_err(live::failed)?;
    let last_event_at = recent.events.first().map(|event| event.received_at);
    let page = StartPage {
        frame: project.frame(&state, "Get started", Nav::Start).await?,
        public_url: state.config.http.shown_url(),
        write_key: find_write_key(&keys).map(|key| key.shown.clone()),
        last_event_at,
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}
