//! What each step of a question, and the way there, costs by itself: decoding a journal batch, writing a
//! segment, decoding its columns, and the kernels over decoded rows. One core, no database.
//!
//! `scripts/bench kernels [FILTER]` runs it with Criterion's settings for real measurements, which keep
//! what they found and say what changed since.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use serde_json::{Value, json};
use weir::analysis::{Cancel, Plan, ProjectSettings, Question, QuestionLimits};
use weir::eventstore::format::{
    Columns, HEADER_PART, ObjectBytes, ObjectReader, PartSet, RowRanges, StoredRow, Want, WriteOptions,
    write_segment,
};
use weir::eventstore::{RowBlock, RowColumns};
use weir::model::{
    DAY_MS, Event, EventId, Millis, ProjectId, PropertyValue, Random, SeededRandom, TimeSource,
};
use weir::storage::batch::{BatchDecoder, BatchEncoder};

const PROJECT: ProjectId = ProjectId(1);
const ROWS: u64 = 300_000;
const PERSONS: u64 = 20_000;
const DAYS: u64 = 30;
const EVENTS: [&str; 5] = ["page_viewed", "product_viewed", "cart_added", "checkout_started", "purchased"];
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "GB", "US", "BR"];
/// As many as come in one request.
const BATCH_EVENTS: usize = 100;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(20)
        .configure_from_args();
    let rows = make_rows(&SeededRandom::new(1));
    journal(&mut criterion, &rows);
    let object = write_segment(&rows, &WriteOptions::default()).expect("rows are sorted");
    segments(&mut criterion, &rows, &object);
    kernels(&mut criterion, &object);
    criterion.final_summary();
}

/// In the order of a segment.
fn make_rows(random: &SeededRandom) -> Vec<StoredRow> {
    let mut bytes = [0; 32];
    let mut rows: Vec<StoredRow> = (0..ROWS)
        .map(|_| {
            random.fill(&mut bytes);
            let (ids, numbers) = bytes.split_at(16);
            let number =
                |place: usize| u64::from(u32::from_le_bytes(numbers[place * 4..][..4].try_into().unwrap()));
            let person_no = (number(0) % PERSONS) as u32;
            let at = (number(1) << 20 | number(2)) % (DAYS * DAY_MS as u64);
            // Later steps of a funnel are rarer.
            let event = EVENTS[(number(3) % 32).leading_zeros().saturating_sub(59).min(4) as usize];
            let properties = [
                ("amount", PropertyValue::Float((number(2) % 50_000) as f64 / 100.0)),
                (
                    "country",
                    PropertyValue::String(COUNTRIES[person_no as usize % COUNTRIES.len()].to_owned()),
                ),
                ("path", PropertyValue::String(format!("/products/{}", number(3) % 5_000))),
            ];
            StoredRow {
                project_id: PROJECT,
                person_no,
                id_no: person_no,
                occurred_at: at as Millis,
                received_at: at as Millis + 700,
                event: event.into(),
                event_id: EventId(ids.try_into().unwrap()),
                time_source: TimeSource::Client,
                properties: Vec::from(properties).into(),
            }
        })
        .collect();
    rows.sort_by_key(StoredRow::segment_key);
    rows
}

fn journal(criterion: &mut Criterion, rows: &[StoredRow]) {
    let events: Vec<Event> = rows[..BATCH_EVENTS]
        .iter()
        .map(|row| row.clone().into_event(format!("user-{}", row.id_no).into(), Vec::new()))
        .collect();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(events.len() as u64));
    let mut encoder = BatchEncoder::default();
    group.bench_function("encode a batch", |bencher| {
        bencher.iter(|| encoder.encode_events(black_box(&events)))
    });
    let body = encoder.encode_events(&events).body;
    let mut decoder = BatchDecoder::default();
    group.bench_function("decode a batch", |bencher| {
        bencher.iter(|| decoder.decode(black_box(&body)).unwrap())
    });
    group.finish();
}

fn segments(criterion: &mut Criterion, rows: &[StoredRow], object: &ObjectBytes) {
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Elements(ROWS));
    let (passes, merges) = (WriteOptions::default().for_passes(), WriteOptions::default());
    group.bench_function("write in a pass", |bencher| {
        bencher.iter(|| write_segment(black_box(rows), &passes).unwrap())
    });
    group.bench_function("write at compaction", |bencher| {
        bencher.iter(|| write_segment(black_box(rows), &merges).unwrap());
    });
    for (name, with, properties) in [
        ("decode events", RowColumns::default(), vec![]),
        ("decode events and quarters", RowColumns { quarters: true, ..RowColumns::default() }, vec![]),
        ("decode events, persons and times", RowColumns::ALL, vec![]),
        ("decode events and 5,000 texts", RowColumns::default(), vec!["path"]),
        ("decode events and numbers", RowColumns::default(), vec!["amount"]),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| decode(object, with, &properties)));
    }
    let (reader, parts) = open(object);
    let few = RowRanges::of_numbers((1_000..ROWS).step_by(ROWS as usize / 4));
    let want = Want { columns: Columns::All, rows: few };
    group.throughput(Throughput::Elements(4));
    group.bench_function("read four rows", |bencher| {
        bencher.iter(|| reader.read_all_rows(&want, &parts).unwrap())
    });
    group.finish();
}

fn kernels(criterion: &mut Criterion, object: &ObjectBytes) {
    let mut group = criterion.benchmark_group("kernel");
    group.throughput(Throughput::Elements(ROWS));
    let trends = |series: Value, more: Value| {
        let mut question =
            json!({"kind": "trends", "from": "1970-01-01", "to": "1970-01-31", "series": series});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        question
    };
    let by_day = json!({"granularity": "day"});
    let funnel = |steps: usize| {
        let steps: Vec<Value> = EVENTS[..steps].iter().map(|event| json!({"event": event})).collect();
        json!({"kind": "funnel", "from": "1970-01-01", "to": "1970-01-31", "window": "1d", "steps": steps})
    };
    for (name, question) in [
        ("count one event by day", trends(json!([{"event": "purchased"}]), by_day.clone())),
        ("persons by day", trends(json!([{"measure": "persons"}]), by_day.clone())),
        (
            "count by event and day",
            trends(json!([{}]), json!({"granularity": "day", "breakdown": {"event": true}})),
        ),
        (
            "persons by country",
            trends(json!([{"measure": "persons"}]), json!({"breakdown": {"property": "country"}})),
        ),
        (
            "count by 5,000 texts",
            trends(json!([{}]), json!({"breakdown": {"property": "path", "limit": 10}})),
        ),
        ("median by day", trends(json!([{"measure": "median", "property": "amount"}]), by_day.clone())),
        ("sum of a filter by day", {
            let filters = json!([{"property": "country", "op": "eq", "value": "NL"}]);
            trends(json!([{"measure": "sum", "property": "amount", "filters": filters}]), by_day)
        }),
        ("3-step funnel", funnel(3)),
        ("5-step funnel", funnel(5)),
    ] {
        let plan = plan(&question);
        let reads = plan.reads();
        let properties: Vec<&str> = reads.properties.iter().map(String::as_str).collect();
        let blocks = vec![decode(object, reads.with, &properties)];
        let round = plan.first_round();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                Cancel::default,
                |cancel| plan.run(&round, black_box(&blocks), &cancel).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn plan(question: &Value) -> Plan {
    let settings = ProjectSettings::new("UTC", 0);
    let question = Question::parse(question, &settings).unwrap_or_else(|problems| panic!("{problems:?}"));
    Plan::new(&question, &QuestionLimits::default())
}

fn open(object: &ObjectBytes) -> (ObjectReader, PartSet) {
    let reader = ObjectReader::open(&object.parts[HEADER_PART as usize]).unwrap();
    let parts: PartSet = (0..).zip(object.parts.iter().map(Bytes::clone)).collect();
    (reader, parts)
}

/// With the header, as a cold question reads it.
fn decode(object: &ObjectBytes, with: RowColumns, properties: &[&str]) -> RowBlock {
    let (reader, parts) = open(object);
    let properties = properties.iter().map(|name| (*name).to_owned()).collect();
    let want = Want { columns: Columns::Block { with, properties, of_events: None }, rows: RowRanges::All };
    reader.read_block(&want, &parts).unwrap()
}
