//! `/p/{project_id}/persons/erase`: takes everything about a person out of the project, after asking.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::index::see_other;
use super::views::{self, ErasePersonPage, Nav};
use crate::erasure::ERASURE;
use crate::http::api::tickets::submit_error;
use crate::http::extract::{CsrfForm, ProjectPage};
use crate::http::{ApiError, HttpState};
use crate::model::Role;
use crate::tickets::{Submit, Tickets};

#[derive(Deserialize)]
pub struct EraseQuery {
    id: String,
}

#[derive(Deserialize)]
pub struct EraseForm {
    distinct_id: String,
    #[serde(default)]
    typed: String,
}

/// `GET …/persons/erase?id=…`: what will go, and a form that has to be filled.
pub async fn show(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<EraseQuery>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Editor)?;
    page(&state, &project, StatusCode::OK, query.into_inner().id, String::new(), None).await
}

/// `POST …/persons/erase`: on to the ticket.
pub async fn erase(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    CsrfForm(form): CsrfForm<EraseForm>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Editor)?;
    if form.typed != form.distinct_id {
        let error = Some("This is not the distinct id, which counts to the letter.");
        let status = StatusCode::BAD_REQUEST;
        return page(&state, &project, status, form.distinct_id, form.typed, error).await;
    }
    let submit = Submit {
        project_id: project.project_id(),
        let_in_with: Some(project.project.clone()),
        kind: ERASURE.to_owned(),
        body: json!({"distinct_id": form.distinct_id}),
        idempotency_key: None,
        created_by: format!("account:{}", project.session.account_id),
    };
    let submitted = tickets.submit(submit).await.map_err(|error| submit_error(ERASURE, error))?;
    Ok(see_other(&format!("/p/{}/tickets/{}", project.project_id(), submitted.ticket.ticket_id)))
}

async fn page(
    state: &HttpState,
    project: &ProjectPage,
    status: StatusCode,
    id: String,
    typed: String,
    error: Option<&'static str>,
) -> Result<HttpResponse, ApiError> {
    let frame = project.frame(state, "Erase a person", Nav::Persons).await?;
    Ok(views::respond(status, &ErasePersonPage { frame, id, typed, error })?)
}
