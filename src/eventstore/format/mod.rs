//! The two kinds of stored objects, as bytes. Pure: no database, no clock.
//!
//! A **segment** holds rows of one project, sorted by `(person_no, occurred_at, event_id)`, with one
//! nullable column per `(property, type)`; the rarest properties beyond [`WriteOptions::columns_max`]
//! share one JSON column. A **run** holds rows of many projects, sorted by `(project, day, person,
//! time)`, with all properties in one JSON column: 10,000 small projects are then one object and not
//! 10,000 files.
//!
//! Both are Parquet files of one row group, cut into **parts** that are stored and read one by one:
//!
//! ```text
//! part 0            format version, columns, where every part lies, first person of each page,
//!                   rows by event and time if these are short, the Parquet footer and offset index
//! parts 1 … f       the duplicate filter
//! parts f+1 …       column chunks, one behind the other, cut at equal lengths
//! the last ones     of most segments the times, by event ([`times`]), and long counts of rows by event and time
//!                   ([`rollup`]), cut the same way
//! ```
//!
//! So a reader fetches part 0, asks [`ObjectReader::parts_for`] which others hold what it wants, and
//! reads only those. Pages of all columns are cut at the same rows: what one person did lies in few
//! pages of every column. [`ObjectFacts`] goes into the catalogue row beside the parts: it lets a scan
//! leave out whole objects, and tells menus which events and properties there are. Neither it nor part
//! 0 lists more than [`WriteOptions::names_max`] names: beyond them an object may have any.
//!
//! The way in is [`write_segment`], [`write_run`] or, for rows that come one by one, [`SegmentWriter`];
//! the way out is [`ObjectReader`], to blocks for a question or to rows for compaction.

mod cells;
mod columns;
mod deltas;
mod error;
mod facts;
mod filter;
mod header;
mod ids;
mod inflate;
mod join;
mod json;
mod names;
mod numbers;
mod page_header;
mod pages;
mod parts;
mod plan;
mod read;
mod read_columns;
mod read_events;
mod read_rows;
mod rest;
mod rollup;
mod row;
mod row_ranges;
mod runs;
mod tally;
mod texts;
mod times;
mod want;
mod write;
mod write_columns;

#[cfg(test)]
mod tests;

pub use columns::PropertyKind;
pub use error::FormatError;
pub use facts::{EventFact, NumberRange, ObjectFacts, PropertyFact, SliceFacts};
pub use filter::{Filter, identity_hash};
pub use header::ObjectKind;
pub use join::{JoinInput, join_segments};
pub use parts::{HEADER_PART, PartSet, PartSlice};
pub use plan::SegmentPlan;
pub use read::{IdentityBlock, ObjectReader};
pub use read_rows::RowBatches;
pub use row::StoredRow;
pub use row_ranges::RowRanges;
pub use want::{Columns, Located, Want};
pub use write::{ObjectBytes, RunWriter, SegmentWriter, WriteOptions, write_run, write_segment};
