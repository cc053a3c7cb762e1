//! `/api/v1/persons/{distinct_id}`: who somebody is, and what they did, by any of their ids.
//!
//! The id is one segment of the path, percent-encoded: `/` is `%2F`. Whoever is known under another id
//! too is the same person under both.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ticket_view::{json, rfc3339};
use super::tickets::{invalid_parameter, json_response};
use crate::eventstore::person::{EventPlace, PersonEvents, PersonRequest, read_person};
use crate::http::extract::{Caller, Params};
use crate::http::web::{format, live};
use crate::http::{ApiError, HttpState};
use crate::model::{Event, EventId, PropertyValue};

const EVENTS_DEFAULT: u32 = 100;
/// An answer ends before the event with which it would be longer; at least one is in it. What is read
/// is shorter, but a text of control characters has six bytes for each in JSON.
const ANSWER_BYTES_MAX: usize = 8_000_000;

#[derive(Serialize)]
struct PersonView<'a> {
    /// As it was asked for.
    distinct_id: &'a str,
    /// Every id of the person, sorted.
    distinct_ids: &'a [String],
    /// What events have said about the person with `$set`, `$set_once` and `$identify`.
    traits: BTreeMap<&'a str, Value>,
    /// The UTC days of the first and the last event of all.
    first_day: Option<String>,
    last_day: Option<String>,
    /// When the oldest event that was looked at occurred, and the newest.
    first_seen_at: String,
    last_seen_at: String,
    /// How many events were looked at, the newest ones; with `more_events` there are older ones too.
    events: usize,
    more_events: bool,
    /// Of those, how many of each name, the most frequent first.
    events_by_name: Vec<NameCount<'a>>,
    links: LinksView,
}

#[derive(Serialize)]
struct NameCount<'a> {
    event: &'a str,
    count: usize,
}

#[derive(Serialize)]
struct LinksView {
    #[serde(rename = "self")]
    this: String,
    events: String,
}

#[derive(Serialize)]
struct EventView<'a> {
    event: &'a str,
    event_id: String,
    /// The id that it was sent with.
    distinct_id: &'a str,
    occurred_at: String,
    received_at: String,
    properties: BTreeMap<&'a str, Value>,
}

/// `GET /api/v1/persons/{distinct_id}`
pub async fn get_person(
    caller: Caller,
    state: web::Data<HttpState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let distinct_id = distinct_id(&request)?;
    let limit = state.config.http.person_events_max;
    let found = read(&state, &caller, &distinct_id, None, limit, false).await?;
    let (Some(newest), Some(oldest)) = (found.events.first(), found.events.last()) else {
        return Err(unknown());
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &found.events {
        *counts.entry(&event.event).or_default() += 1;
    }
    let mut events_by_name: Vec<_> =
        counts.into_iter().map(|(event, count)| NameCount { event, count }).collect();
    events_by_name.sort_by_key(|of_name| std::cmp::Reverse(of_name.count));
    let this = address(&distinct_id);
    let view = PersonView {
        distinct_id: &distinct_id,
        distinct_ids: &found.distinct_ids,
        traits: values(&found.traits),
        first_day: found.days.map(|(first, _)| format::utc_date(first).to_string()),
        last_day: found.days.map(|(_, last)| format::utc_date(last).to_string()),
        first_seen_at: rfc3339(oldest.occurred_at),
        last_seen_at: rfc3339(newest.occurred_at),
        events: found.events.len(),
        more_events: found.more,
        events_by_name,
        links: LinksView { events: format!("{this}/events"), this },
    };
    Ok(json_response(actix_web::http::StatusCode::OK, json(&view)))
}

#[derive(Deserialize)]
pub struct ListEvents {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `GET /api/v1/persons/{distinct_id}/events`: newest first; `next` is the address of the next page.
pub async fn list_person_events(
    caller: Caller,
    state: web::Data<HttpState>,
    Params(query): Params<ListEvents>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let distinct_id = distinct_id(&request)?;
    let limit_max = state.config.http.person_events_max;
    let limit = query.limit.unwrap_or(EVENTS_DEFAULT.min(limit_max));
    if !(1..=limit_max).contains(&limit) {
        let detail = format!("It is {limit}; use 1 to {limit_max} (http.person_events_max).");
        return Err(invalid_parameter("limit", detail));
    }
    let after = match &query.cursor {
        None => None,
        Some(text) => Some(parse_cursor(text).ok_or_else(|| {
            invalid_parameter("cursor", "Take it from the `next` of the page before.".to_owned())
        })?),
    };
    let found = read(&state, &caller, &distinct_id, after, limit, true).await?;
    if found.is_unknown() {
        return Err(unknown());
    }
    let page = web::block(move || page(&found, &address(&distinct_id), limit));
    Ok(json_response(actix_web::http::StatusCode::OK, page.await.map_err(ApiError::internal)?))
}

async fn read(
    state: &HttpState,
    caller: &Caller,
    distinct_id: &str,
    after: Option<EventPlace>,
    limit: u32,
    with_properties: bool,
) -> Result<PersonEvents, ApiError> {
    let (project_id, span) = (caller.project_id(), caller.project.span);
    let bytes_max = state.config.http.person_bytes_max as usize;
    let kept_from = caller.project.kept_from(state.clock.now_ms());
    let limit = limit as usize;
    let request =
        PersonRequest { project_id, span, distinct_id, after, kept_from, limit, with_properties, bytes_max };
    let found = read_person(&state.storage.shards, &state.objects, &request).await.map_err(live::failed)?;
    state.http_metrics.person_read_bytes.observe(found.bytes_read as f64);
    Ok(found)
}

/// `{"events": […], "next": …}`, written event by event, so that it can end in time.
fn page(found: &PersonEvents, this: &str, limit: u32) -> bytes::Bytes {
    let mut text = b"{\"events\":[".to_vec();
    let mut last = None;
    let mut more = found.more;
    for event in &found.events {
        let view = json(&EventView {
            event: &event.event,
            event_id: event.event_id.to_string(),
            distinct_id: &event.distinct_id,
            occurred_at: rfc3339(event.occurred_at),
            received_at: rfc3339(event.received_at),
            properties: event.properties.iter().map(|(name, value)| (name, value.to_json())).collect(),
        });
        if last.is_some() {
            if text.len() + view.len() > ANSWER_BYTES_MAX {
                more = true;
                break;
            }
            text.push(b',');
        }
        text.extend_from_slice(&view);
        last = Some(event);
    }
    let next =
        last.filter(|_| more).map(|last| format!("{this}/events?limit={limit}&cursor={}", cursor(last)));
    text.extend_from_slice(b"],\"next\":");
    text.extend_from_slice(&json(&next));
    text.push(b'}');
    text.into()
}

fn values(named: &[(String, PropertyValue)]) -> BTreeMap<&str, Value> {
    named.iter().map(|(name, value)| (name.as_str(), value.to_json())).collect()
}

/// Where the next page begins, as 48 hexadecimal digits.
fn cursor(event: &Event) -> String {
    format!("{:016x}{}", event.occurred_at as u64, hex::encode(event.event_id.0))
}

fn parse_cursor(text: &str) -> Option<EventPlace> {
    let bytes: [u8; 24] = hex::decode(text).ok()?.try_into().ok()?;
    let (at, id) = bytes.split_at(8);
    let occurred_at = i64::from_be_bytes(at.try_into().ok()?);
    Some(EventPlace { occurred_at, event_id: EventId::from_slice(id)? })
}

/// The id out of the path as it was sent: what routes match has been decoded in part, and an id may
/// hold anything.
fn distinct_id(request: &HttpRequest) -> Result<String, ApiError> {
    let segment = request.uri().path().split('/').nth(4).unwrap_or_default();
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(|id| id.into_owned()).map_err(|_| unknown())
}

fn address(distinct_id: &str) -> String {
    format!("/api/v1/persons/{}", utf8_percent_encode(distinct_id, NON_ALPHANUMERIC))
}

fn unknown() -> ApiError {
    ApiError::not_found("Nothing of this distinct id has arrived. Ids are compared to the letter.")
}
