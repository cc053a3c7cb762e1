//! Which of some persons have rows in a run or segment: told from the catalogue where that is enough,
//! else from the column of persons, in those pages alone that may have them.

use std::collections::BTreeMap;

use super::block::RowColumns;
use super::format::{Columns, HEADER_PART, ObjectFacts, ObjectReader, PartSet, RowRanges, SliceFacts, Want};
use super::scan::ScanError;
use crate::model::{PersonNo, ProjectId};
use crate::storage::Db;
use crate::storage::server::objects::{self, ObjectKind, ObjectRow};

/// Persons of several projects, each list ascending.
pub type Persons = BTreeMap<ProjectId, Vec<PersonNo>>;
/// How many rows each of them has.
pub type Held = BTreeMap<(ProjectId, PersonNo), u64>;

/// The catalogue's word on an object.
pub fn facts_of(object: &ObjectRow) -> Result<ObjectFacts, ScanError> {
    let object_id = object.object_id;
    ObjectFacts::from_bytes(&object.facts).map_err(|source| ScanError::Format { object_id, source })
}

/// Those of the persons whom the catalogue does not exclude.
pub fn may_hold(facts: &ObjectFacts, persons: &Persons) -> Persons {
    let mut may = Persons::new();
    for slice in &facts.slices {
        let Some(of_project) = persons.get(&slice.project_id) else { continue };
        let some = within(of_project, slice);
        if !some.is_empty() {
            may.insert(slice.project_id, some.to_vec());
        }
    }
    may
}

fn within<'p>(persons: &'p [PersonNo], slice: &SliceFacts) -> &'p [PersonNo] {
    let from = persons.partition_point(|&person_no| person_no < slice.person_min);
    let to = persons.partition_point(|&person_no| person_no <= slice.person_max);
    &persons[from..to.max(from)]
}

/// The rows of these persons in an object; `None` when it has been deleted.
pub async fn count_held(
    db: &Db,
    object: &ObjectRow,
    facts: &ObjectFacts,
    persons: &Persons,
) -> Result<Option<Held>, ScanError> {
    let mut held = Held::new();
    let may = may_hold(facts, persons);
    if may.is_empty() {
        return Ok(Some(held));
    }
    let object_id = object.object_id;
    let unreadable = move |source| ScanError::Format { object_id, source };
    let Some((_, header)) = objects::find_headers(db, &[object_id]).await?.into_iter().next() else {
        return Ok(None);
    };
    let reader = ObjectReader::open(&header).map_err(unreadable)?;
    for slice in &facts.slices {
        let Some(of_project) = may.get(&slice.project_id) else { continue };
        let rows = match object.kind {
            ObjectKind::Segment => reader.rows_of_persons(of_project),
            ObjectKind::Run => RowRanges::of_slice(slice),
        };
        if rows == RowRanges::Some(Vec::new()) {
            continue;
        }
        let with = RowColumns { persons: true, ..RowColumns::default() };
        let want = Want { columns: Columns::Block { with, properties: Vec::new(), of_events: None }, rows };
        let part_nos = reader.parts_for(&want).map_err(unreadable)?;
        let found = objects::find_parts_of(db, object_id, object.bytes, &part_nos).await?;
        let Some(found) = found else { return Ok(None) };
        let mut parts: PartSet = found.into_iter().collect();
        parts.insert(HEADER_PART, header.clone());
        let reader = reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_block(&want, &parts));
        let block = read.await?.map_err(unreadable)?;
        for person_no in block.person_no.iter() {
            if of_project.binary_search(person_no).is_ok() {
                *held.entry((slice.project_id, *person_no)).or_default() += 1;
            }
        }
    }
    Ok(Some(held))
}
