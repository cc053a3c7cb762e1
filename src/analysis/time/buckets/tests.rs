use super::*;
use crate::analysis::time::{find_time_zone, format_instant};

fn at(text: &str) -> Millis {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn buckets(zone: &str, granularity: Granularity, from: &str, to: &str) -> Buckets {
    let range = TimeRange { from: at(from), to: at(to) };
    Buckets::new(range, Some(granularity), &find_time_zone(zone).unwrap())
}

#[test]
fn buckets_begin_where_the_zone_says() {
    use Granularity::{Day, Hour, Month, Week};
    type Case =
        (&'static str, &'static str, Granularity, &'static str, &'static str, &'static [&'static str]);
    let cases: Vec<Case> = vec![
        (
            "days in UTC",
            "UTC",
            Day,
            "2024-01-30T00:00:00Z",
            "2024-02-02T00:00:00Z",
            &["2024-01-30T00:00:00Z", "2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z"],
        ),
        (
            "a range inside a day",
            "UTC",
            Day,
            "2024-01-30T05:00:00Z",
            "2024-01-30T06:00:00Z",
            &["2024-01-30T00:00:00Z"],
        ),
        (
            "one millisecond more",
            "UTC",
            Day,
            "2024-01-30T00:00:00Z",
            "2024-01-31T00:00:00.001Z",
            &["2024-01-30T00:00:00Z", "2024-01-31T00:00:00Z"],
        ),
        (
            "the week of a Wednesday",
            "UTC",
            Week,
            "2010-12-01T00:00:00Z",
            "2010-12-07T00:00:00Z",
            &["2010-11-29T00:00:00Z", "2010-12-06T00:00:00Z"],
        ),
        (
            "a week before 1970",
            "UTC",
            Week,
            "1970-01-01T00:00:00Z",
            "1970-01-06T00:00:00Z",
            &["1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"],
        ),
        (
            "months, with a leap day",
            "UTC",
            Month,
            "2024-01-31T12:00:00Z",
            "2024-03-01T00:00:00.001Z",
            &["2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"],
        ),
        (
            "a day of 23 hours",
            "Europe/Berlin",
            Day,
            "2024-03-30T23:00:00Z",
            "2024-04-01T00:00:00Z",
            &["2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"],
        ),
        (
            "a day of 25 hours",
            "Europe/Berlin",
            Day,
            "2024-10-26T22:00:00Z",
            "2024-10-28T00:00:00Z",
            &["2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"],
        ),
        (
            "the month of a clock change",
            "Europe/Berlin",
            Month,
            "2024-03-05T00:00:00Z",
            "2024-04-01T00:00:00Z",
            &["2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z"],
        ),
        (
            "hours across spring",
            "Europe/Berlin",
            Hour,
            "2024-03-31T00:00:00Z",
            "2024-03-31T03:00:00Z",
            &["2024-03-31T00:00:00Z", "2024-03-31T01:00:00Z", "2024-03-31T02:00:00Z"],
        ),
        (
            "hours of a zone with half an hour",
            "Asia/Kolkata",
            Hour,
            "2024-01-01T00:00:00Z",
            "2024-01-01T02:00:00Z",
            &["2023-12-31T23:30:00Z", "2024-01-01T00:30:00Z", "2024-01-01T01:30:00Z"],
        ),
        (
            "days of a zone with three quarters",
            "Asia/Kathmandu",
            Day,
            "2024-01-01T00:00:00Z",
            "2024-01-01T20:00:00Z",
            &["2023-12-31T18:15:00Z", "2024-01-01T18:15:00Z"],
        ),
        (
            "a clock set back by half an hour",
            "Australia/Lord_Howe",
            Hour,
            "2024-04-06T14:00:00Z",
            "2024-04-06T17:00:00Z",
            &["2024-04-06T14:00:00Z", "2024-04-06T15:00:00Z", "2024-04-06T15:30:00Z", "2024-04-06T16:30:00Z"],
        ),
        (
            "a midnight that does not exist",
            "America/Sao_Paulo",
            Day,
            "2018-11-03T03:00:00Z",
            "2018-11-05T03:00:00Z",
            &["2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"],
        ),
        (
            "a day that was skipped",
            "Pacific/Apia",
            Day,
            "2011-12-29T10:00:00Z",
            "2011-12-31T10:00:00Z",
            &["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"],
        ),
        (
            "a clock set back across midnight",
            "America/St_Johns",
            Day,
            "2006-10-28T02:30:00Z",
            "2006-10-30T03:30:00Z",
            &["2006-10-28T02:30:00Z", "2006-10-29T02:30:00Z"],
        ),
    ];
    for (name, zone, granularity, from, to, expected) in cases {
        let buckets = buckets(zone, granularity, from, to);
        let starts: Vec<String> = buckets.starts().iter().map(|&start| format_instant(start)).collect();
        assert_eq!(starts, expected, "{name}");
        let estimate = Buckets::estimate_max(TimeRange { from: at(from), to: at(to) }, Some(granularity));
        assert!(estimate >= starts.len() as u64, "{name}: estimate {estimate}");
    }
}

#[test]
fn a_day_of_25_hours_has_25_hours() {
    let spring =
        buckets("America/New_York", Granularity::Hour, "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z");
    let autumn =
        buckets("America/New_York", Granularity::Hour, "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
    assert_eq!((spring.len(), autumn.len()), (23, 25));
}

#[test]
fn an_hour_that_comes_twice_across_midnight_is_in_its_own_day() {
    // At 00:01 on 29 October 2006 Newfoundland went back to 23:01 on the 28th.
    let days = buckets("America/St_Johns", Granularity::Day, "2006-10-28T02:30:00Z", "2006-10-30T03:30:00Z");
    let found: Vec<Option<u32>> =
        ["2006-10-29T02:29:00Z", "2006-10-29T02:30:30Z", "2006-10-29T02:31:00Z", "2006-10-29T03:30:00Z"]
            .iter()
            .map(|text| days.find(at(text)))
            .collect();
    assert_eq!(found, [Some(0), Some(1), Some(0), Some(1)]);
}

#[test]
fn every_instant_is_in_the_bucket_of_its_local_date() {
    // The reference asks jiff for the local date of each instant, one by one.
    for zone_name in
        ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo"]
    {
        let zone = find_time_zone(zone_name).unwrap();
        for (from, to) in [
            ("2006-10-01T00:17:00Z", "2007-04-20T00:00:00Z"),
            ("2011-11-11T11:11:11Z", "2012-02-01T00:00:00Z"),
        ] {
            let range = TimeRange { from: at(from), to: at(to) };
            for granularity in [Granularity::Day, Granularity::Week, Granularity::Month] {
                let buckets = Buckets::new(range, Some(granularity), &zone);
                let key = |at: Millis| {
                    let date = zone.to_datetime(instant(at)).date();
                    match granularity {
                        Granularity::Week => date
                            .checked_sub(jiff::Span::new().days(date.weekday().to_monday_zero_offset()))
                            .unwrap(),
                        Granularity::Month => date.first_of_month(),
                        _ => date,
                    }
                };
                let keys: std::collections::BTreeSet<_> =
                    (range.from..range.to).step_by(60_000).map(key).collect();
                let numbers: BTreeMap<_, _> = keys.into_iter().zip(0_u32..).collect();
                assert_eq!(numbers.len(), buckets.len(), "{zone_name} {granularity:?}");
                for at in (range.from..range.to).step_by(7 * 60_000) {
                    assert_eq!(buckets.find(at), Some(numbers[&key(at)]), "{zone_name} {granularity:?} {at}");
                }
                assert_eq!(buckets.find(range.from - 1), None);
                assert_eq!(buckets.find(range.to), None);
            }
        }
    }
}

#[test]
fn dates_begin_with_their_first_instant() {
    for (zone, date, expected) in [
        ("UTC", "2024-02-29", "2024-02-29T00:00:00Z"),
        ("Europe/Berlin", "2024-03-31", "2024-03-30T23:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
        ("America/St_Johns", "2006-10-29", "2006-10-29T02:30:00Z"),
        ("Pacific/Kiritimati", "1970-01-01", "1970-01-01T10:40:00Z"),
        // In 1919 Toronto's clocks jumped from 23:30 to 00:30: that day has no midnight.
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00Z"),
    ] {
        let start = start_of_date(date.parse().unwrap(), &find_time_zone(zone).unwrap());
        assert_eq!(format_instant(start), expected, "{date} in {zone}");
    }
}

#[test]
fn without_a_granularity_the_range_is_the_bucket() {
    let range = TimeRange { from: 1_000, to: 2_000 };
    let buckets = Buckets::new(range, None, &TimeZone::UTC);
    assert_eq!(buckets.starts(), [1_000]);
    assert_eq!([999, 1_000, 1_999, 2_000].map(|at| buckets.find(at)), [None, Some(0), Some(0), None]);
}
