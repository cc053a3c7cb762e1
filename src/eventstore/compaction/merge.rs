//! Sorted objects into one sorted stream, and the stream into new objects.
//!
//! Memory: the compressed inputs and outputs, one page of rows of every input, and the rows of one
//! project while they are sorted anew on their way from runs into a segment.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::masks::LeftOut;
use crate::eventstore::format::{
    Columns, FormatError, JoinInput, ObjectBytes, ObjectFacts, ObjectReader, PartSet, RowBatches, RowRanges,
    RunWriter, SegmentPlan, SegmentWriter, StoredRow, Want, WriteOptions, join_segments, write_segment,
};
use crate::model::ProjectId;
use crate::storage::server::objects::ObjectKind;

/// Rows that are sorted in memory on their way from runs into segments: 64 Ki rows, or fewer big
/// ones. A project with more gets several segments, one after the other in time.
const SORTED_ROWS_MAX: usize = 1 << 16;
const SORTED_RAW_BYTES_MAX: u64 = 32 << 20;
/// Before compression; keeps what one output holds in memory bounded when rows are big.
const OUTPUT_RAW_BYTES_MAX: u64 = 512 << 20;

/// An object with all its parts.
pub(super) struct Input {
    pub reader: ObjectReader,
    pub parts: PartSet,
    pub facts: ObjectFacts,
}

impl Input {
    pub fn columns(&self) -> JoinInput<'_> {
        JoinInput { reader: &self.reader, parts: &self.parts, facts: &self.facts }
    }
}

/// A new object: a segment of a project, or a run.
pub(super) struct Output {
    pub project_id: Option<ProjectId>,
    pub object: ObjectBytes,
}

impl Output {
    pub fn kind(&self) -> ObjectKind {
        match self.project_id {
            None => ObjectKind::Run,
            Some(_) => ObjectKind::Segment,
        }
    }
}

/// What a merge comes to.
pub(super) struct Merged {
    /// None when no row was kept.
    pub outputs: Vec<Output>,
    /// Rows of masked persons that were left out.
    pub dropped: u64,
    /// Rows that are older than their project keeps.
    pub expired: u64,
}

/// How many rows a merge left out: of masked persons, and old ones.
#[derive(Default)]
struct Missing {
    dropped: u64,
    expired: u64,
}

/// The rows of one input, in its order.
struct Source {
    batches: RowBatches,
    page: std::vec::IntoIter<StoredRow>,
}

impl Source {
    fn next(&mut self) -> Result<Option<StoredRow>, FormatError> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            match self.batches.next() {
                Some(page) => self.page = page?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Gives the rows of all inputs in the order of `key`; equal keys in the order of inputs. The inputs
/// are each in that order already. Rows that are to be left out are not given; how many.
fn merge<K: Ord + Copy>(
    inputs: &[Input],
    left_out: &LeftOut,
    key: impl Fn(&StoredRow) -> K,
    mut give: impl FnMut(StoredRow) -> Result<(), FormatError>,
) -> Result<Missing, FormatError> {
    let all = Want { columns: Columns::All, rows: RowRanges::All };
    let mut sources = Vec::with_capacity(inputs.len());
    let mut heads: Vec<Option<StoredRow>> = Vec::with_capacity(inputs.len());
    let mut next = BinaryHeap::with_capacity(inputs.len());
    for (n, input) in inputs.iter().enumerate() {
        let batches = input.reader.read_rows(&all, &input.parts)?;
        let mut source = Source { batches, page: Vec::new().into_iter() };
        let head = source.next()?;
        next.extend(head.as_ref().map(|row| Reverse((key(row), n))));
        heads.push(head);
        sources.push(source);
    }
    let expected: u64 = inputs.iter().map(|input| input.facts.rows).sum();
    let (mut given, mut missing) = (0, Missing::default());
    while let Some(Reverse((_, n))) = next.pop() {
        let following = sources[n].next()?;
        next.extend(following.as_ref().map(|row| Reverse((key(row), n))));
        if let Some(row) = std::mem::replace(&mut heads[n], following) {
            if left_out.has_person(&row) {
                missing.dropped += 1;
            } else if left_out.is_expired(&row) {
                missing.expired += 1;
            } else {
                give(row)?;
                given += 1;
            }
        }
    }
    // What compaction retires must be in what it writes, to the row.
    let found = given + missing.dropped + missing.expired;
    if found != expected {
        return Err(FormatError::Corrupt(format!("{found} rows where the catalogue has {expected}")));
    }
    Ok(missing)
}

/// Segments of one project into one; into several only where rows are too big for one.
pub(super) fn merge_segments(
    project_id: ProjectId,
    inputs: &[Input],
    left_out: &LeftOut,
    options: &WriteOptions,
) -> Result<Merged, FormatError> {
    let output = |object| Output { project_id: Some(project_id), object };
    let raw_bytes: u64 = inputs.iter().map(|input| input.facts.raw_bytes).sum();
    if raw_bytes < OUTPUT_RAW_BYTES_MAX && left_out.is_empty() {
        let columns: Vec<_> = inputs.iter().map(Input::columns).collect();
        if let Some(object) = join_segments(project_id, &columns, options)? {
            return Ok(Merged { outputs: vec![output(object)], dropped: 0, expired: 0 });
        }
    }
    let mut plan = SegmentPlan::new(options);
    for input in inputs {
        plan.add_segment(&input.facts);
    }
    let mut outputs = Vec::new();
    let mut writer: Option<SegmentWriter> = None;
    let Missing { dropped, expired } = merge(inputs, left_out, StoredRow::segment_key, |row| {
        if writer.as_ref().is_some_and(|writer| writer.raw_bytes() >= OUTPUT_RAW_BYTES_MAX)
            && let Some(full) = writer.take()
        {
            outputs.push(output(full.finish()?));
        }
        if writer.is_none() {
            writer = Some(SegmentWriter::new(project_id, plan.clone(), options)?);
        }
        match &mut writer {
            Some(writer) => writer.push(&row),
            None => Ok(()),
        }
    })?;
    if let Some(writer) = writer {
        outputs.push(output(writer.finish()?));
    }
    Ok(Merged { outputs, dropped, expired })
}

/// Runs into segments for those projects that have `rows_min` rows in them, and one run for all
/// others. `rows_min` 0: everything goes into segments.
pub(super) fn merge_runs(
    inputs: &[Input],
    left_out: &LeftOut,
    rows_min: u64,
    options: &WriteOptions,
) -> Result<Merged, FormatError> {
    let leaving = projects_with(inputs, rows_min);
    let mut rows_of_run = 0;
    let mut raw_bytes = 0;
    for input in inputs {
        raw_bytes += input.facts.raw_bytes;
        let staying = input.facts.slices.iter().filter(|slice| !leaving.contains(&slice.project_id));
        rows_of_run += staying.map(|slice| slice.rows).sum::<u64>();
    }
    let mut target = RunTarget {
        options,
        rows_of_run,
        raw_bytes,
        run: None,
        waiting: Vec::new(),
        waiting_bytes: 0,
        outputs: Vec::new(),
    };
    let Missing { dropped, expired } = merge(inputs, left_out, StoredRow::run_key, |row| {
        if leaving.contains(&row.project_id) { target.wait(row) } else { target.stay(&row) }
    })?;
    Ok(Merged { outputs: target.finish()?, dropped, expired })
}

fn projects_with(inputs: &[Input], rows_min: u64) -> BTreeSet<ProjectId> {
    let mut rows_of = std::collections::BTreeMap::<ProjectId, u64>::new();
    for slice in inputs.iter().flat_map(|input| &input.facts.slices) {
        *rows_of.entry(slice.project_id).or_default() += slice.rows;
    }
    rows_of.into_iter().filter(|(_, rows)| *rows >= rows_min).map(|(project_id, _)| project_id).collect()
}

/// Takes rows in the order of runs.
struct RunTarget<'o> {
    options: &'o WriteOptions,
    /// What will come, about.
    rows_of_run: u64,
    raw_bytes: u64,
    run: Option<RunWriter>,
    /// Rows of one project that will be a segment.
    waiting: Vec<StoredRow>,
    waiting_bytes: u64,
    outputs: Vec<Output>,
}

impl RunTarget<'_> {
    fn stay(&mut self, row: &StoredRow) -> Result<(), FormatError> {
        if self.run.as_ref().is_some_and(|run| run.raw_bytes() >= OUTPUT_RAW_BYTES_MAX) {
            self.end_run()?;
        }
        if self.run.is_none() {
            self.run = Some(RunWriter::new(self.rows_of_run, self.raw_bytes, self.options)?);
        }
        match &mut self.run {
            Some(run) => run.push(row),
            None => Ok(()),
        }
    }

    fn wait(&mut self, row: StoredRow) -> Result<(), FormatError> {
        let is_full = self.waiting.len() >= SORTED_ROWS_MAX || self.waiting_bytes >= SORTED_RAW_BYTES_MAX;
        if self.waiting.last().is_some_and(|last| is_full || last.project_id != row.project_id) {
            self.end_segment()?;
        }
        self.waiting_bytes += row.raw_bytes();
        self.waiting.push(row);
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), FormatError> {
        let mut rows = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if let Some(first) = rows.first() {
            let project_id = Some(first.project_id);
            rows.sort_by_key(StoredRow::segment_key);
            self.outputs.push(Output { project_id, object: write_segment(&rows, self.options)? });
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), FormatError> {
        if let Some(run) = self.run.take() {
            self.outputs.push(Output { project_id: None, object: run.finish()? });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Output>, FormatError> {
        self.end_segment()?;
        self.end_run()?;
        Ok(self.outputs)
    }
}
