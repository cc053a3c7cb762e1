//! `/p/{project_id}/start`: how to send a first event.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::views::{self, Nav, StartPage};
use crate::access::find_write_key;
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};

/// `GET …/start`.
pub async fn show(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    let keys = state.access.list_keys(project.project_id()).await?;
    let page = StartPage {
        frame: project.frame(&state, "Get started", Nav::Start).await?,
        public_url: state.config.http.shown_url(),
        write_key: find_write_key(&keys).map(|key| key.shown.clone()),
        last_event_at: None,
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}
