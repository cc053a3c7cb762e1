//! What to merge next: pure, from the catalogue alone.

use crate::model::{Millis, ObjectId, ProjectId};
use crate::storage::server::objects::ObjectKind;

#[derive(Clone, Copy, Debug)]
pub struct CompactionOptions {
    /// So many objects of one size are merged…
    pub fan_in_min: usize,
    /// … and at most so many at once.
    pub fan_in_max: usize,
    /// A project with so many rows in merged runs gets a segment of its own.
    pub segment_rows_min: u64,
    /// What segments grow towards.
    pub segment_rows_max: u64,
    /// Rows leave the runs after this long, however few they are.
    pub run_age_max_ms: Millis,
    /// Compressed bytes of all inputs of one merge: they lie in memory.
    pub input_bytes_max: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            fan_in_min: 8,
            fan_in_max: 16,
            segment_rows_min: 8_192,
            segment_rows_max: 1_000_000,
            run_age_max_ms: 6 * 3_600_000,
            input_bytes_max: 64 << 20,
        }
    }
}

/// A live run or segment as the choice sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub object_id: ObjectId,
    pub rows: u64,
    pub bytes: u64,
    pub min_at: Millis,
    pub mask_version: i64,
    /// A merge by size gave as many again: it is left to the others.
    pub is_settled: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Merge {
    /// `to_segments`: all their rows leave the runs.
    Runs {
        inputs: Vec<Candidate>,
        to_segments: bool,
    },
    Segments {
        project_id: ProjectId,
        inputs: Vec<Candidate>,
    },
    /// Segments of which no row is kept.
    Dropped {
        inputs: Vec<Candidate>,
    },
}

impl Merge {
    pub(super) fn kind(&self) -> ObjectKind {
        match self {
            Self::Runs { .. } => ObjectKind::Run,
            Self::Segments { .. } | Self::Dropped { .. } => ObjectKind::Segment,
        }
    }

    pub(super) fn inputs(&self) -> &[Candidate] {
        match self {
            Self::Runs { inputs, .. } | Self::Segments { inputs, .. } | Self::Dropped { inputs } => inputs,
        }
    }
}

/// What is due to be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Debt {
    pub objects: u64,
    pub bytes: u64,
}

impl Debt {
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }

    fn of(objects: &[Candidate]) -> Self {
        Self { objects: objects.len() as u64, bytes: objects.iter().map(|object| object.bytes).sum() }
    }
}

/// Rows grow eightfold from one level to the next; up to 1,023 rows are level 0.
pub(super) fn level(rows: u64) -> u32 {
    (rows / 1_024).max(1).ilog2() / 3 + u32::from(rows >= 1_024)
}

impl CompactionOptions {
    /// Old runs first, since a backlog of them slows every question; then many runs of one size.
    /// `runs` come with the time when their first row arrived.
    pub(super) fn choose_runs(&self, runs: &[(Candidate, Millis)], now: Millis) -> Option<Merge> {
        let mut old: Vec<_> = runs.iter().filter(|(_, since)| now - since >= self.run_age_max_ms).collect();
        old.sort_by_key(|(run, since)| (*since, run.object_id));
        if !old.is_empty() {
            let inputs = self.take(old.into_iter().map(|(run, _)| *run), u64::MAX).0;
            return Some(Merge::Runs { inputs, to_segments: true });
        }
        let runs = runs.iter().map(|(run, _)| *run);
        let growing = runs.filter(|run| run.rows < self.segment_rows_max && !run.is_settled);
        let inputs = self.fullest_level(growing.collect(), u64::MAX)?;
        Some(Merge::Runs { inputs, to_segments: false })
    }

    /// `segments` of one project.
    pub(super) fn choose_segments(&self, project_id: ProjectId, segments: &[Candidate]) -> Option<Merge> {
        let inputs = self.fullest_level(self.small(segments), self.segment_rows_max)?;
        Some(Merge::Segments { project_id, inputs })
    }

    /// Those that are half full stay: rewriting them again gains little.
    fn small(&self, segments: &[Candidate]) -> Vec<Candidate> {
        let is_small = |segment: &&Candidate| {
            !segment.is_settled
                && segment.rows < self.segment_rows_max / 2
                && segment.bytes < self.input_bytes_max / 2
        };
        segments.iter().filter(is_small).copied().collect()
    }

    /// Old runs, and objects of every size of which there are enough to be merged.
    pub(super) fn debt_of_runs(&self, runs: &[(Candidate, Millis)], now: Millis) -> Debt {
        let is_old = |since: Millis| now - since >= self.run_age_max_ms;
        let (old, young): (Vec<_>, Vec<_>) = runs.iter().partition(|(_, since)| is_old(*since));
        let of = |runs: Vec<&(Candidate, Millis)>| runs.into_iter().map(|(run, _)| *run).collect::<Vec<_>>();
        let mut debt = Debt::of(&of(old));
        let mut young = of(young);
        young.retain(|run| !run.is_settled);
        debt.add(self.debt_of_levels(young, u64::MAX));
        debt
    }

    /// `segments` of one project.
    pub(super) fn debt_of_segments(&self, segments: &[Candidate]) -> Debt {
        self.debt_of_levels(self.small(segments), self.segment_rows_max)
    }

    fn debt_of_levels(&self, mut objects: Vec<Candidate>, rows_max: u64) -> Debt {
        objects.sort_by_key(|object| (level(object.rows), object.min_at, object.object_id));
        let mut debt = Debt::default();
        for of_level in objects.chunk_by(|a, b| level(a.rows) == level(b.rows)) {
            match self.due_of_level(of_level, rows_max) {
                // What is merged first may leave others of the size that are due as well.
                Some(first) if self.is_uneven(of_level) => debt.add(Debt::of(&first)),
                Some(_) => debt.add(Debt::of(of_level)),
                None => {}
            }
        }
        debt
    }

    /// The smallest level first. Of the lowest one, objects of about the same size, or all that may be when
    /// they have become many: whoever writes a thousand rows again for ten new ones writes for nothing. Of
    /// others, the first in time.
    fn fullest_level(&self, mut objects: Vec<Candidate>, rows_max: u64) -> Option<Vec<Candidate>> {
        objects.sort_by_key(|object| (level(object.rows), object.min_at, object.object_id));
        for of_level in objects.chunk_by(|a, b| level(a.rows) == level(b.rows)) {
            if let Some(inputs) = self.due_of_level(of_level, rows_max) {
                return Some(inputs);
            }
        }
        None
    }

    /// What of one level is merged next, if it is enough.
    fn due_of_level(&self, of_level: &[Candidate], rows_max: u64) -> Option<Vec<Candidate>> {
        if self.is_uneven(of_level) {
            let alike = alike(of_level, self.fan_in_min)?;
            return Some(self.take(alike.into_iter(), rows_max).0);
        }
        let (inputs, is_full) = self.take(of_level.iter().copied(), rows_max);
        (inputs.len() >= self.fan_in_min || (is_full && inputs.len() >= 2)).then_some(inputs)
    }

    /// Whether objects of the lowest level are still few enough to leave those alone that are unlike.
    fn is_uneven(&self, of_level: &[Candidate]) -> bool {
        of_level.first().is_some_and(|first| level(first.rows) == 0)
            && of_level.len() < self.fan_in_min * 3 / 2
    }

    /// As many as may be merged at once, at least one; whether a further one would be too much.
    fn take(&self, objects: impl Iterator<Item = Candidate>, rows_max: u64) -> (Vec<Candidate>, bool) {
        let (mut taken, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for object in objects {
            rows += object.rows;
            bytes += object.bytes;
            if !taken.is_empty() && (rows > rows_max || bytes > self.input_bytes_max) {
                return (taken, true);
            }
            if taken.len() == self.fan_in_max {
                return (taken, false);
            }
            taken.push(object);
        }
        (taken, false)
    }
}

/// The smallest objects, `least` or more, of which none has many more rows than the smaller ones together.
fn alike(objects: &[Candidate], least: usize) -> Option<Vec<Candidate>> {
    const FEW: u64 = 16;
    let mut by_rows = objects.to_vec();
    by_rows.sort_by_key(|object| (object.rows, object.min_at, object.object_id));
    (0..by_rows.len()).map(|first| &by_rows[first..]).find_map(|from| {
        let mut sum = 0;
        let fitting = from.iter().take_while(|object| {
            let fits = sum == 0 || object.rows <= sum + FEW;
            sum += object.rows;
            fits
        });
        let fitting = fitting.count();
        (fitting >= least).then(|| from[..fitting].to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: u8, rows: u64) -> Candidate {
        let (object_id, bytes) = (ObjectId([n; 16]), rows * 30);
        Candidate { object_id, rows, bytes, min_at: n.into(), mask_version: 0, is_settled: false }
    }

    fn ids(merge: Option<Merge>) -> Vec<u8> {
        merge.iter().flat_map(Merge::inputs).map(|input| input.object_id.0[0]).collect()
    }

    #[test]
    fn levels_grow_eightfold() {
        let levels: Vec<u32> = [0, 1_023, 1_024, 8_191, 8_192, 65_535, 65_536, 524_288].map(level).into();
        assert_eq!(levels, [0, 0, 1, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn runs_wait_until_there_are_eight_of_a_size() {
        let options = CompactionOptions::default();
        let runs = |count: u8| (1..=count).map(|n| (object(n, 500), 1_000)).collect::<Vec<_>>();
        assert_eq!(options.choose_runs(&runs(7), 2_000), None);
        assert_eq!(ids(options.choose_runs(&runs(8), 2_000)), (1..=8).collect::<Vec<_>>());
        let tiny = |count: u8| (1..=count).map(|n| (object(n, 2), 1_000)).collect::<Vec<_>>();
        assert_eq!(options.choose_runs(&tiny(7), 2_000), None);
        assert_eq!(ids(options.choose_runs(&tiny(8), 2_000)), (1..=8).collect::<Vec<_>>());
        let mut uneven = tiny(8);
        uneven.push((object(9, 900), 1_000));
        assert_eq!(
            ids(options.choose_runs(&uneven, 2_000)),
            (1..=8).collect::<Vec<_>>(),
            "without the large one"
        );
        let mut uneven = tiny(3);
        uneven.extend((4..=11).map(|n| (object(n, 100), 1_000)));
        let chosen = ids(options.choose_runs(&uneven, 2_000));
        assert_eq!(chosen, (4..=11).collect::<Vec<_>>(), "those alike");
        uneven.push((object(12, 900), 1_000));
        assert_eq!(ids(options.choose_runs(&uneven, 2_000)).len(), 12, "there are too many to wait");
        assert_eq!(ids(options.choose_runs(&runs(40), 2_000)).len(), 16);
        let mut mixed = runs(7);
        mixed.push((object(8, 5_000), 1_000));
        assert_eq!(options.choose_runs(&mixed, 2_000), None, "another size");
    }

    #[test]
    fn what_is_due_is_what_would_be_merged() {
        let options = CompactionOptions::default();
        let runs = |count: u8| (1..=count).map(|n| (object(n, 500), 1_000)).collect::<Vec<_>>();
        assert_eq!(options.debt_of_runs(&runs(7), 2_000), Debt::default());
        assert_eq!(options.debt_of_runs(&runs(9), 2_000), Debt { objects: 9, bytes: 9 * 15_000 });
        assert_eq!(options.debt_of_runs(&runs(2), 21_601_000), Debt { objects: 2, bytes: 2 * 15_000 }, "old");
        let segments = |count: u8, rows| (1..=count).map(|n| object(n, rows)).collect::<Vec<_>>();
        assert_eq!(options.debt_of_segments(&segments(20, 600_000)), Debt::default(), "half full");
        assert_eq!(options.debt_of_segments(&segments(8, 10_000)).objects, 8);
        assert_eq!(options.debt_of_segments(&segments(3, 400_000)).objects, 3, "two are full");
        let mut unlike = segments(3, 2);
        unlike.extend((4..=9).map(|n| object(n, 500)));
        assert_eq!(options.debt_of_segments(&unlike), Debt::default(), "neither is merged");
    }

    #[test]
    fn rows_leave_the_runs_after_six_hours_however_few_they_are() {
        let options = CompactionOptions::default();
        let runs = [(object(1, 5), 1_000), (object(2, 5), 500)];
        assert_eq!(options.choose_runs(&runs, 21_600_499), None);
        let merge = options.choose_runs(&runs, 21_600_500);
        assert!(matches!(merge, Some(Merge::Runs { to_segments: true, .. })));
        assert_eq!(ids(merge), [2]);
        assert_eq!(ids(options.choose_runs(&runs, 21_601_000)), [2, 1]);
    }

    #[test]
    fn what_is_settled_is_not_merged_by_size_but_leaves_the_runs_like_any_other() {
        let options = CompactionOptions::default();
        let settled = |n, rows| Candidate { is_settled: true, ..object(n, rows) };
        let runs: Vec<_> = (1..=8).map(|n| (settled(n, 500), 1_000)).collect();
        assert_eq!(options.choose_runs(&runs, 2_000), None);
        assert_eq!(options.debt_of_runs(&runs, 2_000), Debt::default());
        assert_eq!(ids(options.choose_runs(&runs, 21_601_000)).len(), 8);
        assert_eq!(options.debt_of_runs(&runs, 21_601_000).objects, 8);
        let segments: Vec<_> = (1..=8).map(|n| settled(n, 10_000)).collect();
        assert_eq!(options.choose_segments(ProjectId(1), &segments), None);
        assert_eq!(options.debt_of_segments(&segments), Debt::default());
    }

    #[test]
    fn segments_grow_towards_their_size_and_then_stay() {
        let options = CompactionOptions::default();
        let choose = |segments: &[Candidate]| ids(options.choose_segments(ProjectId(1), segments));
        let of = |count: u8, rows| (1..=count).map(|n| object(n, rows)).collect::<Vec<_>>();
        assert_eq!(choose(&of(7, 10_000)), [] as [u8; 0]);
        assert_eq!(choose(&of(8, 10_000)).len(), 8);
        assert_eq!(choose(&of(3, 400_000)), [1, 2], "as many as make a full segment");
        assert_eq!(choose(&of(20, 600_000)), [] as [u8; 0], "half full");
        // The small ones first, although the large ones are earlier.
        let mut mixed = of(8, 100_000);
        mixed.extend((9..=17).map(|n| object(n, 10)));
        assert_eq!(choose(&mixed), (9..=17).collect::<Vec<_>>());
    }
}
