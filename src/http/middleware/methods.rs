//! HEAD wherever GET works, and OPTIONS everywhere: health checks of load balancers and uptime
//! services use either.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use bytes::Bytes;

pub async fn methods(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let method = request.method().clone();
    if method == Method::HEAD {
        // The codec has noted what was asked and writes no body.
        request.head_mut().method = Method::GET;
    }
    let mut response = next.call(request).await?.map_into_boxed_body();
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        name_all(response.headers_mut());
        if method == Method::OPTIONS {
            let mut answer = HttpResponse::NoContent().finish();
            if let Some(allow) = response.headers().get(header::ALLOW) {
                answer.headers_mut().insert(header::ALLOW, allow.clone());
            }
            return Ok(response.into_response(answer));
        }
    }
    if method == Method::HEAD {
        // Not even polled: a stream would keep the connection for as long as it lasts.
        response = response.map_body(|_, body| Left { size: body.size() }.boxed());
    }
    Ok(response)
}

/// Adds to `Allow` what works here without a route of its own.
fn name_all(headers: &mut HeaderMap) {
    let Some(allow) = headers.get(header::ALLOW).and_then(|allow| allow.to_str().ok()) else { return };
    let mut named: Vec<&str> = allow.split(',').map(str::trim).collect();
    if named.contains(&"GET") {
        named.push("HEAD");
    }
    if !named.contains(&"OPTIONS") {
        named.push("OPTIONS");
    }
    let allow = HeaderValue::from_str(&named.join(", ")).expect("names of methods are a header value");
    headers.insert(header::ALLOW, allow);
}

/// The length of a body that is not sent.
struct Left {
    size: BodySize,
}

impl MessageBody for Left {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}
