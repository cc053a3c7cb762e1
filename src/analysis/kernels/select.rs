//! Which rows of a block count, found out a chunk of rows at a time, so that everything about them stays in
//! the processor's cache until it is used.
//!
//! What is asked of a text is found out once per dictionary entry, not per row. The events come first:
//! filters then look only at rows of events that are asked for.

use std::ops::Range;

use crate::analysis::question::{EventSelector, Filter};
use crate::eventstore::{
    ByText, Counted, Numbers, Picker, PropertyColumn, QuartersWithin, RowBlock, TextPicker, ValueRef, retain,
};

/// So many rows that what is worked out about a chunk fits into the nearest cache, and what is done once a
/// chunk does not matter. Few in tests, whose blocks are small.
const CHUNK_ROWS: usize = if cfg!(test) { 8 } else { 4_096 };

/// One bit for each of several selectors.
pub type Wanted = u32;

/// What a series or a step wants: rows of these events that pass its own filters.
#[derive(Clone, Copy)]
pub struct Selector<'a> {
    pub events: &'a EventSelector,
    pub filters: &'a [Filter],
}

/// What is asked of the rows of one block.
pub struct Selection<'a> {
    block: &'a RowBlock,
    /// Tells the rows that count, where only their time does.
    within: Option<QuartersWithin<'a>>,
    /// `None`: every selector wants every event.
    by_event: Option<ByText<'a, Wanted>>,
    /// By events, or where all are wanted by the first filter; and by filters that take no longer.
    picker: Option<TextPicker<'a>>,
    /// So many filters, the first ones.
    filters_picked: usize,
    /// The bits of all selectors.
    every: Wanted,
    /// What every row has to pass.
    filters: Vec<Passes<'a>>,
    /// What single selectors ask for beside, with their bits.
    own: Vec<(Wanted, Vec<Passes<'a>>)>,
}

/// The rows of a chunk that at least one selector wants, ascending.
#[derive(Default)]
pub struct Picked {
    pub rows: Vec<u32>,
    /// For each of `rows` the selectors that want it. Empty when all of them want all.
    pub wanted: Vec<Wanted>,
    /// The rows, where all of the chunk are wanted by somebody.
    pub whole: Option<Range<usize>>,
    /// Of `rows`, those that one selector looks at.
    places: Vec<u32>,
}

impl Picked {
    /// How many selectors want the row at this place, where all of them are `every`.
    pub fn times(&self, place: usize, every: u64) -> u64 {
        self.wanted.get(place).map_or(every, |bits| bits.count_ones().into())
    }

    /// Visits the places of the rows that a selector wants.
    pub fn for_each_of(&self, selector: usize, mut visit: impl FnMut(usize)) {
        if self.wanted.is_empty() {
            (0..self.rows.len()).for_each(visit);
        } else {
            let wanted = self.wanted.iter().enumerate();
            wanted.filter(|(_, bits)| **bits >> selector & 1 == 1).for_each(|(place, _)| visit(place));
        }
    }
}

impl<'a> Selection<'a> {
    /// Precondition: `1 <= selectors <= 32`, and the block has the columns.
    pub fn new(
        block: &'a RowBlock,
        columns: &Columns,
        filters: &'a [Filter],
        selectors: &[Selector<'a>],
    ) -> Self {
        debug_assert!((1..=Wanted::BITS as usize).contains(&selectors.len()));
        let bits_of = |name: &str| {
            let wanted = selectors.iter().enumerate().filter(|(_, selector)| selector.events.matches(name));
            wanted.fold(0, |bits, (number, _)| bits | 1 << number)
        };
        let every = Wanted::MAX >> (Wanted::BITS - selectors.len() as u32);
        let bits: Vec<Wanted> = block.event.values().iter().map(|name| bits_of(name)).collect();
        let is_any = bits.iter().all(|bits| *bits == every);
        // In a projection somebody wants the event of each row.
        let picks_by_event = bits.contains(&0);
        let passes = |filters: &'a [Filter]| passes_of(block, filters, columns);
        let within = match &block.counted {
            Counted::Within { range, .. } => block.quarters.within(range),
            Counted::All | Counted::Rows(_) => None,
        };
        let mut selection = Self {
            block,
            within,
            by_event: (!is_any).then(|| block.event.by_text(|event| event.map_or(0, |(code, _)| bits[code]))),
            picker: None,
            filters_picked: 0,
            every,
            filters: passes(filters),
            own: Vec::new(),
        };
        match selectors {
            [only] => selection.filters.extend(passes(only.filters)),
            several => {
                let own = several.iter().enumerate().filter(|(_, selector)| !selector.filters.is_empty());
                selection.own =
                    own.map(|(number, selector)| (1 << number, passes(selector.filters))).collect();
            }
        }
        let by_texts = selection.filters.first().and_then(|first| first.of_strings.as_ref());
        let by_texts = by_texts.map(|of_texts| of_texts.picker(|passes| passes));
        let by_event = selection.by_event.as_ref().filter(|_| picks_by_event);
        let mut picked = usize::from(by_event.is_none() && by_texts.is_some());
        selection.picker = by_event.map(|by_event| by_event.picker(|bits| bits != 0)).or(by_texts);
        if let Some(picker) = &mut selection.picker {
            let others = picked..selection.filters.len();
            for place in others {
                if selection.filters[place].of_strings.as_ref().is_some_and(|texts| picker.try_narrow(texts))
                {
                    selection.filters.swap(picked, place);
                    picked += 1;
                }
            }
        }
        selection.filters_picked = picked;
        selection
    }

    /// The bits of all selectors.
    pub fn every(&self) -> Wanted {
        self.every
    }

    /// Picks those of the first rows of a range, and says where the next ones begin.
    pub fn pick_chunk(&self, rows: Range<usize>, picked: &mut Picked) -> usize {
        let chunk = rows.start..(rows.start + CHUNK_ROWS).min(rows.end);
        self.pick(chunk.clone(), picked);
        chunk.end
    }

    fn pick(&self, chunk: Range<usize>, picked: &mut Picked) {
        let Picked { rows, wanted, places, whole } = picked;
        let all_count = matches!(self.block.counted, Counted::All);
        let is_whole = all_count && self.picker.is_none() && self.filters.is_empty();
        *whole = (is_whole && self.own.is_empty()).then(|| chunk.clone());
        rows.clear();
        wanted.clear();
        let mut filters = &self.filters[..];
        match (&self.block.counted, &self.picker) {
            (Counted::All, None) => rows.extend(chunk.start as u32..chunk.end as u32),
            (Counted::All, Some(picker)) => {
                picker.pick(chunk, rows);
                filters = &filters[self.filters_picked..];
            }
            (Counted::Rows(counted), _) => {
                // Of those that count, the ones of this chunk.
                let place = |row: usize| counted.partition_point(|&counted| (counted as usize) < row);
                rows.extend_from_slice(&counted[place(chunk.start)..place(chunk.end)]);
            }
            (Counted::Within { .. }, _) => {
                if let Some(within) = &self.within {
                    within.pick(chunk, rows);
                }
            }
        }
        if let (false, Some(by_event)) = (all_count, &self.by_event) {
            retain(rows, |row| by_event.at(row) != 0);
        }
        for passes in filters {
            passes.retain(rows);
        }
        // One selector wants whatever is left.
        if self.every == 1 || (self.by_event.is_none() && self.own.is_empty()) {
            return;
        }
        match &self.by_event {
            Some(by_event) => match whole {
                Some(rows) => by_event.append_range(rows.clone(), wanted),
                None => by_event.append_to(rows, wanted),
            },
            None => wanted.resize(rows.len(), self.every),
        }
        for (bit, filters) in &self.own {
            let quick: Option<Vec<Quick<'_>>> = filters.iter().map(Passes::quick).collect();
            if let Some(quick) = quick {
                quick.iter().for_each(|quick| quick.clear(*bit, rows, wanted));
                continue;
            }
            // First whom to look at: which rows these are cannot be foretold.
            let mut picker = Picker::new(places, wanted.len());
            wanted.iter().zip(0..).for_each(|(bits, place)| picker.see(place, bits & bit != 0));
            picker.finish();
            for &place in places.iter() {
                let row = rows[place as usize] as usize;
                let passes = filters.iter().all(|passes| passes.row(row));
                wanted[place as usize] &= !(bit * Wanted::from(!passes));
            }
        }
        if !self.own.is_empty() {
            let mut kept = 0;
            {
                let (rows, wanted) = (rows.as_mut_slice(), wanted.as_mut_slice());
                for place in 0..rows.len().min(wanted.len()) {
                    let (row, bits) = (rows[place], wanted[place]);
                    (rows[kept], wanted[kept]) = (row, bits);
                    kept += usize::from(bits != 0);
                }
            }
            rows.truncate(kept);
            wanted.truncate(kept);
        }
    }
}

fn passes_of<'a>(block: &'a RowBlock, filters: &'a [Filter], columns: &Columns) -> Vec<Passes<'a>> {
    filters.iter().map(|filter| Passes::new(columns.of(block, &filter.property), filter)).collect()
}

/// The properties that a question reads, each once, sorted: the order of a block's columns.
#[derive(Clone, Debug, Default)]
pub struct Columns(Vec<String>);

/// The column of a property that no row has.
static NO_COLUMN: PropertyColumn =
    PropertyColumn { strings: None, integers: None, floats: None, booleans: None, json: None };

impl Columns {
    pub fn new<'a>(properties: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<String> = properties.map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Precondition: `property` is one of those that the question reads.
    pub fn of<'a>(&self, block: &'a RowBlock, property: &str) -> &'a PropertyColumn {
        let index = self.0.binary_search_by(|name| name.as_str().cmp(property));
        index.ok().and_then(|index| block.properties.get(index)).map_or(&NO_COLUMN, AsRef::as_ref)
    }
}

/// A filter's verdict by nothing but a look-up.
enum Quick<'a> {
    Texts(&'a ByText<'a, bool>),
    /// Of every row, and what each of the two means.
    Flags {
        flags: &'a [bool],
        passes: [bool; 2],
    },
}

impl Quick<'_> {
    /// Takes a bit away from rows that do not pass.
    fn clear(&self, bit: Wanted, rows: &[u32], wanted: &mut [Wanted]) {
        let keep = |passes: bool| !(bit * Wanted::from(!passes));
        let rows = rows.iter().zip(wanted);
        match self {
            Self::Texts(texts) => rows.for_each(|(&row, wanted)| *wanted &= keep(texts.at(row as usize))),
            Self::Flags { flags, passes } => {
                let kept = passes.map(keep);
                rows.for_each(|(&row, wanted)| *wanted &= kept[usize::from(flags[row as usize])]);
            }
        }
    }
}

/// A filter's verdict on the rows of a column.
struct Passes<'a> {
    column: &'a PropertyColumn,
    filter: &'a Filter,
    /// `None`: the row has no text here.
    strings: Option<ByText<'a, Option<bool>>>,
    json: Option<ByText<'a, Option<bool>>>,
    booleans: [bool; 2],
    when_absent: bool,
    is_text_only: bool,
    /// Where there are only strings, they say all.
    of_strings: Option<ByText<'a, bool>>,
    /// Where every row has a flag.
    flags: Option<&'a [bool]>,
}

impl<'a> Passes<'a> {
    fn new(column: &'a PropertyColumn, filter: &'a Filter) -> Self {
        let matches = |value: Option<ValueRef<'_>>| filter.matches(value);
        let strings = column
            .strings
            .as_ref()
            .map(|texts| texts.by_text(|text| text.map(|(_, text)| matches(Some(ValueRef::String(text))))));
        let json = column
            .json
            .as_ref()
            .map(|texts| texts.by_text(|text| text.map(|(_, text)| matches(Some(ValueRef::Json(text))))));
        let when_absent = matches(None);
        let is_text_only = column.integers.is_none() && column.floats.is_none() && column.booleans.is_none();
        let only_strings = column.strings.as_ref().filter(|_| is_text_only && column.json.is_none());
        let of_strings = only_strings.map(|texts| {
            texts.by_text(|text| text.map_or(when_absent, |(_, text)| matches(Some(ValueRef::String(text)))))
        });
        Self {
            column,
            filter,
            of_strings,
            flags: column.booleans.as_ref().and_then(Numbers::of_every_row),
            is_text_only,
            strings,
            json,
            booleans: [false, true].map(|flag| matches(Some(ValueRef::Bool(flag)))),
            when_absent,
        }
    }

    /// Where it takes no longer to ask for a row than to find out whether to ask.
    fn quick(&self) -> Option<Quick<'_>> {
        let by_flags = self.flags.map(|flags| Quick::Flags { flags, passes: self.booleans });
        by_flags.or_else(|| self.of_strings.as_ref().map(Quick::Texts))
    }

    /// Leaves the rows that pass.
    fn retain(&self, rows: &mut Vec<u32>) {
        match &self.of_strings {
            Some(of_strings) => of_strings.retain(rows),
            None => retain(rows, |row| self.row(row)),
        }
    }

    fn row(&self, row: usize) -> bool {
        if let Some(known) = self.strings.as_ref().and_then(|strings| strings.at(row)) {
            return known;
        }
        if !self.is_text_only
            && let Some(known) = self.number(row)
        {
            return known;
        }
        self.json.as_ref().and_then(|json| json.at(row)).unwrap_or(self.when_absent)
    }

    fn number(&self, row: usize) -> Option<bool> {
        let column = self.column;
        if let Some(integer) = column.integers.as_ref().and_then(|integers| integers.get(row)) {
            return Some(self.filter.matches(Some(ValueRef::Integer(integer))));
        }
        if let Some(float) = column.floats.as_ref().and_then(|floats| floats.get(row)) {
            return Some(self.filter.matches(Some(ValueRef::Float(float))));
        }
        let flag = column.booleans.as_ref().and_then(|booleans| booleans.get(row));
        flag.map(|flag| self.booleans[usize::from(flag)])
    }
}
