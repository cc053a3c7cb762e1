//! What the files of all protocols do while they walk through a body: read the envelope around a
//! list of events, count events, notice a field that comes twice, and pass over members that nobody
//! asked for.

use std::borrow::Cow;

use crate::collection::outcome::{CollectError, Reason};
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::properties::read_properties;
use crate::collection::raw_event::{Field, RawEvent};
use crate::config::CollectionConfig;

/// What a protocol calls the members of an envelope.
pub(super) struct EnvelopeNames {
    pub list: &'static str,
    pub key: &'static str,
    pub sent_at: &'static str,
}

/// The object around events, or one event that says the same of itself.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// Where the list inside begins and ends, when there is one.
    pub list: Option<(usize, usize)>,
    pub key: Option<Cow<'a, str>>,
    pub sent_at: Field<'a>,
}

impl<'a> Envelope<'a> {
    /// Reads the object that the text is.
    pub(super) fn read(reader: &mut Reader<'a>, names: &EnvelopeNames) -> Result<Self, SyntaxError> {
        let mut envelope = Self { list: None, key: None, sent_at: Field::Absent };
        reader.begin_object()?;
        let mut is_first = true;
        while let Some(name) = reader.next_key(is_first)? {
            is_first = false;
            let (name, kind) = (name.value, reader.peek()?);
            if name == names.list && kind == Kind::Array {
                let from = reader.offset();
                // Its grammar is checked when its events are read.
                reader.skip_unchecked()?;
                envelope.list = Some((from, reader.position()));
            } else if name == names.sent_at {
                envelope.sent_at = Field::read(reader)?;
            } else if name == names.key && kind == Kind::String {
                envelope.key = Some(reader.string()?.value);
            } else if matches!(kind, Kind::Array | Kind::Object) {
                reader.skip_unchecked()?;
            } else {
                reader.skip_scalar(kind)?;
            }
        }
        reader.end()?;
        Ok(envelope)
    }
}

/// Gives `each` the place of every element of the list that an [`Envelope`] found in `text`.
pub(super) fn read_list_inside<'a>(
    text: &'a str,
    (from, to): (usize, usize),
    each: impl FnMut(&mut Reader<'a>) -> Result<(), CollectError>,
) -> Result<(), CollectError> {
    let mut reader = Reader::new(text);
    reader.seek(from);
    read_list(&mut reader, each)?;
    if reader.position() != to {
        // The envelope, which went by brackets alone, saw another end: one of them is of the wrong
        // kind, and a proper reading says which.
        let mut whole = Reader::new(text);
        whole.skip().and_then(|()| whole.end()).map_err(CollectError::NotJson)?;
    }
    Ok(())
}

/// The same for a list that comes next.
pub(super) fn read_list<'a>(
    reader: &mut Reader<'a>,
    mut each: impl FnMut(&mut Reader<'a>) -> Result<(), CollectError>,
) -> Result<(), CollectError> {
    reader.begin_array().map_err(CollectError::NotJson)?;
    let mut is_first = true;
    while reader.next_element(is_first).map_err(CollectError::NotJson)? {
        is_first = false;
        each(reader)?;
    }
    Ok(())
}

/// Hands events on, up to the limit of a request.
pub(super) struct Counted<'s> {
    count: usize,
    limit: usize,
    sink: &'s mut dyn FnMut(RawEvent<'_>),
}

impl<'s> Counted<'s> {
    pub(super) fn new(limits: &CollectionConfig, sink: &'s mut dyn FnMut(RawEvent<'_>)) -> Self {
        Self { count: 0, limit: limits.batch_events_max as usize, sink }
    }

    pub(super) fn push(&mut self, event: RawEvent<'_>) -> Result<(), CollectError> {
        self.count += 1;
        if self.count > self.limit {
            return Err(CollectError::TooManyEvents { limit: self.limit });
        }
        (self.sink)(event);
        Ok(())
    }
}

/// The known members that were already there, by their place in the protocol's own list.
#[derive(Default)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) fn has(&self, known: u8) -> bool {
        self.0 >> known & 1 == 1
    }

    pub(super) fn again(&mut self, known: u8) -> bool {
        let again = self.has(known);
        self.0 |= 1 << known;
        again
    }
}

/// Reads the value of an event's own member `name` as properties: an object, or null for none.
pub(super) fn read_properties_of<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
    name: &str,
) -> Result<(), SyntaxError> {
    match reader.peek()? {
        Kind::Object => read_properties(reader, event, limits, 2),
        Kind::Null => reader.null(),
        _ => {
            let found = Field::read(reader)?.shown();
            event.reject(Reason::Properties, format!("{name} must be an object, not {found}"));
            Ok(())
        }
    }
}

/// A member of an object of that depth that no one asked for: passed over, but an event that nests
/// too deep is one wherever it does so.
pub(super) fn skip_member<'a>(
    reader: &mut Reader<'a>,
    event: &mut RawEvent<'a>,
    limits: &CollectionConfig,
    depth: usize,
) -> Result<(), SyntaxError> {
    let start = reader.offset();
    reader.skip()?;
    if nesting(reader.since(start)) + depth > limits.depth_max as usize {
        event.reject(Reason::TooDeep, format!("nested deeper than {} levels", limits.depth_max));
    }
    Ok(())
}

/// How deep a sound JSON text nests.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}
