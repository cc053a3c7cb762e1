//! How large a question may be, and how much its answer may hold while it is computed.

/// Every limit is inclusive: exactly that many are allowed.
#[derive(Clone, Debug)]
pub struct QuestionLimits {
    /// At most 32: kernels keep one bit a series.
    pub series_max: usize,
    /// Steps of a funnel; at least two are always needed. At most 32: kernels keep one bit a step.
    pub steps_max: usize,
    /// Event names in one series or step.
    pub events_max: usize,
    /// Filters in one list.
    pub filters_max: usize,
    /// Values in one `in` or `not_in`.
    pub filter_values_max: usize,
    /// A filter's text, as long as collection accepts text values.
    pub filter_text_bytes_max: usize,
    /// As collection accepts event names.
    pub event_name_chars_max: usize,
    /// As collection accepts property names.
    pub property_name_bytes_max: usize,
    /// A year of hours is 8,784.
    pub buckets_max: usize,
    /// The `limit` of a breakdown.
    pub breakdown_limit_max: usize,
    /// Series × values of the breakdown × buckets: an answer of about 5 MB as JSON, below the
    /// 10 MB that no response exceeds.
    pub cells_max: usize,
    pub window_ms_max: i64,
    /// The `limit` of a question for persons; `[questions] persons_max`.
    pub persons_max: usize,
    /// Distinct values of a breakdown's property that are counted to find the top ones.
    pub breakdown_values_max: usize,
    /// Distinct numbers that the percentiles of a question hold, summed over its cells, in one
    /// shard and in all shards together. About 24 bytes each.
    pub percentile_values_max: usize,
}

impl Default for QuestionLimits {
    fn default() -> Self {
        Self {
            series_max: 20,
            steps_max: 20,
            events_max: 100,
            filters_max: 50,
            filter_values_max: 1_000,
            filter_text_bytes_max: 16 * 1024,
            event_name_chars_max: 200,
            property_name_bytes_max: 255,
            buckets_max: 10_000,
            breakdown_limit_max: 1_000,
            cells_max: 500_000,
            window_ms_max: 3_660 * crate::model::DAY_MS,
            persons_max: 10_000,
            breakdown_values_max: 100_000,
            percentile_values_max: 2_000_000,
        }
    }
}
