//! CSV (RFC 4180): a line per row, or per row and bucket, made one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Cursor, Error};

/// Columns in this order, then the others by name. The bucket and its value stand side by side,
/// which [`RowLines`] rests on.
const COLUMNS_FIRST: [&str; 6] = ["label", "measure", "property", "breakdown", "bucket", "value"];

/// What all lines of a result share, so that every page has the same columns.
pub struct Sheet {
    columns: Vec<String>,
    /// As cells.
    buckets: Vec<String>,
}

type Row<'a> = BTreeMap<String, &'a RawValue>;

impl Sheet {
    pub fn of(buckets: Option<&RawValue>, rows: &[&RawValue]) -> Result<Self, Error> {
        let buckets: Vec<String> = match buckets {
            Some(buckets) => serde_json::from_str(buckets.get())?,
            None => Vec::new(),
        };
        let mut names = BTreeSet::new();
        for row in rows {
            let row: Row<'_> = serde_json::from_str(row.get())?;
            if row.contains_key("values") {
                names.extend(["bucket".to_owned(), "value".to_owned()]);
            }
            for name in row.keys().filter(|name| has_cell(&row, name)) {
                if !names.contains(name) {
                    names.insert(name.clone());
                }
            }
        }
        let mut columns: Vec<String> = names.into_iter().collect();
        let place = |name: &str| COLUMNS_FIRST.iter().position(|first| *first == name).unwrap_or(usize::MAX);
        columns.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
        Ok(Self { columns, buckets: buckets.into_iter().map(text_cell).collect() })
    }
}

/// A series' `total` would stand in every line as if it were the line's.
fn has_cell(row: &Row<'_>, name: &str) -> bool {
    !row.contains_key("values") || !matches!(name, "values" | "total")
}

/// The lines of some rows from a cursor on.
#[derive(Clone)]
pub struct CsvLines {
    sheet: Arc<Sheet>,
    rows: Arc<[Bytes]>,
    /// The number of `rows[0]` in the result.
    first_row: usize,
    at: Cursor,
    row: Option<RowLines>,
}

/// One row cut at its bucket.
#[derive(Clone)]
struct RowLines {
    before: String,
    /// One a bucket; `None` for a row that is one line.
    values: Option<Vec<String>>,
    after: String,
}

impl CsvLines {
    /// `rows` begin with the row of the cursor.
    pub fn new(sheet: Sheet, rows: Vec<Bytes>, from: Cursor) -> Self {
        Self { sheet: Arc::new(sheet), rows: rows.into(), first_row: from.row, at: from, row: None }
    }

    /// Where the next line begins.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    pub fn write_header(&self, out: &mut Vec<u8>) {
        let cells: Vec<String> = self.sheet.columns.iter().cloned().map(text_cell).collect();
        out.extend_from_slice(cells.join(",").as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// `false` after the last line.
    pub fn write_line(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            if self.row.is_none() {
                let Some(row) = self.rows.get(self.at.row - self.first_row) else { return Ok(false) };
                self.row = Some(RowLines::of(row, &self.sheet)?);
            }
            let row = self.row.as_ref().expect("it was just made");
            let lines = row.values.as_ref().map_or(1, |values| values.len().min(self.sheet.buckets.len()));
            if self.at.bucket >= lines {
                self.row = None;
                self.at = Cursor { row: self.at.row + 1, bucket: 0 };
                continue;
            }
            out.extend_from_slice(row.before.as_bytes());
            if let Some(values) = &row.values {
                out.extend_from_slice(self.sheet.buckets[self.at.bucket].as_bytes());
                out.push(b',');
                out.extend_from_slice(values[self.at.bucket].as_bytes());
            }
            out.extend_from_slice(row.after.as_bytes());
            out.extend_from_slice(b"\r\n");
            self.at.bucket += 1;
            if self.at.bucket == lines {
                self.row = None;
                self.at = Cursor { row: self.at.row + 1, bucket: 0 };
            }
            return Ok(true);
        }
    }
}

impl RowLines {
    fn of(row: &[u8], sheet: &Sheet) -> Result<Self, Error> {
        let row: Row<'_> = serde_json::from_slice(row)?;
        let values = match row.get("values") {
            Some(values) => {
                let values: Vec<&RawValue> = serde_json::from_str(values.get())?;
                Some(values.into_iter().map(cell).collect::<Result<Vec<_>, _>>()?)
            }
            None => None,
        };
        let mut lines = Self { before: String::new(), values, after: String::new() };
        let mut is_after = false;
        for (n, name) in sheet.columns.iter().enumerate() {
            let part = if is_after { &mut lines.after } else { &mut lines.before };
            if n > 0 && !(lines.values.is_some() && name == "value") {
                part.push(',');
            }
            match name.as_str() {
                "bucket" | "value" if lines.values.is_some() => is_after = true,
                name if !has_cell(&row, name) => {}
                name => {
                    part.push_str(&row.get(name).map(|value| cell(value)).transpose()?.unwrap_or_default())
                }
            }
        }
        Ok(lines)
    }
}

/// Empty for `null`.
fn cell(value: &RawValue) -> Result<String, Error> {
    Ok(match serde_json::from_str(value.get())? {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text_cell(text),
        value @ (Value::Array(_) | Value::Object(_)) => text_cell(value.to_string()),
    })
}

/// A text that a spreadsheet would run as a formula gets an apostrophe in front.
fn text_cell(text: String) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if runs { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
