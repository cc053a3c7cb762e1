//! gzip for texts. Our own and not actix's, whose feature would also inflate request bodies inside
//! its extractors: a body of 405 bytes takes 545 MB there before any limit is looked at.

use std::io::Write;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Smaller ones fit into a packet anyway.
const BYTES_MIN: u64 = 1_024;
/// Larger ones would hold up the other requests of this worker thread.
const BYTES_INLINE_MAX: u64 = 128 * 1_024;

pub async fn compress(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let accepted = accepts_gzip(request.headers());
    let mut response = next.call(request).await?.map_into_boxed_body();
    if !is_text(response.headers()) {
        return Ok(response);
    }
    add_vary(response.headers_mut());
    let status = response.status();
    let size = match response.response().body().size() {
        BodySize::Sized(size) => size,
        // Event streams and pages of unknown length go out as they come.
        BodySize::None | BodySize::Stream => return Ok(response),
    };
    if !accepted || size < BYTES_MIN || status == StatusCode::PARTIAL_CONTENT {
        return Ok(response);
    }
    let (request, response) = response.into_parts();
    let (response, body) = response.into_parts();
    let body = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        Err(body) => return Ok(ServiceResponse::new(request, response.set_body(body))),
    };
    let small = match size {
        0..=BYTES_INLINE_MAX => gzip(&body, Compression::new(6)),
        _ => web::block(move || gzip(&body, Compression::fast())).await.map_err(Error::from)?,
    };
    let mut response = response.set_body(BoxBody::new(small));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(ServiceResponse::new(request, response))
}

/// In one line with what is there: some caches and clients look at one line only.
fn add_vary(headers: &mut HeaderMap) {
    let there = headers.get_all(header::VARY).filter_map(|value| value.to_str().ok());
    let all: Vec<&str> = there.chain(["accept-encoding"]).collect();
    let all = HeaderValue::from_str(&all.join(", ")).expect("header values joined are a header value");
    headers.insert(header::VARY, all);
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(header::ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    matches!(kind, "application/json" | "application/problem+json" | "application/x-ndjson" | "image/svg+xml")
        || (kind.starts_with("text/") && kind != "text/event-stream")
}

fn gzip(body: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), level);
    encoder.write_all(body).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_when_it_is_wanted() {
        for (accept, wanted) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.8", true),
            ("*", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(accepts_gzip(&headers), wanted, "{accept}");
        }
    }
}
