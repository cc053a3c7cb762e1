//! The request id, the line in the log, and the headers of every answer.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use tracing::Instrument;

use crate::http::HttpState;
use crate::telemetry::queries::tallied;

/// No inline script or style and no other host, ever: what a property's text could smuggle into a
/// page stays text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A year. Only said over https, where it is true.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Names one request in its answer, its log lines and its problem document.
#[derive(Clone)]
pub struct RequestId(pub String);

impl RequestId {
    /// The id that the middleware gave; empty outside of it.
    pub fn of(request: &HttpRequest) -> String {
        request.extensions().get::<Self>().map(|id| id.0.clone()).unwrap_or_default()
    }
}

pub async fn request<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let state = request.app_data::<web::Data<HttpState>>().expect("the server registers its state").clone();
    // Ours, never the client's: a log must not carry what a stranger chose.
    let id = format!("{:016x}", state.random.next_u64());
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let span = tracing::info_span!("request", request.id = id);

    let (response, queries) = tallied(next.call(request).instrument(span.clone())).await;
    let mut response = response?;

    let status = response.status();
    let route = response.request().match_pattern().unwrap_or_else(|| "(none)".to_owned());
    let duration = started.elapsed();
    let duration_ms = duration.as_secs_f64() * 1_000.0;
    state
        .http_metrics
        .request_seconds
        .with_label_values(&[known_method(&method), &route, status.as_str()])
        .observe(duration.as_secs_f64());
    span.in_scope(|| {
        // Collection alone may be thousands a second, and its own metrics say more.
        let quiet = status.is_success() && is_frequent(&route);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    http.method = method.as_str(),
                    http.route = route,
                    http.status = status.as_u16(),
                    duration_ms,
                    query.count = queries.count,
                    query.duration_ms = queries.duration.as_secs_f64() * 1_000.0,
                    "{method} {route} {} in {duration_ms:.1} ms",
                    status.as_u16()
                )
            };
        }
        if status.is_server_error() {
            line!(warn)
        } else if quiet {
            line!(debug)
        } else {
            line!(info)
        }
    });

    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits are a header value");
    headers.insert(HeaderName::from_static("x-request-id"), id);
    protect(headers, state.config.http.is_https());
    Ok(response)
}

/// Clients may invent methods without end; metrics may not have labels without end.
fn known_method(method: &Method) -> &str {
    let known = [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    if known.contains(method) { method.as_str() } else { "other" }
}

fn is_frequent(route: &str) -> bool {
    // "/v1/": the paths of other vendors' SDKs.
    ["/api/v1/events", "/v1/", "/weir.js", "/static/", "/healthz/", "/metrics"]
        .iter()
        .any(|start| route.starts_with(start))
}

fn protect(headers: &mut HeaderMap, https: bool) {
    let mut add = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    add(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    add(header::REFERRER_POLICY, "same-origin");
    add(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    if https {
        add(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
