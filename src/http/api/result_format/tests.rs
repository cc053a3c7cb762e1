use serde_json::{Value, json};

use super::*;

fn all() -> PageLimits {
    PageLimits { from: Cursor::default(), rows_max: 100, bytes_max: 1_000_000 }
}

fn trends() -> Bytes {
    let result = json!({"kind": "trends", "buckets": ["2011-01-01T00:00:00Z", "2011-01-02T00:00:00Z"], "series": [
        {"label": "order", "measure": "count", "breakdown": "=1+1", "values": [3, 0], "total": 3},
        {"label": "order", "measure": "count", "breakdown": null, "values": [1.5, null], "total": 1.5},
        {"label": "order", "measure": "count", "breakdown": "a \"b\", c", "values": [0, -2], "total": -2},
    ]});
    result.to_string().into()
}

fn row(row: usize) -> Cursor {
    Cursor { row, bucket: 0 }
}

/// The whole text, which is as long as the page says.
fn text(page: Page) -> String {
    let text: Vec<u8> = page.pieces.flat_map(|piece| piece.unwrap().to_vec()).collect();
    assert_eq!(text.len(), page.bytes);
    String::from_utf8(text).unwrap()
}

#[test]
fn json_pages_hold_all_rows_once() {
    let mut offset = 0;
    let mut seen = Vec::new();
    loop {
        let limits = PageLimits { from: row(offset), rows_max: 2, ..all() };
        let page = page(&trends(), ResultFormat::Json, limits).unwrap();
        let next = page.next;
        let body: Value = serde_json::from_str(&text(page)).unwrap();
        assert_eq!(body["buckets"].as_array().unwrap().len(), 2);
        assert_eq!(body["page"]["rows_total"], 3);
        assert_eq!(body["page"]["next_offset"], json!(next.map(|next| next.row)));
        seen.extend(body["series"].as_array().unwrap().iter().map(|row| row["total"].clone()));
        match next {
            Some(next) => offset = next.row,
            None => break,
        }
    }
    assert_eq!(seen, [json!(3), json!(1.5), json!(-2)]);
}

#[test]
fn pages_are_cut_by_size_but_never_empty() {
    let limits = PageLimits { bytes_max: 1, ..all() };
    let page = page(&trends(), ResultFormat::Ndjson, limits).unwrap();
    assert_eq!(page.next, Some(row(1)));
    assert_eq!(text(page).lines().count(), 1);
}

#[test]
fn an_offset_beyond_the_end_is_the_end() {
    let page = page(&trends(), ResultFormat::Ndjson, PageLimits { from: row(99), ..all() }).unwrap();
    assert_eq!((page.next, text(page).as_str()), (None, ""));
    let page = super::page(&trends(), ResultFormat::Csv, PageLimits { from: row(99), ..all() }).unwrap();
    assert_eq!((page.next, text(page).lines().count()), (None, 1));
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
    let body = text(page(&funnel.to_string().into(), ResultFormat::Csv, all()).unwrap());
    assert_eq!(body, "label,persons\r\norder_placed,5765\r\norder_cancelled,948\r\n");
}

#[test]
fn persons_have_a_line_each_and_their_total_is_not_a_row() {
    let result = json!({"kind": "persons", "step": 2, "total": 7, "persons": [
        {"distinct_id": "=u1", "reached_at": "2011-01-01T00:00:00Z"},
        {"distinct_id": "u2", "reached_at": "2011-01-01T00:00:00Z"},
    ]});
    let csv = text(page(&result.to_string().into(), ResultFormat::Csv, all()).unwrap());
    assert_eq!(csv, "distinct_id,reached_at\r\n'=u1,2011-01-01T00:00:00Z\r\nu2,2011-01-01T00:00:00Z\r\n");
    let second = PageLimits { from: row(1), ..all() };
    let json = text(page(&result.to_string().into(), ResultFormat::Json, second).unwrap());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["total"], &json["persons"][0]["distinct_id"]), (&json!(7), &json!("u2")));
}

#[test]
fn a_result_without_rows_is_one_page() {
    let body = text(page(&Bytes::from_static(b"{\"erased\": 5}"), ResultFormat::Json, all()).unwrap());
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["erased"], 5);
}

/// 20 series of 50 buckets: 41 kB of JSON, and 2 MB of CSV, since every line has the 2,000 characters.
fn wide() -> Bytes {
    let buckets: Vec<String> = (0..50).map(|n| format!("2011-01-01T{n:02}:00:00Z")).collect();
    let series: Vec<Value> = (0..20)
        .map(|n| {
            let values: Vec<u32> = (0..50).map(|bucket| n * 50 + bucket).collect();
            json!({"label": "order", "measure": "count", "breakdown": format!("{n}{}", "x".repeat(2_000)),
                   "values": values, "total": 5})
        })
        .collect();
    json!({"buckets": buckets, "series": series}).to_string().into()
}

#[test]
fn csv_is_cut_by_its_own_bytes_inside_a_row_too() {
    let whole =
        text(page(&wide(), ResultFormat::Csv, PageLimits { bytes_max: usize::MAX, ..all() }).unwrap());
    let (header, all_lines) = whole.split_once("\r\n").unwrap();
    assert_eq!(all_lines.lines().count(), 1_000);
    let line = all_lines.lines().next().unwrap().len() + 2;
    // A single line, some, exactly as many as fit, one byte less, and everything but the last byte.
    for bytes_max in [1, 30_000, header.len() + 2 + 60 * line, header.len() + 1 + 60 * line, whole.len() - 1]
    {
        let mut joined = String::new();
        let mut next = Some(Cursor::default());
        let mut pages = 0;
        while let Some(from) = next {
            let page = page(&wide(), ResultFormat::Csv, PageLimits { from, bytes_max, ..all() }).unwrap();
            next = page.next;
            let text = text(page);
            assert!(
                text.len() <= bytes_max.max(header.len() + 2 + line + 10),
                "{} of {bytes_max}",
                text.len()
            );
            let (page_header, lines) = text.split_once("\r\n").unwrap();
            assert_eq!(page_header, header);
            joined += lines;
            pages += 1;
        }
        assert!(joined == all_lines, "{bytes_max}: lines are missing or doubled");
        assert!(pages > 1);
    }
}

#[test]
fn the_cap_holds_for_every_form_whole() {
    for format in [ResultFormat::Json, ResultFormat::Ndjson, ResultFormat::Csv] {
        for bytes_max in [6_000, 9_999, 20_000] {
            let mut from = Cursor::default();
            loop {
                let page = page(&wide(), format, PageLimits { from, bytes_max, ..all() }).unwrap();
                assert!(page.bytes <= bytes_max, "{format:?}: {} of {bytes_max}", page.bytes);
                match page.next {
                    Some(next) => {
                        assert!(next > from);
                        from = next;
                    }
                    None => break,
                }
            }
        }
    }
}

#[test]
fn rows_max_counts_rows_not_lines() {
    let first = page(&wide(), ResultFormat::Csv, PageLimits { rows_max: 2, ..all() }).unwrap();
    assert_eq!(first.next, Some(row(2)));
    assert_eq!(text(first).lines().count(), 1 + 2 * 50);
}

#[test]
fn a_page_is_made_in_small_pieces() {
    for format in [ResultFormat::Json, ResultFormat::Ndjson, ResultFormat::Csv] {
        let page = page(&wide(), format, PageLimits { bytes_max: usize::MAX, ..all() }).unwrap();
        let row_max = 3_000;
        let pieces: Vec<usize> = page.pieces.map(|piece| piece.unwrap().len()).collect();
        assert!(pieces.iter().all(|piece| *piece < PIECE_BYTES + row_max), "{format:?}: {pieces:?}");
        assert!(pieces.len() <= page.bytes.div_ceil(PIECE_BYTES), "{format:?}: {pieces:?}");
    }
}
