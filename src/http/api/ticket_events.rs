//! A ticket as a stream of server-sent events: one at once, one with every change.
//!
//! A stream ends after 25 s, since a common gateway cuts at 30, or with the ticket, or when this
//! process stops. A browser comes back by itself with `Last-Event-ID`; once it has seen the end it is
//! told 204, which it takes for "do not come back".

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::time::Instant;

use super::ticket_view::{TicketView, json, version_of};
use super::tickets::{ticket_error, ticket_id};
use crate::http::extract::{Caller, Params};
use crate::http::streams::EventStream;
use crate::http::{ApiError, HttpState};
use crate::model::{ProjectId, TicketId};
use crate::tickets::{Ticket, Tickets, WaitFor};

/// A comment is sent this often when nothing changes, so that a client that has gone is noticed and
/// no gateway takes the connection for a dead one.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The first bytes of a stream: the client knows that it stands, and how soon to come back.
const HELLO: &[u8] = b"retry: 1000\n\n";

#[derive(Deserialize)]
pub struct FollowTicket {
    /// What `Last-Event-ID` says, for a first request: a browser cannot set headers on it. The id is
    /// that of an event, or what stands in a ticket's ETag.
    seen: Option<String>,
    /// `false`: the end comes without the result, for those who fetch it elsewhere.
    result: Option<bool>,
}

/// `GET /api/v1/tickets/{id}/events`
pub async fn ticket_events(
    caller: Caller,
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    path: web::Path<String>,
    Params(query): Params<FollowTicket>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let project = caller.project_id();
    let ticket = ticket_id(&path)?;
    let now = tickets.get(project, ticket).await.map_err(ticket_error)?;
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let seen = header.or(query.seen.as_deref()).and_then(version_of);
    if now.state.is_final() && seen == Some(now.version()) {
        return Ok(HttpResponse::NoContent().finish());
    }
    let follower = Follower {
        stream: state.streams.open()?,
        tickets: tickets.get_ref().clone(),
        project,
        ticket,
        seen,
        until: Instant::now() + state.streams.lasts(),
        with_result: query.result.unwrap_or(true),
        next: Next::Hello(Box::new(now)),
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, actix_web::Error>(event), follower))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // For nginx, which would otherwise hold events back to fill its buffer.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events))
}

struct Follower {
    stream: EventStream,
    tickets: Tickets,
    project: ProjectId,
    ticket: TicketId,
    /// The version of the last event that the client has.
    seen: Option<u64>,
    until: Instant,
    with_result: bool,
    next: Next,
}

enum Next {
    Hello(Box<Ticket>),
    Change,
    Nothing,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.next, Next::Change) {
            Next::Hello(now) if self.seen == Some(now.version()) => Some(Bytes::from_static(HELLO)),
            Next::Hello(now) => {
                let event = self.event(&now).await?;
                Some([HELLO, &event].concat().into())
            }
            Next::Change => self.change().await,
            Next::Nothing => None,
        }
    }

    async fn change(&mut self) -> Option<Bytes> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let wait_for = WaitFor::Change(self.seen.unwrap_or_default());
        let now = tokio::select! {
            now = self.tickets.wait(self.project, self.ticket, wait_for, left.min(SILENCE_MAX)) => now,
            () = self.stream.closed() => return None,
        };
        match now {
            Ok(now) if self.seen != Some(now.version()) => self.event(&now).await.map(Bytes::from),
            Ok(_) => Some(Bytes::from_static(b":\n\n")),
            // The status line is long gone; the client asks again and is told.
            Err(_) => None,
        }
    }

    /// `None` when its result cannot be read: the client comes back for it.
    async fn event(&mut self, ticket: &Ticket) -> Option<Vec<u8>> {
        let view = match self.with_result {
            true => TicketView::whole(ticket, &self.tickets).await,
            false => TicketView::without_result(ticket),
        };
        let view = view.ok()?;
        self.seen = Some(ticket.version());
        if ticket.state.is_final() {
            self.next = Next::Nothing;
        }
        let mut event = format!("id: {:016x}\nevent: ticket\ndata: ", ticket.version()).into_bytes();
        // JSON text has no raw line breaks inside strings, and stored JSON has none between tokens.
        event.extend(json(&view).iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        event.extend_from_slice(b"\n\n");
        Some(event)
    }
}
