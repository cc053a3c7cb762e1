//! What a reader must know about answers before believing them, and what stands below one.

use jiff::{Timestamp, tz::TimeZone};

use super::{asking::Outcome, format, views::Note};
use crate::{
    analysis::{Away, Completeness},
    model::Millis,
    tickets::{Ticket, TicketState},
};

/// An answer that is complete up to longer before its end than this is called stale.
const STALE_MS: Millis = 60_000;
/// Numbers of shards that are named; of more only how many they are.
const SHARDS_NAMED_MAX: usize = 8;

/// Of a page's answers.
pub fn notes<'a>(outcomes: impl Iterator<Item = &'a Outcome>, now: Millis, zone: &TimeZone) -> Vec<Note> {
    let answered: Vec<(&Ticket, &Completeness)> = outcomes
        .filter_map(|outcome| match outcome {
            Outcome::Answered(ticket, _, completeness) => Some((ticket, completeness)),
            Outcome::Waiting(_) | Outcome::Failed { .. } => None,
        })
        .collect();
    notes_of(&answered, now, zone)
}

pub fn notes_of(answered: &[(&Ticket, &Completeness)], now: Millis, zone: &TimeZone) -> Vec<Note> {
    let mut notes = Vec::new();
    let partial = answered.iter().filter(|(ticket, _)| ticket.partial);
    // All of a page are of one project: whoever lacks the most lacks what the others lack.
    if let Some((_, worst)) = partial.max_by_key(|(_, lacking)| lacking.away.as_ref().map(away_shards)) {
        notes.push(Note::warning(match &worst.away {
            Some(away) => partial_in_words(away, now, zone),
            None => "Partial: a part of the data could not be read, so these numbers are too low. Ask again \
                     when all servers answer."
                .to_owned(),
        }));
    }
    let moving = answered.iter().map(|(_, completeness)| completeness.moving).max().unwrap_or(0);
    if moving > 0 {
        notes.push(Note::warning(format!(
            "Incomplete: the events of {} are being brought together with those of another id and are not \
             counted until that is done.",
            format::counted(moving, "person", "persons")
        )));
    }
    // A shared answer is as old as the run that gave it, but still the answer: equal data was asked. A
    // partial one is as old as the word of the server that is away, whatever sealing does.
    let tickets = answered.iter().map(|(ticket, _)| *ticket);
    let tickets = tickets.filter(|ticket| !is_shared(ticket) && !ticket.partial);
    let behind = tickets.filter_map(|ticket| Some(ticket.finished_at? - ticket.as_of?)).max().unwrap_or(0);
    if behind > STALE_MS {
        notes.push(Note::warning(format!(
            "Stale: sealing is {} behind, so what arrived last is not counted yet.",
            format::duration(behind)
        )));
    }
    notes
}

fn away_shards(away: &Away) -> usize {
    away.shards.len()
}

/// "Partial: 15 of 16 shards were read, shard 7 is away since 12:01:00."
fn partial_in_words(away: &Away, now: Millis, zone: &TimeZone) -> String {
    let since = away.since.as_ref().and_then(|since| since.parse::<Timestamp>().ok());
    let since = since.map_or_else(String::new, |since| {
        let since = since.as_millisecond();
        let is_today = format::zoned(since, zone).date() == format::zoned(now, zone).date();
        let shown = if is_today { format::clock_time(since, zone) } else { format::date_time(since, zone) };
        format!(" since {shown}")
    });
    let missing = away.shards.len();
    if missing == 0 {
        return format!(
            "Partial: a server that may hold events which are yet to be counted is away{since}. Ask again \
             when it answers."
        );
    }
    let named: Vec<String> = away.shards.iter().map(ToString::to_string).collect();
    let are_away = match named.split_last() {
        Some((last, [])) => format!("shard {last} is"),
        Some((last, others)) if missing <= SHARDS_NAMED_MAX => {
            format!("shards {} and {last} are", others.join(", "))
        }
        _ => format!("{missing} are"),
    };
    format!(
        "Partial: {} of {} shards were read, {are_away} away{since}. These numbers are too low: ask again \
         when all answer.",
        away.shards_total.saturating_sub(missing),
        away.shards_total
    )
}

/// Whether an equal question over the same data had been answered before: then nothing ran.
fn is_shared(ticket: &Ticket) -> bool {
    ticket.state == TicketState::Succeeded
        && ticket.started_at.is_none_or(|at| Some(at) == ticket.finished_at)
}

/// How fresh and how whole an answer is: "As of 12:04:31, all 4 shards".
fn completeness_in_words(ticket: &Ticket, completeness: &Completeness, as_of: &str) -> String {
    let total = ticket.progress.shards_total;
    match (&completeness.away, total) {
        (Some(away), 1..) if !away.shards.is_empty() => {
            let read = away.shards_total.saturating_sub(away.shards.len());
            format!("As of {as_of}, {read} of {} shards", away.shards_total)
        }
        _ if ticket.partial => format!("As of {as_of}, not all of it"),
        (_, 0) => format!("As of {as_of}"),
        (_, 1) => format!("As of {as_of}, the whole of it"),
        (_, total) => format!("As of {as_of}, all {total} shards"),
    }
}

/// What stands below an answer.
pub fn facts(ticket: &Ticket, completeness: &Completeness, zone: &TimeZone) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(as_of) = ticket.as_of {
        facts.push(completeness_in_words(ticket, completeness, &format::clock_time(as_of, zone)));
    }
    match (ticket.started_at, ticket.finished_at) {
        _ if is_shared(ticket) => facts.push("Answered before, over the same data".to_owned()),
        (Some(started), Some(finished)) => {
            facts.push(format!("Answered in {}", format::duration(finished - started)));
        }
        _ => {}
    }
    if ticket.progress.rows_done > 0 {
        facts.push(format!("{} read", format::counted(ticket.progress.rows_done, "event", "events")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ShardNo;

    /// 2026-11-29T12:30:00Z.
    const NOW: Millis = 1_795_955_400_000;

    #[test]
    fn what_is_away_is_named_with_the_time_it_was_last_heard() {
        let words = |shards: &[u16], since: Option<&str>| {
            let shards = shards.iter().copied().map(ShardNo).collect();
            let away = Away { shards, shards_total: 16, since: since.map(str::to_owned) };
            partial_in_words(&away, NOW, &TimeZone::UTC)
        };
        let one = words(&[7], Some("2026-11-29T12:01:00Z"));
        assert!(
            one.starts_with("Partial: 15 of 16 shards were read, shard 7 is away since 12:01:00."),
            "{one}"
        );
        let three = words(&[1, 3, 5], Some("2026-11-28T23:59:00Z"));
        assert!(three.contains("13 of 16"), "{three}");
        assert!(three.contains("shards 1, 3 and 5 are away since 2026-11-28 23:59:00."), "{three}");
        let many = words(&(0..9).collect::<Vec<_>>(), None);
        assert!(many.contains("7 of 16 shards were read, 9 are away."), "{many}");
        let silent = words(&[], Some("2026-11-29T12:01:00Z"));
        assert!(silent.contains("may hold events") && silent.contains("away since 12:01:00"), "{silent}");
    }

    #[test]
    fn sealing_is_not_blamed_for_a_server_that_is_away() {
        let answered = |partial| {
            let mut ticket = Ticket::succeeded();
            ticket.partial = partial;
            (ticket.as_of, ticket.finished_at) = (Some(NOW - 2 * STALE_MS), Some(NOW));
            notes_of(&[(&ticket, &Completeness::default())], NOW, &TimeZone::UTC)
        };
        let words =
            |partial| answered(partial).into_iter().map(|note| note.text).collect::<Vec<_>>().join(" ");
        assert!(words(false).starts_with("Stale: sealing is 2"), "{}", words(false));
        assert!(words(true).starts_with("Partial") && !words(true).contains("sealing"), "{}", words(true));
    }
}
