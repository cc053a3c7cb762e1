//! Bodies, read raw under a limit and a deadline.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::state_of;
use crate::http::{ApiError, ErrorCode};

/// actix has no timer on a body: without one a client that goes silent keeps its place for ever.
const READ_TIME_MAX: Duration = Duration::from_secs(15);

/// The body as it was sent, of `bytes_max` at most.
pub async fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("The body is larger than {bytes_max} bytes.");
        ApiError::new(ErrorCode::PayloadTooLarge, detail)
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large());
    }
    let read = async {
        let mut body = BytesMut::with_capacity(announced as usize);
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::malformed("The body ended before it was complete.").with_source(error)
            })?;
            if body.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(time_max, read).await {
        Ok(read) => read,
        Err(_) => {
            let detail = format!("The body did not arrive within {} s.", time_max.as_secs());
            Err(ApiError::new(ErrorCode::RequestTimeout, detail))
        }
    }
}

/// The body of an API call. `application/json` is required: other sites cannot send it without
/// being asked first, so it also keeps their forms out.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            if !is_json(&request) {
                let detail = "Send JSON with Content-Type: application/json, not encoded.";
                return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
            }
            let bytes_max = state_of(&request).config.http.api_body_bytes_max as usize;
            let body = read_body(&request, &mut payload, bytes_max, READ_TIME_MAX).await?;
            // serde would take a list for the members in order.
            if body.trim_ascii_start().first() == Some(&b'[') {
                return Err(ApiError::malformed("The body is a list; send an object."));
            }
            serde_json::from_slice(&body)
                .map(Self)
                .map_err(|error| ApiError::malformed(format!("The body cannot be read: {error}.")))
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") && !request.headers().contains_key(header::CONTENT_ENCODING)
}
