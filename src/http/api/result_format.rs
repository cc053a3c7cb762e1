//! Results in pages: JSON, NDJSON or CSV.
//!
//! A result is a JSON object with one array of rows (`series`, `steps` or `rows`). A page is the
//! object with a slice of that array and a `page` member that says where it is; NDJSON is one row a
//! line; CSV is one line per row, or per row and bucket for series over time.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The members that can hold the rows, whichever a result has.
const ROWS: [&str; 3] = ["series", "steps", "rows"];

/// CSV columns in this order, then the others by name.
const COLUMNS_FIRST: [&str; 6] = ["label", "measure", "property", "breakdown", "bucket", "value"];

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

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Which rows of a result, at most how many, and how large their text may become.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    pub offset: usize,
    pub rows_max: usize,
    pub bytes_max: usize,
}

#[derive(PartialEq, Debug)]
pub struct Page {
    pub body: Vec<u8>,
    /// The offset of the next page; `None` at the end.
    pub next: Option<usize>,
}

#[derive(Serialize)]
struct Position {
    offset: usize,
    rows: usize,
    rows_total: usize,
    next_offset: Option<usize>,
}

/// A page of a stored result. At least one row is in it, however large.
pub fn page(result: &[u8], format: ResultFormat, limits: PageLimits) -> Result<Page, Error> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(result)?;
    let name = ROWS.into_iter().find(|name| members.contains_key(*name));
    let rows: Vec<Box<RawValue>> = match name.and_then(|name| members.remove(name)) {
        Some(rows) => serde_json::from_str(rows.get())?,
        None => Vec::new(),
    };
    let offset = limits.offset.min(rows.len());
    let mut bytes = 0;
    let mut count = 0;
    for row in rows[offset..].iter().take(limits.rows_max) {
        bytes += row.get().len() + 1;
        if count > 0 && bytes > limits.bytes_max {
            break;
        }
        count += 1;
    }
    let next = (offset + count < rows.len()).then_some(offset + count);
    let taken = &rows[offset..offset + count];
    let body = match format {
        ResultFormat::Json => {
            if let Some(name) = name {
                members.insert(name.to_owned(), serde_json::value::to_raw_value(taken)?);
            }
            let position = Position { offset, rows: count, rows_total: rows.len(), next_offset: next };
            members.insert("page".to_owned(), serde_json::value::to_raw_value(&position)?);
            serde_json::to_vec(&members)?
        }
        ResultFormat::Ndjson => {
            let mut lines = Vec::with_capacity(bytes);
            for row in taken {
                lines.extend_from_slice(row.get().as_bytes());
                lines.push(b'\n');
            }
            lines
        }
        ResultFormat::Csv => csv(&members, taken)?,
    };
    Ok(Page { body, next })
}

fn csv(members: &BTreeMap<String, Box<RawValue>>, rows: &[Box<RawValue>]) -> Result<Vec<u8>, Error> {
    let buckets: Vec<String> = match members.get("buckets") {
        Some(buckets) => serde_json::from_str(buckets.get())?,
        None => Vec::new(),
    };
    let mut lines: Vec<Map<String, Value>> = Vec::new();
    for row in rows {
        let mut row: Map<String, Value> = serde_json::from_str(row.get())?;
        match row.remove("values") {
            Some(Value::Array(values)) => {
                // It would stand in every line as if it were the line's.
                row.remove("total");
                for (bucket, value) in buckets.iter().zip(values) {
                    let mut line = row.clone();
                    line.insert("bucket".to_owned(), Value::from(bucket.as_str()));
                    line.insert("value".to_owned(), value);
                    lines.push(line);
                }
            }
            _ => lines.push(row),
        }
    }
    let columns = columns_of(&lines);
    let mut text = String::new();
    write_line(&mut text, columns.iter().map(|column| cell(Some(&Value::from(*column)))));
    for line in &lines {
        write_line(&mut text, columns.iter().map(|column| cell(line.get(*column))));
    }
    Ok(text.into_bytes())
}

fn columns_of(lines: &[Map<String, Value>]) -> Vec<&str> {
    let mut columns: Vec<&str> = Vec::new();
    for line in lines {
        for name in line.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    let place = |name: &str| COLUMNS_FIRST.iter().position(|first| *first == name).unwrap_or(usize::MAX);
    columns.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    columns
}

fn write_line(text: &mut String, cells: impl Iterator<Item = String>) {
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&cell);
    }
    text.push_str("\r\n");
}

/// RFC 4180. A text that a spreadsheet would run as a formula gets an apostrophe in front.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::Bool(flag)) => return flag.to_string(),
        Some(Value::Number(number)) => return number.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Array(_) | Value::Object(_))) => value.to_string(),
    };
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if runs { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all() -> PageLimits {
        PageLimits { offset: 0, rows_max: 100, bytes_max: 1_000_000 }
    }

    fn trends() -> Vec<u8> {
        let result = json!({"kind": "trends", "buckets": ["2011-01-01T00:00:00Z", "2011-01-02T00:00:00Z"], "series": [
            {"label": "order", "measure": "count", "breakdown": "=1+1", "values": [3, 0], "total": 3},
            {"label": "order", "measure": "count", "breakdown": null, "values": [1.5, null], "total": 1.5},
            {"label": "order", "measure": "count", "breakdown": "a \"b\", c", "values": [0, -2], "total": -2},
        ]});
        result.to_string().into_bytes()
    }

    fn text(page: Page) -> String {
        String::from_utf8(page.body).unwrap()
    }

    #[test]
    fn json_pages_hold_all_rows_once() {
        let mut offset = 0;
        let mut seen = Vec::new();
        loop {
            let limits = PageLimits { offset, rows_max: 2, ..all() };
            let page = page(&trends(), ResultFormat::Json, limits).unwrap();
            let body: Value = serde_json::from_slice(&page.body).unwrap();
            assert_eq!(body["buckets"].as_array().unwrap().len(), 2);
            assert_eq!(body["page"]["rows_total"], 3);
            assert_eq!(body["page"]["next_offset"], json!(page.next));
            seen.extend(body["series"].as_array().unwrap().iter().map(|row| row["total"].clone()));
            match page.next {
                Some(next) => offset = next,
                None => break,
            }
        }
        assert_eq!(seen, [json!(3), json!(1.5), json!(-2)]);
    }

    #[test]
    fn pages_are_cut_by_size_but_never_empty() {
        let limits = PageLimits { bytes_max: 1, ..all() };
        let page = page(&trends(), ResultFormat::Ndjson, limits).unwrap();
        assert_eq!(page.next, Some(1));
        assert_eq!(text(page).lines().count(), 1);
    }

    #[test]
    fn an_offset_beyond_the_end_is_the_end() {
        let page = page(&trends(), ResultFormat::Ndjson, PageLimits { offset: 99, ..all() }).unwrap();
        assert_eq!(page, Page { body: vec![], next: None });
    }

    #[test]
    fn csv_has_a_line_per_bucket_and_runs_nothing() {
        insta::assert_snapshot!(text(page(&trends(), ResultFormat::Csv, all()).unwrap()).replace('\r', ""), @r#"
        label,measure,breakdown,bucket,value
        order,count,'=1+1,2011-01-01T00:00:00Z,3
        order,count,'=1+1,2011-01-02T00:00:00Z,0
        order,count,,2011-01-01T00:00:00Z,1.5
        order,count,,2011-01-02T00:00:00Z,
        order,count,"a ""b"", c",2011-01-01T00:00:00Z,0
        order,count,"a ""b"", c",2011-01-02T00:00:00Z,-2
        "#);
    }

    #[test]
    fn csv_of_a_funnel_has_a_line_per_step() {
        let funnel = json!({"kind": "funnel", "steps": [
            {"label": "order_placed", "persons": 5765}, {"label": "order_cancelled", "persons": 948},
        ]});
        let body = text(page(funnel.to_string().as_bytes(), ResultFormat::Csv, all()).unwrap());
        assert_eq!(body, "label,persons\r\norder_placed,5765\r\norder_cancelled,948\r\n");
    }

    #[test]
    fn a_result_without_rows_is_one_page() {
        let body = text(page(b"{\"persons\": 5}", ResultFormat::Json, all()).unwrap());
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["persons"], 5);
    }
}
