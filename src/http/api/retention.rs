//! `/api/v1/retention`: for how many days the project keeps its events.
//!
//! What is deleted does not come back, so whoever sets a number of days says with it from which day on
//! events are kept: `GET …/preview?days=30` tells it, together with what would go.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::ticket_view::json;
use super::tickets::{invalid_parameter, json_response};
use crate::access::{ProjectError, RETENTION_DAYS};
use crate::eventstore::retention::{Preview, preview};
use crate::http::extract::{Caller, JsonBody, Params};
use crate::http::web::{format, live};
use crate::http::{ApiError, ErrorCode, FieldError, HttpState};
use crate::model::{Millis, Role, kept_from, utc_day};
use crate::storage::control::projects::Project;

#[derive(Serialize)]
struct RetentionView {
    /// `null`: for ever.
    days: Option<u32>,
    /// The first UTC day of which events are kept, as of today.
    kept_from: Option<String>,
}

#[derive(Serialize)]
struct PreviewView {
    days: u32,
    kept_from: String,
    /// Of what is stored now: how much there is, and how much of it would go.
    events: u64,
    events_before: u64,
    persons: u64,
    persons_before: u64,
    /// A server did not answer; what only it holds is missing.
    partial: bool,
}

#[derive(Deserialize)]
pub struct PreviewQuery {
    days: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// `null` has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    days: Option<u32>,
    /// What the preview said; without days not there.
    #[serde(default)]
    kept_from: Option<String>,
}

/// `GET /api/v1/retention`
pub async fn get_retention(caller: Caller, state: web::Data<HttpState>) -> Result<HttpResponse, ApiError> {
    Ok(answer(caller.project.retention_days, state.clock.now_ms()))
}

/// `GET /api/v1/retention/preview?days=30`
pub async fn preview_retention(
    caller: Caller,
    state: web::Data<HttpState>,
    Params(query): Params<PreviewQuery>,
) -> Result<HttpResponse, ApiError> {
    if !RETENTION_DAYS.contains(&query.days) {
        let refused = ProjectError::Retention { days: query.days };
        return Err(invalid_parameter("days", format!("{refused}.")));
    }
    let kept_from = kept_from(query.days, state.clock.now_ms());
    let found = look(&state, &caller.project, kept_from).await?;
    let view = PreviewView {
        days: query.days,
        kept_from: day(kept_from),
        events: found.events,
        events_before: found.events_before,
        persons: found.persons,
        persons_before: found.persons_before,
        partial: found.is_partial,
    };
    Ok(json_response(StatusCode::OK, json(&view)))
}

/// `PUT /api/v1/retention`
pub async fn set_retention(
    caller: Caller,
    state: web::Data<HttpState>,
    JsonBody(asked): JsonBody<SetRetention>,
) -> Result<HttpResponse, ApiError> {
    caller.require(Role::Owner)?;
    let now = state.clock.now_ms();
    if asked.days.is_none() && asked.kept_from.is_some() {
        let detail = "Without a number of days all events are kept: leave it out.".to_owned();
        let errors = vec![FieldError { pointer: "/kept_from".to_owned(), detail }];
        return Err(ApiError::new(ErrorCode::Invalid, "The retention is not valid.").with_errors(errors));
    }
    let expected =
        asked.days.filter(|days| RETENTION_DAYS.contains(days)).map(|days| day(kept_from(days, now)));
    if let Some(expected) = expected.filter(|expected| asked.kept_from.as_ref() != Some(expected)) {
        let detail =
            format!("Say \"kept_from\": \"{expected}\" to delete what occurred before; see the preview.");
        let errors = vec![FieldError { pointer: "/kept_from".to_owned(), detail }];
        let problem = "The first day that is kept is not the one that this number of days leads to.";
        return Err(ApiError::new(ErrorCode::Invalid, problem).with_errors(errors));
    }
    state.access.set_retention(caller.project_id(), asked.days).await.map_err(refused)?;
    tracing::info!(project.id = %caller.project_id(), by = %caller.id, days = asked.days, "retention was set");
    Ok(answer(asked.days, now))
}

fn answer(days: Option<u32>, now: Millis) -> HttpResponse {
    let view = RetentionView { days, kept_from: days.map(|days| day(kept_from(days, now))) };
    json_response(StatusCode::OK, json(&view))
}

/// `2026-10-30`.
pub fn day(at: Millis) -> String {
    format::utc_date(utc_day(at)).to_string()
}

pub async fn look(state: &HttpState, project: &Project, kept_from: Millis) -> Result<Preview, ApiError> {
    preview(&state.storage.shards, project.project_id, project.span, kept_from).await.map_err(live::failed)
}

fn refused(error: ProjectError) -> ApiError {
    match error {
        ProjectError::Storage(error) => error.into(),
        error => {
            let errors = vec![FieldError { pointer: "/days".to_owned(), detail: format!("{error}.") }];
            ApiError::new(ErrorCode::Invalid, "The retention is not valid.").with_errors(errors)
        }
    }
}
