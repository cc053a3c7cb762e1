//! Facts as the blocks of shards, spread at random.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde_json::Value;

use super::Reads;
use super::reference::Fact;
use crate::eventstore::{
    ABSENT, Bits, COUNT_STEPS, Counted, Dictionary, Numbers, PropertyColumn, Quarters, RowBlock,
    begins_a_quarter,
};
use crate::model::{Interned, PersonNo, PropertyValue};

/// One shard as a kernel gets it.
pub struct Shard {
    pub blocks: Vec<RowBlock>,
    /// Who has which number.
    pub names: Vec<String>,
}

/// A shard for every person, numbers for the persons of each shard in any order, and the rows of
/// each shard in any number of blocks.
pub fn spread(facts: &[Fact], reads: &Reads, shards: usize, rng: &mut ChaCha12Rng) -> Vec<Shard> {
    let mut homes: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in facts {
        homes.entry(&fact.person).or_insert_with(|| rng.random_range(0..shards));
    }
    (0..shards)
        .map(|shard| {
            let mut persons: Vec<&str> =
                homes.iter().filter(|(_, home)| **home == shard).map(|(person, _)| *person).collect();
            persons.shuffle(rng);
            let numbers: BTreeMap<&str, PersonNo> = persons.iter().copied().zip(0..).collect();
            let mut parts: Vec<Vec<(PersonNo, &Fact)>> = vec![Vec::new(); rng.random_range(1..6)];
            let count = parts.len();
            for fact in facts {
                if let Some(&number) = numbers.get(fact.person.as_str()) {
                    parts[rng.random_range(0..count)].push((number, fact));
                }
            }
            for part in &mut parts {
                // Rows of equal time are ordered by event id, which is any order.
                part.shuffle(rng);
                part.sort_by_key(|(person, fact)| (*person, fact.at));
            }
            let blocks = parts.iter().map(|part| block(part, reads, rng)).collect();
            Shard { blocks, names: persons.into_iter().map(str::to_owned).collect() }
        })
        .collect()
}

/// As a scan gives it: with the columns that are read, and a list when not all rows count.
fn block(rows: &[(PersonNo, &Fact)], reads: &Reads, rng: &mut ChaCha12Rng) -> RowBlock {
    let column = |property: &String| {
        let values: Vec<Option<PropertyValue>> = rows
            .iter()
            .map(|(_, fact)| fact.properties.get(property).and_then(PropertyValue::from_json))
            .collect();
        Arc::new(column(&values, rng.random_bool(0.5)))
    };
    let mut block = RowBlock {
        properties: reads.properties.iter().map(column).collect(),
        person_no: rows.iter().map(|(person, _)| *person).collect(),
        occurred_at: Arc::new(rows.iter().map(|(_, fact)| fact.at).collect()),
        event: Arc::new(dictionary(
            &rows.iter().map(|(_, fact)| Some(fact.event.as_str())).collect::<Vec<_>>(),
        )),
        quarters: Arc::default(),
        counted: Counted::All,
        stand_for: None,
    };
    // As the scan does: steps may begin before or end behind the range when no row is outside.
    let is_inside = rows.iter().all(|(_, fact)| reads.range.contains(fact.at));
    let ends = [reads.range.from, reads.range.to];
    let steps = COUNT_STEPS.into_iter().filter(|step| {
        let tells_range = is_inside || ends.iter().all(|at| at.rem_euclid(*step) == 0);
        tells_range && reads.counted_by.is_some_and(|longest| *step <= longest)
    });
    let step = steps.choose(rng).filter(|_| rng.random_bool(0.7));
    if let Some(step) = step {
        let mut block = rolled_up(rows, step);
        if !is_inside {
            block.count_within(reads.range.from, reads.range.to);
        }
        return block;
    }
    if reads.with.quarters {
        let times: Vec<i64> = rows.iter().map(|(_, fact)| fact.at).collect();
        block.quarters = Arc::new(Quarters::of_times(&times));
    }
    if reads.with.quarters && ends.iter().all(|at| begins_a_quarter(*at)) {
        // Those tell which rows count, a chunk at a time.
        block.occurred_at = Default::default();
    }
    block.count_within(reads.range.from, reads.range.to);
    if !reads.with.persons {
        block.person_no = Default::default();
    }
    if !reads.with.times {
        block.occurred_at = Default::default();
    }
    block
}

/// Counts by event and step instead of rows.
fn rolled_up(rows: &[(PersonNo, &Fact)], step: i64) -> RowBlock {
    let mut cells: BTreeMap<(i64, &str), u32> = BTreeMap::new();
    for (_, fact) in rows {
        *cells.entry((fact.at.div_euclid(step), &fact.event)).or_default() += 1;
    }
    let events: Vec<Option<&str>> = cells.keys().map(|(_, event)| Some(*event)).collect();
    let starts: Vec<i64> = cells.keys().map(|(n, _)| n * step).collect();
    RowBlock {
        event: Arc::new(dictionary(&events)),
        quarters: Arc::new(Quarters::of_times(&starts)),
        stand_for: Some(cells.into_values().collect()),
        ..RowBlock::default()
    }
}

/// `sparse`: types that no row has are left out.
fn column(values: &[Option<PropertyValue>], sparse: bool) -> PropertyColumn {
    fn pick<'a, T>(
        values: &'a [Option<PropertyValue>],
        of: fn(&'a PropertyValue) -> Option<T>,
    ) -> Vec<Option<T>> {
        values.iter().map(|value| value.as_ref().and_then(of)).collect()
    }
    fn numbers<T: Copy>(values: &[Option<T>]) -> Numbers<T> {
        let mut present = Bits::zeros(values.len());
        values.iter().enumerate().filter(|(_, value)| value.is_some()).for_each(|(row, _)| present.set(row));
        Numbers::new(values.iter().flatten().copied().collect(), present)
    }
    fn kept<T>(values: &[Option<T>], sparse: bool) -> bool {
        !sparse || values.iter().any(Option::is_some)
    }
    use PropertyValue as P;
    let strings = pick(values, |value| if let P::String(text) = value { Some(text.as_str()) } else { None });
    let json = pick(values, |value| if let P::Json(text) = value { Some(text.as_str()) } else { None });
    let integers = pick(values, |value| if let P::Integer(number) = value { Some(*number) } else { None });
    let floats = pick(values, |value| if let P::Float(number) = value { Some(*number) } else { None });
    let booleans = pick(values, |value| if let P::Bool(flag) = value { Some(*flag) } else { None });
    PropertyColumn {
        strings: kept(&strings, sparse).then(|| dictionary(&strings)),
        integers: kept(&integers, sparse).then(|| numbers(&integers)),
        floats: kept(&floats, sparse).then(|| numbers(&floats)),
        booleans: kept(&booleans, sparse).then(|| numbers(&booleans)),
        json: kept(&json, sparse).then(|| dictionary(&json)),
    }
}

fn dictionary(texts: &[Option<&str>]) -> Dictionary {
    let mut values: Vec<Interned> = Vec::new();
    let mut code = |text: &str| {
        let known = values.iter().position(|value| **value == *text);
        known.unwrap_or_else(|| {
            values.push(Interned::new(text));
            values.len() - 1
        }) as u32
    };
    let codes: Vec<u32> = texts.iter().map(|text| text.map_or(ABSENT, &mut code)).collect();
    Dictionary::new(codes.into_iter(), values)
}

/// What the sealer stores for a value is what the reference reads.
#[test]
fn values_keep_their_type_in_a_block() {
    let values = [serde_json::json!(5), serde_json::json!(5.5), Value::Null, serde_json::json!([1])];
    let values: Vec<Option<PropertyValue>> = values.iter().map(PropertyValue::from_json).collect();
    let column = column(&values, true);
    assert!(column.strings.is_none() && column.booleans.is_none());
    assert_eq!(column.value(0), Some(crate::eventstore::ValueRef::Integer(5)));
    assert_eq!(column.value(2), None);
    assert_eq!(column.value(3), Some(crate::eventstore::ValueRef::Json("[1]")));
}
