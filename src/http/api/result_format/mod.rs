//! Results in pages: JSON, NDJSON or CSV.
//!
//! A result is a JSON object with one array of rows (`series`, `steps`, `persons` or `rows`). A page is the
//! object with a slice of that array and a `page` member that says where it is; NDJSON is one row a
//! line; CSV is one line per row, or per row and bucket for series over time.
//!
//! [`page`] only finds out where the page ends, counting the bytes of the form that is sent: a row's
//! label stands once in JSON and in every line of CSV, which makes megabytes of the one hundreds of
//! the other. The text itself is made piece by piece while it is sent.

mod csv;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use csv::{CsvLines, Sheet};

/// The members that can hold the rows, whichever a result has.
const ROWS: [&str; 4] = ["series", "steps", "persons", "rows"];

/// A piece is complete with the line that makes it this long.
const PIECE_BYTES: usize = 64 << 10;

/// What `next_offset` and the like may take more than their longest numbers: a `null`.
const POSITION_SLACK: usize = 16;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultFormat {
    Json,
    Ndjson,
    Csv,
}

impl ResultFormat {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// As it stands in addresses, and at the end of a file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Where a page begins: a row, and for CSV the bucket in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    pub row: usize,
    pub bucket: usize,
}

/// Where to begin, how many rows to take at most, and how large the text may become.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    pub from: Cursor,
    pub rows_max: usize,
    pub bytes_max: usize,
}

pub struct Page {
    /// The length of all pieces.
    pub bytes: usize,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
    pub pieces: Pieces,
}

#[derive(Serialize)]
struct Position {
    offset: usize,
    rows: usize,
    rows_total: usize,
    next_offset: Option<usize>,
}

/// A page of a stored result. At least one row, or one line of CSV, is in it, however large.
pub fn page(result: &Bytes, format: ResultFormat, limits: PageLimits) -> Result<Page, Error> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(result)?;
    let name = ROWS.into_iter().find(|name| members.contains_key(*name));
    let rows: Vec<&RawValue> = match name.and_then(|name| members.remove(name)) {
        Some(rows) => serde_json::from_str(rows.get())?,
        None => Vec::new(),
    };
    let offset = limits.from.row.min(rows.len());
    if format == ResultFormat::Csv {
        let sheet = Sheet::of(members.get("buckets").copied(), &rows)?;
        let taken = rows[offset..].iter().take(limits.rows_max);
        let taken = taken.map(|row| result.slice_ref(row.get().as_bytes())).collect();
        return csv_page(CsvLines::new(sheet, taken, limits.from), limits.bytes_max, rows.len());
    }

    let envelope = |count: usize, next_offset: Option<usize>| -> Result<(Vec<u8>, &'static [u8]), Error> {
        if format == ResultFormat::Ndjson {
            return Ok((Vec::new(), b""));
        }
        let position = Position { offset, rows: count, rows_total: rows.len(), next_offset };
        let position = serde_json::value::to_raw_value(&position)?;
        let mut members = members.clone();
        members.insert("page".to_owned(), &position);
        let mut head = serde_json::to_vec(&members)?;
        head.pop();
        let Some(name) = name else { return Ok((head, b"}")) };
        head.extend_from_slice(format!(",\"{name}\":[").as_bytes());
        Ok((head, b"]}"))
    };
    let (head, tail) = envelope(rows.len(), Some(rows.len()))?;
    let mut bytes = head.len() + POSITION_SLACK + tail.len();
    let mut count = 0;
    for row in rows[offset..].iter().take(limits.rows_max) {
        bytes += row.get().len() + 1;
        if count > 0 && bytes > limits.bytes_max {
            break;
        }
        count += 1;
    }
    let next = (offset + count < rows.len()).then_some(offset + count);
    let (head, tail) = envelope(count, next)?;
    let taken: Vec<_> =
        rows[offset..offset + count].iter().map(|row| result.slice_ref(row.get().as_bytes())).collect();
    // JSON has a comma between rows, NDJSON a line's end after each.
    let separators = if format == ResultFormat::Json { count.saturating_sub(1) } else { count };
    let bytes = head.len() + taken.iter().map(Bytes::len).sum::<usize>() + separators + tail.len();
    let rows = JsonRows { head, rows: taken.into_iter(), is_lines: format == ResultFormat::Ndjson, tail };
    Ok(Page {
        bytes,
        next: next.map(|row| Cursor { row, bucket: 0 }),
        pieces: Pieces { text: Text::Json(rows), ended: false },
    })
}

/// Writes everything once without keeping it, to know where it ends and how long it is.
fn csv_page(lines: CsvLines, bytes_max: usize, rows_total: usize) -> Result<Page, Error> {
    let mut counted = lines.clone();
    let mut line = Vec::new();
    counted.write_header(&mut line);
    let (mut bytes, mut lines_taken) = (line.len(), 0_usize);
    loop {
        let here = counted.cursor();
        line.clear();
        if !counted.write_line(&mut line)? {
            let end = counted.cursor();
            let next = (end.row < rows_total).then_some(end);
            return Ok(Page { bytes, next, pieces: Pieces::of_csv(lines, lines_taken) });
        }
        if lines_taken > 0 && bytes + line.len() > bytes_max {
            return Ok(Page { bytes, next: Some(here), pieces: Pieces::of_csv(lines, lines_taken) });
        }
        bytes += line.len();
        lines_taken += 1;
    }
}

/// The text of a page, made as it is asked for.
pub struct Pieces {
    text: Text,
    ended: bool,
}

enum Text {
    Json(JsonRows),
    Csv { lines: CsvLines, is_begun: bool, lines_left: usize },
}

struct JsonRows {
    head: Vec<u8>,
    rows: std::vec::IntoIter<Bytes>,
    is_lines: bool,
    tail: &'static [u8],
}

impl Pieces {
    fn of_csv(lines: CsvLines, lines_left: usize) -> Self {
        Self { text: Text::Csv { lines, is_begun: false, lines_left }, ended: false }
    }

    /// Whether anything is left after what was added.
    fn add(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        match &mut self.text {
            Text::Json(text) => {
                piece.append(&mut text.head);
                if let Some(row) = text.rows.next() {
                    piece.extend_from_slice(&row);
                    if text.is_lines {
                        piece.push(b'\n');
                    } else if text.rows.len() > 0 {
                        piece.push(b',');
                    }
                }
                let more = text.rows.len() > 0;
                if !more {
                    piece.extend_from_slice(text.tail);
                }
                Ok(more)
            }
            Text::Csv { lines, is_begun, lines_left } => {
                if !std::mem::replace(is_begun, true) {
                    lines.write_header(piece);
                }
                if *lines_left > 0 {
                    *lines_left -= 1;
                    lines.write_line(piece)?;
                }
                Ok(*lines_left > 0)
            }
        }
    }
}

impl Iterator for Pieces {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES {
            match self.add(&mut piece) {
                Ok(true) => {}
                Ok(false) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        (!piece.is_empty()).then(|| Ok(piece.into()))
    }
}

#[cfg(test)]
mod tests;
