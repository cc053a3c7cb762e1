//! How whole an answer is, as it says itself beside its figures.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Answer;
use super::elsewhere::Elsewhere;
use super::question_kind::{QuestionKind, version_hash};
use super::time::format_instant;
use crate::eventstore::scan::Listing;
use crate::model::{Millis, ServerId, ShardNo};
use crate::tickets::{RunError, TicketOutput, TicketRun, retry};

/// Fields of the result; those that would say nothing are not there.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Completeness {
    /// Only when it was asked for: whether all that was committed by then is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<bool>,
    /// Persons whose events are on their way to another one, and in no figure until they are there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moving: u64,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Away {
    /// Ascending. None: all shards were read, but a server did not say whether it holds events that
    /// are yet to be brought to them.
    pub shards: Vec<ShardNo>,
    /// Of how many the project has.
    pub shards_total: usize,
    /// RFC 3339 in UTC: when the servers were last heard, the earliest of them. Not there when one has
    /// never been heard since this process began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an answer stands on: all that was known before any row was read.
#[derive(Serialize, Deserialize)]
pub(super) struct Basis {
    pub(super) fresh: Option<bool>,
    /// The same for all shards, though a midnight may come while they are read.
    pub(super) kept_from: Millis,
    pub(super) elsewhere: Elsewhere,
    /// All that the project has.
    pub(super) shards: Vec<ShardNo>,
    /// Of those that said what they hold.
    pub(super) listings: Vec<Listing>,
}

impl Basis {
    pub(super) fn listing_of(&self, shard_no: ShardNo) -> Option<&Listing> {
        self.listings.iter().find(|listing| listing.shard_no == shard_no)
    }

    /// Whether nobody has been masked in between.
    pub(super) fn has_masks_of(&self, later: &Self) -> bool {
        self.listings.iter().all(|listing| {
            let later = later.listing_of(listing.shard_no);
            later.is_some_and(|later| later.mask_version == listing.mask_version)
        })
    }

    /// Shards that did not say what they hold.
    pub(super) fn unlisted(&self) -> BTreeSet<ShardNo> {
        self.shards.iter().copied().filter(|&shard_no| self.listing_of(shard_no).is_none()).collect()
    }
}

impl QuestionKind {
    pub(super) async fn output(
        &self,
        run: &TicketRun,
        basis: &Basis,
        away: BTreeSet<ShardNo>,
        answer: Answer,
        is_small: bool,
    ) -> Result<TicketOutput, RunError> {
        let read = || basis.listings.iter().filter(|listing| !away.contains(&listing.shard_no));
        let moving = read().map(|listing| listing.moving).sum();
        let as_of = read().map(|listing| listing.as_of).min();
        let versions = read().map(|listing| (listing.shard_no, listing.data_version)).collect();
        let away = self.away(&basis.elsewhere.silent, &away, basis.shards.len());
        let partial = away.is_some();
        let completeness = Completeness { fresh: basis.fresh, moving, away };
        let encode = move || encode(&answer, &completeness);
        let body = match is_small {
            true => encode()?,
            // A long answer takes a while: not on the threads of others.
            false => tokio::task::spawn_blocking(encode).await.map_err(retry)??,
        };
        Ok(TicketOutput {
            body,
            as_of: basis.elsewhere.limit(as_of),
            partial,
            // An answer that lacks something is not for whoever asks when it is back.
            data_version: (!partial).then(|| version_hash(&run.body, basis.kept_from, &versions)),
        })
    }

    fn away(
        &self,
        silent: &BTreeSet<ServerId>,
        shards: &BTreeSet<ShardNo>,
        shards_total: usize,
    ) -> Option<Away> {
        if silent.is_empty() && shards.is_empty() {
            return None;
        }
        let of_shards = shards.iter().map(|&shard_no| self.shards.server_of(shard_no));
        let of_silent = self.shards.servers().iter().filter(|server| silent.contains(&server.server_id));
        let heard: Option<Vec<_>> = of_shards.chain(of_silent).map(|server| server.heard_before()).collect();
        let since = heard.and_then(|ago| ago.into_iter().max());
        let since = since.map(|ago| format_instant(self.clock.now_ms() - ago.as_millis() as Millis));
        Some(Away { shards: shards.iter().copied().collect(), shards_total, since })
    }
}

fn encode(answer: &Answer, completeness: &Completeness) -> Result<Bytes, RunError> {
    let mut json = serde_json::to_value(answer).map_err(retry)?;
    let more = serde_json::to_value(completeness).map_err(retry)?;
    if let (Value::Object(fields), Value::Object(more)) = (&mut json, more) {
        fields.extend(more);
    }
    Ok(json.to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::FunnelAnswer;

    #[test]
    fn an_answer_says_only_what_keeps_it_from_being_whole() {
        let encoded = |completeness: &Completeness| -> Value {
            let answer = Answer::Funnel(FunnelAnswer { steps: vec![] });
            let encoded = serde_json::from_slice(&encode(&answer, completeness).unwrap()).unwrap();
            let read: Completeness = serde_json::from_value(Value::clone(&encoded)).unwrap();
            assert_eq!(read, *completeness);
            serde_json::from_value::<Answer>(encoded.clone()).unwrap();
            encoded
        };
        assert_eq!(encoded(&Completeness::default()), json!({"kind": "funnel", "steps": []}));
        let since = Some("2011-01-01T12:01:00Z".to_owned());
        let away = Away { shards: vec![ShardNo(7)], shards_total: 16, since };
        let lacking = Completeness { fresh: Some(false), moving: 2, away: Some(away) };
        assert_eq!(
            encoded(&lacking),
            json!({"kind": "funnel", "steps": [], "fresh": false, "moving": 2,
                   "away": {"shards": [7], "shards_total": 16, "since": "2011-01-01T12:01:00Z"}})
        );
    }
}
