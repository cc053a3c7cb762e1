//! The field's words as types. Pure: no input or output, no clock of its own, nothing of ours above it.
//!
//! An [`Event`] is one recorded fact after validation. It is what collection writes into the
//! journal, what the sealer resolves and sorts, and what a question counts. Ids of rows are small
//! integers ([`ProjectId`], [`ShardNo`], [`PersonNo`], [`IdNo`]); ids that are made without asking
//! anyone are 16 random or time-ordered bytes ([`EventId`], [`BatchId`], [`ObjectId`], [`ServerId`]).

mod access;
mod clock;
mod event;
mod hash;
mod ids;
mod interned;
mod properties;
mod random;

pub use access::{AccountId, KeyId, KeyKind, Role};
pub use clock::{Clock, DAY_MS, ManualClock, Millis, SystemClock, kept_from, utc_day};
pub use event::{Event, LINK_EVENT, PropertyValue, TimeSource, UNCOUNTED_EVENTS, is_counted_as_every_event};
pub use hash::{FastMap, FastSet, IdHash, hash64, shard_of, shards_of};
pub use ids::{
    BatchId, EventId, IdNo, ObjectId, PersonNo, ProjectId, ReplicaId, ServerId, ShardNo, TicketId,
};
pub use interned::Interned;
pub use properties::{
    Properties, PropertiesError, PropertiesWriter, PropertyBytes, PropertyRef, put_property, put_text,
    put_varint, put_zigzag, take_text, take_varint, take_zigzag,
};
pub use random::{Random, SeededRandom, SystemRandom};
