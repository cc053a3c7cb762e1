//! What the files of all protocols do while they walk through a body: read the envelope around a
//! list of events, count events, notice a field that comes twice, and pass over members that nobody
//! asked for.

use std::borrow::Cow;

use crate::collection::outcome::{CollectError, Reason};
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::properties::read_properties;
use crate::collection::raw_event::{Field, RawEvent};
use crate::config::CollectionConfig;
use crate::model::KeyKind;

/// What a protocol calls the members of an envelope.
pub(super) struct EnvelopeNames {
    pub list: &'static str,
    pub key: &'static str,
    pub sent_at: &'static str,
    /// Members that only an event has: an object with one of them is an event, whatever else is in it.
    pub of_event: &'static [&'static str],
}

/// The object around events, or one event that says the same of itself.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// Where the list inside begins and ends, when there is one.
    pub list: Option<(usize, usize)>,
    pub key: Option<Cow<'a, str>>,
    pub sent_at: Field<'a>,
}

/// What was met on the way through an envelope, before it is known whether it is one.
#[derive(Default)]
struct Met<'a> {
    is_event: bool,
    lists: usize,
    sent_ats: usize,
    keys: Vec<Cow<'a, str>>,
    /// Where the members begin that were passed by their brackets alone.
    unchecked: Vec<usize>,
}

/// More keys than that are as many as one too many.
const KEYS_MET_MAX: usize = 8;
/// From this many on members are checked at once, so that remembering them stays small.
const UNCHECKED_MAX: usize = 64;

impl<'a> Envelope<'a> {
    /// Reads the object that the text is.
    pub(super) fn read(reader: &mut Reader<'a>, names: &EnvelopeNames) -> Result<Self, CollectError> {
        let mut envelope = Self { list: None, key: None, sent_at: Field::Absent };
        let met = envelope.walk(reader, names).map_err(CollectError::NotJson)?;
        envelope.settle(reader, met)?;
        Ok(envelope)
    }

    fn walk(&mut self, reader: &mut Reader<'a>, names: &EnvelopeNames) -> Result<Met<'a>, SyntaxError> {
        let mut met = Met::default();
        reader.begin_object()?;
        let mut is_first = true;
        while let Some(name) = reader.next_key(is_first)? {
            is_first = false;
            let (name, kind) = (name.value, reader.peek()?);
            met.is_event |= names.of_event.contains(&&*name);
            if name == names.list && kind == Kind::Array {
                let from = reader.offset();
                // Its grammar is checked when its events are read.
                reader.skip_unchecked()?;
                self.list = Some((from, reader.position()));
                met.lists += 1;
            } else if name == names.sent_at {
                self.sent_at = Field::read(reader)?;
                met.sent_ats += 1;
            } else if name == names.key && kind == Kind::String {
                let key = reader.string()?.value;
                if met.keys.len() < KEYS_MET_MAX {
                    met.keys.push(key);
                }
            } else if matches!(kind, Kind::Array | Kind::Object) && met.unchecked.len() < UNCHECKED_MAX {
                // An event's own properties are in here, and are read properly only once.
                met.unchecked.push(reader.offset());
                reader.skip_unchecked()?;
            } else {
                reader.skip()?;
            }
        }
        reader.end()?;
        Ok(met)
    }

    /// Now that all of it was seen: an event, or an envelope in which nothing is there twice and
    /// everything is JSON.
    fn settle(&mut self, reader: &mut Reader<'a>, mut met: Met<'a>) -> Result<(), CollectError> {
        if met.is_event {
            self.list = None;
            // A member of its own that happens to be called so is no key.
            met.keys.retain(|key| key.starts_with(KeyKind::Write.prefix()));
        }
        if met.keys.len() > 1 {
            return Err(CollectError::Unauthorized);
        }
        self.key = met.keys.pop();
        if self.list.is_none() {
            return Ok(());
        }
        if met.lists > 1 {
            return Err(CollectError::Shape("the list of events is there twice; send one"));
        }
        if met.sent_ats > 1 {
            return Err(CollectError::Shape("the time of sending is there twice; send one"));
        }
        for from in met.unchecked {
            reader.seek(from);
            reader.skip().map_err(CollectError::NotJson)?;
        }
        Ok(())
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
