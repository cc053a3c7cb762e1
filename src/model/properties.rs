//! The properties of an event, as the bytes in which they come.
//!
//! ```text
//! properties = each property, sorted by name, names unique
//! property   = name (text) · type (1 byte) · value
//! text       = length (varint) · UTF-8
//! value      = text for strings and JSON, zigzag varint for integers, 8 bytes for floats (little
//!              endian), nothing for booleans, whose type says which
//! ```
//!
//! A pass of the sealer holds a hundred thousand events. A string of its own for each name and each
//! text made a third of its work; here an event of a batch shares the memory of the batch, and whoever
//! wants the values walks over them. The journal's records hold properties in the same bytes, so that
//! moving an event on copies them.

use bytes::Bytes;

use super::PropertyValue;

const TYPE_STRING: u8 = 0;
const TYPE_INTEGER: u8 = 1;
const TYPE_FLOAT: u8 = 2;
const TYPE_FALSE: u8 = 3;
const TYPE_TRUE: u8 = 4;
const TYPE_JSON: u8 = 5;

/// What the names of properties begin with that set traits.
const TRAITS: &str = "$set";

/// Sorted by name, names unique, nested objects flattened to dotted names, nulls left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    bytes: Bytes,
    count: u32,
    raw_bytes: u32,
    /// Whether a name begins with `$set`.
    has_traits: bool,
}

/// A property's value, borrowed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PropertyRef<'a> {
    String(&'a str),
    Integer(i64),
    /// Finite.
    Float(f64),
    Bool(bool),
    /// An array or an empty object, as JSON text.
    Json(&'a str),
}

/// A property's value as it is stored: texts are UTF-8, which was seen when they were read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PropertyBytes<'a> {
    String(&'a [u8]),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Json(&'a [u8]),
}

impl<'a> PropertyBytes<'a> {
    fn take(rest: &mut &'a [u8]) -> Result<Self, PropertiesError> {
        Ok(match take_byte(rest)? {
            TYPE_STRING => Self::String(take_name(rest)?),
            TYPE_INTEGER => Self::Integer(take_zigzag(rest)?),
            TYPE_FLOAT => {
                let (bytes, behind) = rest.split_first_chunk::<8>().ok_or(PropertiesError::EndsEarly)?;
                *rest = behind;
                let number = f64::from_le_bytes(*bytes);
                if !number.is_finite() {
                    return Err(PropertiesError::NotFinite);
                }
                Self::Float(number)
            }
            TYPE_FALSE => Self::Bool(false),
            TYPE_TRUE => Self::Bool(true),
            TYPE_JSON => Self::Json(take_name(rest)?),
            code => return Err(PropertiesError::UnknownType(code)),
        })
    }

    fn to_text(self) -> Result<PropertyRef<'a>, PropertiesError> {
        Ok(match self {
            Self::String(text) => PropertyRef::String(utf8(text)?),
            Self::Integer(number) => PropertyRef::Integer(number),
            Self::Float(number) => PropertyRef::Float(number),
            Self::Bool(flag) => PropertyRef::Bool(flag),
            Self::Json(text) => PropertyRef::Json(utf8(text)?),
        })
    }
}

const LOOKED_AT: &str = "properties are looked at before they are taken";

/// Bytes that are no properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PropertiesError {
    #[error("ends too early")]
    EndsEarly,
    #[error("a number of more than 64 bits")]
    LongNumber,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a float that is not finite")]
    NotFinite,
    #[error("unknown property type {0}")]
    UnknownType(u8),
    #[error("{0} bytes left over")]
    LeftOver(usize),
}

impl PropertyRef<'_> {
    pub fn to_value(self) -> PropertyValue {
        match self {
            Self::String(text) => PropertyValue::String(text.to_owned()),
            Self::Integer(number) => PropertyValue::Integer(number),
            Self::Float(number) => PropertyValue::Float(number),
            Self::Bool(flag) => PropertyValue::Bool(flag),
            Self::Json(text) => PropertyValue::Json(text.to_owned()),
        }
    }

    pub fn to_json(self) -> serde_json::Value {
        self.to_value().to_json()
    }

    /// About how many bytes the value takes when it is not compressed.
    fn raw_bytes(self) -> usize {
        match self {
            Self::String(text) | Self::Json(text) => text.len() + 4,
            Self::Integer(_) | Self::Float(_) => 8,
            Self::Bool(_) => 1,
        }
    }
}

impl Properties {
    /// Takes `count` properties that fill `bytes`, having looked at each of them.
    pub fn read(bytes: Bytes, count: u32) -> Result<Self, PropertiesError> {
        let mut rest: &[u8] = &bytes;
        let (mut raw_bytes, mut has_traits) = (0, false);
        for _ in 0..count {
            let (name, value) = take_property(&mut rest)?;
            raw_bytes += raw_bytes_of(name, value);
            has_traits |= name.starts_with(TRAITS);
        }
        match rest.len() {
            0 => Ok(Self { bytes, count, raw_bytes: raw_bytes as u32, has_traits }),
            left => Err(PropertiesError::LeftOver(left)),
        }
    }

    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a name begins with `$set`, as those do that say something about a person.
    pub fn may_have_traits(&self) -> bool {
        self.has_traits
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// About how many bytes they take when they are not compressed; a quarter of their names, which a
    /// segment does not store per row, but a run does.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes.into()
    }

    /// Copies the bytes out of what they share with others.
    pub fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    pub fn iter(&self) -> PropertyIter<'_> {
        PropertyIter { rest: &self.bytes, left: self.count as usize }
    }

    /// The same with names and texts as the bytes they are, which need not be looked at again to be
    /// compared or copied.
    pub fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], PropertyBytes<'_>)> {
        let mut rest: &[u8] = &self.bytes;
        (0..self.count).map(move |_| {
            let property = take_name(&mut rest).and_then(|name| Ok((name, PropertyBytes::take(&mut rest)?)));
            property.expect(LOOKED_AT)
        })
    }

    /// The same with one set.
    #[cfg(test)]
    pub fn with(&self, name: &str, value: PropertyValue) -> Self {
        let own = self.iter().map(|(name, value)| (name.to_owned(), value.to_value()));
        own.chain([(name.to_owned(), value)]).collect()
    }

    pub fn get(&self, name: &str) -> Option<PropertyRef<'_>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

fn raw_bytes_of(name: &str, value: PropertyRef<'_>) -> usize {
    name.len() / 4 + value.raw_bytes()
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Names and values, in the order of the names.
#[derive(Clone)]
pub struct PropertyIter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = (&'a str, PropertyRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(take_property(&mut self.rest).expect(LOOKED_AT))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for PropertyIter<'_> {}

impl<'p> IntoIterator for &'p Properties {
    type Item = (&'p str, PropertyRef<'p>);
    type IntoIter = PropertyIter<'p>;

    fn into_iter(self) -> PropertyIter<'p> {
        self.iter()
    }
}

/// Properties in any order; of equal names the last one counts.
impl<N: Into<String>> FromIterator<(N, PropertyValue)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, PropertyValue)>>(properties: I) -> Self {
        let sorted: std::collections::BTreeMap<String, PropertyValue> =
            properties.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let mut writer = PropertiesWriter::default();
        for (name, value) in &sorted {
            writer.push(name, value.as_ref());
        }
        let end = writer.end();
        end.cut(&writer.finish())
    }
}

impl<N: Into<String>> From<Vec<(N, PropertyValue)>> for Properties {
    fn from(properties: Vec<(N, PropertyValue)>) -> Self {
        properties.into_iter().collect()
    }
}

/// Writes the properties of many events one behind the other.
///
/// Precondition: each event's are pushed in the order of their names, each name once.
#[derive(Default)]
pub struct PropertiesWriter {
    bytes: Vec<u8>,
    start: usize,
    count: u32,
    raw_bytes: usize,
    has_traits: bool,
}

/// Where one event's properties lie in what a [`PropertiesWriter`] has written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    start: usize,
    end: usize,
    count: u32,
    raw_bytes: u32,
    has_traits: bool,
}

impl PropertiesWriter {
    pub fn push(&mut self, name: &str, value: PropertyRef<'_>) {
        put_property(&mut self.bytes, name, value);
        self.count += 1;
        self.raw_bytes += raw_bytes_of(name, value);
        self.has_traits |= name.starts_with(TRAITS);
    }

    /// The next property is another event's.
    pub fn end(&mut self) -> Written {
        let written = Written {
            start: self.start,
            end: self.bytes.len(),
            count: self.count,
            raw_bytes: self.raw_bytes as u32,
            has_traits: self.has_traits,
        };
        (self.start, self.count, self.raw_bytes) = (self.bytes.len(), 0, 0);
        self.has_traits = false;
        written
    }

    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

impl Written {
    /// The event's own, of what its writer has made.
    pub fn cut(self, all: &Bytes) -> Properties {
        let Self { start, end, count, raw_bytes, has_traits } = self;
        Properties { bytes: all.slice(start..end), count, raw_bytes, has_traits }
    }
}

/// Appends a property.
pub fn put_property(out: &mut Vec<u8>, name: &str, value: PropertyRef<'_>) {
    put_text(out, name);
    match value {
        PropertyRef::String(text) => {
            out.push(TYPE_STRING);
            put_text(out, text);
        }
        PropertyRef::Integer(number) => {
            out.push(TYPE_INTEGER);
            put_zigzag(out, number);
        }
        PropertyRef::Float(number) => {
            out.push(TYPE_FLOAT);
            out.extend_from_slice(&number.to_le_bytes());
        }
        PropertyRef::Bool(false) => out.push(TYPE_FALSE),
        PropertyRef::Bool(true) => out.push(TYPE_TRUE),
        PropertyRef::Json(text) => {
            out.push(TYPE_JSON);
            put_text(out, text);
        }
    }
}

/// Seven bits a byte, the lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small numbers of either sign in few bytes.
pub fn put_zigzag(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)) as u64);
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_property<'a>(rest: &mut &'a [u8]) -> Result<(&'a str, PropertyRef<'a>), PropertiesError> {
    let name = take_text(rest)?;
    Ok((name, PropertyBytes::take(rest)?.to_text()?))
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, PropertiesError> {
    let (&byte, behind) = rest.split_first().ok_or(PropertiesError::EndsEarly)?;
    *rest = behind;
    Ok(byte)
}

pub fn take_varint(rest: &mut &[u8]) -> Result<u64, PropertiesError> {
    // Most numbers are lengths of names and short texts.
    if let Some((&byte, behind)) = rest.split_first()
        && byte < 0x80
    {
        *rest = behind;
        return Ok(byte.into());
    }
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(PropertiesError::LongNumber)
}

pub fn take_zigzag(rest: &mut &[u8]) -> Result<i64, PropertiesError> {
    let number = take_varint(rest)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

pub fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, PropertiesError> {
    utf8(take_name(rest)?)
}

/// A text whose bytes are not looked at.
fn take_name<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PropertiesError> {
    let size = usize::try_from(take_varint(rest)?).map_err(|_| PropertiesError::EndsEarly)?;
    let (text, behind) = rest.split_at_checked(size).ok_or(PropertiesError::EndsEarly)?;
    *rest = behind;
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<&str, PropertiesError> {
    std::str::from_utf8(bytes).map_err(|_| PropertiesError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = PropertyValue> {
        prop_oneof![
            any::<String>().prop_map(PropertyValue::String),
            any::<i64>().prop_map(PropertyValue::Integer),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(PropertyValue::Float),
            any::<bool>().prop_map(PropertyValue::Bool),
            any::<String>().prop_map(PropertyValue::Json),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(pairs in prop::collection::btree_map(any::<String>(), value(), 0..10)) {
            let properties: Properties = pairs.clone().into_iter().collect();
            let read: Vec<_> = properties.iter().map(|(name, value)| (name.to_owned(), value.to_value())).collect();
            prop_assert_eq!(&read, &pairs.into_iter().collect::<Vec<_>>());
            let again = Properties::read(properties.as_bytes().clone(), read.len() as u32).unwrap();
            prop_assert_eq!(again.raw_bytes(), properties.raw_bytes());
            prop_assert_eq!(again, properties);
        }

        #[test]
        fn any_bytes_are_properties_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0..6_u32) {
            if let Ok(properties) = Properties::read(bytes.into(), count) {
                prop_assert_eq!(properties.iter().count(), count as usize);
            }
        }
    }

    #[test]
    fn one_writer_cuts_the_properties_of_many_events() {
        let mut writer = PropertiesWriter::default();
        writer.push("a", PropertyRef::Integer(-1));
        let first = writer.end();
        let second = writer.end();
        writer.push("b", PropertyRef::String("x"));
        writer.push("c", PropertyRef::Bool(true));
        let third = writer.end();
        let all = writer.finish();
        let cut = [first, second, third].map(|written| written.cut(&all));
        assert_eq!(cut[0].get("a"), Some(PropertyRef::Integer(-1)));
        assert!(cut[1].is_empty());
        assert_eq!(
            (cut[2].len(), cut[2].get("c"), cut[2].get("a")),
            (2, Some(PropertyRef::Bool(true)), None)
        );
        let expected = [("c", PropertyValue::Bool(true)), ("b", PropertyValue::String("x".into()))]
            .into_iter()
            .collect();
        assert_eq!(cut[2], expected);
    }

    #[test]
    fn bytes_that_are_wrong_are_told_apart() {
        for (name, bytes, error) in [
            ("cut", &[1, b'a'][..], PropertiesError::EndsEarly),
            ("a text beyond the end", &[9, b'a'], PropertiesError::EndsEarly),
            ("a type", &[1, b'a', 9], PropertiesError::UnknownType(9)),
            ("a name", &[1, 0xff, 3], PropertiesError::NotUtf8),
            ("a byte more", &[1, b'a', 3, 0], PropertiesError::LeftOver(1)),
            ("NaN", &[1, b'a', 2, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f], PropertiesError::NotFinite),
            (
                "a long number",
                &[1, b'a', 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                PropertiesError::LongNumber,
            ),
        ] {
            assert_eq!(Properties::read(Bytes::copy_from_slice(bytes), 1), Err(error), "{name}");
        }
    }
}
