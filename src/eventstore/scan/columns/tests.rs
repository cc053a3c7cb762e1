//! Which columns are kept and found.

use super::*;
use crate::eventstore::Counted;
use crate::eventstore::format::RowRanges;

fn object(n: u8, rows: RowRanges) -> ListedObject {
    let object_id = ObjectId([n; 16]);
    let is_whole = true;
    let (events, bytes, obeys_masks) = (100, 1, false);
    ListedObject {
        object_id,
        events,
        bytes,
        min_at: 0,
        max_at: 1,
        created_at: 0,
        rows,
        is_whole,
        obeys_masks,
    }
}

const PROJECT: ProjectId = ProjectId(1);

fn block(rows: usize, properties: usize) -> RowBlock {
    let codes = Dictionary::new(std::iter::repeat_n(0, rows), vec!["e".into()]);
    let property = Arc::new(PropertyColumn { strings: Some(codes.clone()), ..Default::default() });
    RowBlock {
        person_no: vec![1; rows].into(),
        occurred_at: Arc::new(std::iter::repeat_n(2, rows).collect()),
        quarters: Arc::new(Quarters::of_times(&vec![2; rows])),
        properties: vec![property; properties],
        event: Arc::new(codes),
        counted: Counted::All,
        stand_for: None,
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_what_is_missing_is_asked_for_and_the_order_is_that_of_the_question() {
    let cache = ColumnCache::new(1 << 20, &Metrics::default());
    let segment = object(1, RowRanges::All);
    let find = |object, asked: &[String]| cache.find(object, PROJECT, KeptRows::All, RowColumns::ALL, asked);
    assert_eq!(find(&segment, &names(&["a"])).missing(&names(&["a"])), (RowColumns::ALL, names(&["a"])));
    let mut read = block(10, 2);
    read.properties[1] = Arc::default();
    cache.keep(&segment, PROJECT, KeptRows::All, &names(&["a", "b"]), &read);

    let asked = names(&["b", "c", "a"]);
    let known = find(&segment, &asked);
    assert!(!known.is_complete());
    assert_eq!(known.missing(&asked), (RowColumns::default(), names(&["c"])));
    let whole = known.complete_with(block(10, 1));
    let has_text: Vec<bool> = whole.properties.iter().map(|column| column.strings.is_some()).collect();
    assert_eq!(has_text, [false, true, true]);

    let known = find(&segment, &names(&["a"]));
    assert!(known.is_complete());
    let again = known.complete_with(RowBlock::default());
    assert_eq!((again.row_count(), again.properties.len()), (10, 1));
    assert!(Arc::ptr_eq(&again.properties[0], &read.properties[0]), "it is the same memory");
    assert!(!find(&object(2, RowRanges::All), &[]).is_complete(), "another object");
}

#[test]
fn only_what_was_asked_for_is_kept_and_handed_out() {
    let cache = ColumnCache::new(1 << 20, &Metrics::default());
    let segment = object(1, RowRanges::All);
    let without_persons = RowBlock { person_no: Default::default(), ..block(10, 0) };
    cache.keep(&segment, PROJECT, KeptRows::All, &[], &without_persons);
    let kept = RowColumns { persons: false, times: true, quarters: true };
    assert!(cache.find(&segment, PROJECT, KeptRows::All, kept, &[]).is_complete());
    let everything = RowColumns { persons: true, times: true, quarters: true };
    let known = cache.find(&segment, PROJECT, KeptRows::All, everything, &[]);
    assert_eq!(known.missing(&[]), (RowColumns { persons: true, ..RowColumns::default() }, vec![]));
    let events_only = cache
        .find(&segment, PROJECT, KeptRows::All, RowColumns::default(), &[])
        .complete_with(RowBlock::default());
    assert!(events_only.occurred_at.is_empty() && events_only.row_count() == 10);
}

#[test]
fn of_a_run_a_project_has_all_columns_or_none_and_what_is_read_in_part_is_not_kept() {
    let cache = ColumnCache::new(1 << 20, &Metrics::default());
    let run = object(1, RowRanges::one(20..30));
    cache.keep(&run, PROJECT, KeptRows::All, &names(&["a"]), &block(10, 1));
    let find = |project, asked: &[String]| cache.find(&run, project, KeptRows::All, RowColumns::ALL, asked);
    assert!(find(PROJECT, &[]).is_complete() && find(PROJECT, &names(&["a"])).is_complete());
    assert!(!find(ProjectId(2), &[]).is_complete(), "rows of another project");
    let asked = names(&["a", "b"]);
    let known = find(PROJECT, &asked);
    assert_eq!(known.missing(&asked), (RowColumns::ALL, asked), "all of them in the same order");

    let in_part = ListedObject { is_whole: false, ..object(2, RowRanges::one(0..10)) };
    cache.keep(&in_part, PROJECT, KeptRows::All, &[], &block(10, 0));
    assert!(!cache.find(&in_part, PROJECT, KeptRows::All, RowColumns::ALL, &[]).is_complete());
}

#[test]
fn memory_stays_below_its_limit() {
    let limit = 100_000;
    let cache = ColumnCache::new(limit, &Metrics::default());
    for n in 0..200 {
        cache.keep(&object(n, RowRanges::All), PROJECT, KeptRows::All, &names(&["a"]), &block(500, 1));
        let weight = cache.columns.as_ref().unwrap().weight();
        assert!(weight <= limit as u64, "{weight} bytes");
    }
    let weight = cache.columns.as_ref().unwrap().weight();
    assert!(weight > limit as u64 / 2, "{weight} bytes are kept");
    let off = ColumnCache::new(0, &Metrics::default());
    off.keep(&object(1, RowRanges::All), PROJECT, KeptRows::All, &[], &block(1, 0));
    assert!(
        !off.find(&object(1, RowRanges::All), PROJECT, KeptRows::All, RowColumns::default(), &[])
            .is_complete()
    );
}
