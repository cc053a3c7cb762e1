use crate::http::web::range::{PRESETS, Range};

/// The range in the bar. Its fields belong to the form named `form`, which may be elsewhere.
pub struct RangeBar {
    pub form: &'static str,
    pub range: Range,
    /// Offer the comparison with the previous period.
    pub with_compare: bool,
}

impl RangeBar {
    pub(super) fn presets(&self) -> &'static [(&'static str, &'static str)] {
        &PRESETS
    }

    pub(super) fn is_chosen(&self, key: &str) -> bool {
        self.range.key() == key
    }
}
