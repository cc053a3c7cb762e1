//! The fixed hash that says where a person lives. Changing it would orphan stored data, so its
//! test vectors below are part of the format.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::{ProjectId, ServerId, ShardNo};

/// A hash table for what is looked up once an event or more. Its hash is seeded anew in each table
/// but is no defence against somebody who can watch it: keep those tables as short-lived as a pass.
pub type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
pub type FastSet<K> = HashSet<K, foldhash::fast::RandomState>;

/// XXH3-64 with seed 0 (<https://github.com/Cyan4973/xxHash>, stable since 0.8).
pub fn hash64(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// `(hash(project) + hash(distinct_id) mod span) mod shards`: a project with a small `span` stays
/// on few shards, and different projects start at different ones.
///
/// The project is hashed as four little-endian bytes, the distinct id as its UTF-8 bytes.
/// Preconditions: `1 <= span <= shards`.
pub fn shard_of(project_id: ProjectId, distinct_id: &str, span: u16, shards: u16) -> ShardNo {
    debug_assert!((1..=shards).contains(&span));
    let start = hash64(&project_id.0.to_le_bytes()) % u64::from(shards);
    let offset = hash64(distinct_id.as_bytes()) % u64::from(span);
    ShardNo(((start + offset) % u64::from(shards)) as u16)
}

/// The shards that a project lives on. Preconditions: `1 <= span <= shards`.
pub fn shards_of(project_id: ProjectId, span: u16, shards: u16) -> Vec<ShardNo> {
    let start = hash64(&project_id.0.to_le_bytes()) % u64::from(shards);
    (0..u64::from(span)).map(|offset| ShardNo(((start + offset) % u64::from(shards)) as u16)).collect()
}

/// What is left of a distinct id after its erasure: enough to know it again when it comes back, and
/// nothing that can be read.
///
/// The first 16 bytes of SHA-256 over the installation's id, the project and the id. The installation's
/// id is random, so that no table made elsewhere helps; whoever has the whole database knows it, and
/// can find out whether an id that they can guess was erased.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdHash(pub [u8; 16]);

impl IdHash {
    pub fn of(installation_id: ServerId, project_id: ProjectId, distinct_id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(installation_id.0);
        hash.update(project_id.0.to_le_bytes());
        hash.update(distinct_id.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finalize()[..16]);
        Self(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // The empty input's value is in xxHash's own documentation.
        assert_eq!(hash64(b""), 0x2d06_8005_38d3_94c2);
    }

    #[test]
    fn a_span_of_one_keeps_a_project_on_one_shard() {
        let first = shard_of(ProjectId(7), "a", 1, 16);
        for id in ["b", "c", "d", "e"] {
            assert_eq!(shard_of(ProjectId(7), id, 1, 16), first);
        }
    }

    #[test]
    fn a_project_lives_where_its_ids_do() {
        for (span, shards) in [(1, 1), (3, 8), (16, 16)] {
            let listed = shards_of(ProjectId(5), span, shards);
            assert_eq!(listed.len(), usize::from(span));
            for n in 0..100 {
                assert!(listed.contains(&shard_of(ProjectId(5), &format!("u{n}"), span, shards)));
            }
        }
    }

    #[test]
    fn the_hash_of_an_id_is_its_own_in_every_project_and_installation() {
        let one = IdHash::of(ServerId([1; 16]), ProjectId(1), "u");
        assert_eq!(one, IdHash::of(ServerId([1; 16]), ProjectId(1), "u"));
        for other in [
            IdHash::of(ServerId([2; 16]), ProjectId(1), "u"),
            IdHash::of(ServerId([1; 16]), ProjectId(2), "u"),
            IdHash::of(ServerId([1; 16]), ProjectId(1), "u "),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_full_span_reaches_every_shard() {
        let mut seen = [false; 16];
        for n in 0..1_000 {
            seen[shard_of(ProjectId(1), &format!("u{n}"), 16, 16).0 as usize] = true;
        }
        assert!(seen.iter().all(|&s| s));
    }
}
