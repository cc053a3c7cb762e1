//! What an erasure does to what was asked and answered before it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::result_key::ResultKey;
use super::service::GONE_FOR_MS;
use super::{Failure, TicketState};
use crate::cache::{Cache, Wakeup};
use crate::model::{Millis, ProjectId, TicketId};
use crate::storage::control::tickets::{TicketRow, TicketStore};
use crate::storage::{Db, StorageError};

/// Tickets looked at at a time.
const PAGE: u32 = 200;
/// From this length on an id is also found inside of longer texts; a shorter one would be found
/// everywhere.
const INSIDE_BYTES_MIN: usize = 8;

/// The ids of an erased person, to find texts that name them.
pub struct Names<'a> {
    ids: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    pub fn new(ids: impl Iterator<Item = &'a str>) -> Self {
        Self { ids: ids.filter(|id| !id.is_empty()).collect() }
    }

    /// Whether a text is one of the ids, or has a long one in it.
    pub fn is_in(&self, text: &str) -> bool {
        self.ids.contains(text) || self.ids.iter().any(|id| id.len() >= INSIDE_BYTES_MIN && text.contains(id))
    }

    /// Whether a text, a number or a name of this JSON is one of the ids, or has a long one in it.
    pub fn are_in(&self, json: &Value) -> bool {
        match json {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => self.ids.contains(number.to_string().as_str()),
            Value::String(text) => self.is_in(text),
            Value::Array(items) => items.iter().any(|item| self.are_in(item)),
            Value::Object(fields) => {
                fields.iter().any(|(name, value)| self.is_in(name) || self.are_in(value))
            }
        }
    }

    /// The same for bytes that may be JSON, perhaps cut short.
    pub fn are_in_bytes(&self, bytes: &[u8]) -> bool {
        match serde_json::from_slice(bytes) {
            Ok(json) => self.are_in(&json),
            Err(_) => {
                let text = String::from_utf8_lossy(bytes);
                let is_quoted = |id: &&str| text.contains(&Value::from(*id).to_string());
                self.is_in(&text) || self.ids.iter().any(is_quoted)
            }
        }
    }
}

/// The tickets, results and cached results of an installation, as far as an erasure reaches.
pub struct StoredAnswers {
    store: TicketStore,
    cache: Cache,
}

impl StoredAnswers {
    pub fn new(control: Db, cache: Cache) -> Self {
        Self { store: TicketStore::new(control), cache }
    }

    /// Once the person is masked everywhere and the project's erasure epoch is raised, which keeps out what runs
    /// without being in the table: from here on no run that saw them publishes, and no answer from before is
    /// read. Tickets of `spared`, the kind that erases, are left alone.
    pub async fn clear(
        &self,
        project: ProjectId,
        spared: &str,
        names: &Names<'_>,
        now: Millis,
    ) -> Result<(), StorageError> {
        // Twice: a run that publishes while the first pass goes by answers those that waited for it.
        for _ in 0..2 {
            let mut after = None;
            while let Some((last, tickets)) = self.next_page(project, spared, after).await? {
                after = Some(last);
                for ticket in tickets {
                    self.clear_one(ticket, names, now).await?;
                }
            }
        }
        Ok(())
    }

    async fn clear_one(
        &self,
        mut ticket: TicketRow,
        names: &Names<'_>,
        now: Millis,
    ) -> Result<(), StorageError> {
        let ticket_id = ticket.ticket_id;
        loop {
            if ticket.state.is_final() {
                self.store.expire(ticket_id, now, GONE_FOR_MS).await?;
                self.uncache(&ticket).await;
                return Ok(());
            }
            if names.are_in_bytes(&ticket.body) {
                let failure = Failure::new("erased", "It names a person who was erased.");
                if let Some(settled) = self.store.end_with(&ticket, &failure, now).await? {
                    self.store.expire(ticket_id, now, GONE_FOR_MS).await?;
                    self.wake(ticket_id, settled);
                    return Ok(());
                }
            } else if ticket.state != TicketState::Running {
                // Whoever runs it from now on does not see the person.
                return Ok(());
            } else if self.store.run_again(&ticket, now).await? {
                self.wake(ticket_id, Vec::new());
                self.cache.wakeups().send(Wakeup::TicketQueued);
                return Ok(());
            }
            // It has ended meanwhile, or went back into the queue.
            match self.store.find(ticket_id).await? {
                Some(now) => ticket = now,
                None => return Ok(()),
            }
        }
    }

    /// At the end of the erasure: copies that were on their way into the cache when it was cleared, parts that
    /// runs had written which were taken from them, and tickets taken in until `until` that name the person and
    /// came into the table after it was looked through.
    pub async fn clear_rest(
        &self,
        project: ProjectId,
        spared: &str,
        names: &Names<'_>,
        until: Millis,
        now: Millis,
    ) -> Result<(), StorageError> {
        let mut after = None;
        while let Some((last, tickets)) = self.next_page(project, spared, after).await? {
            after = Some(last);
            for ticket in tickets {
                let is_named = ticket.created_at <= until && names.are_in_bytes(&ticket.body);
                if is_named {
                    self.clear_one(ticket.clone(), names, now).await?;
                }
                if is_named || ticket.body.is_empty() {
                    self.uncache(&ticket).await;
                    self.store.forget_result(ticket.ticket_id, now).await?;
                }
                self.store.delete_parts_below(ticket.ticket_id, ticket.fence).await?;
            }
        }
        Ok(())
    }

    /// Some tickets but those of a kind, and where the next ones begin.
    async fn next_page(
        &self,
        project: ProjectId,
        spared: &str,
        after: Option<TicketId>,
    ) -> Result<Option<(TicketId, Vec<TicketRow>)>, StorageError> {
        let mut tickets = self.store.list_kept(project, after, PAGE).await?;
        let Some(last) = tickets.last().map(|ticket| ticket.ticket_id) else { return Ok(None) };
        tickets.retain(|ticket| ticket.kind != spared);
        Ok(Some((last, tickets)))
    }

    async fn uncache(&self, ticket: &TicketRow) {
        if let Some(result) = ticket.result {
            self.cache.remove(&ResultKey(result)).await;
        }
    }

    fn wake(&self, ticket: TicketId, settled: Vec<TicketId>) {
        for ticket in settled.into_iter().chain([ticket]) {
            self.cache.wakeups().send(Wakeup::TicketChanged(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_is_named_by_a_whole_id_or_by_a_long_one_inside_of_a_text() {
        let names = Names::new(["u1", "ada@example.org", "12345", "é\"x"].into_iter());
        for (json, is_named) in [
            (json!({"filters": [{"value": ["u2", "u1"]}]}), true),
            (json!({"filters": [{"value": "u11"}]}), false),
            (json!({"value": "mail to ada@example.org now"}), true),
            (json!({"ada@example.org": 1}), true),
            (json!({"value": 12_345}), true),
            (json!({"value": 123_456}), false),
            (json!([null, true, "u"]), false),
        ] {
            assert_eq!(names.are_in(&json), is_named, "{json}");
            assert_eq!(names.are_in_bytes(json.to_string().as_bytes()), is_named, "{json}");
        }
        // As a sample is kept that was too long.
        assert!(names.are_in_bytes(br#"{"distinct_id": "u1", "properties": {"text": "aaaa"#));
        assert!(names.are_in_bytes("{\"distinct_id\": \"é\\\"x\", \"prop".as_bytes()));
        assert!(!names.are_in_bytes(br#"{"distinct_id": "u11", "prop"#));
        assert!(!Names::new(std::iter::empty()).are_in(&json!("")));
    }
}
