//! A ticket as it is shown.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::erasure::{ERASURE, shown_body};
use crate::http::ApiError;
use crate::model::Millis;
use crate::tickets::{Ticket, TicketState, Tickets};

/// A larger result is not part of the ticket: it has an address of its own.
pub const INLINE_RESULT_BYTES_MAX: u64 = 1_000_000;

/// The same shape in every answer. Times are RFC 3339 in UTC.
#[derive(Serialize)]
pub struct TicketView {
    pub id: String,
    pub kind: String,
    pub state: &'static str,
    /// What was asked, in its canonical form; `null` for kinds that are not questions.
    pub question: Option<Box<RawValue>>,
    /// Who is being erased; only in a ticket of that kind, and only until it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<serde_json::Value>,
    pub progress: ProgressView,
    /// 1 is next; `null` unless it waits.
    pub queue_position: Option<u32>,
    pub attempt: u32,
    /// Everything received until then is in the result.
    pub as_of: Option<String>,
    /// Something could not be read, such as a server that is away.
    pub partial: bool,
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub expires_at: String,
    pub error: Option<ErrorView>,
    /// `null` until it has succeeded, and when it is larger than 1 MB: see `links.result`.
    pub result: Option<Box<RawValue>>,
    pub links: LinksView,
}

#[derive(Serialize)]
pub struct ProgressView {
    pub shards_done: u32,
    pub shards_total: u32,
    pub rows_done: u64,
    pub rows_total: u64,
}

#[derive(Serialize)]
pub struct ErrorView {
    pub code: String,
    pub detail: String,
}

/// Addresses on this server; `null` where there is nothing to do.
#[derive(Serialize)]
pub struct LinksView {
    #[serde(rename = "self")]
    pub this: String,
    pub result: Option<String>,
    pub events: Option<String>,
    pub cancel: Option<String>,
}

impl TicketView {
    /// With the result, if it is small enough to be inline.
    pub async fn whole(ticket: &Ticket, tickets: &Tickets) -> Result<Self, ApiError> {
        let mut view = Self::without_result(ticket)?;
        if ticket.result_bytes.is_some_and(|bytes| bytes <= INLINE_RESULT_BYTES_MAX) {
            let body = tickets.result(ticket).await.map_err(super::tickets::ticket_error)?;
            view.result = Some(raw(&body)?);
        }
        Ok(view)
    }

    pub fn without_result(ticket: &Ticket) -> Result<Self, ApiError> {
        let this = address(ticket);
        let is_final = ticket.state.is_final();
        let is_question = ticket.kind == "question";
        Ok(Self {
            id: ticket.ticket_id.to_string(),
            kind: ticket.kind.clone(),
            state: ticket.state.as_str(),
            question: if is_question { Some(raw(&ticket.body)?) } else { None },
            erasure: if ticket.kind == ERASURE { shown_body(&ticket.body) } else { None },
            progress: ProgressView {
                shards_done: ticket.progress.shards_done,
                shards_total: ticket.progress.shards_total,
                rows_done: ticket.progress.rows_done,
                rows_total: ticket.progress.rows_total,
            },
            queue_position: ticket.queue_position,
            attempt: ticket.attempt,
            as_of: ticket.as_of.map(rfc3339),
            partial: ticket.partial,
            created_at: rfc3339(ticket.created_at),
            started_at: ticket.started_at.map(rfc3339),
            finished_at: ticket.finished_at.map(rfc3339),
            expires_at: rfc3339(ticket.expires_at),
            error: ticket
                .error
                .as_ref()
                .map(|error| ErrorView { code: error.code.clone(), detail: error.detail.clone() }),
            result: None,
            links: LinksView {
                result: (ticket.state == TicketState::Succeeded).then(|| format!("{this}/result")),
                events: (!is_final).then(|| format!("{this}/events")),
                cancel: (!is_final && !ticket.is_owed).then(|| format!("{this}/cancel")),
                this,
            },
        })
    }
}

pub fn address(ticket: &Ticket) -> String {
    format!("/api/v1/tickets/{}", ticket.ticket_id)
}

/// Stored JSON is passed on as it is: parsing a megabyte of it would change nothing but the time.
fn raw(json: &[u8]) -> Result<Box<RawValue>, ApiError> {
    let text = String::from_utf8(json.to_vec()).map_err(ApiError::internal)?;
    RawValue::from_string(text).map_err(ApiError::internal)
}

pub(super) fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// The strong part of an ETag: changes when anything in the view does, but not for the better
/// compression of the day, hence weak.
pub fn etag(ticket: &Ticket) -> String {
    format!("W/\"{:016x}\"", ticket.version())
}

/// The version that a client has seen, from `If-None-Match` or `Last-Event-ID`.
pub fn version_of(tag: &str) -> Option<u64> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    (tag.len() == 16).then(|| u64::from_str_radix(tag, 16).ok()).flatten()
}

/// The view as bytes, for answers and events.
pub fn json(view: &impl Serialize) -> Bytes {
    serde_json::to_vec(view).expect("texts, numbers and stored JSON become JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_back_from_tags_as_clients_send_them() {
        for (tag, version) in [
            ("W/\"00000000000000ff\"", Some(255)),
            ("\"00000000000000ff\"", Some(255)),
            (" 00000000000000ff ", Some(255)),
            ("\"ff\"", None),
            ("*", None),
            ("W/\"000000000000000g\"", None),
        ] {
            assert_eq!(version_of(tag), version, "{tag}");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_300_000_000_123), "2011-03-13T07:06:40.123Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
