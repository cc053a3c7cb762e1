//! Sums that do not depend on the order of their terms.
//!
//! Floats added one by one round at every step, so another order gives another sum, and the same
//! events in another number of shards another answer. [`ExactSum`] keeps the whole sum as a fixed
//! point number instead and rounds once, at the end.
//!
//! Source: the long accumulator of U. Kulisch, in the form of the *small superaccumulator* of
//! R. M. Neal, "Fast Exact Summation Using Small and Large Superaccumulators" (2015,
//! arXiv:1505.05571): chunks of 64 bits that are 32 bits apart, so that carries can wait. Unlike
//! there, only the chunks between the least and the greatest term are kept: property values have
//! similar sizes, and an answer has many sums.

use serde::{Deserialize, Serialize};

use super::number::Number;

/// Chunk `k` counts units of `2^(32 k − 1074)`; `2^-1074` is the least positive float.
const UNIT_EXPONENT: u32 = 1074;
const CHUNK_BITS: u32 = 32;
const CHUNK_MASK: i64 = (1 << CHUNK_BITS) - 1;

/// An addition changes a chunk by less than 2^32, and 2^30 of them stay below 2^63.
const ADDITIONS_MAX: u32 = 1 << 30;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactSum {
    /// The number of `chunks[0]`.
    first: u32,
    chunks: Vec<i64>,
    /// Additions since carries were last resolved.
    additions: u32,
}

impl ExactSum {
    /// Precondition: finite, as stored floats are. Others are left out.
    pub fn add(&mut self, float: f64) {
        debug_assert!(float.is_finite());
        let bits = float.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            return;
        }
        // Numbers below 2^-1022 have no implicit one, and the exponent of those just above.
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        self.add_shifted(u128::from(mantissa), shift, float.is_sign_negative());
    }

    pub fn add_integer(&mut self, integer: i128) {
        // In two halves: shifted by up to 31 bits, each must fit 128.
        let magnitude = integer.unsigned_abs();
        let negative = integer < 0;
        self.add_shifted(magnitude & u128::from(u64::MAX), UNIT_EXPONENT, negative);
        self.add_shifted(magnitude >> 64, UNIT_EXPONENT + 64, negative);
    }

    pub fn merge(&mut self, mut other: Self) {
        if other.chunks.is_empty() {
            return;
        }
        self.resolve_carries();
        other.resolve_carries();
        self.make_room(other.first, other.chunks.len());
        let offset = (other.first - self.first) as usize;
        for (chunk, added) in self.chunks[offset..].iter_mut().zip(&other.chunks) {
            *chunk += added;
        }
        self.additions = 2;
    }

    /// The sum, rounded once to the nearest float, ties to even. A sum beyond the largest float is
    /// the largest float: JSON has no infinity.
    pub fn round(&self) -> f64 {
        let mut sum = self.clone();
        sum.resolve_carries();
        sum.drop_leading_zeros();
        let Some(&top) = sum.chunks.last() else { return 0.0 };
        if top > 0 {
            return sum.round_positive();
        }
        for chunk in &mut sum.chunks {
            *chunk = -*chunk;
        }
        sum.resolve_carries();
        sum.drop_leading_zeros();
        -sum.round_positive()
    }

    /// Precondition: `magnitude` has at most 64 bits.
    fn add_shifted(&mut self, magnitude: u128, shift: u32, negative: bool) {
        if magnitude == 0 {
            return;
        }
        if self.additions >= ADDITIONS_MAX {
            self.resolve_carries();
        }
        self.additions += 1;
        let number = shift / CHUNK_BITS;
        let mut rest = magnitude << (shift % CHUNK_BITS);
        let pieces = (128 - rest.leading_zeros()).div_ceil(CHUNK_BITS) as usize;
        self.make_room(number, pieces);
        let offset = (number - self.first) as usize;
        for chunk in &mut self.chunks[offset..offset + pieces] {
            let piece = (rest as i64) & CHUNK_MASK;
            *chunk += if negative { -piece } else { piece };
            rest >>= CHUNK_BITS;
        }
    }

    fn make_room(&mut self, first: u32, count: usize) {
        if self.chunks.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let missing = (self.first - first) as usize;
            self.chunks.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = first;
        }
        let needed = (first - self.first) as usize + count;
        if needed > self.chunks.len() {
            self.chunks.resize(needed, 0);
        }
    }

    /// Leaves all chunks but the last in `0..2^32`, and the last, which carries the sign, within
    /// 32 bits and a sign.
    fn resolve_carries(&mut self) {
        let mut carry = 0;
        let last = self.chunks.len().wrapping_sub(1);
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            let value = *chunk + carry;
            if index == last && (-CHUNK_MASK..=CHUNK_MASK).contains(&value) {
                *chunk = value;
                carry = 0;
            } else {
                *chunk = value & CHUNK_MASK;
                carry = value >> CHUNK_BITS;
            }
        }
        if carry != 0 {
            self.chunks.push(carry);
        }
        self.additions = 0;
    }

    fn drop_leading_zeros(&mut self) {
        while self.chunks.last() == Some(&0) {
            self.chunks.pop();
        }
    }

    /// Precondition: carries are resolved and the last chunk is positive.
    fn round_positive(&self) -> f64 {
        let chunk = |back: usize| self.chunks.len().checked_sub(back).map_or(0, |at| self.chunks[at] as u128);
        // The first 96 bits hold 53 and the one after them; of the others it only matters whether
        // there are any.
        let wide = chunk(1) << 64 | chunk(2) << 32 | chunk(3);
        let has_rest = self.chunks.iter().rev().skip(3).any(|&chunk| chunk != 0);
        let top = i64::from(self.first) + self.chunks.len() as i64 - 1;
        let base = (top - 2) * i64::from(CHUNK_BITS);
        let drop = i64::from(127 - wide.leading_zeros()) - 52;
        let shift = base + drop;
        if shift < 0 {
            // Below 2^-1022 every multiple of the unit is a float, and bits below the unit are 0.
            return f64::from_bits((wide >> -base) as u64);
        }
        let mut mantissa = (wide >> drop) as u64;
        let half = wide >> (drop - 1) & 1 == 1;
        let below_half = wide & ((1 << (drop - 1)) - 1) != 0 || has_rest;
        if half && (below_half || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // The mantissa's own top bit adds the missing one to the exponent, also when it just
        // rounded up to 2^53.
        let bits = ((shift as u64) << 52) + mantissa;
        f64::from_bits(bits.min(f64::MAX.to_bits()))
    }
}

/// A sum of integers and floats, and of how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberSum {
    pub count: u64,
    integers: i128,
    /// `None`: there was no float, and the sum is an integer.
    floats: Option<ExactSum>,
}

impl NumberSum {
    pub fn add(&mut self, number: Number) {
        self.count += 1;
        match number {
            // 2^64 numbers of 64 bits fit 128.
            Number::Integer(integer) => self.integers += i128::from(integer),
            Number::Float(float) => self.floats.get_or_insert_default().add(float),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.integers += other.integers;
        if let Some(floats) = other.floats {
            self.floats.get_or_insert_default().merge(floats);
        }
    }

    /// An integer when all terms are and it fits one, else the nearest float.
    pub fn total(&self) -> Number {
        match (&self.floats, i64::try_from(self.integers)) {
            (None, Ok(integer)) => Number::Integer(integer),
            _ => Number::Float(self.round()),
        }
    }

    /// The sum, rounded once, divided by the count; `None` for no terms.
    pub fn average(&self) -> Option<f64> {
        (self.count > 0).then(|| self.round() / self.count as f64)
    }

    fn round(&self) -> f64 {
        let mut sum = self.floats.clone().unwrap_or_default();
        sum.add_integer(self.integers);
        sum.round()
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    /// A float as the whole number of 2^-1074 that it is.
    fn units(float: f64) -> BigInt {
        let bits = float.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as u32, bits & ((1 << 52) - 1));
        let magnitude = if exponent == 0 {
            BigInt::from(fraction)
        } else {
            BigInt::from(fraction | 1 << 52) << (exponent - 1)
        };
        if float.is_sign_negative() { -magnitude } else { magnitude }
    }

    /// units / 2^1074 is units × 5^1074 / 10^1074, and the standard library reads decimals of any
    /// length with one rounding.
    fn nearest(units: &BigInt) -> f64 {
        let digits = units * BigInt::from(5).pow(1074);
        let float: f64 = format!("{digits}e-1074").parse().unwrap();
        float.clamp(f64::MIN, f64::MAX)
    }

    fn sum(floats: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        floats.iter().for_each(|&float| sum.add(float));
        sum.round()
    }

    #[test]
    fn hard_sums_are_rounded_once() {
        let least = f64::from_bits(1);
        let cases: [(&str, &[f64], f64); 15] = [
            ("nothing", &[], 0.0),
            ("a negative zero", &[-0.0], 0.0),
            ("one", &[0.1], 0.1),
            ("tenths", &[0.1; 10], 1.0),
            ("cancelled", &[1e300, 1.0, -1e300], 1.0),
            ("the least", &[least], least),
            ("the least, negative", &[-least, -least], -2.0 * least),
            (
                "the largest below 2^-1022 and the least",
                &[f64::MIN_POSITIVE - least, least],
                f64::MIN_POSITIVE,
            ),
            ("the largest", &[f64::MAX], f64::MAX),
            ("beyond the largest", &[f64::MAX, f64::MAX], f64::MAX),
            ("beyond and back", &[f64::MAX, f64::MAX, -f64::MAX], f64::MAX),
            ("half a step, to even", &[1.0, f64::EPSILON / 2.0], 1.0),
            ("half a step and the least", &[1.0, f64::EPSILON / 2.0, least], 1.0 + f64::EPSILON),
            ("half a step above odd", &[1.0 + f64::EPSILON, f64::EPSILON / 2.0], 1.0 + 2.0 * f64::EPSILON),
            ("just below two", &[2.0 - f64::EPSILON, f64::EPSILON / 2.0], 2.0),
        ];
        for (name, floats, expected) in cases {
            assert_eq!(sum(floats).to_bits(), expected.to_bits(), "{name}");
        }
    }

    #[test]
    fn carries_may_wait_as_long_as_promised() {
        let mut sum = ExactSum::default();
        for _ in 0..5 {
            sum.add(-1.5);
            // As if so many had been added: the next addition must resolve.
            sum.additions = ADDITIONS_MAX;
        }
        assert_eq!((sum.round(), sum.chunks.len()), (-7.5, 3));
        sum.add(7.5);
        assert_eq!(sum.round(), 0.0);
    }

    #[test]
    fn integers_stay_integers_until_a_float_joins() {
        let mut sum = NumberSum::default();
        assert_eq!((sum.total(), sum.average()), (Number::Integer(0), None));
        for integer in [i64::MAX, -3, 4 - i64::MAX] {
            sum.add(Number::Integer(integer));
        }
        assert!(matches!(sum.total(), Number::Integer(1)));
        sum.add(Number::Float(0.5));
        assert!(matches!(sum.total(), Number::Float(1.5)));
        assert_eq!(sum.average(), Some(0.375));
        let mut large = NumberSum::default();
        large.add(Number::Integer(i64::MAX));
        large.add(Number::Integer(i64::MAX));
        assert!(matches!(large.total(), Number::Float(18_446_744_073_709_551_616.0)));
    }

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |float| float.is_finite()),
            -1e6..1e6_f64,
            (-1000..1000_i32).prop_map(|n| f64::from(n) / 100.0),
        ]
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_nearest_float(
            floats in prop::collection::vec((finite(), 0..4_usize), 0..60),
            integers in prop::collection::vec((any::<i64>(), 0..4_usize), 0..10),
        ) {
            let expected = floats.iter().map(|&(float, _)| units(float)).sum::<BigInt>()
                + integers.iter().map(|&(integer, _)| BigInt::from(integer) << UNIT_EXPONENT).sum::<BigInt>();
            let mut parts = [const { None::<NumberSum> }; 4].map(Option::unwrap_or_default);
            for &(float, part) in &floats {
                parts[part].add(Number::Float(float));
            }
            for &(integer, part) in integers.iter().rev() {
                parts[part].add(Number::Integer(integer));
            }
            let mut merged = NumberSum::default();
            for part in parts.into_iter().rev() {
                let text = serde_json::to_vec(&part).unwrap();
                merged.merge(serde_json::from_slice(&text).unwrap());
            }
            prop_assert_eq!(merged.round().to_bits(), (nearest(&expected) + 0.0).to_bits());
        }
    }
}
