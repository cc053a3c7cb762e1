//! Where the cache has a copy of a result.

use std::time::Duration;

use bytes::Bytes;

use crate::cache::CacheKey;
use crate::storage::control::tickets::ResultRef;

/// A result never changes, and its fence says which run's it is.
pub(super) struct ResultKey(pub(super) ResultRef);

impl CacheKey for ResultKey {
    type Value = Bytes;
    const NAME: &'static str = "ticket-result-1";
    const TTL: Duration = Duration::from_secs(3_600);

    fn id(&self) -> String {
        format!("{}-{}", self.0.ticket_id, self.0.fence)
    }
    fn encode(value: &Bytes) -> Bytes {
        value.clone()
    }
    fn decode(bytes: Bytes) -> Option<Bytes> {
        Some(bytes)
    }
}
