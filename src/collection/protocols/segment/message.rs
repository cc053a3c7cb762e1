//! One message of Segment's: which event it becomes.

use super::context;
use crate::collection::outcome::Reason;
use crate::collection::payload::json::{Kind, Reader, SyntaxError};
use crate::collection::properties::read_property;
use crate::collection::protocols::walk::{Seen, read_properties_of, skip_member};
use crate::collection::raw_event::{Field, RawEvent, shown_text};
use crate::config::CollectionConfig;

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Track,
    Identify,
    Page,
    Screen,
    Group,
    Alias,
}

impl Call {
    /// The last part of a path; those of batches are none.
    pub(super) fn of_path(name: &str) -> Option<Self> {
        Some(match name {
            "track" | "t" => Self::Track,
            "identify" | "i" => Self::Identify,
            "page" | "p" => Self::Page,
            "screen" | "s" => Self::Screen,
            "group" | "g" => Self::Group,
            "alias" | "a" => Self::Alias,
            _ => return None,
        })
    }

    /// A message's own `type`.
    fn of_type(name: &Field<'_>) -> Option<Self> {
        match name {
            Field::Text { value, .. } if value.len() > 1 => Self::of_path(value),
            _ => None,
        }
    }
}

/// The members of a message that are not a field of [`RawEvent`] as they are.
#[derive(Default)]
struct Message<'a> {
    kind: Field<'a>,
    event: Field<'a>,
    user_id: Field<'a>,
    anonymous_id: Field<'a>,
    previous_id: Field<'a>,
    original_timestamp: Field<'a>,
    /// Where the values of these begin: what they are depends on the kind, which may come later.
    name_at: Option<usize>,
    category_at: Option<usize>,
    group_id_at: Option<usize>,
}

/// Reads the message that comes next; `call` is what its path says that it is.
pub(super) fn read_message<'a>(
    reader: &mut Reader<'a>,
    call: Option<Call>,
    limits: &CollectionConfig,
) -> Result<RawEvent<'a>, SyntaxError> {
    let mut event = RawEvent::default();
    let mut message = Message::default();
    let start = reader.offset();
    if reader.peek()? != Kind::Object {
        reader.skip()?;
        event.text = reader.since(start);
        event.reject(Reason::NotAnObject, "a message is a JSON object");
        return Ok(event);
    }
    // Where the properties of the context lie among all.
    let mut of_context = 0..0;
    let mut seen = Seen::default();
    reader.begin_object()?;
    let mut is_first = true;
    while let Some(name) = reader.next_key(is_first)? {
        is_first = false;
        let Some(known) = Known::of(&name.value) else {
            skip_member(reader, &mut event, limits, 1)?;
            continue;
        };
        if seen.again(known as u8) {
            event.reject(Reason::DuplicateField, format!("{} is there twice", shown_text(&name.value)));
            reader.skip()?;
            continue;
        }
        match known {
            Known::Type => message.kind = Field::read(reader)?,
            Known::Event => message.event = Field::read(reader)?,
            Known::UserId => message.user_id = Field::read(reader)?,
            Known::AnonymousId => message.anonymous_id = Field::read(reader)?,
            Known::PreviousId => message.previous_id = Field::read(reader)?,
            Known::MessageId => event.id = Field::read(reader)?,
            Known::Timestamp => event.timestamp = Field::read(reader)?,
            Known::OriginalTimestamp => message.original_timestamp = Field::read(reader)?,
            Known::SentAt => event.sent_at = Field::read(reader)?,
            Known::Properties | Known::Traits => {
                read_properties_of(reader, &mut event, limits, &name.value)?;
            }
            Known::Context => {
                let from = event.properties.len();
                context::read(reader, &mut event, limits)?;
                of_context = from..event.properties.len();
            }
            Known::Name => message.name_at = Some(passed(reader)?),
            Known::Category => message.category_at = Some(passed(reader)?),
            Known::GroupId => message.group_id_at = Some(passed(reader)?),
        }
    }
    event.text = reader.since(start);
    // The last of equal names is kept, and what the sender says of the event itself goes before
    // what the SDK says of its surroundings.
    event.properties[..of_context.end].rotate_right(of_context.len());
    match call.or_else(|| Call::of_type(&message.kind)) {
        Some(call) => message.complete(&mut event, call, reader, limits)?,
        None => {
            let shown = message.kind.shown();
            event.reject(
                Reason::EventName,
                format!("type must be track, identify, page, screen, group or alias, not {shown}"),
            );
        }
    }
    Ok(event)
}

/// Passes a value; where it begins.
fn passed(reader: &mut Reader<'_>) -> Result<usize, SyntaxError> {
    let at = reader.offset();
    reader.skip()?;
    Ok(at)
}

impl<'a> Message<'a> {
    fn complete(
        self,
        event: &mut RawEvent<'a>,
        call: Call,
        reader: &Reader<'a>,
        limits: &CollectionConfig,
    ) -> Result<(), SyntaxError> {
        event.event = match call {
            Call::Track => self.event,
            Call::Identify => Field::text("$identify"),
            Call::Page => Field::text("$pageview"),
            Call::Screen => Field::text("$screen"),
            Call::Group => Field::text("$group"),
            Call::Alias => Field::text("$alias"),
        };
        let named = match call {
            Call::Page | Call::Screen => [("name", self.name_at), ("category", self.category_at)],
            Call::Group => [("$group_id", self.group_id_at), ("", None)],
            Call::Track | Call::Identify | Call::Alias => [("", None), ("", None)],
        };
        for (name, at) in named {
            if let Some(at) = at {
                let mut reader = reader.clone();
                reader.seek(at);
                read_property(&mut reader, event, limits, name.into(), 1)?;
            }
        }
        if event.timestamp.is_absent() {
            event.timestamp = self.original_timestamp;
        }
        let before = match call {
            Call::Alias if !self.previous_id.is_blank() => self.previous_id,
            _ => self.anonymous_id,
        };
        if !self.user_id.is_blank() {
            event.distinct_id = self.user_id;
            event.anonymous_id = before;
        } else if call == Call::Alias {
            event.reject(Reason::DistinctId, "userId must say whom previousId is another id of");
        } else if before.is_blank() {
            event.reject(Reason::DistinctId, "userId or anonymousId must say who did it");
        } else {
            event.distinct_id = before;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Known {
    Type,
    Event,
    UserId,
    AnonymousId,
    PreviousId,
    GroupId,
    MessageId,
    Timestamp,
    OriginalTimestamp,
    SentAt,
    Properties,
    Traits,
    Context,
    Name,
    Category,
}

impl Known {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "type" => Self::Type,
            "event" => Self::Event,
            "userId" => Self::UserId,
            "anonymousId" => Self::AnonymousId,
            "previousId" => Self::PreviousId,
            "groupId" => Self::GroupId,
            "messageId" => Self::MessageId,
            "timestamp" => Self::Timestamp,
            "originalTimestamp" => Self::OriginalTimestamp,
            "sentAt" => Self::SentAt,
            "properties" => Self::Properties,
            "traits" => Self::Traits,
            "context" => Self::Context,
            "name" => Self::Name,
            "category" => Self::Category,
            _ => return None,
        })
    }
}
