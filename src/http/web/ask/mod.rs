//! `/p/{project_id}/ask`: a form or JSON becomes a question, the question a ticket, its answer
//! charts and tables. Everything asked is in the address.
//!
//! `?q=` holds a question as JSON. One that the form can show is sent on to the form's own address,
//! so that there is one link for one question; any other is edited as JSON.

pub mod answer;
pub mod form;
mod page;
pub mod persons;
pub mod suggest;
pub mod words;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use jiff::{civil::Date, tz::TimeZone};
use serde_json::Value;

use form::AskForm;
use page::{Shell, answered};

use super::{
    asking::{Asking, PAGE_WAIT},
    index::see_other,
    menu::{menus, types_of},
    range::{Params, Range, address, param, params_of},
    views::{self, Asked, Frame, Nav},
};
use crate::{
    analysis::{PersonsQuestion, ProjectSettings, Question, QuestionError},
    eventstore::scan::ProjectMenu,
    http::{ApiError, HttpState, extract::ProjectPage},
    model::{Millis, TicketId},
    tickets::Tickets,
};

/// What one request asks for.
struct Request {
    params: Params,
    range: Range,
    form: AskForm,
    /// JSON, as it is shown and edited.
    json: String,
    json_only: bool,
    errors: Vec<(String, String)>,
    question: Option<Question>,
}

/// `GET …/ask`.
pub async fn show(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let params = params_of(&request)?;
    let frame = project.frame(&state, "Ask", Nav::Ask).await?;
    let menu = state.menus.get(&state.storage, project.project_id(), frame.now).await?;
    let asked = match param(&params, "q") {
        Some(text) => match read_json(text, &params, &frame, menu.last_at) {
            Ok(asked) => asked,
            Err(form_address) => return Ok(see_other(&form_address)),
        },
        None => read_form(params, &frame, &menu),
    };
    if param(&asked.params, "do").is_some() || param(&asked.params, "shown").is_some() {
        // The button's work is done; what remains is an address that can be shared.
        return Ok(see_other(&form_address(&frame, &asked.range, &asked.form, &asked.params)));
    }

    let outcome = match &asked.question {
        None => None,
        Some(question) => {
            let earlier = param(&asked.params, "ticket").and_then(|id| id.parse::<TicketId>().ok());
            let wait = if earlier.is_some() { std::time::Duration::ZERO } else { PAGE_WAIT };
            let asking = Asking { tickets: &tickets, project: &project, page: "account", wait };
            Some(asking.ask(question, earlier).await?)
        }
    };
    let next = match asked.form.next_choice() {
        Some(next) if !asked.json_only => next,
        _ => "Correct the question above to see its answer",
    };
    let public_url = state.config.http.shown_url();
    let shell = Shell { frame, menus: menus(&menu), request: asked, public_url };
    let page = match outcome {
        None => shell.page(Asked::Nothing(next.to_owned())),
        Some(outcome) => answered(shell, outcome),
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

fn read_form(params: Params, frame: &Frame, menu: &ProjectMenu) -> Request {
    let types = |property: &str| types_of(menu, property);
    let range = Range::read(&params, frame.now, &frame.time_zone, menu.last_at);
    let form = AskForm::read(&params, range.grain().word());
    let (from, to) = range.bounds();
    let json = form.to_json(&from, &to, &types);
    let (question, errors) = match (form.next_choice(), parse(&json, frame)) {
        (Some(_), _) => (None, Vec::new()),
        (None, Ok(question)) => (Some(question), Vec::new()),
        (None, Err(errors)) => {
            let place = |error: &QuestionError| (form.place_of(&error.field), error.detail.clone());
            (None, errors.iter().map(place).collect())
        }
    };
    Request { params, range, form, json: pretty(&json), json_only: false, errors, question }
}

/// The question in `?q=`; where to send one that the form or another page can show.
fn read_json(text: &str, params: &Params, frame: &Frame, last_at: Option<Millis>) -> Result<Request, String> {
    let range = Range::read(params, frame.now, &frame.time_zone, last_at);
    let empty = AskForm::read(&Params::new(), range.grain().word());
    let refused = |text: &str, range: Range, form: AskForm, errors: Vec<(String, String)>| Request {
        params: params.clone(),
        range,
        form,
        json: text.to_owned(),
        json_only: true,
        errors,
        question: None,
    };
    let json: Value = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) => {
            let detail = format!("This is not JSON: {error}.");
            return Ok(refused(text, range, empty, vec![("q".into(), detail)]));
        }
    };
    let shown = AskForm::from_json(&json);
    match parse(&json, frame) {
        Err(errors) => {
            let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let form = shown.unwrap_or(empty);
            Ok(refused(text, range, form, vec![("q".into(), sentences.join(" · "))]))
        }
        Ok(Question::Persons(persons)) => Err(persons_address(frame, &persons, &json, params)),
        Ok(question) => {
            if let (Some(form), Some(range)) = (&shown, days_of(&json, frame)) {
                let form_reads_the_same = AskForm::read(&form.params(), "day").params() == form.params();
                if form_reads_the_same {
                    return Err(form_address(frame, &range, form, params));
                }
            }
            let form = shown.unwrap_or(empty);
            Ok(Request { question: Some(question), ..refused(text, range, form, Vec::new()) })
        }
    }
}

/// The range of a question of whole days in the project's zone, as the bar can show it.
fn days_of(question: &Value, frame: &Frame) -> Option<Range> {
    let zone = question.get("time_zone").and_then(Value::as_str);
    if zone.is_some_and(|zone| zone != frame.zone_name()) {
        return None;
    }
    let day = |name: &str| -> Option<Date> {
        let text = question.get(name)?.as_str()?;
        if text.len() == 10 {
            return text.parse().ok();
        }
        // Stored questions have instants: those where a day begins are that day.
        let at = text.parse::<jiff::Timestamp>().ok()?.to_zoned(frame.time_zone.clone());
        (at.start_of_day().ok()? == at).then(|| at.date())
    };
    let last = day("to")?.yesterday().ok()?;
    let params = vec![
        ("range".to_owned(), "custom".to_owned()),
        ("from".to_owned(), day("from")?.to_string()),
        ("to".to_owned(), last.to_string()),
    ];
    Some(Range::read(&params, frame.now, &frame.time_zone, None))
}

/// The page that lists such persons.
fn persons_address(frame: &Frame, persons: &PersonsQuestion, json: &Value, params: &Params) -> String {
    let funnel = json.get("funnel").unwrap_or(&Value::Null);
    let shown = AskForm::from_json(funnel).zip(days_of(funnel, frame));
    let funnel = match &shown {
        Some((form, range)) => persons::Funnel::Form { range: range.params(), form },
        None => persons::Funnel::Json(funnel),
    };
    let ticket = param(params, "ticket");
    persons::page_address(frame, persons, funnel, ticket)
}

fn form_address(frame: &Frame, range: &Range, form: &AskForm, params: &Params) -> String {
    let mut address_params = range.params();
    address_params.extend(form.params());
    if let Some(view) = param(params, "view") {
        address_params.push(("view".into(), view.to_owned()));
    }
    address(&frame.href("ask"), &address_params)
}

fn parse(json: &Value, frame: &Frame) -> Result<Question, Vec<QuestionError>> {
    Question::parse(json, &ProjectSettings::new(zone_name(&frame.time_zone), frame.now))
}

fn zone_name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default()
}
