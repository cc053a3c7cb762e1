//! What the menus of a form offer: every event and property of the project with how often it occurs,
//! and the most frequent values of a property. Menus fetch these when they are opened; a page
//! without scripts has plain lists instead.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::form::shown_value;
use crate::{
    analysis::{Answer, Breakdown, Number, ProjectSettings, Question, TrendsAnswer},
    http::{
        ApiError, HttpState,
        extract::ProjectPage,
        web::{
            asking::{Asking, Outcome, PAGE_WAIT},
            format::relative,
            menu::types_shown,
            range::Range,
        },
    },
    tickets::Tickets,
};

const VALUES_MAX: usize = 50;

#[derive(Serialize)]
struct MenuView<'a> {
    /// The most frequent first.
    events: Vec<NameView<'a>>,
    more_events: bool,
    properties: Vec<NameView<'a>>,
    more_properties: bool,
}

#[derive(Serialize)]
struct NameView<'a> {
    name: &'a str,
    count: u64,
    /// "3 min ago".
    seen: String,
    /// `text`, `number or text`; of events nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    types: String,
}

#[derive(Deserialize)]
pub struct ValuesQuery {
    property: String,
}

#[derive(Serialize)]
struct ValueView {
    /// As it is typed into a filter.
    value: String,
    count: u64,
}

/// `GET …/ask/menu`.
pub async fn menu(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now_ms();
    let known = state.menus.get(&state.storage, project.project_id(), now).await?;
    let seen = |at| relative(at, now);
    let mut events: Vec<NameView> = known
        .events
        .iter()
        .map(|(name, event)| NameView {
            name,
            count: event.rows,
            seen: seen(event.last_at),
            types: String::new(),
        })
        .collect();
    let mut properties: Vec<NameView> = known
        .properties
        .iter()
        .map(|(name, property)| NameView {
            name,
            count: property.rows,
            seen: seen(property.last_at),
            types: types_shown(property),
        })
        .collect();
    for list in [&mut events, &mut properties] {
        // Stable: equal ones stay in the order of names.
        list.sort_by_key(|view| std::cmp::Reverse(view.count));
    }
    let (more_events, more_properties) = (known.more_events, known.more_properties);
    Ok(HttpResponse::Ok().json(MenuView { events, more_events, properties, more_properties }))
}

/// `GET …/ask/values?property=country`: counted over the last 30 days that have data, by a question
/// like any other, so that a value is offered exactly when a filter on it finds something.
pub async fn values(
    state: web::Data<HttpState>,
    tickets: web::Data<Tickets>,
    project: ProjectPage,
    query: web::Query<ValuesQuery>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now_ms();
    let known = state.menus.get(&state.storage, project.project_id(), now).await?;
    if !known.properties.contains_key(&query.property) {
        return Ok(HttpResponse::Ok().json(json!({"values": []})));
    }
    let zone = project.time_zone();
    let (from, to) = Range::read(&Vec::new(), now, &zone, known.last_at).bounds();
    let asked = json!({"kind": "trends", "from": from, "to": to, "series": [{"measure": "count"}],
        "filters": [{"property": query.property, "op": "is_set"}],
        "breakdown": {"property": query.property, "limit": VALUES_MAX}});
    let settings = ProjectSettings::new(zone.iana_name().unwrap_or("UTC"), now);
    let question = Question::parse(&asked, &settings).map_err(|errors| {
        let detail = errors.first().map_or_else(String::new, ToString::to_string);
        ApiError::malformed(format!("Values of this property cannot be listed: {detail}."))
    })?;
    let asking = Asking { tickets: &tickets, project: &project, page: "overview", wait: PAGE_WAIT };
    let values = match asking.ask(&question, None).await? {
        Outcome::Answered(_, answer, _) => match *answer {
            Answer::Trends(trends) => counted(&trends),
            Answer::Funnel(_) | Answer::Persons(_) => Vec::new(),
        },
        // A menu without suggestions is still a field to type into.
        Outcome::Waiting(_) | Outcome::Failed { .. } => Vec::new(),
    };
    Ok(HttpResponse::Ok().json(json!({"values": values})))
}

fn counted(trends: &TrendsAnswer) -> Vec<ValueView> {
    let one = |series: &crate::analysis::TrendsAnswerSeries| {
        let value = match series.breakdown.as_ref()? {
            Breakdown::Text(text) => json!(text),
            Breakdown::Number(Number::Integer(integer)) => json!(integer),
            Breakdown::Number(Number::Float(float)) => json!(float),
            Breakdown::Bool(flag) => json!(flag),
            Breakdown::Absent | Breakdown::Json(_) | Breakdown::Other => return None,
        };
        let count = series.total.map_or(0, |total| total.to_f64() as u64);
        Some(ValueView { value: shown_value(&value)?, count }).filter(|view| view.count > 0)
    };
    trends.series.iter().filter_map(one).collect()
}
