//! Round steps for an axis: four to six grid lines, zero among them.

use crate::http::web::format::compact;

/// An axis from `low` to `high`, both on a grid line.
#[derive(Clone, PartialEq, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    step: f64,
    lines: usize,
}

const LINES_MAX: usize = 6;

impl Scale {
    /// The smallest round axis that holds 0, `low` and `high`. `whole`: no fractions, and at least
    /// 0 to 3. Values that are not finite count as 0.
    pub fn new(low: f64, high: f64, whole: bool) -> Self {
        let finite = |value: f64| if value.is_finite() { value.clamp(-1e300, 1e300) } else { 0.0 };
        let (low, mut high) = (finite(low).min(0.0), finite(high).max(0.0));
        if high - low < 1e-290 {
            high = 1.0;
        }
        if whole && high - low < 3.0 {
            high = low.floor() + 3.0;
        }
        // 1, 2, 2.5 and 5 times powers of ten, beginning below a sixth of the range.
        let mut exponent = ((high - low) / LINES_MAX as f64).log10().floor() as i32 - 1;
        loop {
            for factor in [1.0, 2.0, 2.5, 5.0] {
                let step = factor * 10_f64.powi(exponent);
                if whole && (step < 1.0 || step.fract() != 0.0) {
                    continue;
                }
                let (first, last) = (below(low / step), above(high / step));
                let lines = last - first + 1.0;
                if lines <= LINES_MAX as f64 {
                    return Self { low: first * step, high: last * step, step, lines: lines as usize };
                }
            }
            exponent += 1;
        }
    }

    /// Each grid line's value and label, from the lowest up.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        (0..self.lines)
            .map(|line| {
                let value = self.low + self.step * line as f64;
                // 0.1 + 0.2 must not be labelled 0.30000000000000004, nor zero missed by a hair.
                let value = (value / self.step).round() * self.step;
                (value, compact(value))
            })
            .collect()
    }

    /// Where a value lies, 0 at the bottom and 1 at the top.
    pub fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// The next whole number below, unless the value is whole but for rounding.
fn below(value: f64) -> f64 {
    let near = value.round();
    if (value - near).abs() < 1e-9 { near } else { value.floor() }
}

fn above(value: f64) -> f64 {
    -below(-value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(low: f64, high: f64, whole: bool) -> Vec<String> {
        Scale::new(low, high, whole)
            .ticks()
            .into_iter()
            .map(|(_, label)| label.replace('\u{202f}', " "))
            .collect()
    }

    #[test]
    fn steps_are_round() {
        for (name, low, high, whole, expected) in [
            ("nothing", 0.0, 0.0, true, "0,1,2,3"),
            ("one", 0.0, 1.0, true, "0,1,2,3"),
            ("a few", 0.0, 7.0, true, "0,2,4,6,8"),
            ("no halves for counts", 0.0, 11.0, true, "0,5,10,15"),
            ("thousands", 0.0, 11_950.0, true, "0,2.5 k,5 k,7.5 k,10 k,12.5 k"),
            ("exactly the top", 0.0, 5000.0, true, "0,1 k,2 k,3 k,4 k,5 k"),
            ("fractions", 0.0, 0.37, false, "0,0.1,0.2,0.3,0.4"),
            ("negative", -30.0, 0.0, false, "−30,−20,−10,0"),
            ("both sides", -12.0, 31.0, false, "−20,0,20,40"),
        ] {
            assert_eq!(labels(low, high, whole).join(","), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_axis_holds_its_values_on_four_to_six_lines(a in -1e12_f64..1e12, b in -1e12_f64..1e12, shrink in 0_i32..20) {
            let by = 10_f64.powi(-shrink);
            let (low, high) = (a.min(b) * by, a.max(b) * by);
            let scale = Scale::new(low, high, false);
            let ticks = scale.ticks();
            prop_assert!((4..=6).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(scale.low <= low.min(0.0) + 1e-6 * by && scale.high >= high.max(0.0) - 1e-6 * by);
            prop_assert!(ticks.iter().any(|(value, label)| *value == 0.0 && label == "0"), "{ticks:?}");
            let mut labels: Vec<_> = ticks.into_iter().map(|(_, label)| label).collect();
            labels.dedup();
            prop_assert!((4..=6).contains(&labels.len()), "two lines with one label: {labels:?}");
        }

        #[test]
        fn counts_have_whole_steps(high in 0_u64..u64::MAX) {
            let ticks = Scale::new(0.0, high as f64, true).ticks();
            prop_assert!((4..=6).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.iter().all(|(value, _)| value.fract() == 0.0));
        }
    }

    #[test]
    fn no_number_breaks_the_scale() {
        for value in [f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NAN, 1e300, -1e300] {
            let scale = Scale::new(value, value, false);
            assert!((2..=6).contains(&scale.ticks().len()), "{value}");
            assert!(scale.share(value.max(0.0)).is_finite() || value.is_nan(), "{value}");
        }
    }
}
