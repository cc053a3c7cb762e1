//! How far an erasure is, as its ticket's body keeps it from run to run, and the receipt that is left.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{Millis, PersonNo, ShardNo};
use crate::storage::control::projects::Project;
use crate::storage::server::erasure::Known;
use crate::tickets::{RunError, retry};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Body {
    Done { receipt: Receipt },
    Open(Box<Work>),
}

impl Body {
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Done {
            receipt: Receipt,
        }
        // One after the other: serde's own way of telling them apart cannot read numbers as names.
        match serde_json::from_slice(bytes) {
            Ok(Done { receipt }) => Ok(Self::Done { receipt }),
            Err(_) => Ok(Self::Open(serde_json::from_slice(bytes)?)),
        }
    }

    pub fn write(&self) -> Result<Vec<u8>, RunError> {
        serde_json::to_vec(self).map_err(retry)
    }
}

/// What is known and done so far.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Work {
    /// As it was asked for.
    pub distinct_id: String,
    /// What occurred or arrived until then is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_until: Option<Millis>,
    /// All ids of the person that were found.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub persons: BTreeMap<ShardNo, BTreeSet<PersonNo>>,
    /// Stored events of the person, those hidden already left out.
    #[serde(default)]
    pub events: u64,
    /// Where these ids and persons are masked and deleted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub masked: BTreeSet<ShardNo>,
    /// What was committed until then must have left the journals; set when answers were cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<Millis>,
}

impl Work {
    pub fn new(distinct_id: String) -> Self {
        Self {
            distinct_id,
            erased_until: None,
            ids: BTreeSet::new(),
            persons: BTreeMap::new(),
            events: 0,
            masked: BTreeSet::new(),
            wait_until: None,
        }
    }

    /// What is to be erased in one shard: all ids, and the numbers that they have there.
    pub fn known_in(&self, shard_no: ShardNo) -> Known {
        let persons = self.persons.get(&shard_no).cloned().unwrap_or_default();
        Known { ids: self.ids.clone(), persons }
    }

    pub fn receipt(
        &self,
        project: &Project,
        servers: usize,
        samples: u64,
        requested_at: Millis,
        finished_at: Millis,
    ) -> Receipt {
        Receipt {
            ids: self.ids.len() as u64,
            events: self.events,
            rejected_events: samples,
            shards: self.persons.values().filter(|persons| !persons.is_empty()).count() as u64,
            shards_looked_at: project.span.into(),
            servers: servers as u64,
            requested_at: rfc3339(requested_at),
            erased_until: rfc3339(self.erased_until.unwrap_or(requested_at)),
            finished_at: rfc3339(finished_at),
        }
    }
}

/// Counts only: it names nobody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Distinct ids that were the person's.
    pub ids: u64,
    /// Stored events that were the person's.
    pub events: u64,
    /// Samples of rejected events that named the person.
    pub rejected_events: u64,
    /// Shards that had rows of the person.
    pub shards: u64,
    pub shards_looked_at: u64,
    pub servers: u64,
    pub requested_at: String,
    /// What occurred or arrived until then is dropped if it is ever sent again.
    pub erased_until: String,
    pub finished_at: String,
}

fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// What of an erasure's body may be shown: who it is about while it runs, and nothing afterwards.
pub fn shown_body(bytes: &[u8]) -> Option<Value> {
    match Body::read(bytes).ok()? {
        Body::Open(work) => Some(json!({"distinct_id": work.distinct_id})),
        Body::Done { .. } => None,
    }
}
