//! One file a protocol: it says on which paths its vendor's SDKs call, reads their requests into
//! [`RawEvent`]s, and owns the answers that they take for success or failure. `http/collect` puts every
//! protocol of [`PROTOCOLS`] on its paths and knows none of them; what comes after a [`RawEvent`]
//! (judgement, limits, commit, outcomes, metrics) is the same for all.
//!
//! ```text
//! head ── Protocol::begin ──▶ Begun: key?, reading
//! body ── inflated ──▶ text ── Reading::open ──▶ Document: key? ── read_events ──▶ RawEvent …
//!                     Answer ◀── Protocol::accepted | refused ◀── Collected | CollectError
//! ```

pub mod native;
pub mod segment;
mod walk;

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap};

use super::outcome::{CollectError, Collected};
use super::raw_event::RawEvent;
use crate::config::CollectionConfig;

/// Every protocol that is spoken.
pub static PROTOCOLS: [&dyn Protocol; 2] = [&native::Native, &segment::Segment];

/// A vendor's way to send events.
pub trait Protocol: Sync {
    fn routes(&self) -> &'static [Route];

    /// Takes from the head what the body will be read with.
    fn begin(&self, head: &Head<'_>) -> Result<Begun, CollectError>;

    /// What the vendor's SDKs take for success: they send no more.
    fn accepted(&self, collected: &Collected) -> Answer;

    /// What they understand of a failure; `None` is the problem document of weir's own API.
    fn refused(&self, refusal: &Refusal<'_>) -> Option<Answer>;
}

/// An address that the vendor's SDKs call, and what happens there.
#[derive(Clone, Copy)]
pub enum Route {
    /// A body of events is posted.
    Events(&'static str),
    /// A body is posted that is no events: what SDKs tell their makers about themselves. It is taken,
    /// so that they are content, and dropped.
    Dropped(&'static str),
    /// Asked with GET before anything is sent. `{name}` in the path is one segment of any text.
    StartUp(&'static str, fn(&Head<'_>, &BaseUrl) -> StartUp),
}

impl Route {
    pub fn path(&self) -> &'static str {
        match self {
            Self::Events(path) | Self::Dropped(path) | Self::StartUp(path, _) => path,
        }
    }
}

/// The head of a request.
pub struct Head<'r> {
    pub path: &'r str,
    pub query: &'r str,
    pub headers: &'r HeaderMap,
}

/// How the caller reaches this server: `https://weir.example.org`, without a slash at the end.
pub struct BaseUrl(pub String);

/// The answer to a start-up call, and the key it was asked with, which must be a good one.
pub struct StartUp {
    pub key: Option<String>,
    pub answer: Answer,
}

/// A request whose head was read.
pub struct Begun {
    /// The key that header and query carry. The body may carry one too: it must be the same.
    pub key: Option<String>,
    pub reading: Box<dyn Reading>,
}

/// How a body is to be read.
pub trait Reading: Send + Sync {
    fn open<'a>(&self, text: &'a str) -> Result<Box<dyn Document + 'a>, CollectError>;
}

/// A body whose outline is known: enough to see whose it is before its events are read.
pub trait Document {
    /// The write key, when the body carries it.
    fn key(&self) -> Option<&str>;

    /// Gives every event to `sink`, in order. An error means that the body is refused as a whole,
    /// whatever was given before.
    fn read_events(
        &self,
        limits: &CollectionConfig,
        sink: &mut dyn FnMut(RawEvent<'_>),
    ) -> Result<(), CollectError>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// Answers are not to be cached unless this says otherwise.
    pub cache_control: Option<&'static str>,
}

impl Answer {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body, cache_control: None }
    }
}

/// A request that was refused as a whole, in the API's words.
pub struct Refusal<'r> {
    pub status: u16,
    pub code: &'static str,
    pub detail: &'r str,
}

impl<'r> Head<'r> {
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&'r str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What follows the scheme's name (`Bearer`, `Basic`) in `Authorization`.
    fn authorization(&self, scheme: &str) -> Option<&'r str> {
        let (found, credentials) = self.header(header::AUTHORIZATION)?.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
    }

    /// The key in a parameter of the query. One that is there twice is as bad as two that differ.
    fn key_in_query(&self, name: &str) -> Result<Option<Cow<'r, str>>, CollectError> {
        if self.query.is_empty() {
            return Ok(None);
        }
        let pairs: Vec<(Cow<'r, str>, Cow<'r, str>)> =
            serde_urlencoded::from_str(self.query).map_err(|_| CollectError::Unauthorized)?;
        let mut values = pairs.into_iter().filter(|(found, _)| found == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            _ => Err(CollectError::Unauthorized),
        }
    }
}
