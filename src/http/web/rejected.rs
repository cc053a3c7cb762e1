//! `/p/{project_id}/rejected`: where are my events?
//!
//! Rejected events lie on the servers, so all of them are asked, and the page says when one is away.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use serde::Deserialize;

use super::views::{self, Nav, ReasonCount, RejectedPage, RejectedRow};
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};
use crate::model::{BatchId, ProjectId};
use crate::storage::server::failed_events::{self, FailedEvent};
use crate::storage::{Storage, StorageError};

const ROWS_MAX: usize = 100;
const LAST: BatchId = BatchId([0xff; 16]);

#[derive(Deserialize)]
pub struct ListQuery {
    reason: Option<String>,
    /// The id of the last row of the page before.
    before: Option<String>,
}

/// `GET …/rejected`.
pub async fn list(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let reason = query.reason.as_deref().filter(|reason| !reason.is_empty());
    let before = query.before.as_deref().and_then(|text| text.parse().ok()).unwrap_or(LAST);
    let found = read(&state.storage, project.project_id(), reason, before).await?;
    let frame = project.frame(&state, "Rejected events", Nav::Rejected).await?;
    let older_href = found.more.then(|| {
        let last = found.events.last().map(|event| event.failed_id.to_string()).unwrap_or_default();
        match reason {
            // Reasons are of a closed list of plain names; anything else found no rows.
            Some(reason) => format!("{}?reason={reason}&before={last}", frame.href("rejected")),
            None => format!("{}?before={last}", frame.href("rejected")),
        }
    });
    let servers = state.storage.shards.servers().len();
    let page = RejectedPage {
        frame,
        missing: (found.missing > 0).then(|| {
            let missing = found.missing;
            format!("{missing} of {servers} servers do not answer; rejected events there are not shown.")
        }),
        reasons: found.counts.into_iter().map(|(code, count)| ReasonCount { code, count }).collect(),
        reason: reason.map(str::to_owned),
        rows: found.events.into_iter().map(row).collect(),
        kept_max: state.config.collection.rejected_kept_max.into(),
        older_href,
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

struct Found {
    events: Vec<FailedEvent>,
    more: bool,
    counts: Vec<(String, u64)>,
    /// Servers that did not answer.
    missing: usize,
}

async fn read(
    storage: &Storage,
    project_id: ProjectId,
    reason: Option<&str>,
    before: BatchId,
) -> Result<Found, StorageError> {
    let asked = storage.shards.servers().iter().map(|server| async move {
        let db = server.db()?;
        let events = failed_events::list_page(db, project_id, reason, before, ROWS_MAX + 1).await?;
        let counts = failed_events::count_by_reason(db, project_id).await?;
        Ok::<_, StorageError>((events, counts))
    });
    let (mut events, mut counts) = (Vec::new(), Vec::<(String, u64)>::new());
    let mut absent = None;
    let (mut answered, mut missing) = (false, 0);
    for answer in join_all(asked).await {
        match answer {
            Ok((server_events, server_counts)) => {
                answered = true;
                events.extend(server_events);
                for (reason, count) in server_counts {
                    match counts.iter_mut().find(|(known, _)| *known == reason) {
                        Some((_, sum)) => *sum += count,
                        None => counts.push((reason, count)),
                    }
                }
            }
            Err(error) if error.is_transient() => {
                missing += 1;
                absent = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    if let (Some(error), false) = (absent, answered) {
        return Err(error);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.failed_id));
    let more = events.len() > ROWS_MAX;
    events.truncate(ROWS_MAX);
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(Found { events, more, counts, missing })
}

fn row(failed: FailedEvent) -> RejectedRow {
    let sent: serde_json::Value = serde_json::from_slice(&failed.body).unwrap_or_default();
    let text = |name: &str| sent.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    RejectedRow {
        received_at: failed.failed_at,
        detail: in_words(&failed.reason, failed.detail),
        event: text("event"),
        distinct_id: text("distinct_id"),
        body: String::from_utf8_lossy(&failed.body).into_owned(),
        code: failed.reason,
    }
}

/// What the sender was told and, for reasons whose remedy is not plain from it, what to do.
fn in_words(reason: &str, detail: String) -> String {
    let remedy = match reason {
        "event_name" => "Give every event a name in the field \"event\".",
        "distinct_id" => "Say who did it in the field \"distinct_id\".",
        "timestamp" => "Send ISO 8601 or Unix time, or leave the field out to use the time of arrival.",
        "cardinality" => "Put what varies into a property's value, not into names.",
        "not_json" => "Send one JSON object in each line.",
        "too_many_properties" => "Send fewer properties, or group them in an array.",
        "not_an_object" => "An event is an object: {\"event\": …, \"distinct_id\": …}.",
        "too_large" => "Send the text that makes it large elsewhere, and only a reference to it here.",
        "too_deep" => "Flatten what is nested: \"cart.size\" in place of objects within objects.",
        "duplicate_field" => "Two parts of the sender write the same field: keep one.",
        "anonymous_id" => "Use the id that the visitor had before log-in, or leave the field out.",
        "id" => "Give every event an id of its own, a UUID at best, so that sending it again counts once.",
        "properties" => "Send properties as an object of names and values.",
        "property_name" => {
            "Give every property a name of whole characters: it is empty, or text was cut in the middle of one."
        }
        "key_length" => "Shorten the property's name; long ones often hold what belongs in the value.",
        "string_length" => "Shorten the value, or leave it out.",
        "number" => "Send numbers within 64 bits, or as text.",
        _ => "",
    };
    match (detail.trim_end(), remedy) {
        (detail, "") => detail.to_owned(),
        ("", remedy) => remedy.to_owned(),
        (detail, remedy) if detail.ends_with(['.', '!', '?']) => format!("{detail} {remedy}"),
        (detail, remedy) => format!("{detail}. {remedy}"),
    }
}
