//! Which steps of a funnel the rows of one moment can serve together.
//!
//! A bipartite matching. It slides: the rows serve an interval of steps whose ends only grow, with augmenting
//! paths (Kuhn's algorithm) at its end. Steps with as many rows of the moment as the funnel has steps always
//! find one, so that only scarce steps need a place in the matching, and a moment costs its rows times the
//! steps they match, at most.

use super::select::Wanted;

/// Bit k: the row matches step k, counted from 0.
pub(super) type StepMask = Wanted;

pub(super) struct MomentMatching {
    steps: usize,
    /// Per step, the rows that match it; not listed beyond as many as there are steps.
    rows_of: Vec<Vec<u32>>,
    /// Per row, the step it serves.
    serves: Vec<Option<usize>>,
    /// Per row, the search that saw it last.
    seen: Vec<u32>,
    search: u32,
    /// The steps that are matched: from here …
    matched_from: usize,
    /// … up to here, exclusive.
    matched_to: usize,
}

impl MomentMatching {
    pub fn new(steps: usize) -> Self {
        let rows_of = vec![Vec::with_capacity(steps); steps];
        Self {
            steps,
            rows_of,
            serves: Vec::new(),
            seen: Vec::new(),
            search: 0,
            matched_from: 0,
            matched_to: 0,
        }
    }

    pub fn load(&mut self, masks: impl ExactSizeIterator<Item = StepMask>) {
        let rows = masks.len();
        self.rows_of.iter_mut().for_each(Vec::clear);
        for (row, mask) in masks.enumerate() {
            let mut left = mask;
            while left != 0 {
                let step = left.trailing_zeros() as usize;
                left &= left - 1;
                if self.rows_of[step].len() < self.steps {
                    self.rows_of[step].push(row as u32);
                }
            }
        }
        self.serves.clear();
        self.serves.resize(rows, None);
        self.seen.clear();
        self.seen.resize(rows, 0);
        self.search = 0;
        self.matched_from = 0;
        self.matched_to = 0;
    }

    /// How far the moment carries a chain that has `done` steps: the steps from `done` up to there,
    /// exclusive, can be served by different rows. To be asked in ascending order.
    pub fn reach_from(&mut self, done: usize) -> usize {
        for step in self.matched_from..done.min(self.matched_to) {
            if let Some(row) = self.row_serving(step) {
                self.serves[row] = None;
            }
        }
        self.matched_from = done;
        self.matched_to = self.matched_to.max(done);
        // No more steps than rows: without this, every full moment would search in vain.
        let most = self.steps.min(done + self.serves.len());
        while self.matched_to < most && self.match_step(self.matched_to) {
            self.matched_to += 1;
        }
        self.matched_to
    }

    fn match_step(&mut self, step: usize) -> bool {
        if self.is_plentiful(step) {
            return true;
        }
        self.search += 1;
        self.find_row(step)
    }

    /// An augmenting path: a free row, or one whose step can move to another.
    fn find_row(&mut self, step: usize) -> bool {
        for index in 0..self.rows_of[step].len() {
            let row = self.rows_of[step][index] as usize;
            if self.seen[row] == self.search {
                continue;
            }
            self.seen[row] = self.search;
            if self.serves[row].is_none_or(|served| self.find_row(served)) {
                self.serves[row] = Some(step);
                return true;
            }
        }
        false
    }

    /// So many rows that one is left whatever the other steps take.
    fn is_plentiful(&self, step: usize) -> bool {
        self.rows_of[step].len() >= self.steps
    }

    fn row_serving(&self, step: usize) -> Option<usize> {
        let row = self.rows_of[step].iter().find(|row| self.serves[**row as usize] == Some(step));
        row.map(|&row| row as usize)
    }
}
