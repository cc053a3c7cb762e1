//! `/api/v1/catalogue`: which events and properties the project has, for the menus of other programs.
//!
//! Names and counts are of what is sealed, and up to ten seconds old; examples are read anew each time.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::Serialize;
use serde_json::Value;

use super::ticket_view::{json, rfc3339};
use super::tickets::json_response;
use crate::eventstore::examples::examples_of;
use crate::eventstore::format::PropertyKind;
use crate::eventstore::recent::{RecentFilter, list_recent};
use crate::http::extract::Caller;
use crate::http::web::live;
use crate::http::{ApiError, HttpState};
use crate::model::PropertyRef;

/// Example values are taken from so many of the events that arrived last.
const EVENTS_LOOKED_AT: usize = 500;

#[derive(Serialize)]
struct CatalogueView<'a> {
    /// The most frequent first, as many as `http.catalogue_names_max` allows.
    events: Vec<EventView<'a>>,
    /// There are rarer ones, which can be asked for like any other.
    more_events: bool,
    properties: Vec<PropertyView<'a>>,
    more_properties: bool,
    /// A server did not answer; what only it holds is missing.
    partial: bool,
}

#[derive(Serialize)]
struct EventView<'a> {
    name: &'a str,
    count: u64,
    last_seen_at: String,
}

#[derive(Serialize)]
struct PropertyView<'a> {
    name: &'a str,
    /// Events that have it.
    count: u64,
    last_seen_at: String,
    /// How many values of each type: `string`, `integer`, `float`, `boolean`, `json`.
    types: BTreeMap<PropertyKind, u64>,
    /// Values that several persons share, from the latest events.
    examples: Vec<Value>,
}

/// `GET /api/v1/catalogue`
pub async fn get_catalogue(caller: Caller, state: web::Data<HttpState>) -> Result<HttpResponse, ApiError> {
    let project_id = caller.project_id();
    let menu = state.menus.get(&state.storage, project_id, state.clock.now_ms()).await?;
    let any = RecentFilter::default();
    let recent = list_recent(&state.storage.shards, &state.objects, project_id, EVENTS_LOOKED_AT, &any);
    let recent = recent.await.map_err(live::failed)?;
    let mut examples = examples_of(&recent.events);
    let mut events: Vec<EventView> = menu
        .events
        .iter()
        .map(|(name, event)| EventView { name, count: event.rows, last_seen_at: rfc3339(event.last_at) })
        .collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.count));
    let mut properties: Vec<PropertyView> = menu
        .properties
        .iter()
        .map(|(name, property)| PropertyView {
            name,
            count: property.rows,
            last_seen_at: rfc3339(property.last_at),
            types: property.kinds.clone(),
            examples: examples
                .remove(name.as_str())
                .into_iter()
                .flatten()
                .map(PropertyRef::to_json)
                .collect(),
        })
        .collect();
    properties.sort_by_key(|property| std::cmp::Reverse(property.count));
    let view = CatalogueView {
        events,
        more_events: menu.more_events,
        properties,
        more_properties: menu.more_properties,
        partial: menu.is_partial || !recent.missing.is_empty(),
    };
    Ok(json_response(StatusCode::OK, json(&view)))
}
