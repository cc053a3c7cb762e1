//! Bars in tables: a share of a whole. Widths are attributes of SVG shapes, since the content
//! security policy allows no inline style.

use super::percent;

fn share(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 && part.is_finite() { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    percent(share)
}

/// A thin bar on a track.
pub fn share_bar(part: f64, whole: f64) -> String {
    let width = share(part, whole);
    format!(
        "<svg class=\"share track\" width=\"100%\" height=\"6\" aria-hidden=\"true\"><rect width=\"{width}%\" height=\"6\"/></svg>"
    )
}

/// The bar behind a name in a ranked list.
pub fn rank_bar(part: f64, whole: f64) -> String {
    let width = share(part, whole);
    format!(
        "<svg width=\"100%\" height=\"100%\" aria-hidden=\"true\"><rect width=\"{width}%\" height=\"100%\" rx=\"4\"/></svg>"
    )
}

/// How far a ticket is. Without a known total a part of the bar wanders.
pub fn progress_bar(done: u64, total: u64) -> String {
    if total == 0 {
        return "<svg class=\"progress unknown\" width=\"100%\" height=\"6\" role=\"img\" aria-label=\"Working\"><rect width=\"40%\" height=\"6\"/></svg>".to_owned();
    }
    let width = share(done as f64, total as f64);
    format!(
        "<svg class=\"progress\" width=\"100%\" height=\"6\" role=\"img\" aria-label=\"{width} percent done\"><rect width=\"{width}%\" height=\"6\"/></svg>"
    )
}
