//! A reference for answers: the definitions of the questions, written down as plainly as possible.
//!
//! It looks at every fact for every number it gives, keeps no state between them, and shares no
//! code with weir: sums are taken in whole numbers of any size, local dates are asked of jiff one
//! by one, and a funnel is searched start by start. Slow by design. Questions must name their
//! `from` and `to` as dates or instants; they are taken to be valid.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use num_bigint::BigInt;
use serde_json::{Value, json};

/// One event that counts.
#[derive(Clone, Debug)]
pub struct Fact {
    pub person: String,
    pub event: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// Flat: strings, numbers, booleans and arrays. `null` is the same as absent.
    pub properties: BTreeMap<String, Value>,
}

/// The answer to a question of the kinds `trends`, `funnel` and `persons`, as weir should give it.
pub fn answer(question: &Value, facts: &[Fact]) -> Value {
    if question["kind"] == "persons" {
        return persons(question, facts);
    }
    let facts = facts_of(question, facts);
    match question["kind"].as_str().unwrap() {
        "trends" => trends(question, &facts),
        "funnel" => funnel(question, &facts),
        kind => panic!("no reference for {kind}"),
    }
}

fn zone_of(question: &Value) -> TimeZone {
    TimeZoneDatabase::bundled().get(question["time_zone"].as_str().unwrap_or("UTC")).unwrap()
}

fn range_of(question: &Value) -> std::ops::Range<i64> {
    let zone = zone_of(question);
    instant(&question["from"], &zone)..instant(&question["to"], &zone)
}

/// Those that the question's range and filters leave.
fn facts_of<'a>(question: &Value, facts: &'a [Fact]) -> Vec<&'a Fact> {
    let range = range_of(question);
    let counts = |fact: &&Fact| range.contains(&fact.at) && passes(fact, &question["filters"]);
    facts.iter().filter(counts).collect()
}

fn instant(bound: &Value, zone: &TimeZone) -> i64 {
    let text = bound.as_str().unwrap();
    match text.parse::<Timestamp>() {
        Ok(instant) => instant.as_millisecond(),
        Err(_) => {
            let date: Date = text.parse().unwrap();
            date.to_zoned(zone.clone()).unwrap().timestamp().as_millisecond()
        }
    }
}

/// Whether a fact is of the events and passes the filters of a series or step.
fn is_of(fact: &Fact, part: &Value) -> bool {
    let named = match (&part["event"], &part["events"]) {
        (Value::String(name), _) => *name == fact.event,
        (_, Value::Array(names)) => names.iter().any(|name| *name == fact.event),
        _ => !["$identify", "$alias", "$group"].contains(&fact.event.as_str()),
    };
    named && passes(fact, &part["filters"])
}

fn passes(fact: &Fact, filters: &Value) -> bool {
    filters.as_array().into_iter().flatten().all(|filter| {
        let property =
            fact.properties.get(filter["property"].as_str().unwrap()).filter(|value| !value.is_null());
        let given = &filter["value"];
        let op = filter["op"].as_str().unwrap();
        let Some(value) = property else { return op == "is_not_set" };
        let in_list = || given.as_array().unwrap().iter().any(|entry| equal(value, entry));
        let contains = || value.as_str().is_some_and(|text| text.contains(given.as_str().unwrap()));
        let compare = || Some(units(value)?.cmp(&units(given)?));
        match op {
            "eq" => equal(value, given),
            "ne" => !equal(value, given),
            "in" => in_list(),
            "not_in" => !in_list(),
            "contains" => contains(),
            "not_contains" => !contains(),
            "gt" => compare().is_some_and(|order| order.is_gt()),
            "gte" => compare().is_some_and(|order| order.is_ge()),
            "lt" => compare().is_some_and(|order| order.is_lt()),
            "lte" => compare().is_some_and(|order| order.is_le()),
            "is_set" => true,
            "is_not_set" => false,
            op => panic!("no operator {op}"),
        }
    })
}

fn equal(value: &Value, given: &Value) -> bool {
    match (units(value), units(given)) {
        (Some(a), Some(b)) => a == b,
        _ => !value.is_array() && value == given,
    }
}

/// A number as a whole number of 2^-1074, the least positive float; `None` for other types.
fn units(value: &Value) -> Option<BigInt> {
    if let Some(integer) = value.as_i64() {
        return Some(BigInt::from(integer) << 1074);
    }
    let float = value.as_f64()?;
    let (exponent, fraction) = ((float.to_bits() >> 52 & 0x7ff) as u32, float.to_bits() & ((1 << 52) - 1));
    let magnitude = match exponent {
        0 => BigInt::from(fraction),
        _ => BigInt::from(fraction | 1 << 52) << (exponent - 1),
    };
    Some(if float < 0.0 { -magnitude } else { magnitude })
}

/// The nearest float: units / 2^1074 = units × 5^1074 / 10^1074, read as a decimal.
fn nearest(units: &BigInt) -> f64 {
    let float: f64 = format!("{}e-1074", units * BigInt::from(5).pow(1074)).parse().unwrap();
    float.clamp(f64::MIN, f64::MAX) + 0.0
}

/// Whole floats in the range of integers are integers.
fn canonical(value: &Value) -> Value {
    let Some(units) = units(value) else { return value.clone() };
    let whole: BigInt = &units >> 1074;
    if (&whole << 1074) == units
        && let Ok(integer) = i64::try_from(whole)
    {
        return json!(integer);
    }
    value.clone()
}

fn trends(question: &Value, facts: &[&Fact]) -> Value {
    let (zone, range) = (&zone_of(question), range_of(question));
    let granularity = question["granularity"].as_str();
    let buckets = buckets(granularity, range.start, range.end, zone);
    let series = question["series"].as_array().unwrap();
    let breakdown = &question["breakdown"];
    let groups: Vec<Option<Value>> = match breakdown {
        Value::Null => vec![None],
        _ => choose_groups(breakdown, series, facts).into_iter().map(Some).collect(),
    };
    let mut answers = Vec::new();
    for part in series {
        let facts: Vec<&Fact> = facts.iter().copied().filter(|fact| is_of(fact, part)).collect();
        for group in &groups {
            let in_group = |fact: &&&Fact| match group {
                None => true,
                Some(group) if group == "$other" => !groups.contains(&Some(group_of(fact, breakdown))),
                Some(group) => group_of(fact, breakdown) == *group,
            };
            let facts: Vec<&Fact> = facts.iter().filter(in_group).copied().collect();
            let mut by_bucket: BTreeMap<Key, Vec<&Fact>> = BTreeMap::new();
            for &fact in &facts {
                by_bucket.entry(bucket(granularity, fact.at, zone)).or_default().push(fact);
            }
            let values: Vec<Value> = buckets
                .keys()
                .map(|key| measure(part, by_bucket.get(key).map_or(&[], Vec::as_slice)))
                .collect();
            let mut answer = json!({"label": label(part), "measure": part["measure"].as_str().unwrap_or("count"),
                                    "values": values, "total": measure(part, &facts)});
            if let Some(property) = part.get("property") {
                answer["property"] = property.clone();
            }
            if let Some(group) = group {
                answer["breakdown"] = group.clone();
            }
            answers.push(answer);
        }
    }
    let starts = buckets.values().map(|&at| Timestamp::from_millisecond(at).unwrap().to_string());
    json!({"kind": "trends", "buckets": starts.collect::<Vec<_>>(), "series": answers})
}

fn label(part: &Value) -> String {
    match (&part["event"], &part["events"]) {
        (Value::String(name), _) => name.clone(),
        (_, Value::Array(names)) => {
            names.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(", ")
        }
        _ => "every event".to_owned(),
    }
}

/// The value that a breakdown puts a fact under; `null` when it is absent.
fn group_of(fact: &Fact, breakdown: &Value) -> Value {
    match breakdown["property"].as_str() {
        None => json!(fact.event),
        Some(property) => fact.properties.get(property).map_or(Value::Null, canonical),
    }
}

fn choose_groups(breakdown: &Value, series: &[Value], facts: &[&Fact]) -> Vec<Value> {
    let mut counts: Vec<(Value, usize)> = Vec::new();
    for part in series {
        for fact in facts.iter().filter(|fact| is_of(fact, part)) {
            let group = group_of(fact, breakdown);
            match counts.iter_mut().find(|(known, _)| *known == group) {
                Some((_, count)) => *count += 1,
                None => counts.push((group, 1)),
            }
        }
    }
    counts.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| rank(a).cmp(&rank(b))));
    let limit = breakdown["limit"].as_u64().unwrap_or(10) as usize;
    let has_other = counts.len() > limit;
    let chosen = counts.into_iter().take(limit).map(|(group, _)| group);
    chosen.chain(has_other.then(|| json!("$other"))).collect()
}

/// How values of equal counts are ordered: by type, then by value.
fn rank(value: &Value) -> (u8, BigInt, String) {
    match value {
        Value::Bool(flag) => (0, BigInt::from(u8::from(*flag)), String::new()),
        Value::Number(_) => (1, units(value).unwrap(), String::new()),
        Value::String(text) => (2, BigInt::ZERO, text.clone()),
        Value::Array(_) | Value::Object(_) => (3, BigInt::ZERO, value.to_string()),
        Value::Null => (4, BigInt::ZERO, String::new()),
    }
}

fn measure(part: &Value, facts: &[&Fact]) -> Value {
    let persons = facts.iter().map(|fact| &fact.person).collect::<BTreeSet<_>>().len();
    let numbers = || {
        let property = part["property"].as_str().unwrap();
        let values = facts.iter().filter_map(|fact| fact.properties.get(property));
        let mut numbers: Vec<(BigInt, Value)> =
            values.filter_map(|value| Some((units(value)?, canonical(value)))).collect();
        numbers.sort_by(|(a, _), (b, _)| a.cmp(b));
        numbers
    };
    let total = || numbers().iter().map(|(units, _)| units).sum::<BigInt>();
    match part["measure"].as_str().unwrap_or("count") {
        "count" => json!(facts.len()),
        "persons" => json!(persons),
        "per_person" if persons == 0 => Value::Null,
        "per_person" => json!(facts.len() as f64 / persons as f64),
        "sum" => {
            let property = part["property"].as_str().unwrap();
            let has_float = facts.iter().any(|fact| fact.properties.get(property).is_some_and(Value::is_f64));
            let whole: BigInt = total() >> 1074;
            match i64::try_from(whole) {
                Ok(integer) if !has_float => json!(integer),
                _ => json!(nearest(&total())),
            }
        }
        "avg" if numbers().is_empty() => Value::Null,
        "avg" => json!(nearest(&total()) / numbers().len() as f64),
        "min" => numbers().first().map_or(Value::Null, |(_, number)| number.clone()),
        "max" => numbers().last().map_or(Value::Null, |(_, number)| number.clone()),
        "median" => percentile(&numbers(), 50),
        "p90" => percentile(&numbers(), 90),
        "p95" => percentile(&numbers(), 95),
        "p99" => percentile(&numbers(), 99),
        measure => panic!("no measure {measure}"),
    }
}

fn percentile(numbers: &[(BigInt, Value)], percent: usize) -> Value {
    if numbers.is_empty() {
        return Value::Null;
    }
    let position = (numbers.len() - 1) * percent;
    let (low, rest) = (&numbers[position / 100].1, position % 100);
    let high = numbers.get(position / 100 + 1).map_or(low, |(_, number)| number);
    if rest == 0 || low == high {
        return low.clone();
    }
    let (low, high) = (low.as_f64().unwrap(), high.as_f64().unwrap());
    json!(low + (high - low) * (rest as f64 / 100.0))
}

/// What names a bucket: a time and an offset for an hour, the first date for the others.
type Key = (i64, i64, Date);

fn bucket(granularity: Option<&str>, at: i64, zone: &TimeZone) -> Key {
    let at_time = Timestamp::from_millisecond(at).unwrap();
    let date = zone.to_datetime(at_time).date();
    let first = match granularity {
        None => return (0, 0, Date::MIN),
        Some("hour") => {
            // When a clock of this offset would show the full hour; it may not have run then.
            let offset = i64::from(zone.to_offset(at_time).seconds()) * 1_000;
            let shown = (at + offset).div_euclid(3_600_000) * 3_600_000;
            // Two hours may share that time; the one of the greater offset came first.
            return (shown - offset, -offset, Date::MIN);
        }
        Some("day") => date,
        Some("week") => {
            date.checked_sub(jiff::Span::new().days(date.weekday().to_monday_zero_offset())).unwrap()
        }
        Some("month") => date.first_of_month(),
        Some(other) => panic!("no granularity {other}"),
    };
    (0, 0, first)
}

/// Every bucket of the range with its first instant, found by asking every minute.
fn buckets(granularity: Option<&str>, from: i64, to: i64, zone: &TimeZone) -> BTreeMap<Key, i64> {
    if granularity.is_none() {
        return BTreeMap::from([(bucket(None, from, zone), from)]);
    }
    // Farther back than any bucket of the range begins.
    let days = match granularity {
        Some("month") => 32,
        Some("week") => 8,
        _ => 2,
    };
    let back = days * 86_400_000;
    let mut starts: BTreeMap<Key, i64> = BTreeMap::new();
    let mut within: BTreeSet<Key> = BTreeSet::new();
    let mut at = (from - back).div_euclid(60_000) * 60_000;
    while at < to {
        let key = bucket(granularity, at.max(from - back), zone);
        starts.entry(key).or_insert(at);
        if at + 60_000 > from {
            // The minute that holds `from` may begin in the bucket before it.
            within.insert(bucket(granularity, at.max(from), zone));
        }
        at += 60_000;
    }
    starts.retain(|key, _| within.contains(key));
    starts
}

fn funnel(question: &Value, facts: &[&Fact]) -> Value {
    let steps = question["steps"].as_array().unwrap();
    let mut reached = vec![0_u64; steps.len()];
    for rows in histories(steps, facts).values() {
        reached[..best(rows, window(question))].iter_mut().for_each(|persons| *persons += 1);
    }
    let steps = steps.iter().zip(reached);
    let steps: Vec<Value> =
        steps.map(|(step, persons)| json!({"label": label(step), "persons": persons})).collect();
    json!({"kind": "funnel", "steps": steps})
}

fn persons(question: &Value, facts: &[Fact]) -> Value {
    let funnel = &question["funnel"];
    let steps = funnel["steps"].as_array().unwrap();
    let step = question["step"].as_u64().unwrap() as usize;
    let is_dropped = question["outcome"] == "dropped";
    let window = window(funnel);
    let mut found: Vec<(i64, &str)> = Vec::new();
    for (person, rows) in histories(steps, &facts_of(funnel, facts)) {
        let reached = best(&rows, window);
        // The last step that all of them reached, and whether this one did.
        let (told, is_asked) =
            if is_dropped { (step - 1, reached == step - 1) } else { (step, reached >= step) };
        if is_asked {
            // The end of the shortest history that reaches it.
            let ends =
                (1..=rows.len()).filter(|end| rows.get(*end).is_none_or(|next| next.0 > rows[end - 1].0));
            let end = ends.filter(|end| best(&rows[..*end], window) >= told).min().unwrap();
            found.push((rows[end - 1].0, person));
        }
    }
    found.sort_by_key(|&(at, person)| (std::cmp::Reverse(at), person));
    let limit = question["limit"].as_u64().unwrap_or(100) as usize;
    let persons: Vec<Value> = found
        .iter()
        .take(limit)
        .map(|&(at, person)| {
            json!({"distinct_id": person, "reached_at": Timestamp::from_millisecond(at).unwrap().to_string()})
        })
        .collect();
    json!({"kind": "persons", "step": step, "outcome": question["outcome"].as_str().unwrap_or("converted"),
           "label": label(&steps[step - 1]), "total": found.len(), "persons": persons})
}

fn window(funnel: &Value) -> Option<i64> {
    funnel["window"].as_str().map(|text| {
        let (amount, unit) = text.split_at(text.len() - 1);
        let unit = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            unit => panic!("no unit {unit}"),
        };
        amount.parse::<i64>().unwrap() * unit
    })
}

/// A moment and the steps that an event of it serves.
type Row = (i64, Vec<bool>);

/// Each person's rows in order.
fn histories<'a>(steps: &[Value], facts: &[&'a Fact]) -> BTreeMap<&'a str, Vec<Row>> {
    let mut histories: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for fact in facts {
        let matches: Vec<bool> = steps.iter().map(|step| is_of(fact, step)).collect();
        histories.entry(&fact.person).or_default().push((fact.at, matches));
    }
    histories.values_mut().for_each(|rows| rows.sort_by_key(|(at, _)| *at));
    histories
}

/// How many steps a history reaches.
fn best(rows: &[Row], window: Option<i64>) -> usize {
    let starts = (0..rows.len()).filter(|&row| rows[row].1[0]);
    starts.map(|row| steps_from(rows, row, window)).max().unwrap_or(0)
}

/// How many steps the chains that begin with this row reach: moment by moment, as many steps as
/// the rows of the moment can serve.
fn steps_from(rows: &[Row], start: usize, window: Option<i64>) -> usize {
    let begin = rows[start].0;
    let mut done = 1;
    let mut moment = begin;
    loop {
        let here = (0..rows.len()).filter(|&row| rows[row].0 == moment && row != start);
        let mut kinds: BTreeMap<&[bool], usize> = BTreeMap::new();
        here.for_each(|row| *kinds.entry(rows[row].1.as_slice()).or_default() += 1);
        done = farthest(&mut kinds, done);
        let next = rows.iter().map(|(at, _)| *at).filter(|&at| at > moment).min();
        match next.filter(|next| window.is_none_or(|window| next - begin <= window)) {
            Some(next) if done < rows[start].1.len() => moment = next,
            _ => return done,
        }
    }
}

/// Every way to serve the next steps, row by row; rows that match the same steps are alike.
fn farthest(kinds: &mut BTreeMap<&[bool], usize>, done: usize) -> usize {
    let fitting: Vec<&[bool]> = kinds
        .iter()
        .filter(|(matches, left)| **left > 0 && matches.get(done) == Some(&true))
        .map(|(matches, _)| *matches)
        .collect();
    let mut best = done;
    for matches in fitting {
        *kinds.get_mut(matches).unwrap() -= 1;
        best = best.max(farthest(kinds, done + 1));
        *kinds.get_mut(matches).unwrap() += 1;
    }
    best
}
