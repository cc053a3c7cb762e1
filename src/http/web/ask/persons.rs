//! `/p/{project_id}/ask/persons`: who is behind a step of a funnel. The address is the funnel's own
//! (its form's parameters, or `?q=` with its JSON) with `step` and `outcome`, and so leads back to it.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::{Value, json};

use super::{form::AskForm, pretty, read_form, words};
use crate::{
    analysis::{Answer, Outcome as Which, PersonsAnswer, PersonsQuestion, ProjectSettings, Question},
    http::{
        ApiError, HttpState,
        extract::ProjectPage,
        web::{
            asking::{self, Asking, Outcome, PAGE_WAIT},
            format,
            index::see_other,
            notes,
            range::{Params, address, param, params_of},
            views::{self, Commands, Frame, Nav, StepPersonRow, StepPersonsPage, StepPersonsState},
        },
    },
    model::TicketId,
    tickets::{Ticket, Tickets},
};

/// How many are asked for: what a person may look through, and the CSV file holds. More are a
/// question of the API or the command line.
const LISTED_MAX: usize = 1_000;
const ROWS_OF_A_PAGE: usize = 100;

/// Parameters that are not the funnel's.
const OWN_PARAMS: [&str; 4] = ["step", "outcome", "page", "ticket"];

/// `GET …/ask/persons`.
pub async fn show(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let params = params_of(&request)?;
    let frame = project.frame(&state, "Persons of a funnel step", Nav::Ask).await?;
    let mut funnel_params = params.clone();
    funnel_params.retain(|(name, _)| !OWN_PARAMS.contains(&name.as_str()));
    let funnel_href = address(&frame.href("ask"), &funnel_params);

    let funnel = match param(&params, "q") {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => {
            let menu = state.menus.get(&state.storage, project.project_id(), frame.now).await?;
            let asked = read_form(funnel_params.clone(), &frame, &menu);
            serde_json::from_str(&asked.json).unwrap_or_default()
        }
    };
    let settings = ProjectSettings::new(frame.zone_name(), frame.now);
    if !matches!(Question::parse(&funnel, &settings), Ok(Question::Funnel(_))) {
        // There its errors stand at their fields.
        return Ok(see_other(&funnel_href));
    }
    let step = param(&params, "step").unwrap_or("1");
    let step = step.parse().map_or_else(|_| json!(step), |step: u64| json!(step));
    let outcome = param(&params, "outcome").unwrap_or(Which::Converted.word());
    let limit = LISTED_MAX.min(state.config.questions.persons_max as usize);
    let json = json!({"kind": "persons", "funnel": funnel, "step": step, "outcome": outcome, "limit": limit});
    let question = match Question::parse(&json, &settings) {
        Ok(question) => question,
        Err(errors) => {
            let detail = errors.first().map_or_else(String::new, |error| error.detail.clone());
            return Err(ApiError::malformed(format!("There is no such list of persons: {detail}.")));
        }
    };
    let Question::Persons(persons) = &question else {
        return Ok(see_other(&funnel_href));
    };

    let earlier = param(&params, "ticket").and_then(|id| id.parse::<TicketId>().ok());
    let wait = if earlier.is_some() { std::time::Duration::ZERO } else { PAGE_WAIT };
    let asking = Asking { tickets: &tickets, project: &project, page: "account", wait };
    let outcome = asking.ask(&question, earlier).await?;
    let links = Links { params: &params, frame: &frame };
    let list = links.list(&outcome);
    let page = StepPersonsPage {
        funnel_words: words::in_words(&funnel),
        range_words: range_in_words(&frame, persons),
        step: persons.step,
        is_dropped: persons.outcome == Which::Dropped,
        step_label: persons.funnel.steps[persons.step - 1].events.label(),
        reached_label: persons.funnel.steps[persons.reached_step()].events.label(),
        reached_href: links.to(&[("outcome", Which::Converted.word())]),
        dropped_href: (persons.step > 1).then(|| links.to(&[("outcome", Which::Dropped.word())])),
        funnel_href,
        refresh_href: match &outcome {
            Outcome::Waiting(ticket) => links.to(&[("ticket", &ticket.ticket_id.to_string())]),
            _ => String::new(),
        },
        events_href: match &outcome {
            Outcome::Waiting(ticket) => asking::events_href(ticket),
            _ => String::new(),
        },
        notes: notes::notes(std::iter::once(&outcome), frame.now, &frame.time_zone),
        commands: Commands { public_url: state.config.http.shown_url(), json: pretty(&question.asked()) },
        state: list,
        frame: with_as_of(frame.clone(), &outcome),
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

/// The address of this page for a persons question: its funnel as the form's parameters where the
/// form can show it (`form`, with those of its range), else as JSON.
/// With a ticket that has answered it, no new one is made.
pub fn page_address(
    frame: &Frame,
    question: &PersonsQuestion,
    funnel: Funnel,
    ticket: Option<&str>,
) -> String {
    let mut params = match funnel {
        Funnel::Form { range, form } => [range, form.params()].concat(),
        Funnel::Json(json) => vec![("q".to_owned(), json.to_string())],
    };
    params.push(("step".to_owned(), question.step.to_string()));
    params.push(("outcome".to_owned(), question.outcome.word().to_owned()));
    params.extend(ticket.map(|ticket| ("ticket".to_owned(), ticket.to_owned())));
    address(&frame.href("ask/persons"), &params)
}

/// A funnel as an address holds it.
pub enum Funnel<'a> {
    Form { range: Params, form: &'a AskForm },
    Json(&'a Value),
}

fn with_as_of(mut frame: Frame, outcome: &Outcome) -> Frame {
    if let Outcome::Answered(ticket, ..) = outcome {
        frame.as_of = ticket.as_of;
    }
    frame
}

/// "1 Oct 2025 – 31 Oct 2025": the first and the last instant of the range, as days.
fn range_in_words(frame: &Frame, question: &PersonsQuestion) -> String {
    let range = question.funnel.when.range;
    let day = |at| format::day_month_year(format::zoned(at, &frame.time_zone).date());
    let (first, last) = (day(range.from), day(range.to - 1));
    if first == last { first } else { format!("{first} – {last}") }
}

/// Addresses of this page with something changed, and what they lead to.
struct Links<'a> {
    params: &'a Params,
    frame: &'a Frame,
}

impl Links<'_> {
    /// This page with other parameters; of a new list the first page.
    fn to(&self, changed: &[(&str, &str)]) -> String {
        let mut params = self.params.clone();
        let is_changed = |name: &str| changed.iter().any(|(key, _)| *key == name);
        params.retain(|(name, _)| !is_changed(name) && name != "page" && name != "ticket");
        params.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        address(&self.frame.href("ask/persons"), &params)
    }

    fn ticket(&self, ticket: &Ticket) -> String {
        self.frame.href(&format!("tickets/{}", ticket.ticket_id))
    }

    fn list(&self, outcome: &Outcome) -> StepPersonsState {
        let (ticket, answer, completeness) = match outcome {
            Outcome::Waiting(ticket) => {
                let (progress, text) = asking::progress(ticket);
                return StepPersonsState::Waiting { progress, text, ticket_href: self.ticket(ticket) };
            }
            Outcome::Failed { ticket, detail } => {
                let ticket_href = ticket.as_ref().map(|ticket| self.ticket(ticket));
                let (detail, again_href) = (detail.clone(), self.to(&[]));
                return StepPersonsState::Failed { detail, ticket_href, again_href };
            }
            Outcome::Answered(ticket, answer, completeness) => (ticket, &**answer, completeness),
        };
        let Answer::Persons(answer) = answer else {
            let detail = "Its answer is of another kind.".to_owned();
            return StepPersonsState::Failed { detail, ticket_href: None, again_href: self.to(&[]) };
        };
        let pages = answer.persons.len().div_ceil(ROWS_OF_A_PAGE).max(1);
        let page = param(self.params, "page").and_then(|page| page.parse::<usize>().ok());
        let page = page.unwrap_or(1).clamp(1, pages);
        let first = (page - 1) * ROWS_OF_A_PAGE;
        // Another page of the same answer, not of a newer one.
        let page_href = |page: usize| {
            let ticket_id = ticket.ticket_id.to_string();
            self.to(&[("page", &page.to_string()), ("ticket", &ticket_id)])
        };
        let project_id = self.frame.project.as_ref().map_or(0, |project| project.id.0);
        StepPersonsState::Listed {
            total: answer.total,
            listed: answer.persons.len(),
            rows: rows(answer, first),
            first: first + 1,
            newer_href: (page > 1).then(|| page_href(page - 1)),
            older_href: (page < pages).then(|| page_href(page + 1)),
            facts: notes::facts(ticket, completeness, &self.frame.time_zone),
            ticket_href: self.ticket(ticket),
            csv_href: format!("/api/v1/tickets/{}/result?format=csv&project={project_id}", ticket.ticket_id),
        }
    }
}

fn rows(answer: &PersonsAnswer, first: usize) -> Vec<StepPersonRow> {
    let rows = answer.persons.iter().skip(first).take(ROWS_OF_A_PAGE);
    let row = |person: &crate::analysis::PersonsAnswerPerson| StepPersonRow {
        distinct_id: person.distinct_id.clone(),
        reached_at: person.reached_at.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond()),
    };
    rows.map(row).collect()
}
