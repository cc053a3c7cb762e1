//! `/p/{project_id}/overview`: how much happens, per day, and what.
//!
//! Three questions, each a ticket: the range, the range before it, and the events by name. Their
//! answers are shared by everybody who looks at the same data, so opening the page again is cheap.

mod compose;
mod questions;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use futures_util::future::try_join_all;

use compose::{Answers, compose};
use questions::Questions;

use super::{
    asking::{Asking, Outcome, PAGE_WAIT, notes},
    range::{Params, Range, address},
    views::{self, Nav, RangeBar},
};
use crate::{
    http::{ApiError, HttpState, extract::ProjectPage},
    model::TicketId,
    tickets::{Ticket, Tickets},
};

/// `GET …/overview`.
pub async fn show(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let params: Params = serde_urlencoded::from_str(request.query_string()).unwrap_or_default();
    let mut frame = project.frame(&state, "Overview", Nav::Overview).await?;
    let known = state.menus.get(&state.storage, project.project_id(), frame.now).await?;
    let range = Range::read(&params, frame.now, &frame.time_zone, known.last_at);
    let questions = Questions::new(&range, frame.zone_name(), frame.now, &frame.time_zone)?;

    let earlier: Vec<TicketId> = params
        .iter()
        .filter(|(name, _)| name == "ticket")
        .filter_map(|(_, id)| id.parse().ok())
        .take(3)
        .collect();
    // What is looked at again was waited for already.
    let wait = if earlier.is_empty() { PAGE_WAIT } else { std::time::Duration::ZERO };
    let asking = Asking { tickets: &tickets, project: &project, page: "overview", wait };
    let list = questions.list();
    let asked = list.iter().enumerate().map(|(at, question)| asking.ask(question, earlier.get(at).copied()));
    let outcomes = try_join_all(asked).await?;

    let seen: Vec<&Ticket> = outcomes.iter().filter_map(Outcome::ticket).collect();
    frame.as_of = seen.iter().filter_map(|ticket| ticket.as_of).min();
    let mut refresh = range.params();
    refresh.push(("compare".into(), if range.compare { "1" } else { "0" }.into()));
    refresh.extend(seen.iter().map(|ticket| ("ticket".to_owned(), ticket.ticket_id.to_string())));
    let notes = notes(seen.iter().copied());
    let refresh_href = address(&frame.href("overview"), &refresh);

    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().expect("one outcome a question");
    let answers = Answers { now: next(), top: next(), before: range.compare.then(&mut next) };
    let bar = RangeBar { form: "range", range, with_compare: true };
    let mut page = compose(frame, bar, &questions, answers, notes);
    page.first_event_awaited = known.events.is_empty() && page.counts_nothing();
    page.refresh_href = refresh_href;
    Ok(views::respond(StatusCode::OK, &page)?)
}
