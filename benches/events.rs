//! The events that are sent: for one number always the same one, in whatever form.

use std::fmt::Write as _;
use std::ops::Range;

pub const EVENTS: [&str; 5] = ["$pageview", "product_viewed", "cart_added", "checkout_started", "purchase"];

pub fn id(n: u64) -> uuid::Uuid {
    // Spread, as random ids are: a plain unique index pays for that.
    let high = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    uuid::Uuid::from_u64_pair(high, n)
}

/// The same everywhere: what a web shop sends with an event.
pub fn properties(n: u64) -> String {
    let mut text = String::with_capacity(160);
    put_properties(&mut text, n);
    text
}

fn put_properties(text: &mut String, n: u64) {
    let put = write!(
        text,
        r#"{{"country":"{}","plan":"{}","amount":{}.{:02},"path":"/products/{}","referrer":"https://example.com/{}","mobile":{}}}"#,
        ["NL", "DE", "FR", "GB", "US"][n as usize % 5],
        ["free", "pro", "team"][n as usize % 3],
        n % 1_000,
        n % 100,
        n % 5_003,
        n % 211,
        n.is_multiple_of(2),
    );
    put.expect("a string takes any text");
}

/// How a protocol writes a list of events.
struct Shape {
    open: &'static str,
    /// Up to the id.
    event: &'static str,
    person: &'static str,
    close: &'static str,
}

/// What weir's own protocol takes.
pub fn native_body(numbers: Range<u64>) -> String {
    body(&Shape { open: "[", event: r#"{"id":"#, person: "distinct_id", close: "]" }, numbers)
}

/// Track messages of Segment's that become the same events.
pub fn segment_body(numbers: Range<u64>) -> String {
    let event = r#"{"type":"track","messageId":"#;
    body(&Shape { open: r#"{"batch":["#, event, person: "userId", close: "]}" }, numbers)
}

fn body(shape: &Shape, numbers: Range<u64>) -> String {
    let mut body = String::with_capacity(340 * (numbers.end - numbers.start) as usize);
    body.push_str(shape.open);
    for n in numbers {
        if body.len() > shape.open.len() {
            body.push(',');
        }
        let put = write!(
            body,
            r#"{}"{}","event":"{}","{}":"user-{}","timestamp":"2026-01-05T10:{:02}:{:02}Z","properties":"#,
            shape.event,
            id(n).as_hyphenated().encode_lower(&mut [0; 36]),
            EVENTS[n as usize % EVENTS.len()],
            shape.person,
            n % 50_021,
            n / 60 % 60,
            n % 60,
        );
        put.expect("a string takes any text");
        put_properties(&mut body, n);
        body.push('}');
    }
    body.push_str(shape.close);
    body
}
