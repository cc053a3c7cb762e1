//! `/p/{project_id}/tickets`: what was asked, how far it is, and a way to stop it.

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::Deserialize;
use serde_json::Value;

use super::{
    ask::words::in_words,
    asking,
    index::see_other,
    notes,
    range::address,
    views::{self, Frame, Nav, Note, TicketPage, TicketRow, TicketsPage},
};
use crate::{
    analysis::Completeness,
    erasure::{ERASURE, shown_body},
    http::{
        ApiError, HttpState,
        extract::{CsrfForm, ProjectPage},
    },
    model::{AccountId, Role, TicketId},
    tickets::{Ticket, TicketError, TicketState, Tickets},
};

/// Rows of a page, and rows that are looked at for them: every look at an overview makes three
/// tickets that nobody typed.
const ROWS_MAX: usize = 50;
const LOOKED_AT: u32 = 100;

#[derive(Deserialize)]
pub struct ListQuery {
    /// The id of the last row of the page before.
    before: Option<String>,
    /// `1`: those of the overview too.
    all: Option<String>,
}

/// `GET …/tickets`.
pub async fn list(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let frame = project.frame(&state, "Tickets", Nav::Tickets).await?;
    let before = query.before.as_deref().and_then(|text| text.parse().ok());
    let all = query.all.as_deref() == Some("1");
    let listed = tickets.list(project.project_id(), before, LOOKED_AT).await?;
    let mut next = listed.next;
    let mut rows = Vec::new();
    for ticket in listed.tickets.iter().filter(|ticket| all || !ticket.created_by.starts_with("overview:")) {
        if rows.len() == ROWS_MAX {
            break;
        }
        rows.push(row(ticket));
        if rows.len() == ROWS_MAX {
            next = Some(ticket.ticket_id);
        }
    }
    let link = |before: Option<TicketId>, all: bool| {
        let mut params = Vec::new();
        params.extend(before.map(|before| ("before".to_owned(), before.to_string())));
        params.extend(all.then(|| ("all".to_owned(), "1".to_owned())));
        address(&frame.href("tickets"), &params)
    };
    let page = TicketsPage {
        older_href: next.map(|next| link(Some(next), all)),
        other_href: link(None, !all),
        all,
        tickets: rows,
        frame,
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

/// `GET …/tickets/{ticket_id}`.
pub async fn show(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let ticket = tickets.get(project.project_id(), ticket_id(&path.1)?).await.map_err(in_api_words)?;
    let frame = project.frame(&state, "Ticket", Nav::Tickets).await?;
    let may_cancel = require_cancel(project.role, project.session.account_id, &ticket).is_ok();
    let completeness = completeness(&tickets, &ticket).await;
    Ok(views::respond(StatusCode::OK, &page(frame, &ticket, &completeness, may_cancel))?)
}

#[derive(Deserialize)]
pub struct Nothing {}

/// `POST …/tickets/{ticket_id}/cancel`.
pub async fn cancel(
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    path: web::Path<(String, String)>,
    _form: CsrfForm<Nothing>,
) -> Result<HttpResponse, ApiError> {
    let ticket_id = ticket_id(&path.1)?;
    let ticket = tickets.get(project.project_id(), ticket_id).await.map_err(in_api_words)?;
    require_cancel(project.role, project.session.account_id, &ticket)?;
    tickets.cancel(project.project_id(), ticket_id).await.map_err(in_api_words)?;
    Ok(see_other(&format!("/p/{}/tickets/{ticket_id}", project.project_id())))
}

/// Whoever asked, and editors.
pub(in crate::http) fn require_cancel(role: Role, by: AccountId, ticket: &Ticket) -> Result<(), ApiError> {
    // `ask:3`, `overview:3`, `account:3`; keys have numbers of their own.
    let asked = ticket.created_by.split_once(':');
    if asked.is_some_and(|(way, account)| way != "key" && account == by.to_string()) {
        return Ok(());
    }
    if role >= Role::Editor {
        return Ok(());
    }
    Err(ApiError::forbidden("A viewer may cancel only what they asked themselves."))
}

fn ticket_id(text: &str) -> Result<TicketId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("There is no such ticket in this project."))
}

fn in_api_words(error: TicketError) -> ApiError {
    match error {
        TicketError::NotCancellable => ApiError::forbidden("An erasure goes on until it is done."),
        TicketError::NotFound | TicketError::Gone | TicketError::NoResult => {
            ApiError::not_found("There is no such ticket in this project, or it has expired.")
        }
        TicketError::Storage(error) => error.into(),
    }
}

fn row(ticket: &Ticket) -> TicketRow {
    let question: Value = serde_json::from_slice(&ticket.body).unwrap_or_default();
    let title = match ticket.kind.as_str() {
        "question" => in_words(&question),
        ERASURE => "Erasure of a person".to_owned(),
        other => other.to_owned(),
    };
    let (progress, progress_text) = match ticket.state.is_final() {
        true => (None, String::new()),
        false => {
            let (bar, text) = asking::progress(ticket);
            (Some(bar), text)
        }
    };
    TicketRow {
        id: ticket.ticket_id.to_string(),
        title,
        kind: ticket.kind.clone(),
        state: ticket.state.as_str(),
        created_at: ticket.created_at,
        started_at: ticket.started_at,
        finished_at: ticket.finished_at,
        progress,
        progress_text,
    }
}

/// What the answer says of itself; nothing when it cannot be read, since the page is of the ticket.
async fn completeness(tickets: &Tickets, ticket: &Ticket) -> Completeness {
    if !ticket.partial || ticket.state != TicketState::Succeeded {
        return Completeness::default();
    }
    let body = tickets.result(ticket).await.ok();
    body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default()
}

fn page(frame: Frame, ticket: &Ticket, completeness: &Completeness, may_cancel: bool) -> TicketPage {
    let question: Option<Value> = match ticket.kind.as_str() {
        // While it runs the body says more than anybody should see, and afterwards it is the receipt.
        ERASURE => shown_body(&ticket.body).or_else(|| serde_json::from_slice(&ticket.body).ok()),
        _ => serde_json::from_slice(&ticket.body).ok(),
    };
    let text = question.as_ref().and_then(|json| serde_json::to_string_pretty(json).ok()).unwrap_or_default();
    let mut notes = notes::notes_of(&[(ticket, completeness)], frame.now, &frame.time_zone);
    if let Some(error) = &ticket.error {
        notes.push(Note::failure(error.detail.clone()));
    }
    let answer_href = (ticket.kind == "question" && ticket.state == TicketState::Succeeded).then(|| {
        let params =
            vec![("q".to_owned(), text.clone()), ("ticket".to_owned(), ticket.ticket_id.to_string())];
        address(&frame.href("ask"), &params)
    });
    TicketPage {
        ticket: row(ticket),
        notes,
        attempt: ticket.attempt,
        queue_position: ticket.queue_position.map(|position| u64::from(position.saturating_sub(1))),
        as_of: ticket.as_of,
        expires_at: ticket.state.is_final().then_some(ticket.expires_at),
        question_heading: match (ticket.kind.as_str(), ticket.state.is_final()) {
            (ERASURE, true) => "Receipt",
            (ERASURE, false) => "Person",
            _ => "Question",
        },
        question: text,
        answer_href,
        events_href: (!ticket.state.is_final()).then(|| asking::events_href(ticket)),
        can_cancel: may_cancel
            && !ticket.is_owed
            && matches!(ticket.state, TicketState::Queued | TicketState::Running),
        frame,
    }
}
