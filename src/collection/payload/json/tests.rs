use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What the reader makes of a document, in serde_json's terms.
fn read_value(reader: &mut Reader<'_>) -> Result<Value> {
    Ok(match reader.peek()? {
        Kind::Object => {
            reader.begin_object()?;
            let mut members = serde_json::Map::new();
            let mut is_first = true;
            while let Some(key) = reader.next_key(is_first)? {
                is_first = false;
                members.insert(key.value.into_owned(), read_value(reader)?);
            }
            Value::Object(members)
        }
        Kind::Array => {
            reader.begin_array()?;
            let mut elements = Vec::new();
            while reader.next_element(elements.is_empty())? {
                elements.push(read_value(reader)?);
            }
            Value::Array(elements)
        }
        Kind::String => Value::String(reader.string()?.value.into_owned()),
        Kind::Number => {
            let number = reader.number()?;
            match number.as_i64() {
                Some(integer) => integer.into(),
                None => number.as_f64().map_or(Value::Null, Value::from),
            }
        }
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::Null => {
            reader.null()?;
            Value::Null
        }
    })
}

fn read(text: &str) -> Result<Value> {
    let mut reader = Reader::new(text);
    let value = read_value(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn skip(text: &str) -> Result<()> {
    let mut reader = Reader::new(text);
    reader.skip()?;
    reader.end()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The errors of serde_json that are no errors of grammar.
fn is_beyond_grammar(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    ["number out of range", "surrogate", "end of hex escape", "recursion limit"]
        .iter()
        .any(|known| text.contains(known))
}

proptest! {
    #[test]
    fn reads_what_serde_json_writes(value in value()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(read(&text), Ok(value.clone()));
            prop_assert_eq!(skip(&text), Ok(()));
            if value.is_object() || value.is_array() {
                let mut reader = Reader::new(&text);
                reader.skip_unchecked().unwrap();
                prop_assert_eq!(reader.end(), Ok(()));
            }
        }
    }

    #[test]
    fn agrees_with_serde_json_about_broken_text(
        value in value(),
        at in any::<prop::sample::Index>(),
        change in prop::sample::select(vec!["", "{", "}", "[", "]", ",", ":", "\"", "\\", "0", "-", ".", "e", "n", "\u{1}", "\\u12"]),
        cut in 0_usize..3,
    ) {
        let text = value.to_string();
        let boundaries: Vec<usize> = text.char_indices().map(|(n, _)| n).chain([text.len()]).collect();
        let at = at.index(boundaries.len());
        let end = boundaries[(at + cut).min(boundaries.len() - 1)];
        let text = format!("{}{change}{}", &text[..boundaries[at]], &text[end..]);

        let ours = read(&text);
        prop_assert_eq!(skip(&text), ours.clone().map(drop));
        match serde_json::from_str::<Value>(&text) {
            Ok(theirs) => prop_assert_eq!(ours.map(without_big), Ok(without_big(theirs))),
            Err(error) if is_beyond_grammar(&error) => {}
            Err(error) => prop_assert!(ours.is_err(), "{text:?}: {error}"),
        }
    }

    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        let _ = read(&text);
        let _ = skip(&text);
        let _ = Reader::new(&text).skip_unchecked();
    }
}

/// serde_json keeps integers up to u64, the reader's users do not; and it takes `-0` for a float,
/// where the reader takes it for the integer that it is.
fn without_big(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => number.as_f64().into(),
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => 0.into(),
        Value::Array(elements) => elements.into_iter().map(without_big).collect(),
        Value::Object(members) => members.into_iter().map(|(k, v)| (k, without_big(v))).collect(),
        other => other,
    }
}

#[test]
fn a_negative_zero_without_a_point_is_the_integer_zero() {
    assert_eq!(read("[null,-0]"), Ok(serde_json::json!([null, 0])));
    assert_eq!(read("-0.0"), Ok(serde_json::json!(-0.0)));
}

#[test]
fn errors_name_the_byte() {
    for (text, at) in [
        ("", 0),
        ("  ", 2),
        ("{\"a\":1,}", 7),
        ("[1 2]", 3),
        ("{\"a\" 1}", 5),
        ("{} x", 3),
        ("NaN", 0),
        ("[nul]", 1),
        ("\"a\u{1}\"", 2),
        ("\"\\x\"", 2),
        ("01", 1),
        ("[1.]", 3),
        ("{\"a\":", 5),
    ] {
        assert_eq!(read(text).map_err(|error| error.at), Err(at), "{text:?}");
        assert_eq!(skip(text).map_err(|error| error.at), Err(at), "{text:?}");
    }
}

#[test]
fn half_a_surrogate_pair_is_repaired_and_reported() {
    for (text, value, is_repaired) in [
        (r#""\ud83d\ude00""#, "😀", false),
        (r#""a\ud83d""#, "a\u{fffd}", true),
        (r#""\ud83dx""#, "\u{fffd}x", true),
        (r#""\ude00""#, "\u{fffd}", true),
        (r#""\ud83d\u0041""#, "\u{fffd}A", true),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀", true),
        (r#""\u0000""#, "\0", false),
    ] {
        let read = Reader::new(text).string().unwrap();
        assert_eq!((read.value.as_ref(), read.is_repaired), (value, is_repaired), "{text}");
    }
}

#[test]
fn skips_any_depth_without_recursion() {
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(skip(&deep(50_000)), Ok(()));
    assert_eq!(skip(&deep(100_001)).unwrap_err().what, "nested too deep");
    assert!(skip(&"[".repeat(5_000_000)).is_err());
}

#[test]
fn numbers_tell_whether_they_fit() {
    let number = |text| Reader::new(text).number().unwrap();
    assert_eq!(number("9223372036854775807").as_i64(), Some(i64::MAX));
    assert_eq!(number("9223372036854775808").as_i64(), None);
    assert_eq!(number("-0").as_i64(), Some(0));
    assert_eq!(number("1.0").as_i64(), None);
    assert_eq!(number("1e400").as_f64(), None);
    assert_eq!(number("1e-400").as_f64(), Some(0.0));
    assert_eq!(number(&"9".repeat(1_000_000)).as_i64(), None);
}
