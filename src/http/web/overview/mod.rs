//! `/p/{project_id}/overview`: how much happens, per day, and what.
//!
//! A few questions, each a ticket: the range, the range before it, the events by name, and where they
//! come from. Their answers are shared by everybody who looks at the same data, so opening the page
//! again is cheap.

mod compose;
mod questions;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use futures_util::future::try_join_all;

use compose::{Answers, Filtering, compose};
use questions::{Asked, Questions};
use serde_json::Value;

use super::{
    ask::form::AskForm,
    asking::{Asking, Outcome, PAGE_WAIT},
    index::see_other,
    menu::{menus, types_of},
    notes::notes,
    range::{Params, Range, address, param},
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
    let form = AskForm::read(&params, range.grain().word());
    let here = |range: &Range, form: &AskForm| {
        let mut here = range.params();
        here.push(("compare".into(), if range.compare { "1" } else { "0" }.into()));
        here.extend(form.filter_params());
        here
    };
    if param(&params, "do").is_some() || param(&params, "shown").is_some() {
        // The button's work is done; what remains is an address that can be shared.
        return Ok(see_other(&address(&frame.href("overview"), &here(&range, &form))));
    }
    let asked = |filters: Vec<Value>| {
        let (zone, zone_name) = (&frame.time_zone, frame.zone_name());
        Questions::new(&Asked { range: &range, now: frame.now, zone, zone_name, filters, menu: &known })
    };
    let (questions, filter_error) = match asked(form.filters_json(&|property| types_of(&known, property))) {
        Ok(questions) => (questions, None),
        // Without the filters, then; when that fails too, it is the range.
        Err(detail) => match asked(Vec::new()) {
            Ok(questions) => (questions, Some(detail)),
            Err(detail) => {
                return Err(ApiError::malformed(format!("This range cannot be shown: {detail}.")));
            }
        },
    };

    let earlier: Vec<TicketId> = params
        .iter()
        .filter(|(name, _)| name == "ticket")
        .filter_map(|(_, id)| id.parse().ok())
        .take(questions.list().len())
        .collect();
    // What is looked at again was waited for already.
    let wait = if earlier.is_empty() { PAGE_WAIT } else { std::time::Duration::ZERO };
    let asking = Asking { tickets: &tickets, project: &project, page: "overview", wait };
    let list = questions.list();
    let asked = list.iter().enumerate().map(|(at, question)| asking.ask(question, earlier.get(at).copied()));
    let outcomes = try_join_all(asked).await?;

    let seen: Vec<&Ticket> = outcomes.iter().filter_map(Outcome::ticket).collect();
    frame.as_of = seen.iter().filter_map(|ticket| ticket.as_of).min();
    let mut refresh = here(&range, &form);
    refresh.extend(seen.iter().map(|ticket| ("ticket".to_owned(), ticket.ticket_id.to_string())));
    let notes = notes(outcomes.iter(), frame.now, &frame.time_zone);
    let refresh_href = address(&frame.href("overview"), &refresh);

    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().expect("one outcome a question");
    let (now, top) = (next(), next());
    let lists = questions.lists.iter().map(|_| next()).collect();
    let answers = Answers { now, top, lists, before: range.compare.then(&mut next) };
    let bar = RangeBar { form: "range", range, with_compare: true };
    let filtering = Filtering { form, error: filter_error, menus: menus(&known) };
    let mut page = compose(frame, bar, &questions, answers, filtering);
    page.notes = notes;
    page.first_event_awaited = known.events.is_empty() && page.counts_nothing();
    page.refresh_href = refresh_href;
    Ok(views::respond(StatusCode::OK, &page)?)
}
