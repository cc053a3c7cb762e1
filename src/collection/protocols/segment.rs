//! Segment's tracking API, as its SDKs for Node, Python and browsers speak it; the host is all that
//! has to be changed in them.
//!
//! * `POST /v1/{track,identify,page,screen,group,alias}`, or one letter each: one message.
//! * `POST /v1/{batch,b,import}`: `{"batch": […], "writeKey"?, "sentAt"?}`.
//! * `GET /v1/projects/{key}/settings`: what analytics.js loads before it sends; without an answer it
//!   never sends anything. `POST /v1/m` takes its own metrics.
//!
//! The write key is the user name of Basic auth, `writeKey` in the body, or both; server SDKs send
//! it in one or the other. Any answer below 300 is success to all of them; Python reads `code` and
//! `message` of an error.
//!
//! | message | becomes |
//! |---|---|
//! | track | its own event |
//! | page, screen | `$pageview`, `$screen`, with `name` and `category` as properties |
//! | identify | `$identify` with the traits as properties; links `anonymousId` with `userId` |
//! | group | `$group` with the traits as properties, and `$group_id` |
//! | alias | `$alias`; links `previousId` with `userId` |
//!
//! `context` becomes properties that begin with `$`: see [`context`].

mod context;
mod message;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use self::message::{Call, read_message};
use super::walk::{Counted, Envelope, EnvelopeNames, read_list_inside};
use super::{Answer, BaseUrl, Begun, Document, Head, Protocol, Reading, Refusal, Route, StartUp};
use crate::collection::keys::one_key;
use crate::collection::outcome::{CollectError, Collected};
use crate::collection::payload::json::{Kind, Reader};
use crate::collection::raw_event::RawEvent;
use crate::config::CollectionConfig;

/// How long a browser may keep the settings: a page load later they are asked for again, and they
/// change only when this server's address does.
const SETTINGS_CACHE: &str = "public, max-age=300";

pub struct Segment;

impl Protocol for Segment {
    fn routes(&self) -> &'static [Route] {
        &[
            Route::Events("/v1/batch"),
            Route::Events("/v1/b"),
            Route::Events("/v1/import"),
            Route::Events("/v1/track"),
            Route::Events("/v1/t"),
            Route::Events("/v1/identify"),
            Route::Events("/v1/i"),
            Route::Events("/v1/page"),
            Route::Events("/v1/p"),
            Route::Events("/v1/screen"),
            Route::Events("/v1/s"),
            Route::Events("/v1/group"),
            Route::Events("/v1/g"),
            Route::Events("/v1/alias"),
            Route::Events("/v1/a"),
            Route::Dropped("/v1/m"),
            Route::StartUp("/v1/projects/{key}/settings", settings),
        ]
    }

    fn begin(&self, head: &Head<'_>) -> Result<Begun, CollectError> {
        let in_header = match head.authorization("Basic") {
            Some(credentials) => user_name(credentials)?,
            None => head.authorization("Bearer").map(str::to_owned),
        };
        // What a pixel or a beacon can do, which set no header.
        let in_query = head.key_in_query("writeKey")?;
        let key = match (in_header.as_deref(), in_query.as_deref()) {
            (None, None) => None,
            (in_header, in_query) => Some(one_key([in_header, in_query])?.to_owned()),
        };
        let call = head.path.rsplit('/').next().and_then(Call::of_path);
        Ok(Begun { key, reading: Box::new(SegmentReading { call }) })
    }

    /// Rejected events are told in the project's pages and metrics: an SDK could do nothing about them.
    fn accepted(&self, _collected: &Collected) -> Answer {
        Answer::json(200, json!({"success": true}).to_string())
    }

    fn refused(&self, refusal: &Refusal<'_>) -> Option<Answer> {
        let message = match refusal.code {
            // How the key travels is the SDK's affair.
            "unauthenticated" => "Give the SDK a valid write key of weir (wk_…).",
            _ => refusal.detail,
        };
        let body = json!({"success": false, "code": refusal.code, "message": message});
        Some(Answer::json(refusal.status, body.to_string()))
    }
}

/// The user name of Basic auth; the password is not used.
fn user_name(credentials: &str) -> Result<Option<String>, CollectError> {
    let plain = STANDARD.decode(credentials).map_err(|_| CollectError::Unauthorized)?;
    let plain = String::from_utf8(plain).map_err(|_| CollectError::Unauthorized)?;
    let name = plain.split(':').next().unwrap_or_default();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// `apiHost` has no scheme and includes the path; without `protocol` analytics.js uses https.
fn settings(head: &Head<'_>, base_url: &BaseUrl) -> StartUp {
    let key = head.path.split('/').nth(3).unwrap_or_default();
    let (protocol, host) = base_url.0.split_once("://").unwrap_or(("http", &base_url.0));
    let body = json!({
        "integrations": {
            "Segment.io": {"apiKey": key, "apiHost": format!("{host}/v1"), "protocol": protocol},
        },
        "plan": {},
        "remotePlugins": [],
        "metrics": {"sampleRate": 0},
    });
    let answer = Answer { cache_control: Some(SETTINGS_CACHE), ..Answer::json(200, body.to_string()) };
    StartUp { key: Some(key.to_owned()), answer }
}

struct SegmentReading {
    /// Of a single message: its path says what it is. A batch's messages say it themselves.
    call: Option<Call>,
}

impl Reading for SegmentReading {
    fn open<'a>(&self, text: &'a str) -> Result<Box<dyn Document + 'a>, CollectError> {
        const NAMES: EnvelopeNames =
            EnvelopeNames { list: "batch", key: "writeKey", sent_at: "sentAt", of_event: &[] };
        let mut reader = Reader::new(text);
        if reader.peek().map_err(CollectError::NotJson)? != Kind::Object {
            return Err(CollectError::Shape("send a message, or an object with a batch of messages"));
        }
        let envelope = Envelope::read(&mut reader, &NAMES)?;
        let content = match (self.call, envelope.list) {
            (Some(call), _) => Content::Message(call),
            (None, Some(list)) => Content::Batch(list),
            (None, None) => return Err(CollectError::Shape("send the messages as a list in \"batch\"")),
        };
        Ok(Box::new(SegmentBody { text, envelope, content }))
    }
}

struct SegmentBody<'a> {
    text: &'a str,
    envelope: Envelope<'a>,
    content: Content,
}

enum Content {
    Message(Call),
    /// Where the list begins and ends.
    Batch((usize, usize)),
}

impl<'a> SegmentBody<'a> {
    fn read_one(
        &self,
        reader: &mut Reader<'a>,
        call: Option<Call>,
        limits: &CollectionConfig,
        counted: &mut Counted<'_>,
    ) -> Result<(), CollectError> {
        let mut event = read_message(reader, call, limits).map_err(CollectError::NotJson)?;
        if event.sent_at.is_absent() {
            event.sent_at = self.envelope.sent_at.clone();
        }
        counted.push(event)
    }
}

impl Document for SegmentBody<'_> {
    fn key(&self) -> Option<&str> {
        self.envelope.key.as_deref()
    }

    fn read_events(
        &self,
        limits: &CollectionConfig,
        sink: &mut dyn FnMut(RawEvent<'_>),
    ) -> Result<(), CollectError> {
        let mut counted = Counted::new(limits, sink);
        match self.content {
            Content::Message(call) => {
                self.read_one(&mut Reader::new(self.text), Some(call), limits, &mut counted)
            }
            Content::Batch(list) => {
                read_list_inside(self.text, list, |reader| self.read_one(reader, None, limits, &mut counted))
            }
        }
    }
}

#[cfg(test)]
mod tests;
