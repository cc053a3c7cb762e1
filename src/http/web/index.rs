//! `GET /` and `GET /p/{project_id}`: on to the page that is meant.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::http::extract::{ProjectPage, SignedIn};
use crate::http::{ApiError, HttpState};

pub async fn show(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
) -> Result<HttpResponse, ApiError> {
    let projects = state.access.list_projects_of(&session).await?;
    Ok(match projects.first() {
        Some(first) => see_other(&format!("/p/{}/overview", first.project.project_id)),
        None => see_other("/projects"),
    })
}

pub async fn project(page: ProjectPage) -> HttpResponse {
    see_other(&format!("/p/{}/overview", page.project_id()))
}

/// After a form, the browser is sent on, so that reloading does not send it again.
pub fn see_other(location: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, location)).finish()
}
