//! The page around an answer, or around what keeps it from being there.

use super::{
    Request,
    answer::{self, Manner},
    param, words,
};
use crate::{
    analysis::Outcome as Which,
    http::web::{
        asking::{self, Outcome},
        notes,
        range::address,
        sort::Sort,
        views::{AnswerView, AskPage, Asked, Frame, Menus, RangeBar},
    },
    tickets::Ticket,
};

/// All but the answer.
pub struct Shell {
    pub frame: Frame,
    pub menus: Menus,
    pub request: Request,
    pub public_url: String,
}

impl Shell {
    pub fn page(self, asked: Asked) -> AskPage {
        let Shell { frame, menus, request, public_url } = self;
        let view = if param(&request.params, "view") == Some("bars") { "bars" } else { "line" };
        AskPage {
            frame,
            range: RangeBar { form: "ask", range: request.range, with_compare: false },
            form: request.form,
            menus,
            json: request.json,
            json_open: request.json_only,
            json_only: request.json_only,
            errors: request.errors,
            view,
            sort: Sort::read(&request.params),
            public_url,
            refresh_href: String::new(),
            events_href: String::new(),
            asked,
        }
    }

    /// This page, with or without the ticket it waits for.
    fn href(&self, ticket: Option<&Ticket>) -> String {
        let mut params = self.request.params.clone();
        params.retain(|(name, _)| name != "ticket" && name != "do");
        params.extend(ticket.map(|ticket| ("ticket".to_owned(), ticket.ticket_id.to_string())));
        address(&self.frame.href("ask"), &params)
    }

    /// Who is behind a step of the funnel that is asked.
    fn persons_href(&self, step: usize, outcome: Which) -> String {
        let Request { range, form, json, json_only, .. } = &self.request;
        let mut params = match json_only {
            true => vec![("q".to_owned(), json.clone())],
            false => [range.params(), form.params()].concat(),
        };
        params.push(("step".to_owned(), step.to_string()));
        params.push(("outcome".to_owned(), outcome.word().to_owned()));
        address(&self.frame.href("ask/persons"), &params)
    }

    fn ticket_href(&self, ticket: &Ticket) -> String {
        self.frame.href(&format!("tickets/{}", ticket.ticket_id))
    }
}

pub fn answered(mut shell: Shell, outcome: Outcome) -> AskPage {
    match outcome {
        Outcome::Waiting(ticket) => {
            let (progress, text) = asking::progress(&ticket);
            let refresh_href = shell.href(Some(&ticket));
            let ticket_href = shell.ticket_href(&ticket);
            let mut page = shell.page(Asked::Waiting { progress, text, ticket_href });
            page.refresh_href = refresh_href;
            page.events_href = asking::events_href(&ticket);
            page
        }
        Outcome::Failed { ticket, detail } => {
            let ticket_href = ticket.as_ref().map(|ticket| shell.ticket_href(ticket));
            let again_href = shell.href(None);
            shell.page(Asked::Failed { detail, ticket_href, again_href })
        }
        Outcome::Answered(ticket, answer, completeness) => {
            let Some(question) = shell.request.question.take() else {
                return shell.page(Asked::Nothing("Ask a question to see its answer".to_owned()));
            };
            let now = shell.frame.now;
            let columns = param(&shell.request.params, "view") == Some("bars");
            let words = words::in_words(&question.asked());
            let heading = answer::funnel_heading(&question).unwrap_or(words);
            let persons_href = |step: usize, outcome: Which| shell.persons_href(step, outcome);
            let manner = Manner { columns, heading: &heading, now, persons_href: &persons_href };
            let mut shown = answer::show(&question, &answer, &manner);
            shown.sort(&Sort::read(&shell.request.params));
            let project_id = shell.frame.project.as_ref().map_or(0, |project| project.id.0);
            shell.frame.as_of = ticket.as_of;
            let mut facts = notes::facts(&ticket, &completeness, &shell.frame.time_zone);
            facts.extend(shown.remarks);
            let view = AnswerView {
                chart: shown.chart,
                heading,
                is_funnel: shown.series.is_empty(),
                series: shown.series,
                comparable: shown.comparable,
                table: shown.table,
                notes: notes::notes_of(&[(&ticket, &completeness)], now, &shell.frame.time_zone),
                facts,
                ticket_href: shell.ticket_href(&ticket),
                csv_href: format!(
                    "/api/v1/tickets/{}/result?format=csv&project={project_id}",
                    ticket.ticket_id
                ),
            };
            shell.page(Asked::Answered(Box::new(view)))
        }
    }
}
