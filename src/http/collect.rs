//! `POST /api/v1/events`: weir's own collection endpoint.
//!
//! The path is public and has no cookies, so every origin may use it: CORS mirrors what a browser asks
//! for, since SDKs send headers of their own on their retries, and every answer, errors too, carries
//! it, or a browser could not read the status and would drop the batch.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use crate::collection::keys::one_key;
use crate::collection::payload::{BodyError, Encoding, read_body};
use crate::collection::{CollectError, Collected, Collector};
use crate::http::{ApiError, ErrorCode, RequestId};

/// How long a browser may remember a preflight's answer; more than two hours none does.
const PREFLIGHT_MAX_AGE_SECS: &str = "7200";

pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/api/v1/events")
            .route(web::post().to(collect))
            .route(web::method(Method::OPTIONS).to(preflight)),
    );
}

async fn collect(request: HttpRequest, payload: Payload, collector: web::Data<Collector>) -> HttpResponse {
    let answer = match receive(&request, payload, &collector).await {
        Ok(collected) => HttpResponse::Ok().json(collected),
        Err(error) => refusal(&request, error, &collector),
    };
    with_cors(answer, request.headers())
}

async fn receive(
    request: &HttpRequest,
    payload: Payload,
    collector: &Collector,
) -> Result<Collected, CollectError> {
    // A refusal here leaves the body unread; actix lingers so that the client sees the answer.
    let (key, encoding) = before_body(request, collector).await?;
    let length = header_text(request, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let body = read_body(payload, encoding, length, collector.body_limits(), collector.bodies()).await?;
    let content_type = header_text(request, header::CONTENT_TYPE).map(str::to_owned);
    // A task of its own: a client that goes away must not leave its events half counted.
    let collector = collector.clone();
    let collecting = tokio::spawn(async move { collector.collect(body, key, content_type).await });
    match collecting.await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// What can be judged without the body: a key in header or query, and the encoding.
async fn before_body(
    request: &HttpRequest,
    collector: &Collector,
) -> Result<(Option<String>, Encoding), CollectError> {
    #[derive(Deserialize)]
    struct InQuery {
        key: Option<String>,
    }
    // A key that is there twice is as bad as two that differ.
    let in_query = web::Query::<InQuery>::from_query(request.query_string());
    let in_query = in_query.map_err(|_| CollectError::Unauthorized)?.into_inner().key;
    let key = match (bearer(request), in_query.as_deref()) {
        (None, None) => None,
        candidates => Some(one_key([candidates.0, candidates.1])?.to_owned()),
    };
    if let Some(key) = &key {
        collector.authenticate(key).await?;
    }
    Ok((key, Encoding::from_header(header_text(request, header::CONTENT_ENCODING))?))
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, key) = header_text(request, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn header_text(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

async fn preflight(request: HttpRequest) -> HttpResponse {
    let mut answer = HttpResponse::NoContent();
    answer.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"));
    answer.insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_SECS));
    if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
    }
    with_cors(answer.finish(), request.headers())
}

fn with_cors(mut answer: HttpResponse, asked: &HeaderMap) -> HttpResponse {
    let headers = answer.headers_mut();
    if let Some(origin) = asked.get(header::ORIGIN) {
        // The very origin and not a star: some SDKs send with credentials, for which a star is none.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    answer
}

fn refusal(request: &HttpRequest, error: CollectError, collector: &Collector) -> HttpResponse {
    let retry_after_secs = collector.retry_after_secs(&error);
    let error = api_error(error);
    collector.metrics().refused_requests.with_label_values(&[error.code().name()]).inc();
    // Written here and not by the middleware, which would leave out what CORS needs.
    let status = error.code().status();
    let mut answer = error.problem(&RequestId::of(request)).respond(status);
    let headers = answer.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(secs) = retry_after_secs {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    answer
}

fn api_error(error: CollectError) -> ApiError {
    let code = match &error {
        CollectError::Unauthorized => ErrorCode::Unauthenticated,
        CollectError::NotJson(_) | CollectError::Shape(_) => ErrorCode::Malformed,
        CollectError::TooManyEvents { .. } | CollectError::TooLargeWhenFlat { .. } => {
            ErrorCode::PayloadTooLarge
        }
        CollectError::Unavailable(_) => ErrorCode::Unavailable,
        CollectError::Body(error) => match error {
            BodyError::TooLarge { .. } => ErrorCode::PayloadTooLarge,
            BodyError::TooSlow { .. } => ErrorCode::RequestTimeout,
            BodyError::Encoding { .. } | BodyError::Nested => ErrorCode::UnsupportedMediaType,
            BodyError::Broken | BodyError::Inflate { .. } | BodyError::Empty | BodyError::NotUtf8 { .. } => {
                ErrorCode::Malformed
            }
            BodyError::OutOfMemory(_) => ErrorCode::Unavailable,
        },
    };
    let mut detail = error.to_string();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    ApiError::new(code, detail + ".")
}

#[cfg(test)]
mod tests;
