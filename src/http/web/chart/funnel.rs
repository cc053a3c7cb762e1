//! A funnel: one bar a step, with the shares of the first and of the step before, and in words how
//! many were lost between them.

use std::fmt::Write;

use super::{escape, percent};
use crate::http::web::format;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunnelStep {
    pub label: String,
    pub persons: u64,
    /// Where those who reached it are listed.
    pub reached_href: String,
    /// Where those are listed who reached only the step before.
    pub dropped_href: String,
}

pub fn funnel(steps: &[FunnelStep]) -> String {
    let Some(first) = steps.first() else {
        return String::new();
    };
    let mut html =
        format!("<div class=\"funnel\" role=\"group\" aria-label=\"{}\">", escape(&describe(steps)));
    html.push_str(
        "<div class=\"funnel-step funnel-head\" aria-hidden=\"true\"><span>Step</span><span></span><span class=\"num\">Persons</span><span class=\"num\">Of first</span><span class=\"num\">Of previous</span></div>",
    );
    for (index, step) in steps.iter().enumerate() {
        let before = if index == 0 { step.persons } else { steps[index - 1].persons };
        if index > 0 {
            let _ = write!(
                html,
                "<div class=\"funnel-drop\"><span></span><span>{}</span></div>",
                drop_in_words(before, step)
            );
        }
        let share = if first.persons == 0 { 0.0 } else { step.persons as f64 / first.persons as f64 };
        let _ = write!(
            html,
            "<div class=\"funnel-step\"><span class=\"name\"><span class=\"muted\">{}</span> {}</span><svg class=\"funnel-bar\" width=\"100%\" height=\"36\" aria-hidden=\"true\"><rect width=\"{}%\" height=\"100%\"/></svg><span class=\"num\">{}</span><span class=\"num\" title=\"Share of the first step\">{}</span><span class=\"num muted\" title=\"Share of the step before\">{}</span></div>",
            index + 1,
            escape(&step.label),
            percent(share.clamp(0.0, 1.0)),
            persons_link(step, index + 1),
            format::percent(step.persons as f64, first.persons as f64),
            if index == 0 { String::new() } else { format::percent(step.persons as f64, before as f64) },
        );
    }
    html.push_str("</div>");
    html
}

/// The figure, which leads to who they are.
fn persons_link(step: &FunnelStep, number: usize) -> String {
    let persons = format::thousands(step.persons);
    if step.persons == 0 {
        return format!("<b>{persons}</b>");
    }
    let said = format::counted(step.persons, "person", "persons");
    format!(
        "<a href=\"{}\" aria-label=\"{said} reached step {number}: list them\"><b>{persons}</b></a>",
        escape(&step.reached_href)
    )
}

/// As markup.
fn drop_in_words(before: u64, step: &FunnelStep) -> String {
    let lost = before.saturating_sub(step.persons);
    if before == 0 {
        return "Nobody came this far".to_owned();
    }
    if lost == 0 {
        return "Everybody went on".to_owned();
    }
    format!(
        "<a href=\"{}\">{}</a> ({}) did not go on",
        escape(&step.dropped_href),
        format::counted(lost, "person", "persons"),
        escape(&format::percent(lost as f64, before as f64))
    )
}

fn describe(steps: &[FunnelStep]) -> String {
    let first = steps.first().map_or(0, |step| step.persons);
    let parts: Vec<String> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let persons = format::thousands(step.persons);
            match index {
                0 => format!("{}: {persons} persons", step.label),
                _ => format!(
                    "{}: {persons} ({} of the first)",
                    step.label,
                    format::percent(step.persons as f64, first as f64)
                ),
            }
        })
        .collect();
    format!("Funnel of {} steps. {}.", steps.len(), parts.join("; "))
}
