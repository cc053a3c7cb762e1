//! `/p/{project_id}/persons`: one person by any of their ids, and what they did.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::format;
use super::live;
use super::views::{self, LiveRow, Nav, Note, PersonPage, PersonsPage, Profile};
use crate::eventstore::person::{PersonEvents, PersonRequest, read_person};
use crate::eventstore::recent::{RecentFilter, list_recent};
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};
use crate::model::Role;

/// Recent events that the list of recent persons is taken from.
const RECENT_MAX: usize = 300;
const RECENT_PERSONS_MAX: usize = 25;
const TOP_EVENTS: usize = 6;

#[derive(Deserialize)]
pub struct PersonsQuery {
    #[serde(default)]
    id: String,
}

/// `GET …/persons`: who was here last; `GET …/persons?id=…`: one of them. The id is a parameter and
/// no part of the path, since clients choose ids with slashes and dots in them.
pub async fn show(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<PersonsQuery>,
) -> Result<HttpResponse, ApiError> {
    let frame = project.frame(&state, "Persons", Nav::Persons).await?;
    let shards = &state.storage.shards;
    let project_id = project.project_id();
    let id = query.into_inner().id;
    if id.is_empty() {
        let any = RecentFilter::default();
        let recent =
            list_recent(shards, &state.objects, project_id, RECENT_MAX, &any).await.map_err(live::failed)?;
        let notes = live::missing(&recent, shards).into_iter().map(Note::warning).collect();
        let mut persons: Vec<LiveRow> = Vec::new();
        for event in recent.events {
            if persons.len() < RECENT_PERSONS_MAX
                && !persons.iter().any(|known| event.distinct_id == known.distinct_id)
            {
                persons.push(live::row(event));
            }
        }
        return Ok(views::respond(StatusCode::OK, &PersonsPage { frame, notes, persons })?);
    }
    let limit = state.config.http.person_events_max as usize;
    let span = project.project.span;
    let bytes_max = state.config.http.person_bytes_max as usize;
    let request = PersonRequest {
        project_id,
        span,
        distinct_id: &id,
        after: None,
        kept_from: project.project.kept_from(state.clock.now_ms()),
        limit,
        with_properties: true,
        bytes_max,
    };
    let found = read_person(shards, &state.objects, &request).await.map_err(live::failed)?;
    state.http_metrics.person_read_bytes.observe(found.bytes_read as f64);
    let status = if found.is_unknown() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let profile = profile(&found);
    let rows = found.events.into_iter().map(live::row).collect();
    let may_erase = project.role >= Role::Editor;
    let page = PersonPage { frame, id, profile, rows, more: found.more, may_erase };
    Ok(views::respond(status, &page)?)
}

/// What the events say about the person; `None` when there are none.
fn profile(found: &PersonEvents) -> Option<Profile> {
    let (newest, oldest) = (found.events.first()?, found.events.last()?);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut properties: BTreeMap<String, String> = BTreeMap::new();
    for event in &found.events {
        *counts.entry(&event.event).or_default() += 1;
        // Newest first, so what is there already is the latest.
        for (name, value) in &event.properties {
            properties.entry(name.to_owned()).or_insert_with(|| live::shown(value));
        }
    }
    let mut top: Vec<(String, usize)> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    top.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    top.truncate(TOP_EVENTS);
    Some(Profile {
        distinct_ids: found.distinct_ids.clone(),
        first_at: oldest.occurred_at,
        last_at: newest.occurred_at,
        events: found.events.len(),
        top,
        properties: properties.into_iter().collect(),
        traits: found
            .traits
            .iter()
            .map(|(name, value)| (name.clone(), live::shown(value.as_ref())))
            .collect(),
        first_day: found.days.map(|(first, _)| format::day_month_year(format::utc_date(first))),
    })
}
