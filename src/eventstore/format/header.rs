//! Part 0: everything a reader has to know before it reads anything else.
//!
//! `WEIR`, a version byte, the length (u32) of what follows in zstd, and the short rollups ([`super::rollup`]).
//! In zstd: the length of a JSON description (u32), the description, the first person of each page (u32 each),
//! how many rows of each page are in each place of times by event (u32 each, [`super::times`]) and the end of the
//! Parquet file from behind its last column chunk (offset index and footer).
//!
//! Up to version 4 there is no length before zstd, which goes to the end, and one rollup between the persons
//! and the end of the file.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::FormatError;
use super::columns::{Layout, PropertyKind};
use super::inflate::inflate;
use super::parts::PartTable;
use super::rollup::Rollup;
use super::times::{EventTimes, TIME_BYTES};
use crate::model::{Millis, PersonNo, ProjectId};

const MAGIC: &[u8; 4] = b"WEIR";
/// 2 may leave names out of `rest`, 3 may have a rollup, 4 has short ids and a filter of any bits, 5 has its
/// rollups by themselves, 6 may have its times by event, 7 has long rollups behind these.
pub(super) const FORMAT_VERSION: u8 = 7;
const TIMES_BY_EVENT_VERSION: u8 = 6;
const OWN_ROLLUPS_VERSION: u8 = 5;
const SHORT_IDS_VERSION: u8 = 4;
const WHOLE_IDS_VERSION: u8 = 3;
/// Of runs, which builds before version 3 read too.
const RUN_VERSION: u8 = 2;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    Run,
    Segment,
}

pub(super) struct Header {
    pub layout: Layout,
    /// A segment's; a run's rows each have their own.
    pub project_id: Option<ProjectId>,
    pub rows: u64,
    /// All pages but the last have exactly this many rows.
    pub page_rows: u64,
    /// Properties that have values in the JSON column. In a run that is all of them, and the catalogue
    /// lists them by project.
    pub rest: Rest,
    /// Empty in a run, whose directory says where a project's rows lie.
    pub page_first_persons: Vec<PersonNo>,
    pub table: PartTable,
    /// A segment's rows by event and time, from the shortest steps to the longest; empty where there is no
    /// such count.
    pub rollups: Vec<Rollup>,
    /// Where they are no column.
    pub times: Option<EventTimes>,
    /// The Parquet file behind the last data part.
    pub tail: Bytes,
}

/// Which properties the JSON column of a segment has values of.
#[derive(Clone, Default)]
pub(super) struct Rest {
    /// Sorted.
    pub names: Vec<String>,
    /// Any name that has no column of its own may be there too.
    pub has_more: bool,
}

#[derive(Serialize, Deserialize)]
struct Description {
    kind: ObjectKind,
    project_id: Option<ProjectId>,
    rows: u64,
    page_rows: u64,
    properties: Vec<(String, PropertyKind)>,
    received_as_delay: bool,
    #[serde(default)]
    short_ids: bool,
    rest: Vec<String>,
    #[serde(default)]
    rest_has_more: bool,
    pages: usize,
    /// Up to version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollup_bytes: Option<usize>,
    /// Of each the quarters of a step and how many bytes it has in zstd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rollups: Vec<(u64, usize)>,
    /// How many of them, the first ones, lie behind the times.
    #[serde(default, skip_serializing_if = "is_zero")]
    rollups_behind: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times_by_event: Option<DescribedTimes>,
    filter_parts: u32,
    /// Where each data part ends in the Parquet file; the first begins at 0.
    part_ends: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct DescribedTimes {
    base: Millis,
    events: Vec<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Header {
    /// Whether any row may have a property without a column of its own.
    pub fn has_rest(&self) -> bool {
        self.layout.kind == ObjectKind::Run || self.rest.has_more || !self.rest.names.is_empty()
    }

    /// Whether the JSON column may have values of this property.
    pub fn is_in_rest(&self, name: &str) -> bool {
        match self.layout.kind {
            ObjectKind::Run => true,
            ObjectKind::Segment => {
                let is_listed = self.rest.names.binary_search_by(|rest| rest.as_str().cmp(name)).is_ok();
                is_listed || (self.rest.has_more && self.layout.columns_of(name).next().is_none())
            }
        }
    }

    pub fn to_bytes(&self) -> Result<Bytes, FormatError> {
        let version = self.version();
        // The shortest.
        let has_own_rollups = version >= OWN_ROLLUPS_VERSION;
        let older = self.rollups.first().filter(|_| !has_own_rollups);
        let older = older.map(Rollup::to_older).transpose()?;
        let own_rollups: &[Rollup] = if has_own_rollups { &self.rollups } else { &[] };
        let packed_rollups: Vec<Option<Bytes>> = own_rollups.iter().map(Rollup::packed).collect();
        let of_rollup = |(rollup, packed): (&Rollup, &Option<Bytes>)| {
            (rollup.quarters(), packed.as_ref().map_or(rollup.bytes(), Bytes::len))
        };
        let description = Description {
            kind: self.layout.kind,
            project_id: self.project_id,
            rows: self.rows,
            page_rows: self.page_rows,
            properties: self.layout.properties.clone(),
            received_as_delay: self.layout.received_as_delay,
            short_ids: self.layout.short_ids,
            rest: self.rest.names.clone(),
            rest_has_more: self.rest.has_more,
            pages: self.page_first_persons.len(),
            rollup_bytes: older.as_ref().map(Vec::len),
            rollups: own_rollups.iter().zip(&packed_rollups).map(of_rollup).collect(),
            rollups_behind: self.rollups_behind(),
            times_by_event: self
                .times
                .as_ref()
                .map(|times| DescribedTimes { base: times.base(), events: times.events().to_vec() }),
            filter_parts: self.table.filter_parts,
            part_ends: self.table.ends.clone(),
        };
        let json = serde_json::to_vec(&description).expect("a description is plain data");
        let mut body = Vec::with_capacity(json.len() + self.tail.len() + 64);
        body.extend_from_slice(&(json.len() as u32).to_le_bytes());
        body.extend_from_slice(&json);
        for person in &self.page_first_persons {
            body.extend_from_slice(&person.to_le_bytes());
        }
        for count in self.times.iter().flat_map(EventTimes::counts) {
            body.extend_from_slice(&count.to_le_bytes());
        }
        body.extend_from_slice(older.as_deref().unwrap_or_default());
        body.extend_from_slice(&self.tail);
        let packed = zstd::bulk::compress(&body, ZSTD_LEVEL).expect("memory is the only thing zstd can lack");
        let mut bytes = Vec::with_capacity(packed.len() + 16);
        bytes.extend_from_slice(MAGIC);
        bytes.push(version);
        if has_own_rollups {
            bytes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&packed);
        packed_rollups.iter().flatten().for_each(|packed| bytes.extend_from_slice(packed));
        Ok(bytes.into())
    }

    fn rollups_behind(&self) -> usize {
        self.rollups.iter().filter(|rollup| rollup.bytes_behind().is_some()).count()
    }

    /// The earliest that has a word for all of it.
    fn version(&self) -> u8 {
        match (self.layout.kind, self.layout.short_ids) {
            (ObjectKind::Run, _) => RUN_VERSION,
            (ObjectKind::Segment, false) => WHOLE_IDS_VERSION,
            (ObjectKind::Segment, true) if self.rollups_behind() > 0 => FORMAT_VERSION,
            (ObjectKind::Segment, true) if self.times.is_some() => TIMES_BY_EVENT_VERSION,
            (ObjectKind::Segment, true) if self.rollups.is_empty() => SHORT_IDS_VERSION,
            (ObjectKind::Segment, true) => OWN_ROLLUPS_VERSION,
        }
    }

    pub fn parse(part: &[u8]) -> Result<Self, FormatError> {
        let cut = || FormatError::corrupt("part 0 ends early");
        let (magic, rest) = part.split_first_chunk::<4>().ok_or_else(cut)?;
        if magic != MAGIC {
            return Err(FormatError::corrupt("part 0 does not begin with WEIR"));
        }
        let (&version, mut packed) = rest.split_first().ok_or_else(cut)?;
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(FormatError::UnknownVersion(version));
        }
        let mut packed_rollups: &[u8] = &[];
        if version >= OWN_ROLLUPS_VERSION {
            let bytes = packed.try_get_u32_le().map_err(|_| cut())? as usize;
            (packed, packed_rollups) = packed.split_at_checked(bytes).ok_or_else(cut)?;
        }
        let body = inflate(packed).map_err(|e| FormatError::corrupt(format!("part 0: {e}")))?;
        let mut body = Bytes::from(body);
        let json_bytes = body.try_get_u32_le().map_err(|_| cut())? as usize;
        if body.len() < json_bytes {
            return Err(cut());
        }
        let json = body.split_to(json_bytes);
        let description: Description =
            serde_json::from_slice(&json).map_err(|e| FormatError::corrupt(format!("part 0: {e}")))?;
        if description.page_rows == 0 {
            return Err(FormatError::corrupt("pages of no rows"));
        }
        let mut page_first_persons = Vec::with_capacity(description.pages.min(body.len() / 4));
        for _ in 0..description.pages {
            page_first_persons.push(body.try_get_u32_le().map_err(|_| cut())?);
        }
        let times = match description.times_by_event {
            None => None,
            Some(_) if !description.short_ids || version < TIMES_BY_EVENT_VERSION => {
                return Err(FormatError::corrupt("times by event, where they are a column"));
            }
            Some(DescribedTimes { base, events }) => {
                let counts = description.pages.saturating_mul(events.len() + 1);
                let (counts, behind) =
                    body.split_at_checked(counts.saturating_mul(size_of::<u32>())).ok_or_else(cut)?;
                let counts: Vec<u32> =
                    counts.as_chunks().0.iter().map(|count| u32::from_le_bytes(*count)).collect();
                body = body.slice_ref(behind);
                Some(EventTimes::new(base, events, &counts, description.rows, description.page_rows)?)
            }
        };
        let older_bytes = description.rollup_bytes.unwrap_or_default();
        if body.len() < older_bytes {
            return Err(cut());
        }
        let older = body.split_to(older_bytes);
        let mut rollups = Vec::new();
        if !older.is_empty() {
            rollups.push(Rollup::from_older(&older)?);
        }
        let behind = description.rollups_behind;
        if behind > description.rollups.len() || behind > 0 && (version < FORMAT_VERSION || times.is_none()) {
            return Err(FormatError::corrupt(format!("{behind} rollups behind the times")));
        }
        let mut bytes_behind = times.as_ref().map_or(0, |_| description.rows.saturating_mul(TIME_BYTES));
        for (number, (quarters, bytes)) in description.rollups.into_iter().enumerate() {
            if number < behind {
                let start = bytes_behind;
                bytes_behind = start.saturating_add(bytes as u64);
                rollups.push(Rollup::from_behind(quarters, start..bytes_behind)?);
                continue;
            }
            let (packed, behind) = packed_rollups.split_at_checked(bytes).ok_or_else(cut)?;
            packed_rollups = behind;
            rollups.push(Rollup::from_packed(quarters, Bytes::copy_from_slice(packed))?);
        }
        if !packed_rollups.is_empty() {
            return Err(FormatError::corrupt("more bytes than rollups"));
        }
        if !rollups.is_sorted_by_key(Rollup::step_ms) {
            return Err(FormatError::corrupt("rollups of longer steps before shorter ones"));
        }
        if description.short_ids && (description.kind == ObjectKind::Run || version < SHORT_IDS_VERSION) {
            return Err(FormatError::corrupt("event ids in 15 bytes, where they have 16"));
        }
        Ok(Self {
            layout: Layout {
                kind: description.kind,
                properties: description.properties,
                received_as_delay: description.received_as_delay,
                short_ids: description.short_ids,
                times_by_event: times.is_some(),
            },
            project_id: description.project_id,
            rows: description.rows,
            page_rows: description.page_rows,
            rest: Rest { names: description.rest, has_more: description.rest_has_more },
            page_first_persons,
            table: PartTable {
                filter_parts: description.filter_parts,
                ends: description.part_ends,
                bytes_behind,
            },
            rollups,
            times,
            // A copy: the rest of the body is not needed any more.
            tail: Bytes::copy_from_slice(&body),
        })
    }
}
