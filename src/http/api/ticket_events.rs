//! A ticket as a stream of server-sent events: one at once, one with every change.
//!
//! A stream ends after 25 s, since a common gateway cuts at 30, or with the ticket. A browser comes
//! back by itself with `Last-Event-ID`; once it has seen the end it is told 204, which it takes for
//! "do not come back".

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::ticket_view::{TicketView, json, version_of};
use super::tickets::{ticket_error, ticket_id};
use crate::http::ApiError;
use crate::http::extract::Caller;
use crate::model::{ProjectId, TicketId};
use crate::tickets::{Ticket, Tickets, WAIT_MAX, WaitFor};

/// A comment is sent this often when nothing changes, so that a client that has gone is noticed.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// `GET /api/v1/tickets/{id}/events`
pub async fn ticket_events(
    caller: Caller,
    tickets: web::Data<Tickets>,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let project = caller.project_id();
    let ticket = ticket_id(&path)?;
    let now = tickets.get(project, ticket).await.map_err(ticket_error)?;
    let last_seen = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let seen = last_seen.and_then(version_of);
    if now.state.is_final() && seen == Some(now.version()) {
        return Ok(HttpResponse::NoContent().finish());
    }
    let follower = Follower {
        tickets: tickets.get_ref().clone(),
        project,
        ticket,
        seen,
        until: Instant::now() + WAIT_MAX,
        first: Some(now),
        is_over: false,
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
    tickets: Tickets,
    project: ProjectId,
    ticket: TicketId,
    /// The version of the last event that the client has.
    seen: Option<u64>,
    until: Instant,
    first: Option<Ticket>,
    is_over: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(first) = self.first.take()
            && self.seen != Some(first.version())
        {
            return self.event(&first).await;
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let wait_for = WaitFor::Change(self.seen.unwrap_or_default());
        let now = self.tickets.wait(self.project, self.ticket, wait_for, left.min(SILENCE_MAX)).await;
        match now {
            Ok(now) if self.seen != Some(now.version()) => self.event(&now).await,
            Ok(_) => Some(Bytes::from_static(b":\n\n")),
            // The status line is long gone; the client asks again and is told.
            Err(_) => None,
        }
    }

    async fn event(&mut self, ticket: &Ticket) -> Option<Bytes> {
        self.seen = Some(ticket.version());
        self.is_over = ticket.state.is_final();
        let view = TicketView::whole(ticket, &self.tickets).await.ok()?;
        let mut event =
            format!("retry: 1000\nid: {:016x}\nevent: ticket\ndata: ", ticket.version()).into_bytes();
        // JSON text has no raw line breaks inside strings, and stored JSON has none between tokens.
        event.extend(json(&view).iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        event.extend_from_slice(b"\n\n");
        Some(event.into())
    }
}
