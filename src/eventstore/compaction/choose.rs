//! What to merge next: pure, from the catalogue alone.

use crate::model::{DAY_MS, Millis, ObjectId, ProjectId};
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
    pub max_at: Millis,
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

/// A segment with many rows covers about a month or has a quarter of the rows that segments grow towards:
/// a question about a day reads whole whatever holds the day, and shall not pay for years of others.
const LONG_MS: Millis = 31 * DAY_MS;
const LONG_ROWS_DIVISOR: u64 = 4;

/// Rows grow eightfold from one level to the next; up to 1,023 rows are level 0.
pub(super) fn level(rows: u64) -> u32 {
    (rows / 1_024).max(1).ilog2() / 3 + u32::from(rows >= 1_024)
}

/// How much one merge may take.
#[derive(Clone, Copy)]
struct Bounds {
    rows_max: u64,
    bytes_max: u64,
    /// With more rows than this, a result covers [`LONG_MS`] at most, unless most of them are from inputs that
    /// cover more: those of an import in no order lie over one another.
    long_rows: u64,
}

/// Objects that may be merged at once.
struct Group {
    inputs: Vec<Candidate>,
    /// Whether a further one would be too much, and not only too many.
    is_full: bool,
}

impl CompactionOptions {
    /// Old runs first, since a backlog of them slows every question; then many runs of one size; then, when
    /// none has come for a while, even a few of them. `runs` come with the time when their first row arrived.
    pub(super) fn choose_runs(
        &self,
        runs: &[(Candidate, Millis)],
        now: Millis,
        is_quiet: bool,
    ) -> Option<Merge> {
        let mut old: Vec<_> = runs.iter().filter(|(_, since)| now - since >= self.run_age_max_ms).collect();
        old.sort_by_key(|(run, since)| (*since, run.object_id));
        if !old.is_empty() {
            let inputs = self.take(old.into_iter().map(|(run, _)| *run), self.of_runs()).inputs;
            return Some(Merge::Runs { inputs, to_segments: true });
        }
        let growing = growing_runs(runs.iter().map(|(run, _)| *run), self.segment_rows_max);
        let inputs = self.due(growing, self.of_runs(), is_quiet)?;
        Some(Merge::Runs { inputs, to_segments: false })
    }

    /// `segments` of one project. Those that are due by their sizes; when none has come for a while, also
    /// those that few of others keep waiting.
    pub(super) fn choose_segments(
        &self,
        project_id: ProjectId,
        segments: &[Candidate],
        is_quiet: bool,
    ) -> Option<Merge> {
        let inputs = self.due(self.small(segments), self.of_segments(), is_quiet)?;
        Some(Merge::Segments { project_id, inputs })
    }

    fn of_segments(&self) -> Bounds {
        let long_rows = self.segment_rows_max / LONG_ROWS_DIVISOR;
        Bounds { rows_max: self.segment_rows_max, bytes_max: self.input_bytes_max, long_rows }
    }

    fn of_runs(&self) -> Bounds {
        Bounds { rows_max: u64::MAX, bytes_max: self.input_bytes_max, long_rows: u64::MAX }
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
        let (old, young): (Vec<_>, Vec<_>) = runs.iter().copied().partition(|(_, since)| is_old(*since));
        let old: Vec<_> = old.into_iter().map(|(run, _)| run).collect();
        let mut debt = Debt::of(&old);
        let young = growing_runs(young.into_iter().map(|(run, _)| run), self.segment_rows_max);
        debt.add(self.debt_of_levels(young, self.of_runs()));
        debt
    }

    /// `segments` of one project.
    pub(super) fn debt_of_segments(&self, segments: &[Candidate]) -> Debt {
        self.debt_of_levels(self.small(segments), self.of_segments())
    }

    fn debt_of_levels(&self, objects: Vec<Candidate>, bounds: Bounds) -> Debt {
        let mut debt = Debt::default();
        for inputs in self.due_of_levels(objects, bounds) {
            debt.add(Debt::of(&inputs));
        }
        debt
    }

    fn due(&self, objects: Vec<Candidate>, bounds: Bounds, is_quiet: bool) -> Option<Vec<Candidate>> {
        let by_level = self.due_of_levels(objects.clone(), bounds).into_iter().next();
        by_level.or_else(|| if is_quiet { self.due_when_quiet(objects, bounds) } else { None })
    }

    /// The smallest level first. Of the lowest one, objects of about the same size, or all that may be when
    /// they have become many: whoever writes a thousand rows again for ten new ones writes for nothing. Of
    /// others, the first in time.
    fn due_of_levels(&self, mut objects: Vec<Candidate>, bounds: Bounds) -> Vec<Vec<Candidate>> {
        objects.sort_by_key(|object| (level(object.rows), object.min_at, object.object_id));
        let of_levels = objects.chunk_by(|a, b| level(a.rows) == level(b.rows));
        of_levels.flat_map(|of_level| self.due_of_level(of_level, bounds)).collect()
    }

    /// What of one level is merged, if it is enough.
    fn due_of_level(&self, of_level: &[Candidate], bounds: Bounds) -> Vec<Vec<Candidate>> {
        if self.is_uneven(of_level) {
            let alike = alike(of_level, self.fan_in_min).into_iter();
            return alike.map(|alike| self.take(alike.into_iter(), bounds).inputs).collect();
        }
        let is_due = |group: &Group| {
            group.inputs.len() >= self.fan_in_min || (group.is_full && group.inputs.len() >= 2)
        };
        self.groups(of_level, bounds).filter(is_due).map(|group| group.inputs).collect()
    }

    /// Whether objects of the lowest level are still few enough to leave those alone that are unlike.
    fn is_uneven(&self, of_level: &[Candidate]) -> bool {
        of_level.first().is_some_and(|first| level(first.rows) == 0)
            && of_level.len() < self.fan_in_min * 3 / 2
    }

    /// Neighbours in time whatever their sizes, but none that is much larger than the others together: a row
    /// is written again when what it is in grows by half, however often a project becomes quiet.
    fn due_when_quiet(&self, mut objects: Vec<Candidate>, bounds: Bounds) -> Option<Vec<Candidate>> {
        // Two objects of big rows would become two again, and have been read for nothing.
        let bounds = Bounds { bytes_max: bounds.bytes_max / 2, ..bounds };
        objects.sort_by_key(|object| (object.min_at, object.object_id));
        let groups: Vec<Group> = self.groups(&objects, bounds).collect();
        groups.into_iter().find_map(|group| without_much_larger(group.inputs))
    }

    /// All objects, in their order.
    fn groups<'o>(
        &self,
        objects: &'o [Candidate],
        bounds: Bounds,
    ) -> impl Iterator<Item = Group> + use<'_, 'o> {
        let mut rest = objects;
        std::iter::from_fn(move || {
            let group = self.take(rest.iter().copied(), bounds);
            rest = &rest[group.inputs.len()..];
            (!group.inputs.is_empty()).then_some(group)
        })
    }

    /// As many as may be merged at once, at least one.
    fn take(&self, objects: impl Iterator<Item = Candidate>, bounds: Bounds) -> Group {
        let mut group = Group { inputs: Vec::new(), is_full: false };
        let (mut rows, mut bytes) = (0, 0);
        let (mut min_at, mut max_at) = (Millis::MAX, Millis::MIN);
        let (mut longest, mut rows_of_long) = (0, 0);
        for object in objects {
            rows += object.rows;
            bytes += object.bytes;
            (min_at, max_at) = (min_at.min(object.min_at), max_at.max(object.max_at));
            let length = object.max_at.saturating_sub(object.min_at);
            longest = longest.max(length);
            rows_of_long += if length > LONG_MS { object.rows } else { 0 };
            // Those that lie over one another are a little longer together.
            let length_max = if 2 * rows_of_long > rows { longest + longest / 16 } else { LONG_MS };
            let is_long = rows > bounds.long_rows && max_at.saturating_sub(min_at) > length_max;
            let is_too_much = rows > bounds.rows_max || bytes > bounds.bytes_max || is_long;
            if !group.inputs.is_empty() && is_too_much {
                group.is_full = true;
                break;
            }
            if group.inputs.len() == self.fan_in_max {
                break;
            }
            group.inputs.push(object);
        }
        group
    }
}

fn growing_runs(runs: impl Iterator<Item = Candidate>, rows_max: u64) -> Vec<Candidate> {
    runs.filter(|run| run.rows < rows_max && !run.is_settled).collect()
}

/// As many as there are, from the smallest on, of which the largest has at most twice the rows of all others.
fn without_much_larger(mut objects: Vec<Candidate>) -> Option<Vec<Candidate>> {
    objects.sort_by_key(|object| (object.rows, object.min_at, object.object_id));
    while let [others @ .., largest] = &*objects {
        let sum: u64 = others.iter().map(|object| object.rows).sum();
        if !others.is_empty() && largest.rows <= 2 * sum {
            return Some(objects);
        }
        objects.pop();
    }
    None
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
        Candidate {
            object_id,
            rows,
            bytes,
            min_at: n.into(),
            max_at: n.into(),
            mask_version: 0,
            is_settled: false,
        }
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
        assert_eq!(options.choose_runs(&runs(7), 2_000, false), None);
        assert_eq!(ids(options.choose_runs(&runs(8), 2_000, false)), (1..=8).collect::<Vec<_>>());
        let tiny = |count: u8| (1..=count).map(|n| (object(n, 2), 1_000)).collect::<Vec<_>>();
        assert_eq!(options.choose_runs(&tiny(7), 2_000, false), None);
        assert_eq!(ids(options.choose_runs(&tiny(8), 2_000, false)), (1..=8).collect::<Vec<_>>());
        let mut uneven = tiny(8);
        uneven.push((object(9, 900), 1_000));
        assert_eq!(
            ids(options.choose_runs(&uneven, 2_000, false)),
            (1..=8).collect::<Vec<_>>(),
            "without the large one"
        );
        let mut uneven = tiny(3);
        uneven.extend((4..=11).map(|n| (object(n, 100), 1_000)));
        let chosen = ids(options.choose_runs(&uneven, 2_000, false));
        assert_eq!(chosen, (4..=11).collect::<Vec<_>>(), "those alike");
        uneven.push((object(12, 900), 1_000));
        assert_eq!(ids(options.choose_runs(&uneven, 2_000, false)).len(), 12, "there are too many to wait");
        assert_eq!(ids(options.choose_runs(&runs(40), 2_000, false)).len(), 16);
        let mut mixed = runs(7);
        mixed.push((object(8, 5_000), 1_000));
        assert_eq!(options.choose_runs(&mixed, 2_000, false), None, "another size");
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
        assert_eq!(options.debt_of_segments(&segments(3, 400_000)).objects, 2, "which are full");
        let mut unlike = segments(3, 2);
        unlike.extend((4..=9).map(|n| object(n, 500)));
        assert_eq!(options.debt_of_segments(&unlike), Debt::default(), "neither is merged");
    }

    #[test]
    fn rows_leave_the_runs_after_six_hours_however_few_they_are() {
        let options = CompactionOptions::default();
        let runs = [(object(1, 5), 1_000), (object(2, 5), 500)];
        assert_eq!(options.choose_runs(&runs, 21_600_499, false), None);
        let merge = options.choose_runs(&runs, 21_600_500, false);
        assert!(matches!(merge, Some(Merge::Runs { to_segments: true, .. })));
        assert_eq!(ids(merge), [2]);
        assert_eq!(ids(options.choose_runs(&runs, 21_601_000, false)), [2, 1]);
    }

    #[test]
    fn what_is_settled_is_not_merged_by_size_but_leaves_the_runs_like_any_other() {
        let options = CompactionOptions::default();
        let settled = |n, rows| Candidate { is_settled: true, ..object(n, rows) };
        let runs: Vec<_> = (1..=8).map(|n| (settled(n, 500), 1_000)).collect();
        assert_eq!(options.choose_runs(&runs, 2_000, false), None);
        assert_eq!(options.debt_of_runs(&runs, 2_000), Debt::default());
        assert_eq!(ids(options.choose_runs(&runs, 21_601_000, false)).len(), 8);
        assert_eq!(options.debt_of_runs(&runs, 21_601_000).objects, 8);
        let segments: Vec<_> = (1..=8).map(|n| settled(n, 10_000)).collect();
        assert_eq!(options.choose_segments(ProjectId(1), &segments, false), None);
        assert_eq!(options.debt_of_segments(&segments), Debt::default());
    }

    #[test]
    fn segments_grow_towards_their_size_and_then_stay() {
        let options = CompactionOptions::default();
        let choose = |segments: &[Candidate]| ids(options.choose_segments(ProjectId(1), segments, false));
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

    /// From day to day.
    fn spanning(n: u8, rows: u64, days: std::ops::Range<Millis>) -> Candidate {
        Candidate { min_at: days.start * DAY_MS, max_at: days.end * DAY_MS, ..object(n, rows) }
    }

    #[test]
    fn many_rows_cover_a_month_at_most() {
        let options = CompactionOptions::default();
        let choose = |segments: &[Candidate]| ids(options.choose_segments(ProjectId(1), segments, false));
        let of = |count: u8, rows, days: Millis| {
            let each = |n: u8| spanning(n, rows, Millis::from(n) * days..(Millis::from(n) + 1) * days);
            (1..=count).map(each).collect::<Vec<_>>()
        };
        assert_eq!(choose(&of(10, 70_000, 3)).len(), 10);
        assert_eq!(choose(&of(10, 70_000, 8)), [1, 2, 3], "a fourth would be 280,000 in 32 days");
        assert_eq!(choose(&of(10, 30_000, 100)).len(), 8, "a ninth would be 270,000");
        assert_eq!(choose(&of(2, 250_001, 32)), [] as [u8; 0]);
        let over_one_another: Vec<_> = (1..=8).map(|n| spanning(n, 70_000, n.into()..80)).collect();
        assert_eq!(choose(&over_one_another).len(), 8);
        // The first two stay; those after them are not kept waiting.
        let mut behind = vec![spanning(1, 260_000, 0..50), spanning(2, 260_000, 50..100)];
        behind.extend((3..=10).map(|n| spanning(n, 70_000, 100..110)));
        assert_eq!(choose(&behind), [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(options.debt_of_segments(&behind).objects, 8);
        // Few rows of long ago do not make all others long.
        let mut late = of(10, 70_000, 8);
        late.insert(0, spanning(11, 65_536, 0..90));
        assert_eq!(choose(&late), [11, 1, 2], "a third would be 275,536");
    }

    #[test]
    fn what_is_quiet_becomes_few() {
        let options = CompactionOptions::default();
        let choose = |segments: &[Candidate]| ids(options.choose_segments(ProjectId(1), segments, true));
        assert_eq!(choose(&[object(1, 10_000), object(2, 20_000)]), [1, 2]);
        assert_eq!(choose(&[object(1, 10_000), object(2, 20_001)]), [] as [u8; 0], "for too little");
        assert_eq!(choose(&[object(1, 90_000), object(2, 900), object(3, 700)]), [3, 2]);
        assert_eq!(choose(&[object(1, 90_000)]), [] as [u8; 0]);
        let months = [spanning(1, 200_000, 0..30), spanning(2, 200_000, 30..60), spanning(3, 20_000, 60..70)];
        assert_eq!(choose(&months), [] as [u8; 0]);
        let with_late = [months.as_slice(), &[spanning(4, 10, 0..70)]].concat();
        assert_eq!(choose(&with_late), [] as [u8; 0], "nor for ten rows of all of them");
        let big = |n| Candidate { bytes: 17 << 20, ..object(n, 1_000) };
        assert_eq!(choose(&[big(1), big(2)]), [] as [u8; 0], "they may become two again");
        let runs = [(object(1, 5), 1_000), (object(2, 6), 500)];
        assert_eq!(options.choose_runs(&runs, 2_000, false), None);
        assert_eq!(ids(options.choose_runs(&runs, 2_000, true)), [1, 2]);
        assert_eq!(options.debt_of_runs(&runs, 2_000), Debt::default(), "that can wait");
    }

    #[test]
    fn a_row_is_written_a_few_times_however_often_it_is_quiet() {
        let options = CompactionOptions::default();
        let (mut segments, mut written, mut came) = (Vec::new(), 0, 0);
        for n in 0..400_u64 {
            came += 1_000;
            let (object_id, at) = (ObjectId(u128::from(n).to_be_bytes()), n as Millis);
            segments.push(Candidate { object_id, min_at: at, max_at: at, ..object(0, 1_000) });
            while let Some(merge) = options.choose_segments(ProjectId(1), &segments, true) {
                let rows = merge.inputs().iter().map(|input| input.rows).sum();
                written += rows;
                let min_at = merge.inputs().iter().map(|input| input.min_at).min().unwrap_or_default();
                segments.retain(|segment| !merge.inputs().contains(segment));
                let object_id = ObjectId(u128::from(came + written).to_be_bytes());
                segments.push(Candidate { object_id, min_at, max_at: at, ..object(0, rows) });
            }
        }
        assert_eq!(segments.iter().map(|segment| segment.rows).sum::<u64>(), came);
        assert!(segments.len() <= 9, "{}", segments.len());
        assert!(written <= 9 * came, "{written} of {came}");
    }
}
