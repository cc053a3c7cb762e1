//! The promise of this module: one answer for the same events, however they are spread over shards
//! and blocks, and that of the reference in `tests/it/reference.rs`, which shares no code with it.

mod basis;
mod blocks;
mod generate;
#[path = "../../../tests/it/reference.rs"]
mod reference;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::kernels::step_persons::{NumberedPersons, StepPerson, StepPersons};
use super::*;
use crate::eventstore::RowColumns;
use blocks::{Shard, spread};
use generate::{choose_range, generate_facts, generate_question};
use reference::Fact;

/// All rounds, each partial through its serialised form.
fn ask(plan: &Plan, shards: &[Shard]) -> Result<Value, KernelError> {
    let mut round = plan.first_round();
    loop {
        round = serde_json::from_slice(&serde_json::to_vec(&round).unwrap()).unwrap();
        let mut partials = Vec::new();
        for shard in shards.iter().rev() {
            let partial = plan.run(&round, &shard.blocks, &Cancel::default())?;
            let partial = match partial.into_numbered() {
                Err(partial) => partial,
                Ok(numbered) => named(plan, shard, numbered),
            };
            let bytes = serde_json::to_vec(&partial).unwrap();
            let read: Partial = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read, partial);
            partials.push(read);
        }
        match plan.next(&round, plan.merge(&round, partials)?)? {
            Next::Round(next) => round = next,
            Next::Done(answer) => return Ok(serde_json::to_value(answer).unwrap()),
        }
    }
}

/// A few names at a time, as they are looked up.
fn named(plan: &Plan, shard: &Shard, numbered: NumberedPersons) -> Partial {
    let mut named = StepPersons { total: numbered.total, persons: Vec::new() };
    for some in numbered.persons.chunks(3) {
        let some = some.iter().map(|&(reached_at, number)| StepPerson {
            reached_at,
            distinct_id: shard.names[number as usize].clone(),
        });
        named.take(some, plan.persons_limit());
    }
    Partial::of_persons(named)
}

fn plan(question: &Value) -> Plan {
    let settings = ProjectSettings::new("UTC", 0);
    let question =
        Question::parse(question, &settings).unwrap_or_else(|errors| panic!("{question}: {errors:?}"));
    Plan::new(&question, &settings.limits)
}

fn fact(person: &str, event: &str, at: i64, properties: Value) -> Fact {
    let Value::Object(map) = properties else { panic!("properties") };
    Fact { person: person.into(), event: event.into(), at, properties: map.into_iter().collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_answer_does_not_depend_on_shards_or_blocks(seed: u64) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let range = choose_range(&mut rng);
        let facts = generate_facts(&mut rng, range);
        let question = generate_question(&mut rng, range);
        let plan = plan(&question);
        let reads = plan.reads();
        let expected = reference::answer(&question, &facts);
        for shards in [1, 4, 16] {
            let spread = spread(&facts, &reads, shards, &mut rng);
            let answer = ask(&plan, &spread).unwrap();
            // Compared as text: 5 and 5.0 are two answers.
            prop_assert_eq!(answer.to_string(), expected.to_string(), "{} in {} shards", question, shards);
            if !plan.tells_persons_apart() {
                let blocks = spread.iter().flat_map(|shard| shard.blocks.clone()).collect();
                let answer = ask(&plan, &[Shard { blocks, names: Vec::new() }]).unwrap();
                prop_assert_eq!(answer.to_string(), expected.to_string(), "{} in one pass", question);
            }
        }
    }
}

#[test]
fn persons_of_a_step_are_as_many_as_its_funnel_counts() {
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    let mut compared = 0;
    for _ in 0..200 {
        let range = choose_range(&mut rng);
        let facts = generate_facts(&mut rng, range);
        let mut question = generate_question(&mut rng, range);
        if question["kind"] == "persons" {
            question = question["funnel"].take();
        }
        if question["kind"] != "funnel" {
            continue;
        }
        let funnel = plan(&question);
        let spread = spread(&facts, &funnel.reads(), 4, &mut rng);
        let steps = ask(&funnel, &spread).unwrap()["steps"].take();
        let reached: Vec<u64> =
            steps.as_array().unwrap().iter().map(|step| step["persons"].as_u64().unwrap()).collect();
        for (step, &persons) in reached.iter().enumerate() {
            let asked = |outcome: &str| {
                let json = json!({"kind": "persons", "funnel": question, "step": step + 1, "outcome": outcome, "limit": 2});
                ask(&plan(&json), &spread).unwrap()
            };
            let converted = asked("converted");
            assert_eq!(converted["total"], persons, "{question}");
            assert_eq!(converted["persons"].as_array().unwrap().len() as u64, persons.min(2));
            if step > 0 {
                assert_eq!(asked("dropped")["total"], reached[step - 1] - persons, "{question}");
            }
            compared += persons;
        }
    }
    assert!(compared > 100, "only {compared} persons were compared");
}

#[test]
fn an_answer_of_nothing_has_its_buckets() {
    let series = ["count", "persons", "per_person"].map(|measure| json!({"measure": measure}));
    let mut series = series.to_vec();
    series.push(json!({"measure": "sum", "property": "p"}));
    series.push(json!({"measure": "median", "property": "p"}));
    let question = json!({"kind": "trends", "from": "2024-01-01", "to": "2024-01-03", "granularity": "day", "series": series});
    let answer = ask(&plan(&question), &[]).unwrap();
    assert_eq!(answer["buckets"], json!(["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]));
    let values: Vec<&Value> =
        answer["series"].as_array().unwrap().iter().map(|series| &series["values"]).collect();
    assert_eq!(json!(values), json!([[0, 0], [0, 0], [null, null], [0, 0], [null, null]]));

    let question = json!({"kind": "trends", "from": "2024-01-01", "to": "2024-01-03", "series": [{}], "breakdown": {"event": true}});
    let nothing = Shard { blocks: vec![], names: vec![] };
    assert_eq!(ask(&plan(&question), &[nothing]).unwrap()["series"], json!([]));

    let question =
        json!({"kind": "funnel", "from": "2024-01-01", "to": "2024-01-03", "steps": [{"event": "a"}, {}]});
    let expected = json!([{"label": "a", "persons": 0}, {"label": "every event", "persons": 0}]);
    assert_eq!(ask(&plan(&question), &[]).unwrap()["steps"], expected);
}

#[test]
fn persons_are_unique_in_their_bucket_in_the_total_and_in_other() {
    let day = 86_400_000;
    let facts = [
        fact("a", "x", 0, json!({"c": "DE"})),
        fact("a", "x", 1, json!({"c": "FR"})),
        fact("a", "x", day, json!({"c": "IT"})),
        fact("b", "x", day, json!({"c": "DE"})),
        fact("b", "x", day, json!({})),
    ];
    let question = json!({"kind": "trends", "from": "1970-01-01", "to": "1970-01-03", "granularity": "day",
                          "series": [{"measure": "persons"}], "breakdown": {"property": "c", "limit": 1}});
    let plan = plan(&question);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let answer = ask(&plan, &spread(&facts, &plan.reads(), 3, &mut rng)).unwrap();
    let expected = json!([
        {"label": "every event", "measure": "persons", "breakdown": "DE", "values": [1, 1], "total": 2},
        {"label": "every event", "measure": "persons", "breakdown": "$other", "values": [1, 2], "total": 2},
    ]);
    assert_eq!(answer["series"], expected);
}

#[test]
fn too_many_distinct_values_are_refused_alike_for_any_number_of_shards() {
    let facts: Vec<Fact> = (0..40)
        .map(|n| fact(&format!("p{n}"), "x", n, json!({"v": n % 11, "t": format!("t{}", n % 11)})))
        .collect();
    let whole = |fields: Value| {
        let mut question = json!({"kind": "trends", "from": "1970-01-01", "to": "1970-01-02"});
        question.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        question
    };
    let broken_down = whole(json!({"series": [{}], "breakdown": {"property": "v"}}));
    // Of texts each shard has few, and puts them together with what the second round would find.
    let by_text = whole(json!({"series": [{}], "breakdown": {"property": "t"}}));
    let percentile = whole(json!({"series": [{"measure": "p95", "property": "v"}]}));
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    for (question, what) in [
        (broken_down, "the property `v`"),
        (by_text, "the property `t`"),
        (percentile, "a median or percentile of this question"),
    ] {
        for (max, fits) in [(11, true), (10, false)] {
            let limits = QuestionLimits {
                breakdown_values_max: max,
                percentile_values_max: max,
                ..QuestionLimits::default()
            };
            let parsed = Question::parse(&question, &ProjectSettings::new("UTC", 0)).unwrap();
            let plan = Plan::new(&parsed, &limits);
            for shards in [1, 2, 8] {
                let answer = ask(&plan, &spread(&facts, &plan.reads(), shards, &mut rng));
                let refused = KernelError::TooManyValues { what: what.to_owned(), max };
                if fits { assert!(answer.is_ok(), "{what}") } else { assert_eq!(answer, Err(refused)) }
            }
        }
    }
}

#[test]
fn a_partial_of_another_question_is_refused() {
    let trends = |measure: &str| {
        plan(
            &json!({"kind": "trends", "from": "2024-01-01", "to": "2024-01-02", "series": [{"measure": measure}]}),
        )
    };
    let funnel =
        plan(&json!({"kind": "funnel", "from": "2024-01-01", "to": "2024-01-02", "steps": [{}, {}]}));
    let (count, persons) = (trends("count"), trends("persons"));
    let partial = |plan: &Plan| plan.run(&plan.first_round(), &[], &Cancel::default()).unwrap();
    let mismatch = Err(KernelError::PartialMismatch);
    assert_eq!(count.merge(&count.first_round(), vec![partial(&persons)]), mismatch);
    assert_eq!(count.merge(&count.first_round(), vec![partial(&funnel)]), mismatch);
    let mut later: Value = serde_json::to_value(partial(&count)).unwrap();
    later["version"] = json!(9);
    assert_eq!(count.merge(&count.first_round(), vec![serde_json::from_value(later).unwrap()]), mismatch);
    assert!(funnel.run(&Round::GroupTotals, &[], &Cancel::default()).is_err());
}

#[test]
fn a_plan_reads_only_what_its_question_names() {
    let question = json!({"kind": "trends", "from": "1970-01-01", "to": "1970-01-02",
        "series": [{"event": "b", "measure": "sum", "property": "z"}, {"events": ["a", "b"],
                    "filters": [{"property": "y", "op": "is_set"}]}],
        "filters": [{"property": "x", "op": "is_set"}, {"property": "z", "op": "is_set"}], "breakdown": {"property": "w"}});
    let reads = plan(&question).reads();
    assert_eq!(reads.properties, ["w", "x", "y", "z"]);
    assert_eq!(reads.events, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(reads.range, TimeRange { from: 0, to: 86_400_000 });
    assert_eq!(reads.with, RowColumns::default());
    let question =
        json!({"kind": "funnel", "from": "1970-01-01", "to": "1970-01-02", "steps": [{"event": "a"}, {}]});
    assert_eq!(plan(&question).reads().events, None);

    let with = |from: &str, to: &str, zone: &str| {
        let question = json!({"kind": "trends", "from": from, "to": to, "time_zone": zone,
            "granularity": "day", "series": [{}]});
        plan(&question).reads().with
    };
    let quarters = RowColumns { quarters: true, ..RowColumns::default() };
    let times = RowColumns { times: true, ..RowColumns::default() };
    for (from, to, zone, expected) in [
        ("2024-01-01", "2024-02-01", "UTC", quarters),
        ("2024-03-01", "2024-05-01", "Asia/Kathmandu", quarters),
        ("2024-01-01T00:07:00Z", "2024-02-01T00:00:00Z", "UTC", times),
        // 44 minutes and 30 seconds behind until 1972.
        ("1971-01-01", "1971-02-01", "Africa/Monrovia", times),
        ("2024-01-01", "2025-11-13", "UTC", quarters),
        ("2024-01-01", "2025-11-14", "UTC", times),
    ] {
        assert_eq!(with(from, to, zone), expected, "{from} to {to} in {zone}");
    }
}
