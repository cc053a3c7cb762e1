//! "Was this event here before?": a small set of hashes that never says no wrongly.
//!
//! A binary fuse filter with three places per hash, after Graf and Lemire, "Binary Fuse Filters: Fast
//! and Smaller Than Xor Filters", JEA 2022. With fingerprints of 16 bits it takes about 18 an event and
//! says yes wrongly once in 65,536 questions, which matters because every wrong yes reads pages: a
//! Bloom filter of that size errs 30 times as often. Segments that compaction wrote have fingerprints of
//! 13 bits: they stay for long, and few of them are of the days that events come for, so few are asked.
//!
//! The bytes are little-endian: a seed (u64); the length of a segment (u24) and the bits of a fingerprint
//! (u8, 0 for 16); the length of all segments but the last two (u32); then the fingerprints, packed from
//! the lowest bit on, and where they have fewer than 16 bits three bytes of nothing. They are probed as
//! they are, without decoding.

use bytes::{BufMut, Bytes, BytesMut};

use super::FormatError;
use crate::model::{EventId, PersonNo, ProjectId, hash64};

const HEAD_BYTES: usize = 16;
/// So that the four bytes from where a fingerprint begins are there for the last one too.
const BEYOND_BYTES: usize = 3;
/// Of a fingerprint.
pub(super) const BITS_MAX: u32 = 16;
/// Each attempt fails for about one set in a hundred; far fewer than these are ever needed.
const SEEDS_MAX: u64 = 1_000;
const SEGMENT_LENGTH_MAX: u32 = 1 << 18;

/// What an event is known by: persons first, so that the same id of two persons is two events.
/// In runs, which mix projects, the project is part of it; in segments it is not.
pub fn identity_hash(project_id: Option<ProjectId>, person_no: PersonNo, event_id: EventId, day: i32) -> u64 {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&person_no.to_le_bytes());
    bytes[4..8].copy_from_slice(&day.to_le_bytes());
    bytes[8..24].copy_from_slice(&event_id.0);
    match project_id {
        None => hash64(&bytes[..24]),
        Some(project_id) => {
            bytes[24..].copy_from_slice(&project_id.0.to_le_bytes());
            hash64(&bytes)
        }
    }
}

#[derive(Clone)]
pub struct Filter {
    shape: Shape,
    bytes: Bytes,
}

#[derive(Clone, Copy)]
struct Shape {
    seed: u64,
    segment_length: u32,
    /// Where the first of the three places may lie.
    first_places: u32,
    /// Of a fingerprint.
    bits: u32,
}

impl Shape {
    fn for_hashes(count: usize, bits: u32) -> Self {
        let n = count.max(2) as f64;
        // Both formulas are the paper's, for three places.
        let exponent = (n.ln() / 3.33_f64.ln() + 2.25).floor() as u32;
        let segment_length = (1_u32 << exponent.min(31)).min(SEGMENT_LENGTH_MAX);
        let factor = (0.875 + 0.25 * 1e6_f64.ln() / n.ln()).max(1.125);
        let capacity = (n * factor).round() as u32;
        let segments = capacity.div_ceil(segment_length).saturating_sub(2).max(1);
        Self { seed: 0, segment_length, first_places: segments * segment_length, bits }
    }

    fn places(&self) -> usize {
        self.first_places as usize + 2 * self.segment_length as usize
    }

    fn mix(&self, hash: u64) -> u64 {
        // The finalizer of MurmurHash3 (public domain) over the seeded hash.
        let mut h = hash.wrapping_add(self.seed);
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }

    fn places_of(&self, mixed: u64) -> [usize; 3] {
        let mask = self.segment_length - 1;
        let first = ((u128::from(mixed) * u128::from(self.first_places)) >> 64) as u32;
        let second = (first + self.segment_length) ^ ((mixed >> 18) as u32 & mask);
        let third = (first + 2 * self.segment_length) ^ (mixed as u32 & mask);
        [first as usize, second as usize, third as usize]
    }

    fn fingerprint(&self, mixed: u64) -> u32 {
        (mixed ^ (mixed >> 32)) as u32 & self.mask()
    }

    fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    fn bytes_of_prints(&self) -> usize {
        let beyond = if self.bits == BITS_MAX { 0 } else { BEYOND_BYTES };
        (self.places() * self.bits as usize).div_ceil(8) + beyond
    }
}

impl Filter {
    /// The same hashes in the same order give the same bytes. Precondition: `1 <= bits <= BITS_MAX`.
    pub fn build(mut hashes: Vec<u64>, bits: u32) -> Self {
        let mut shape = Shape::for_hashes(hashes.len(), bits);
        // Hashes are seldom there twice, and sorting them takes longer than a try.
        if let Some(order) = peel(&shape, &hashes) {
            return Self::assign(shape, &order);
        }
        hashes.sort_unstable();
        hashes.dedup();
        shape = Shape::for_hashes(hashes.len(), bits);
        for attempt in 0..SEEDS_MAX {
            shape.seed = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if let Some(order) = peel(&shape, &hashes) {
                return Self::assign(shape, &order);
            }
        }
        unreachable!("a thousand seeds in a row cannot fail for distinct hashes")
    }

    fn assign(shape: Shape, order: &[(u64, u32)]) -> Self {
        let mut prints = vec![0_u32; shape.places()];
        for &(mixed, free) in order.iter().rev() {
            let others = shape.places_of(mixed).iter().fold(0, |all, &place| all ^ prints[place]);
            prints[free as usize] = shape.fingerprint(mixed) ^ others;
        }
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + shape.bytes_of_prints());
        bytes.put_u64_le(shape.seed);
        bytes.put_uint_le(shape.segment_length.into(), 3);
        // As they were written when all had 16.
        bytes.put_u8(if shape.bits == BITS_MAX { 0 } else { shape.bits as u8 });
        bytes.put_u32_le(shape.first_places);
        let (mut packed, mut filled) = (0_u64, 0);
        for print in prints {
            packed |= u64::from(print) << filled;
            filled += shape.bits;
            while filled >= u8::BITS {
                bytes.put_u8(packed as u8);
                packed >>= u8::BITS;
                filled -= u8::BITS;
            }
        }
        if filled > 0 {
            bytes.put_u8(packed as u8);
        }
        bytes.resize(HEAD_BYTES + shape.bytes_of_prints(), 0);
        Self { shape, bytes: bytes.freeze() }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn from_bytes(bytes: Bytes) -> Result<Self, FormatError> {
        let head: &[u8; HEAD_BYTES] =
            bytes.first_chunk().ok_or_else(|| FormatError::corrupt("a filter without a head"))?;
        let [a, b, c, d, e, f, g, h, i, j, k, bits, m, n, o, p] = *head;
        let shape = Shape {
            seed: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            segment_length: u32::from_le_bytes([i, j, k, 0]),
            first_places: u32::from_le_bytes([m, n, o, p]),
            bits: if bits == 0 { BITS_MAX } else { bits.into() },
        };
        let sane = shape.segment_length.is_power_of_two()
            && shape.segment_length <= SEGMENT_LENGTH_MAX
            && u32::from(bits) < BITS_MAX;
        if !sane || bytes.len() != HEAD_BYTES + shape.bytes_of_prints() {
            return Err(FormatError::corrupt("a filter whose length does not fit its head"));
        }
        Ok(Self { shape, bytes })
    }

    /// False: certainly not there. True: there, or once in 2 to the power of its bits not.
    pub fn may_contain(&self, hash: u64) -> bool {
        let mixed = self.shape.mix(hash);
        let stored = self.shape.places_of(mixed).into_iter().fold(0, |all, place| {
            let bit = place * self.shape.bits as usize;
            let at = HEAD_BYTES + bit / 8;
            // Where nothing is beyond, all have two whole bytes.
            let word = match self.bytes[at..].first_chunk() {
                Some(word) => u32::from_le_bytes(*word),
                None => u32::from(self.bytes[at]) | u32::from(self.bytes[at + 1]) << 8,
            };
            all ^ word >> (bit % 8)
        });
        stored & self.shape.mask() == self.shape.fingerprint(mixed)
    }
}

/// The order in which every hash can be given a place of its own, or `None` when this seed has none.
fn peel(shape: &Shape, hashes: &[u64]) -> Option<Vec<(u64, u32)>> {
    let mut counts = vec![0_u32; shape.places()];
    let mut xors = vec![0_u64; shape.places()];
    for &hash in hashes {
        let mixed = shape.mix(hash);
        for place in shape.places_of(mixed) {
            counts[place] += 1;
            xors[place] ^= mixed;
        }
    }
    let mut single: Vec<u32> = (0..counts.len() as u32).filter(|&p| counts[p as usize] == 1).collect();
    let mut order = Vec::with_capacity(hashes.len());
    while let Some(place) = single.pop() {
        if counts[place as usize] != 1 {
            continue;
        }
        let mixed = xors[place as usize];
        order.push((mixed, place));
        for other in shape.places_of(mixed) {
            counts[other] -= 1;
            xors[other] ^= mixed;
            if counts[other] == 1 {
                single.push(other as u32);
            }
        }
    }
    (order.len() == hashes.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Random, SeededRandom};

    fn hashes(seed: u64, count: usize) -> Vec<u64> {
        let random = SeededRandom::new(seed);
        (0..count).map(|_| random.next_u64()).collect()
    }

    #[test]
    fn everything_that_was_put_in_is_found_at_any_size() {
        for count in [0, 1, 2, 3, 4, 7, 10, 100, 1_000, 8_191, 100_000] {
            for bits in [1, 7, 8, 13, 14, 15, 16] {
                let inside = hashes(count as u64, count);
                let built = Filter::build(inside.clone(), bits);
                let read = Filter::from_bytes(built.bytes().clone()).unwrap();
                assert!(inside.iter().all(|&hash| read.may_contain(hash)), "{count} hashes of {bits} bits");
            }
        }
    }

    #[test]
    fn repeated_hashes_are_one() {
        let filter = Filter::build(vec![5; 1_000], 16);
        assert!(filter.may_contain(5));
        assert!(filter.bytes().len() < 200);
    }

    #[test]
    fn says_yes_wrongly_as_seldom_as_its_bits_promise() {
        // Of 2^20 questions 16 and 128 wrong answers are expected, and those are eight standard deviations more.
        for (bits, wrong_max) in [(16, 48), (13, 219)] {
            let filter = Filter::build(hashes(1, 200_000), bits);
            let taken = filter.bytes().len() as f64 * 8.0 / 200_000.0;
            let bits = f64::from(bits);
            assert!((bits..bits * 1.22).contains(&taken), "{taken} bits an event");
            let wrong = hashes(2, 1 << 20).into_iter().filter(|&hash| filter.may_contain(hash)).count();
            assert!(wrong <= wrong_max, "{wrong} wrong answers");
        }
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        assert!(Filter::from_bytes(Bytes::from_static(b"short")).is_err());
        let good = Filter::build(vec![1, 2, 3], 16);
        assert!(Filter::from_bytes(good.bytes().slice(..good.bytes().len() - 2)).is_err());
        for bits in [14, 16, 17, 255] {
            let mut other = good.bytes().to_vec();
            other[11] = bits;
            assert!(Filter::from_bytes(other.into()).is_err(), "{bits} bits");
        }
    }
}
