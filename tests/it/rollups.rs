//! Counts that come out of what a segment has counted itself, against the reference implementation: with ranges
//! that begin and end anywhere, in zones whose hours and days are not those of UTC.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::facts::facts;
use crate::reference;
use crate::support::{Catalogue, Installation, until};

const EVENTS: u64 = 30_000;
/// Enough of them to be one segment that has a rollup, by hours.
const IN_SEGMENTS_MIN: u64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_segments_have_counted_is_what_the_reference_counts() {
    // One shard: nobody moves, so nobody is masked.
    let installation = Installation::embedded(1);
    let file = installation.folder().join("shop.ndjson");
    let file = file.to_str().unwrap();
    let events = EVENTS.to_string();
    let words = ["generate", "--days", "10", "--until", "2026-03-10", "--persons", "900", "--events"];
    installation.run(&[&words[..], &[&*events, "--out", file]].concat());
    let project = installation.create_project("shop");
    let weir = installation.serve().await;
    installation.run(&["import", file, "--project", "shop", "--strict"]);
    until("segments", Duration::from_secs(120), || async {
        let segments = Catalogue::read(&installation).await.segments;
        (segments.iter().map(|segment| segment.rows).sum::<u64>() >= IN_SEGMENTS_MIN).then_some(())
    })
    .await;
    let lines = fs::read_to_string(file).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts = facts(&events);
    assert_eq!(facts.len() as u64, EVENTS);

    // Far less is read than by a question that has to look at every row.
    let mut whole = json!({"kind": "trends", "from": "2026-02-28", "to": "2026-03-12", "granularity": "day",
                           "series": [{"measure": "count"}]});
    let mut read = Vec::new();
    for filters in [json!([]), json!([{"property": "no such property", "op": "is_not_set"}])] {
        whole["filters"] = filters;
        let before = weir.metric("weir_scan_bytes_total").await;
        assert_eq!(weir.api.ask(&project, &whole).await, reference::answer(&whole, &facts));
        read.push(weir.metric("weir_scan_bytes_total").await - before);
    }
    assert!(read[0] > 0.0 && 2.0 * read[0] < read[1], "bytes read: {read:?}");

    let mut compared = 0;
    for (from, to, zone) in [
        ("2026-02-20", "2026-03-20", "UTC"),
        ("2026-03-03", "2026-03-07", "UTC"),
        ("2026-03-03T10:15:00Z", "2026-03-07T00:00:00Z", "UTC"),
        ("2026-02-28T23:59:59.999Z", "2026-03-11T00:00:00.001Z", "UTC"),
        ("2026-03-01T05:00:00Z", "2026-03-20T00:00:00Z", "America/New_York"),
        ("2026-03-02", "2026-03-09", "America/New_York"),
        ("2026-03-02", "2026-03-09", "Asia/Kolkata"),
        ("2026-03-01", "2026-03-12", "Asia/Kathmandu"),
        ("2026-02-23", "2026-03-16", "Europe/London"),
    ] {
        for granularity in ["hour", "day", "week", "month", ""] {
            for breakdown in [Value::Null, json!({"event": true, "limit": 3})] {
                let series = json!([{"measure": "count"}, {"event": "purchased", "measure": "count"},
                                    {"events": ["$pageview", "searched"], "measure": "count"}]);
                let mut question =
                    json!({"kind": "trends", "from": from, "to": to, "time_zone": zone, "series": series});
                if !granularity.is_empty() {
                    question["granularity"] = json!(granularity);
                }
                if !breakdown.is_null() {
                    question["breakdown"] = breakdown;
                }
                let answer = weir.api.ask(&project, &question).await;
                assert_eq!(answer, reference::answer(&question, &facts), "{question}");
                compared += 1;
            }
        }
    }
    weir.stop();
    println!("compared {compared} answers");
}
