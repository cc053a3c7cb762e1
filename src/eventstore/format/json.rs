//! Properties that have no column of their own, as one JSON object a row.
//!
//! `{"amount":3.0,"count":3,"plan":"pro","tags":["[1,2]"]}`: a number with a fraction or an exponent
//! is a float, any other an integer, and JSON text is wrapped in an array of one string, so that it
//! comes back byte for byte and is never taken for a plain string. Every value, -0.0 and the longest
//! fraction included, reads back as exactly what was written.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::FormatError;
use crate::model::{PropertyRef, PropertyValue};

/// Appends the object for these properties; nothing when there are none.
pub(super) fn write<'a>(
    out: &mut String,
    properties: impl Iterator<Item = (&'a str, PropertyRef<'a>)>,
) -> Result<(), FormatError> {
    let start = out.len();
    for (name, value) in properties {
        out.push(if out.len() == start { '{' } else { ',' });
        push_text(out, name);
        out.push(':');
        match value {
            PropertyRef::String(text) => push_text(out, text),
            PropertyRef::Integer(number) => {
                fmt::Write::write_fmt(out, format_args!("{number}")).expect("a string takes any text");
            }
            PropertyRef::Float(number) if number.is_finite() => {
                // Debug writes the shortest text that reads back to the same bits, and always with a
                // point or an exponent.
                fmt::Write::write_fmt(out, format_args!("{number:?}")).expect("a string takes any text");
            }
            PropertyRef::Float(number) => return Err(FormatError::NotFinite(number)),
            PropertyRef::Bool(flag) => out.push_str(if flag { "true" } else { "false" }),
            PropertyRef::Json(text) => {
                out.push('[');
                push_text(out, text);
                out.push(']');
            }
        }
    }
    if out.len() > start {
        out.push('}');
    }
    Ok(())
}

fn push_text(out: &mut String, text: &str) {
    let quoted = serde_json::to_string(text).expect("a string is always JSON");
    out.push_str(&quoted);
}

/// All properties, in the order in which they were written.
pub(super) fn read_all(text: &str) -> Result<Vec<(String, PropertyValue)>, FormatError> {
    let mut found = Vec::new();
    read(text, |name| Some(name.to_owned()), |name, value| found.push((name, value)))?;
    Ok(found)
}

/// Gives each property whose name `wanted` maps to something, with that something.
pub(super) fn read<K>(
    text: &str,
    wanted: impl Fn(&str) -> Option<K>,
    found: impl FnMut(K, PropertyValue),
) -> Result<(), FormatError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visitor = Properties { wanted, found };
    deserializer
        .deserialize_map(visitor)
        .map_err(|error| FormatError::corrupt(format!("a row's JSON properties: {error}")))
}

struct Properties<W, F> {
    wanted: W,
    found: F,
}

impl<'de, K, W: Fn(&str) -> Option<K>, F: FnMut(K, PropertyValue)> Visitor<'de> for Properties<W, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of properties")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Wanted(&self.wanted))? {
            match key {
                Some(key) => (self.found)(key, map.next_value_seed(Stored)?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Looks at a name without allocating it.
struct Wanted<'w, W>(&'w W);

impl<'de, K, W: Fn(&str) -> Option<K>> DeserializeSeed<'de> for Wanted<'_, W> {
    type Value = Option<K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<K, W: Fn(&str) -> Option<K>> Visitor<'_> for Wanted<'_, W> {
    type Value = Option<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a property name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name))
    }
}

struct Stored;

impl<'de> DeserializeSeed<'de> for Stored {
    type Value = PropertyValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Stored {
    type Value = PropertyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a property value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<PropertyValue, E> {
        Ok(PropertyValue::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<PropertyValue, E> {
        Ok(PropertyValue::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PropertyValue, E> {
        i64::try_from(number).map(PropertyValue::Integer).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<PropertyValue, E> {
        Ok(PropertyValue::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PropertyValue, E> {
        Ok(PropertyValue::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PropertyValue, A::Error> {
        let text = seq.next_element::<String>()?.ok_or_else(|| A::Error::custom("an empty array"))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(PropertyValue::Json(text)),
            Some(_) => Err(A::Error::custom("an array of more than one text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(properties: &[(&str, PropertyValue)]) -> String {
        let mut out = String::new();
        write(&mut out, properties.iter().map(|(name, value)| (*name, value.as_ref()))).unwrap();
        out
    }

    #[test]
    fn every_type_has_its_own_form() {
        let text = text_of(&[
            ("amount", PropertyValue::Float(3.0)),
            ("count", PropertyValue::Integer(3)),
            ("plan", PropertyValue::String("pro\n\"🍣\"".into())),
            ("tags", PropertyValue::Json("[1, 2]".into())),
            ("tiny", PropertyValue::Float(5e-324)),
            ("yes", PropertyValue::Bool(true)),
        ]);
        let expected =
            r#"{"amount":3.0,"count":3,"plan":"pro\n\"🍣\"","tags":["[1, 2]"],"tiny":5e-324,"yes":true}"#;
        assert_eq!(text, expected);
        assert_eq!(text_of(&[]), "");
    }

    #[test]
    fn a_number_that_json_cannot_say_is_refused() {
        let nan = PropertyValue::Float(f64::NAN);
        assert!(write(&mut String::new(), [("x", nan.as_ref())].into_iter()).is_err());
    }

    #[test]
    fn only_wanted_names_are_given() {
        let mut found = Vec::new();
        let text = r#"{"a":1,"b.c":["[]"],"d":[ "x" ]}"#;
        read(text, |name| (name == "b.c").then_some(7), |key, value| found.push((key, value))).unwrap();
        assert_eq!(found, [(7, PropertyValue::Json("[]".into()))]);
    }
}
