//! `/api/v1/tickets`: ask, look, wait, fetch, cancel.
//!
//! The answer is always the ticket. It belongs to the caller's project; any other is not found.

use std::io;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::{TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::result_format::{Cursor, Page, PageLimits, ResultFormat, page};
use super::ticket_view::{TicketView, address, etag, json, version_of};
use crate::analysis::QUESTION;
use crate::erasure::ERASURE;
use crate::http::extract::{Caller, CallerId, JsonBody, Params};
use crate::http::web::tickets::require_cancel;
use crate::http::{ApiError, ErrorCode, FieldError};
use crate::model::{ProjectId, Role, TicketId};
use crate::tickets::{Submit, SubmitError, Ticket, TicketError, Tickets, WAIT_MAX, WaitFor};

pub use super::ticket_events::ticket_events;

/// No answer is larger than 10 MB, in whatever form it is sent.
const ANSWER_BYTES_MAX: usize = 10_000_000;
/// Larger pages are written while they are sent, uncompressed.
const INLINE_BYTES_MAX: usize = 1 << 20;
const PAGE_ROWS_DEFAULT: usize = 1_000;
const PAGE_ROWS_MAX: usize = 100_000;

const LIST_DEFAULT: u32 = 50;
const LIST_MAX: u32 = 200;

/// As long as the column is wide.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// When to look again at a ticket that is not done, at the latest.
const RETRY_AFTER_SECS_MAX: u64 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitTicket {
    question: Option<Value>,
    erasure: Option<Value>,
}

/// `POST /api/v1/tickets`: 200 when it is done within `Prefer: wait=…`, else 202 and where to look.
pub async fn submit_ticket(
    caller: Caller,
    tickets: web::Data<Tickets>,
    request: HttpRequest,
    body: JsonBody<SubmitTicket>,
) -> Result<HttpResponse, ApiError> {
    let (kind, asked) = match (body.0.question, body.0.erasure) {
        (Some(question), None) => (QUESTION, question),
        (None, Some(erasure)) => {
            caller.require(Role::Editor)?;
            (ERASURE, erasure)
        }
        _ => return Err(ApiError::malformed("Send either a question or an erasure.")),
    };
    let submit = Submit {
        project_id: caller.project_id(),
        let_in_with: Some(caller.project.clone()),
        kind: kind.to_owned(),
        body: asked,
        idempotency_key: idempotency_key(request.headers())?,
        created_by: caller.id.to_string(),
    };
    let wait = preferred_wait(request.headers());
    let submitted = tickets.submit_to_wait(submit, wait).await.map_err(|error| submit_error(kind, error))?;
    let estimate = submitted.estimate;
    let ticket = tickets.wait_for_end(submitted, wait).await.map_err(ticket_error)?;
    let status = if ticket.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(status, &ticket, &tickets, estimate).await
}

#[derive(Deserialize)]
pub struct GetTicket {
    wait: Option<u64>,
}

/// `GET /api/v1/tickets/{id}`: with `?wait=25` when it is done, or when it differs from
/// `If-None-Match`, or when the time is over.
pub async fn get_ticket(
    caller: Caller,
    tickets: web::Data<Tickets>,
    path: web::Path<String>,
    Params(query): Params<GetTicket>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let ticket = ticket_id(&path)?;
    let seen = Seen::of(request.headers());
    let wait_for = match seen.versions.as_slice() {
        [] => WaitFor::End,
        [only] => WaitFor::Change(*only),
        // Of several, the one that it has now, if any, is to change.
        several => {
            let now = tickets.get(caller.project_id(), ticket).await.map_err(ticket_error)?.version();
            WaitFor::Change(if several.contains(&now) { now } else { several[0] })
        }
    };
    let wait = Duration::from_secs(query.wait.unwrap_or(0)).min(WAIT_MAX);
    let ticket = tickets.wait(caller.project_id(), ticket, wait_for, wait).await.map_err(ticket_error)?;
    if seen.is_any || seen.versions.contains(&ticket.version()) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag(&ticket))).finish());
    }
    answer(StatusCode::OK, &ticket, &tickets, Duration::ZERO).await
}

/// `POST /api/v1/tickets/{id}/cancel`: the ticket, `cancelled`, or `cancelling` until its run has
/// stopped. One that has ended stays as it is.
pub async fn cancel_ticket(
    caller: Caller,
    tickets: web::Data<Tickets>,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = ticket_id(&path)?;
    if let CallerId::Account(account) = caller.id {
        let ticket = tickets.get(caller.project_id(), id).await.map_err(ticket_error)?;
        require_cancel(caller.role, account, &ticket)?;
    }
    let ticket = tickets.cancel(caller.project_id(), id).await.map_err(ticket_error)?;
    let status = if ticket.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer(status, &ticket, &tickets, Duration::ZERO).await
}

#[derive(Deserialize)]
pub struct ListTickets {
    before: Option<String>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct TicketListView {
    /// Youngest first, without their results.
    tickets: Vec<TicketView>,
    /// The address of the next page; `null` at the end.
    next: Option<String>,
}

/// `GET /api/v1/tickets`
pub async fn list_tickets(
    caller: Caller,
    tickets: web::Data<Tickets>,
    Params(query): Params<ListTickets>,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(invalid_parameter("limit", format!("It is {limit}; use 1 to {LIST_MAX}.")));
    }
    let before = match &query.before {
        None => None,
        Some(text) => Some(
            text.parse::<TicketId>()
                .map_err(|_| invalid_parameter("before", "It is not the id of a ticket.".to_owned()))?,
        ),
    };
    let listed = tickets.list(caller.project_id(), before, limit).await?;
    let views: Result<Vec<_>, _> = listed.tickets.iter().map(TicketView::without_result).collect();
    let next = listed.next.map(|next| format!("/api/v1/tickets?limit={limit}&before={next}"));
    Ok(json_response(StatusCode::OK, json(&TicketListView { tickets: views?, next })))
}

#[derive(Deserialize)]
pub struct GetResult {
    format: Option<String>,
    offset: Option<usize>,
    /// For CSV: in the row at `offset`, the bucket to begin with.
    bucket: Option<usize>,
    limit: Option<usize>,
}

/// `GET /api/v1/tickets/{id}/result`: as JSON whole when it is small enough and no page was asked
/// for, else in pages; a `Link` header leads to the next one.
pub async fn get_ticket_result(
    caller: Caller,
    tickets: web::Data<Tickets>,
    path: web::Path<String>,
    Params(query): Params<GetResult>,
) -> Result<HttpResponse, ApiError> {
    let format = match query.format.as_deref() {
        None => ResultFormat::Json,
        Some(text) => ResultFormat::parse(text).ok_or_else(|| {
            invalid_parameter("format", format!("It is {text:?}; use json, ndjson or csv."))
        })?,
    };
    let rows_max = query.limit.unwrap_or(PAGE_ROWS_DEFAULT);
    if !(1..=PAGE_ROWS_MAX).contains(&rows_max) {
        return Err(invalid_parameter("limit", format!("It is {rows_max}; use 1 to {PAGE_ROWS_MAX}.")));
    }
    if query.bucket.is_some() && format != ResultFormat::Csv {
        return Err(invalid_parameter("bucket", "Only format=csv is cut inside a row.".to_owned()));
    }
    let ticket = finished(&tickets, caller.project_id(), ticket_id(&path)?).await?;
    let result = tickets.result(&ticket).await.map_err(ticket_error)?;
    let is_page = query.offset.is_some() || query.limit.is_some() || format != ResultFormat::Json;
    if !is_page && result.len() <= ANSWER_BYTES_MAX {
        return Ok(json_response(StatusCode::OK, result));
    }
    let from = Cursor { row: query.offset.unwrap_or(0), bucket: query.bucket.unwrap_or(0) };
    let limits = PageLimits { from, rows_max, bytes_max: ANSWER_BYTES_MAX };
    let page = web::block(move || page(&result, format, limits))
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, format.content_type()))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"));
    if format != ResultFormat::Json {
        let file = format!("attachment; filename=\"{}.{}\"", ticket.ticket_id, format.name());
        response.insert_header((header::CONTENT_DISPOSITION, file));
    }
    if let Some(Cursor { row, bucket }) = page.next {
        let bucket = if bucket > 0 { format!("&bucket={bucket}") } else { String::new() };
        let format = format.name();
        let next =
            format!("{}/result?format={format}&offset={row}{bucket}&limit={rows_max}", address(&ticket));
        response.insert_header((header::LINK, format!("<{next}>; rel=\"next\"")));
    }
    send_page(response, page)
}

fn send_page(mut response: HttpResponseBuilder, page: Page) -> Result<HttpResponse, ApiError> {
    if page.bytes > INLINE_BYTES_MAX {
        return Ok(response
            .body(SizedStream::new(page.bytes as u64, stream::iter(page.pieces).map_err(io::Error::other))));
    }
    let mut body = Vec::with_capacity(page.bytes);
    for piece in page.pieces {
        body.extend_from_slice(&piece.map_err(ApiError::internal)?);
    }
    Ok(response.body(body))
}

/// A ticket that has a result, or why there is none.
async fn finished(tickets: &Tickets, project: ProjectId, ticket: TicketId) -> Result<Ticket, ApiError> {
    let ticket = tickets.get(project, ticket).await.map_err(ticket_error)?;
    if ticket.result_bytes.is_some() {
        return Ok(ticket);
    }
    let state = ticket.state.as_str();
    let error = ApiError::new(ErrorCode::Conflict, format!("The ticket is {state} and has no result."));
    Err(if ticket.state.is_final() { error } else { error.with_retry_after(1) })
}

async fn answer(
    status: StatusCode,
    ticket: &Ticket,
    tickets: &Tickets,
    estimate: Duration,
) -> Result<HttpResponse, ApiError> {
    let view = TicketView::whole(ticket, tickets).await?;
    let mut response = json_response(status, json(&view));
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: String| {
        let value = header::HeaderValue::from_str(&value).expect("ids and numbers fit into a header");
        headers.insert(name, value);
    };
    set(header::ETAG, etag(ticket));
    if !ticket.state.is_final() {
        set(header::RETRY_AFTER, retry_after_secs(ticket, estimate).to_string());
    }
    if status == StatusCode::ACCEPTED {
        set(header::LOCATION, address(ticket));
    }
    Ok(response)
}

/// The estimated time for everybody ahead and itself, within reason.
fn retry_after_secs(ticket: &Ticket, estimate: Duration) -> u64 {
    let ahead = u64::from(ticket.queue_position.unwrap_or(1));
    (estimate.as_secs() * ahead).clamp(1, RETRY_AFTER_SECS_MAX)
}

pub(super) fn json_response(status: StatusCode, body: bytes::Bytes) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .body(body)
}

pub(super) fn ticket_id(text: &str) -> Result<TicketId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("There is no such ticket."))
}

/// What `If-None-Match` names: some versions, or `*` for whatever there is.
#[derive(Default, PartialEq, Debug)]
struct Seen {
    versions: Vec<u64>,
    is_any: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let lists = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
        let tags: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        let versions = tags.iter().copied().filter_map(version_of).collect();
        Self { versions, is_any: tags.contains(&"*") }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => {
            let detail = format!("Use 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters.");
            Err(invalid_parameter("Idempotency-Key", detail))
        }
    }
}

/// The `wait` of `Prefer: wait=10, …` (RFC 7240) in seconds; what cannot be read is no preference.
fn preferred_wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").filter_map(|value| value.to_str().ok());
    let wait = preferences.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        value.trim().trim_matches('"').parse::<u64>().ok()
    });
    Duration::from_secs(wait.unwrap_or(0)).min(WAIT_MAX)
}

pub(super) fn invalid_parameter(name: &str, detail: String) -> ApiError {
    let errors = vec![FieldError { pointer: name.to_owned(), detail }];
    ApiError::new(ErrorCode::Invalid, format!("The parameter {name} is not valid.")).with_errors(errors)
}

pub fn submit_error(kind: &str, error: SubmitError) -> ApiError {
    match error {
        SubmitError::Invalid(invalid) => {
            let errors = invalid.errors.into_iter();
            let errors = errors
                .map(|(pointer, detail)| FieldError { pointer: format!("/{kind}{pointer}"), detail })
                .collect();
            ApiError::new(ErrorCode::Invalid, invalid.detail).with_errors(errors)
        }
        SubmitError::UnknownKind(_) => {
            ApiError::new(ErrorCode::Unavailable, "This process does not take such tickets.")
                .with_source(error)
        }
        SubmitError::IdempotencyKeyReused => {
            let detail = "This Idempotency-Key was sent before with another request.";
            ApiError::new(ErrorCode::Conflict, detail)
        }
        SubmitError::TooManyQueued { queued_max } => {
            let detail = format!(
                "{queued_max} tickets of this project are waiting, which is the limit (tickets.queued_max)."
            );
            ApiError::new(ErrorCode::TooManyRequests, detail).with_retry_after(5)
        }
        SubmitError::Storage(error) => error.into(),
    }
}

pub(super) fn ticket_error(error: TicketError) -> ApiError {
    match error {
        TicketError::NotFound => ApiError::not_found("There is no such ticket."),
        TicketError::Gone => {
            let detail = "The ticket has expired and its result was deleted. Ask again.";
            ApiError::new(ErrorCode::Gone, detail)
        }
        TicketError::NotCancellable => {
            let detail = "An erasure goes on until it is done: what is gone does not come back.";
            ApiError::new(ErrorCode::Conflict, detail)
        }
        TicketError::NoResult => ApiError::new(ErrorCode::Conflict, "The ticket has no result."),
        TicketError::Storage(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn reads_how_long_a_client_wants_to_wait() {
        for (values, secs) in [
            (&["wait=10"][..], 10),
            (&["respond-async, wait=7"], 7),
            (&["return=minimal", "Wait = \"3\""], 3),
            (&["wait=100"], 25),
            (&["wait=-1"], 0),
            (&["wait"], 0),
            (&[], 0),
        ] {
            assert_eq!(preferred_wait(&headers("prefer", values)).as_secs(), secs, "{values:?}");
        }
    }

    #[test]
    fn reads_which_versions_a_client_has() {
        let tag = "W/\"00000000000000ff\"";
        for (values, versions, is_any) in [
            (&[tag][..], &[255][..], false),
            (&["\"x\", W/\"00000000000000ff\", \"000000000000000a\""], &[255, 10], false),
            (&["\"000000000000000a\"", tag], &[10, 255], false),
            (&["*"], &[], true),
            (&["\"other\""], &[], false),
            (&[], &[], false),
        ] {
            let seen = Seen { versions: versions.to_vec(), is_any };
            assert_eq!(Seen::of(&headers("if-none-match", values)), seen, "{values:?}");
        }
    }

    #[test]
    fn idempotency_keys_have_a_length() {
        assert_eq!(idempotency_key(&headers("idempotency-key", &[])).unwrap(), None);
        let key = idempotency_key(&headers("idempotency-key", &["a b"])).unwrap();
        assert_eq!(key.as_deref(), Some("a b"));
        assert!(idempotency_key(&headers("idempotency-key", &[""])).is_err());
        let long: &'static str = "x".repeat(256).leak();
        assert!(idempotency_key(&headers("idempotency-key", &[long])).is_err());
    }
}
