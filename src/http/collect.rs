//! Collection: every protocol of [`PROTOCOLS`] on the paths that it names.
//!
//! The paths are public and have no cookies, so every origin may use them: CORS mirrors what a browser
//! asks for, since SDKs send headers of their own on their retries, and every answer, errors too,
//! carries it, or a browser could not read the status and would drop the batch.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource};

use crate::collection::budget::Budget;
use crate::collection::payload::{Body, BodyError, Encoding, read_body};
use crate::collection::protocols::{Answer, BaseUrl, Head, PROTOCOLS, Protocol, Refusal, Route, StartUp};
use crate::collection::{CollectError, Collected, Collector};
use crate::http::{ApiError, ErrorCode, HttpState, RequestId};

/// How long a browser may remember a preflight's answer; more than two hours none does.
const PREFLIGHT_MAX_AGE_SECS: &str = "7200";

pub fn routes(config: &mut ServiceConfig) {
    for protocol in PROTOCOLS {
        for route in protocol.routes() {
            config.service(resource(protocol, route));
        }
    }
}

fn resource(protocol: &'static dyn Protocol, route: &'static Route) -> Resource {
    let resource = web::resource(route.path());
    let (resource, methods) = match route {
        Route::Events(_) => {
            let collect = move |request, payload, collector| collect(protocol, request, payload, collector);
            (resource.route(web::post().to(collect)), "POST, OPTIONS")
        }
        Route::Dropped(_) => {
            let drop = move |request, payload, collector| drop_body(protocol, request, payload, collector);
            (resource.route(web::post().to(drop)), "POST, OPTIONS")
        }
        Route::StartUp(_, answer) => {
            let ask = move |request, collector, state| start_up(protocol, *answer, request, collector, state);
            (resource.route(web::get().to(ask)), "GET, OPTIONS")
        }
    };
    resource.route(web::method(Method::OPTIONS).to(move |request| preflight(request, methods)))
}

async fn collect(
    protocol: &'static dyn Protocol,
    request: HttpRequest,
    payload: Payload,
    collector: web::Data<Collector>,
) -> HttpResponse {
    let answer = match receive(protocol, &request, payload, &collector).await {
        Ok(collected) => written(protocol.accepted(&collected)),
        Err(error) => refusal(protocol, &request, error, &collector),
    };
    with_cors(answer, request.headers())
}

async fn receive(
    protocol: &'static dyn Protocol,
    request: &HttpRequest,
    payload: Payload,
    collector: &Collector,
) -> Result<Collected, CollectError> {
    // What can be judged without the body: a key in header or query, and the encoding. A refusal
    // here leaves the body unread; actix lingers so that the client sees the answer.
    let begun = protocol.begin(&head(request))?;
    let memory = match &begun.key {
        Some(key) => {
            collector.authenticate(key).await?;
            collector.bodies()
        }
        None => collector.keyless_bodies(),
    };
    let body = body(request, payload, collector, memory).await?;
    // A task of its own: a client that goes away must not leave its events half counted.
    let collector = collector.clone();
    let collecting = tokio::spawn(async move { collector.collect(body, begun).await });
    match collecting.await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

async fn body(
    request: &HttpRequest,
    payload: Payload,
    collector: &Collector,
    memory: &Budget,
) -> Result<Body, CollectError> {
    let encoding = Encoding::from_header(header_text(request, header::CONTENT_ENCODING))?;
    let length = header_text(request, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Ok(read_body(payload, encoding, length, collector.body_limits(), memory).await?)
}

/// Reads a body to its end, under the same limits, and answers as if it had held no event.
async fn drop_body(
    protocol: &'static dyn Protocol,
    request: HttpRequest,
    payload: Payload,
    collector: web::Data<Collector>,
) -> HttpResponse {
    let answer = match body(&request, payload, &collector, collector.keyless_bodies()).await {
        Ok(_) => written(protocol.accepted(&Collected::default())),
        Err(error) => refusal(protocol, &request, error, &collector),
    };
    with_cors(answer, request.headers())
}

async fn start_up(
    protocol: &'static dyn Protocol,
    answer: fn(&Head<'_>, &BaseUrl) -> StartUp,
    request: HttpRequest,
    collector: web::Data<Collector>,
    state: web::Data<HttpState>,
) -> HttpResponse {
    let StartUp { key, answer } = answer(&head(&request), &base_url(&request, &state));
    let known = match key {
        Some(key) => collector.authenticate(&key).await.map(drop),
        None => Ok(()),
    };
    let answer = match known {
        // While keys cannot be looked up, an SDK that is told no would never send anything.
        Ok(()) | Err(CollectError::Unavailable(_)) => written(answer),
        Err(error) => refusal(protocol, &request, error, &collector),
    };
    with_cors(answer, request.headers())
}

/// The configured address, else the one that was asked.
fn base_url(request: &HttpRequest, state: &HttpState) -> BaseUrl {
    let host = header_text(request, header::HOST);
    match (state.config.http.public_url.as_str(), host) {
        ("", Some(host)) => BaseUrl(format!("http://{host}")),
        _ => BaseUrl(state.config.http.shown_url()),
    }
}

fn head(request: &HttpRequest) -> Head<'_> {
    Head { path: request.path(), query: request.query_string(), headers: request.headers() }
}

fn header_text(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

async fn preflight(request: HttpRequest, methods: &'static str) -> HttpResponse {
    let mut answer = HttpResponse::NoContent();
    answer.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods));
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
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    answer
}

fn refusal(
    protocol: &'static dyn Protocol,
    request: &HttpRequest,
    error: CollectError,
    collector: &Collector,
) -> HttpResponse {
    let retry_after_secs = collector.retry_after_secs(&error);
    let error = api_error(error);
    let (code, status) = (error.code().name(), error.code().status());
    collector.metrics().refused_requests.with_label_values(&[code]).inc();
    // Written here and not by the middleware, which would leave out what CORS needs.
    let refusal = Refusal { status: status.as_u16(), code, detail: error.detail() };
    let mut answer = match protocol.refused(&refusal) {
        Some(answer) => written(answer),
        None => error.problem(&RequestId::of(request)).respond(status),
    };
    let headers = answer.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(secs) = retry_after_secs {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    answer
}

fn written(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).expect("a protocol answers with a status of HTTP");
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, answer.content_type));
    if let Some(cache_control) = answer.cache_control {
        response.insert_header((header::CACHE_CONTROL, cache_control));
    }
    response.body(answer.body)
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
