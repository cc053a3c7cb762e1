//! An answer as a table of text.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// More series than this are lines and not columns.
const COLUMNS_MAX: usize = 5;
/// Longer texts are cut.
const CELL_CHARS_MAX: usize = 48;
/// Of buckets that all begin then, the day says enough.
const MIDNIGHT: &str = "T00:00:00Z";
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

struct Table {
    head: Vec<String>,
    lines: Vec<Vec<Cell>>,
}

enum Cell {
    Text(String),
    Number(String),
    Nothing,
}

/// The table of a result, with a line's end after its last line.
pub fn of(result: &Value) -> String {
    let table = match result["kind"].as_str() {
        Some("trends") => trends(result),
        Some("funnel") => funnel(result),
        Some("persons") => persons(result),
        _ => rows(result),
    };
    table.map_or_else(|| format!("{result:#}\n"), |table| table.written())
}

fn trends(result: &Value) -> Option<Table> {
    let buckets = result["buckets"].as_array()?;
    let series = result["series"].as_array()?;
    let total = |series: &Value| Cell::of(&series["total"]);
    if buckets.len() > 1 && series.len() <= COLUMNS_MAX {
        let mut head = vec!["from".to_owned()];
        head.extend(series.iter().map(title));
        let mut lines: Vec<Vec<Cell>> = Vec::with_capacity(buckets.len() + 1);
        let whole_days =
            buckets.iter().all(|bucket| bucket.as_str().is_some_and(|at| at.ends_with(MIDNIGHT)));
        for (n, bucket) in buckets.iter().enumerate() {
            let at = bucket.as_str().unwrap_or_default();
            let at = if whole_days { at.trim_end_matches(MIDNIGHT) } else { at };
            let values = series.iter().map(|series| Cell::of(&series["values"][n]));
            lines.push([Cell::Text(at.to_owned())].into_iter().chain(values).collect());
        }
        lines.push([Cell::Text("total".to_owned())].into_iter().chain(series.iter().map(total)).collect());
        return Some(Table { head, lines });
    }
    let lines = series.iter().map(|series| {
        let mut line = vec![Cell::Text(title(series)), total(series)];
        if buckets.len() > 1 {
            line.push(Cell::Text(course(series["values"].as_array().map_or(&[], Vec::as_slice))));
        }
        line
    });
    let head = ["series", "total", "course"][..if buckets.len() > 1 { 3 } else { 2 }].iter();
    Some(Table { head: head.map(|title| (*title).to_owned()).collect(), lines: lines.collect() })
}

/// `order_placed, sum of amount: Germany`.
fn title(series: &Value) -> String {
    let text = |name: &str| series[name].as_str().unwrap_or_default();
    let mut title = text("label").to_owned();
    match (text("measure"), text("property")) {
        ("count", _) => {}
        (measure, "") => title += &format!(", {measure}"),
        (measure, property) => title += &format!(", {measure} of {property}"),
    }
    match series.get("breakdown") {
        None => {}
        Some(Value::Null) => title += ": (none)",
        Some(Value::String(value)) => title += &format!(": {value}"),
        Some(value) => title += &format!(": {value}"),
    }
    cut(&title)
}

/// Values as bars of eight heights above their lowest, nothing where there is none.
fn course(values: &[Value]) -> String {
    let numbers: Vec<Option<f64>> = values.iter().map(Value::as_f64).collect();
    let known = || numbers.iter().flatten().copied();
    let low = known().fold(0.0, f64::min);
    let high = known().fold(low, f64::max);
    let bar = |number: f64| match (high - low, number - low) {
        (range, above) if range > 0.0 => BARS[((above / range * 7.0).round() as usize).min(7)],
        _ => BARS[0],
    };
    numbers.iter().map(|number| number.map_or(' ', bar)).collect()
}

fn funnel(result: &Value) -> Option<Table> {
    let steps = result["steps"].as_array()?;
    let persons = |step: &Value| step["persons"].as_u64().unwrap_or(0);
    let share = |part: u64, whole: u64| match whole {
        0 => Cell::Nothing,
        whole => Cell::Number(format!("{:.1} %", 100.0 * part as f64 / whole as f64)),
    };
    let first = steps.first().map_or(0, persons);
    let mut before = first;
    let lines = steps.iter().enumerate().map(|(n, step)| {
        let reached = persons(step);
        let line = vec![
            Cell::Text(format!("{}. {}", n + 1, cut(step["label"].as_str().unwrap_or_default()))),
            Cell::of(&step["persons"]),
            share(reached, first),
            share(reached, before),
        ];
        before = reached;
        line
    });
    let lines = lines.collect();
    let head = ["step", "persons", "of the first", "of the one before"].map(str::to_owned);
    Some(Table { head: head.into(), lines })
}

/// Who they are, and how many there are besides.
fn persons(result: &Value) -> Option<Table> {
    let persons = result["persons"].as_array()?;
    let line = |person: &Value| vec![Cell::of(&person["distinct_id"]), Cell::of(&person["reached_at"])];
    let mut lines: Vec<Vec<Cell>> = persons.iter().map(line).collect();
    let total = result["total"].as_u64().unwrap_or(0);
    let others = total.saturating_sub(persons.len() as u64);
    if others > 0 {
        lines.push(vec![Cell::Text(format!("and {} more", grouped(others))), Cell::Nothing]);
    }
    let step = result["step"].as_u64().unwrap_or(1);
    // Those who dropped out have reached the step before.
    let reached = if result["outcome"] == "dropped" { step.saturating_sub(1) } else { step };
    let head = [format!("distinct id ({} in all)", grouped(total)), format!("reached step {reached}")];
    Some(Table { head: head.into(), lines })
}

/// Any other answer: its one list of objects.
fn rows(result: &Value) -> Option<Table> {
    let lists = result.as_object()?.values().filter_map(Value::as_array);
    let rows: Vec<&Map<String, Value>> =
        lists.flat_map(|list| list.iter().filter_map(Value::as_object)).collect();
    let mut head: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !head.contains(name) {
            head.push(name.clone());
        }
    }
    let lines = rows
        .iter()
        .map(|row| head.iter().map(|name| Cell::of(row.get(name).unwrap_or(&Value::Null))).collect());
    let lines: Vec<Vec<Cell>> = lines.collect();
    (!lines.is_empty()).then_some(Table { head, lines })
}

impl Cell {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Number(number) => Self::Number(match number.as_u64() {
                Some(number) => grouped(number),
                None => number.to_string(),
            }),
            Value::String(text) => Self::Text(cut(text)),
            other => Self::Text(cut(&other.to_string())),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Nothing => "–",
        }
    }
}

impl Table {
    fn written(&self) -> String {
        let width = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column)).map(Cell::text);
            cells.chain([self.head[column].as_str()]).map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let is_number =
            |column: usize| self.lines.iter().any(|line| matches!(line.get(column), Some(Cell::Number(_))));
        let written = |texts: &mut dyn Iterator<Item = &str>| {
            let cells = texts.enumerate().map(|(column, text)| match is_number(column) {
                true => format!("{text:>width$}", width = widths[column]),
                false => format!("{text:<width$}", width = widths[column]),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = written(&mut self.head.iter().map(String::as_str));
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        text += &(rule.join("  ") + "\n");
        for line in &self.lines {
            text += &written(&mut line.iter().map(Cell::text));
        }
        text
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn cut(text: &str) -> String {
    let text: String =
        text.chars().map(|character| if character.is_control() { '�' } else { character }).collect();
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What senders wrote must not drive a terminal: control characters become visible.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let drives = |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    if !text.contains(drives) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| if drives(character) { '�' } else { character }).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_bucket_is_a_line_a_series() {
        let result = json!({"kind": "trends", "buckets": ["2011-01-01T00:00:00Z"], "series": [
            {"label": "order", "measure": "count", "breakdown": "Germany", "values": [1234567], "total": 1234567},
            {"label": "order", "measure": "sum", "property": "total", "breakdown": null, "values": [2.5], "total": 2.5},
            {"label": "every event", "measure": "persons", "breakdown": true, "values": [null], "total": null},
        ]});
        insta::assert_snapshot!(of(&result), @r"
        series                           total
        ───────────────────────────  ─────────
        order: Germany               1,234,567
        order, sum of total: (none)        2.5
        every event, persons: true           –
        ");
    }

    #[test]
    fn several_buckets_are_lines_and_few_series_columns() {
        let result = json!({"kind": "trends", "buckets": ["2011-01-01T00:00:00Z", "2011-01-02T00:00:00Z"], "series": [
            {"label": "order", "measure": "count", "values": [3, 0], "total": 3},
            {"label": "visit", "measure": "persons", "values": [1000, null], "total": 1000},
        ]});
        insta::assert_snapshot!(of(&result), @r"
        from        order  visit, persons
        ──────────  ─────  ──────────────
        2011-01-01      3           1,000
        2011-01-02      0               –
        total           3           1,000
        ");
    }

    #[test]
    fn many_series_show_their_course() {
        let series: Vec<Value> = (0..6)
            .map(|n| json!({"label": format!("e{n}"), "measure": "count", "values": [n, null, 2 * n, 0], "total": 3 * n}))
            .collect();
        let result = json!({"kind": "trends", "buckets": ["a", "b", "c", "d"], "series": series});
        insta::assert_snapshot!(of(&result), @r"
        series  total  course
        ──────  ─────  ──────
        e0          0  ▁ ▁▁
        e1          3  ▅ █▁
        e2          6  ▅ █▁
        e3          9  ▅ █▁
        e4         12  ▅ █▁
        e5         15  ▅ █▁
        ");
    }

    #[test]
    fn a_funnel_says_what_share_went_on() {
        let result = json!({"kind": "funnel", "steps": [
            {"label": "viewed", "persons": 2000}, {"label": "bought", "persons": 500}, {"label": "again", "persons": 0},
            {"label": "and again", "persons": 0},
        ]});
        insta::assert_snapshot!(of(&result), @r"
        step          persons  of the first  of the one before
        ────────────  ───────  ────────────  ─────────────────
        1. viewed       2,000       100.0 %            100.0 %
        2. bought         500        25.0 %             25.0 %
        3. again            0         0.0 %              0.0 %
        4. and again        0         0.0 %                  –
        ");
    }

    #[test]
    fn persons_are_listed_with_how_many_there_are() {
        let result = json!({"kind": "persons", "step": 2, "outcome": "dropped", "label": "bought", "total": 1204, "persons": [
            {"distinct_id": "ada@example.org", "reached_at": "2011-01-01T10:00:00Z"},
            {"distinct_id": "u2", "reached_at": "2011-01-01T09:00:00.5Z"},
        ]});
        insta::assert_snapshot!(of(&result), @r"
        distinct id (1,204 in all)  reached step 1
        ──────────────────────────  ──────────────────────
        ada@example.org             2011-01-01T10:00:00Z
        u2                          2011-01-01T09:00:00.5Z
        and 1,202 more              –
        ");
        let nobody = json!({"kind": "persons", "step": 1, "outcome": "converted", "label": "a", "total": 0, "persons": []});
        insta::assert_snapshot!(of(&nobody), @r"
        distinct id (0 in all)  reached step 1
        ──────────────────────  ──────────────
        ");
    }

    #[test]
    fn other_answers_are_their_rows() {
        let result = json!({"kind": "other", "note": 1, "rows": [{"a": 1, "b": "x"}, {"a": [2], "c": true}]});
        insta::assert_snapshot!(of(&result), @r"
          a  b  c
        ───  ─  ────
          1  x  –
        [2]  –  true
        ");
        assert_eq!(of(&json!({"persons": 5})), "{\n  \"persons\": 5\n}\n");
    }

    #[test]
    fn nothing_that_a_sender_wrote_drives_the_terminal() {
        let result = json!({"kind": "funnel", "steps": [{"label": "\u{1b}[2J\u{7}\r\n", "persons": 1}]});
        assert!(!of(&result).contains(['\u{1b}', '\u{7}', '\r']));
        assert_eq!(harmless("a,\u{1b}[31mb\r\n"), "a,�[31mb\r\n");
        assert_eq!(cut(&"x".repeat(49)), "x".repeat(48) + "…");
    }
}
