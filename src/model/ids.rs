//! Ids: small numbers given by a database, and 16 bytes made by whoever needs one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Clock, Random};

/// A project, numbered by the control database from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub u32);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A logical part of the data, 0 up to the installation's number of shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardNo(pub u16);

impl fmt::Display for ShardNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The dense number of a person within one shard and project, from 0. Never used again.
pub type PersonNo = u32;

/// The dense number of a distinct id within one shard and project, from 0.
pub type IdNo = u32;

macro_rules! bytes16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Time-ordered (UUID version 7), so that rows inserted together lie together.
            pub fn time_ordered(clock: &dyn Clock, random: &dyn Random) -> Self {
                let millis = clock.now_ms().max(0) as u64;
                let mut bytes = [0; 10];
                random.fill(&mut bytes);
                Self(*uuid::Builder::from_unix_timestamp_millis(millis, &bytes).as_uuid().as_bytes())
            }

            /// Random (UUID version 4), for ids that must say nothing.
            pub fn random(random: &dyn Random) -> Self {
                let mut bytes = [0; 16];
                random.fill(&mut bytes);
                Self(*uuid::Builder::from_random_bytes(bytes).as_uuid().as_bytes())
            }

            /// From a database column; `None` when it does not hold 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Ok(Self(*uuid::Uuid::parse_str(text)?.as_bytes()))
            }
        }
    };
}

bytes16!(
    /// The sender's id of an event: its UUID, or a 128-bit hash of any other text.
    EventId
);
bytes16!(
    /// A batch in the journal. Time-ordered and made by the app, so a retried insert is idempotent.
    BatchId
);
bytes16!(
    /// A run or a segment. Random, so that a cache keyed by it can never be wrong.
    ObjectId
);
bytes16!(
    /// One MySQL server or SQLite file, written into it when it joins the installation.
    ServerId
);
bytes16!(
    /// One running process, random per start.
    ReplicaId
);
bytes16!(
    /// A ticket.
    TicketId
);

impl EventId {
    /// The id as sent: a UUID in any of its usual spellings keeps its bytes; other text is hashed
    /// (XXH3-128), and the caller keeps the original as a property.
    pub fn from_text(text: &str) -> (Self, bool) {
        match uuid::Uuid::parse_str(text) {
            Ok(uuid) => (Self(*uuid.as_bytes()), true),
            Err(_) => (Self(xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_be_bytes()), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ManualClock, SeededRandom};

    #[test]
    fn time_ordered_ids_sort_by_time() {
        let clock = ManualClock::new(1_000);
        let random = SeededRandom::new(1);
        let first = BatchId::time_ordered(&clock, &random);
        clock.set(1_001);
        assert!(first < BatchId::time_ordered(&clock, &random));
    }

    #[test]
    fn an_id_that_is_no_uuid_is_hashed() {
        let (uuid, exact) = EventId::from_text("9B0759DD-7124-57D2-AEBB-0C19D564075F");
        assert!(exact);
        assert_eq!(uuid.to_string(), "9b0759dd-7124-57d2-aebb-0c19d564075f");
        let (hashed, exact) = EventId::from_text("node-next-1-x");
        assert!(!exact);
        assert_eq!(hashed, EventId::from_text("node-next-1-x").0);
    }
}
