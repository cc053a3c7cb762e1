//! Integers and floats as one ordered line of numbers, compared exactly.
//!
//! A property may hold integers in some rows and floats in others; questions read both together.
//! Comparing through `f64` would call 2^53 and 2^53 + 1 equal, so integers are compared as such.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A finite number. Numbers that are equal in value are equal, whichever type they came in:
/// [`Number::canonical`] makes a float that is a whole number an integer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

/// 2^63: the first float above every `i64`.
const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;

impl Number {
    /// The one form of this value: an integer where it is a whole number in the range of `i64`
    /// (so `-0.0` is 0), else the float.
    pub fn canonical(self) -> Self {
        match self {
            Self::Float(float)
                if (-TWO_POW_63..TWO_POW_63).contains(&float) && float as i64 as f64 == float =>
            {
                Self::Integer(float as i64)
            }
            other => other,
        }
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.canonical() {
            Self::Integer(integer) => integer.hash(state),
            Self::Float(float) => float.to_bits().hash(state),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => compare_floats(a, b),
            (Self::Integer(a), Self::Float(b)) => compare_mixed(a, b),
            (Self::Float(a), Self::Integer(b)) => compare_mixed(b, a).reverse(),
        }
    }
}

/// Stored floats are finite, so only the two zeros need a word: they are equal.
fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.total_cmp(&b))
}

fn compare_mixed(integer: i64, float: f64) -> Ordering {
    if float >= TWO_POW_63 {
        return Ordering::Less;
    }
    if float < -TWO_POW_63 {
        return Ordering::Greater;
    }
    // The whole part fits exactly, so only its fraction can decide between equals.
    let whole = float as i64;
    integer.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&(float - whole as f64)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_are_one_exact_order() {
        let big = 1_i64 << 53;
        let cases: [(&str, Number, Number, Ordering); 10] = [
            ("same integer", Number::Integer(5), Number::Integer(5), Ordering::Equal),
            ("5 and 5.0", Number::Integer(5), Number::Float(5.0), Ordering::Equal),
            ("5 and 5.5", Number::Integer(5), Number::Float(5.5), Ordering::Less),
            ("-5 and -5.5", Number::Integer(-5), Number::Float(-5.5), Ordering::Greater),
            ("2^53 + 1 and 2^53", Number::Integer(big + 1), Number::Float(big as f64), Ordering::Greater),
            (
                "the largest i64 and 2^63",
                Number::Integer(i64::MAX),
                Number::Float(TWO_POW_63),
                Ordering::Less,
            ),
            (
                "the least i64 and -2^63",
                Number::Integer(i64::MIN),
                Number::Float(-TWO_POW_63),
                Ordering::Equal,
            ),
            ("any and 1e300", Number::Integer(i64::MAX), Number::Float(1e300), Ordering::Less),
            ("any and -1e300", Number::Integer(i64::MIN), Number::Float(-1e300), Ordering::Greater),
            ("the zeros", Number::Float(-0.0), Number::Float(0.0), Ordering::Equal),
        ];
        for (name, a, b, expected) in cases {
            assert_eq!(a.cmp(&b), expected, "{name}");
            assert_eq!(b.cmp(&a), expected.reverse(), "{name}, turned round");
        }
    }

    #[test]
    fn whole_floats_become_integers() {
        for (given, expected) in [
            (Number::Float(5.0), "5"),
            (Number::Float(-0.0), "0"),
            (Number::Float(0.5), "0.5"),
            (Number::Float(1e300), "1e+300"),
            (Number::Float(-TWO_POW_63), "-9223372036854775808"),
            (Number::Integer(7), "7"),
        ] {
            assert_eq!(serde_json::to_string(&given.canonical()).unwrap(), expected);
        }
    }
}
