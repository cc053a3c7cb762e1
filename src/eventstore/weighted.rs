//! Caches that are bounded by the memory of what they keep.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// An estimate only, of what a table is made for at first.
const ITEMS_EXPECTED: usize = 1_000;

/// `None` when nothing may be kept.
pub fn cache<K, V, W>(bytes_max: usize, weighter: W) -> Option<Cache<K, V, W>>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    // One table: split ones would each take only what fits into their share.
    let options = OptionsBuilder::new()
        .estimated_items_capacity(ITEMS_EXPECTED)
        .weight_capacity(bytes_max as u64)
        .shards(1)
        .build();
    let options = options.ok().filter(|_| bytes_max > 0)?;
    Some(Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default()))
}
