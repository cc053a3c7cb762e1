//! Time zones, ranges and buckets. Zones come from the tz database inside the binary, never from
//! the machine, so that all replicas cut days at the same instants.

mod buckets;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::model::Millis;

pub(super) use buckets::start_of_date;
pub use buckets::{Buckets, Granularity, NO_BUCKET};

/// Milliseconds, `from` inclusive and `to` exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TimeRange {
    pub from: Millis,
    pub to: Millis,
}

impl TimeRange {
    pub fn contains(&self, at: Millis) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// A zone of the tz database by its name, in any case. `None` for names that are not there, so
/// also for fixed offsets other than `UTC` and `Etc/GMT+5` and the like.
pub fn find_time_zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    // `Etc/Unknown` parses, but says nothing.
    zone.iana_name()?;
    Some(zone)
}

/// An instant as answers write it: RFC 3339 in UTC, with milliseconds only where there are some.
pub(super) fn format_instant(at: Millis) -> String {
    match jiff::Timestamp::from_millisecond(at) {
        Ok(instant) => instant.to_string(),
        // Ranges are checked when a question is parsed; a time beyond the calendar has no name.
        Err(_) => format!("{at} ms"),
    }
}
