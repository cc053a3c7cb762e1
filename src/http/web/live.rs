//! `/p/{project_id}/live`: what arrived last, on whatever replica.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::views::{self, LiveFilter, LivePage, LiveRow, Nav};
use crate::eventstore::recent::{Recent, RecentFilter, list_recent};
use crate::eventstore::scan::ScanError;
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};
use crate::model::{Event, PropertyRef};
use crate::storage::Shards;

const ROWS_MAX: usize = 100;

#[derive(Deserialize)]
pub struct LiveQuery {
    #[serde(default)]
    event: String,
    #[serde(default)]
    distinct_id: String,
}

/// `GET …/live`.
pub async fn show(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<LiveQuery>,
) -> Result<HttpResponse, ApiError> {
    let LiveQuery { event, distinct_id } = query.into_inner();
    let filter = RecentFilter { event, distinct_id };
    let shards = &state.storage.shards;
    let recent = list_recent(shards, &state.objects, project.project_id(), ROWS_MAX, &filter);
    let recent = recent.await.map_err(failed)?;
    let mut event_names: Vec<String> = recent.events.iter().map(|event| event.event.to_string()).collect();
    event_names.sort_unstable();
    event_names.dedup();
    let missing = missing(&recent, shards);
    let page = LivePage {
        frame: project.frame(&state, "Live", Nav::Live).await?,
        filter: LiveFilter { event: filter.event, distinct_id: filter.distinct_id },
        event_names,
        rows: recent.events.into_iter().map(row).collect(),
        rows_max: ROWS_MAX,
        missing,
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

/// What a list of recent events lacks, in words.
pub(super) fn missing(recent: &Recent, shards: &Shards) -> Vec<String> {
    let (missing, servers) = (recent.missing.len(), shards.servers().len());
    let lacks = (missing > 0)
        .then(|| format!("{missing} of {servers} servers do not answer; events there are not shown."));
    lacks.into_iter().collect()
}

pub(in crate::http) fn failed(error: ScanError) -> ApiError {
    match error {
        ScanError::Storage(error) => error.into(),
        ScanError::Outrun | ScanError::Format { .. } | ScanError::Stopped(_) => ApiError::internal(error),
    }
}

/// A value as people read it.
pub(super) fn shown(value: PropertyRef<'_>) -> String {
    match value {
        PropertyRef::String(text) | PropertyRef::Json(text) => text.to_owned(),
        PropertyRef::Integer(number) => number.to_string(),
        PropertyRef::Float(number) => number.to_string(),
        PropertyRef::Bool(flag) => flag.to_string(),
    }
}

pub(super) fn row(event: Event) -> LiveRow {
    LiveRow {
        event_id: event.event_id.to_string(),
        event: event.event.into(),
        distinct_id: event.distinct_id.into(),
        occurred_at: event.occurred_at,
        received_at: event.received_at,
        properties: event.properties.iter().map(|(name, value)| (name.to_owned(), shown(value))).collect(),
    }
}
