//! `/projects`: all that the account sees, and a form for one more.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::frame::account_frame;
use super::index::see_other;
use super::views::{self, Nav, ProjectForm, ProjectRow, ProjectsPage, time_zone_names};
use crate::access::{CreateProject, ProjectError, Session};
use crate::http::extract::{CsrfForm, SignedIn};
use crate::http::{ApiError, HttpState};

#[derive(Deserialize)]
pub struct ProjectFields {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub time_zone: String,
}

/// `GET /projects`.
pub async fn list(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
) -> Result<HttpResponse, ApiError> {
    let form = ProjectForm { time_zone: "UTC".to_owned(), ..ProjectForm::default() };
    page(&state, &session, StatusCode::OK, form).await
}

/// `POST /projects`: the account becomes the owner; on to how to send a first event.
pub async fn create(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
    CsrfForm(fields): CsrfForm<ProjectFields>,
) -> Result<HttpResponse, ApiError> {
    let create = CreateProject {
        name: fields.name.clone(),
        time_zone: fields.time_zone.clone(),
        span: None,
        owner: Some(session.account_id),
        with_secret_key: false,
    };
    match state.access.create_project(create).await {
        Ok(created) => Ok(see_other(&format!("/p/{}/start", created.project_id))),
        Err(error) => {
            let form = form_with(fields, error)?;
            page(&state, &session, StatusCode::BAD_REQUEST, form).await
        }
    }
}

/// The form as it was typed, with what is wrong at the field that it belongs to.
pub(super) fn form_with(fields: ProjectFields, error: ProjectError) -> Result<ProjectForm, ApiError> {
    let mut form = ProjectForm { name: fields.name, time_zone: fields.time_zone, ..ProjectForm::default() };
    match error {
        ProjectError::Name(text) => form.name_error = Some(text),
        ProjectError::TimeZone(text) => form.time_zone_error = Some(text),
        ProjectError::Span { .. } | ProjectError::Retention { .. } => return Err(ApiError::internal(error)),
        ProjectError::Storage(error) => return Err(error.into()),
    }
    Ok(form)
}

async fn page(
    state: &HttpState,
    session: &Session,
    status: StatusCode,
    form: ProjectForm,
) -> Result<HttpResponse, ApiError> {
    let memberships = state.access.list_projects_of(session).await?;
    let projects = memberships.iter().map(|membership| ProjectRow {
        id: membership.project.project_id,
        name: membership.project.name.clone(),
        time_zone: membership.project.time_zone.clone(),
        created_at: membership.project.created_at,
    });
    let page = ProjectsPage {
        frame: account_frame(state, session, "Projects", Nav::Projects).await?,
        projects: projects.collect(),
        form,
        time_zones: time_zone_names(),
    };
    Ok(views::respond(status, &page)?)
}
