//! Writes a failure down: as a problem document, or as a page for a browser on a page's address.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};

use super::RequestId;
use crate::http::extract::{ProjectPage, find_session};
use crate::http::web::frame::account_frame;
use crate::http::web::views::{self, BareErrorPage, ErrorPage, Frame, Nav};
use crate::http::{ApiError, ErrorCode, HttpState};

pub async fn errors(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?.map_into_boxed_body();
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return Ok(response);
    }
    let known = response.response().error().and_then(|error| error.as_error::<ApiError>());
    let made;
    let error = match known {
        Some(error) => error,
        // What a handler wrote itself, a vendor's own error format for one, stays as it is.
        None if response.response().error().is_none()
            && response.headers().contains_key(header::CONTENT_TYPE) =>
        {
            return Ok(response);
        }
        None => {
            made = of_framework(&response);
            &made
        }
    };
    let mut written = write_down(response.request(), error).await;
    if let Some(allow) = response.headers().get(header::ALLOW) {
        written.headers_mut().insert(header::ALLOW, allow.clone());
    }
    Ok(response.into_response(written))
}

/// An error that actix made: no such route or method, a parameter that does not parse.
fn of_framework(response: &ServiceResponse<BoxBody>) -> ApiError {
    let code = ErrorCode::of_status(response.status());
    match (code, response.response().error()) {
        (ErrorCode::MethodNotAllowed, _) => {
            ApiError::new(code, format!("{} is not allowed here.", response.request().method()))
        }
        (ErrorCode::Malformed, Some(error)) => ApiError::new(code, format!("{error}.")),
        (ErrorCode::Internal, Some(error)) => ApiError::internal(error.to_string()),
        (ErrorCode::NotFound, _) => ApiError::not_found("There is nothing at this address."),
        (code, _) => ApiError::new(code, format!("{}.", code.title())),
    }
}

async fn write_down(request: &HttpRequest, error: &ApiError) -> HttpResponse {
    let request_id = RequestId::of(request);
    log(error);
    let html = wants_page(request);
    if let (true, Some(location)) = (html, error.redirect()) {
        return HttpResponse::SeeOther().insert_header((header::LOCATION, location)).finish();
    }
    let status = error.code().status();
    let page = if html { page(request, error, &request_id).await } else { None };
    let mut response = page.unwrap_or_else(|| error.problem(&request_id).respond(status));
    if let Some(secs) = error.retry_after_secs() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    if error.code() == ErrorCode::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Defects and absences once, here; what clients did wrong is in the request's own line.
fn log(error: &ApiError) {
    let source = std::error::Error::source(error);
    match error.code() {
        ErrorCode::Internal => tracing::error!(error = source, "the request failed: {error}"),
        ErrorCode::Unavailable => tracing::warn!(error = source, "the request could not be served: {error}"),
        code => tracing::debug!(error = source, code = code.name(), "the request was refused: {error}"),
    }
}

/// Browsers ask for `text/html` when somebody follows a link or sends a form; scripts and SDKs do
/// not. Under `/api/` the answer is always JSON.
fn wants_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    !request.path().starts_with("/api/") && accept.is_some_and(|accept| accept.contains("text/html"))
}

async fn page(request: &HttpRequest, error: &ApiError, request_id: &str) -> Option<HttpResponse> {
    let state = request.app_data::<web::Data<HttpState>>()?;
    let code = error.code();
    let status = code.status();
    let frame = match code {
        // Whoever is signed in stands in a database: asking it again would only take longer.
        ErrorCode::Unavailable => None,
        _ => frame_of(request, state, code.title()).await,
    };
    let is_bare = frame.is_none();
    let frame = frame.unwrap_or_else(|| Frame::signed_out(code.title(), "", state.clock.now_ms()));
    let again = match *request.method() {
        // The address of a form is not always a page.
        Method::GET => request.path().to_owned(),
        _ => referring_path(request).unwrap_or_else(|| "/".to_owned()),
    };
    let page = match code {
        ErrorCode::StaleForm => ErrorPage::expired_form(frame, &again),
        ErrorCode::Internal => ErrorPage::internal(frame, request_id),
        ErrorCode::Unavailable => ErrorPage::unavailable(frame, error.detail(), request_id),
        _ => ErrorPage::of(frame, status, code.title(), error.detail(), request_id),
    };
    let response =
        if is_bare { views::respond(status, &BareErrorPage(page)) } else { views::respond(status, &page) };
    match response {
        Ok(response) => Some(response),
        Err(error) => {
            tracing::error!(%error, "the error page cannot be rendered");
            None
        }
    }
}

/// The navigation that the page would have had; `None` when nobody is signed in.
async fn frame_of(request: &HttpRequest, state: &HttpState, title: &str) -> Option<Frame> {
    let found = async {
        let Some(session) = find_session(request).await? else { return Ok(None) };
        match ProjectPage::find(request, &session).await? {
            Some(project) => project.frame(state, title, Nav::None).await.map(Some),
            None => account_frame(state, &session, title, Nav::None).await.map(Some),
        }
    };
    found.await.unwrap_or_else(|error: ApiError| {
        log(&error);
        None
    })
}

/// The path of the page that sent a form, when it is one of ours.
fn referring_path(request: &HttpRequest) -> Option<String> {
    let referrer = request.headers().get(header::REFERER)?.to_str().ok()?;
    let uri: actix_web::http::Uri = referrer.parse().ok()?;
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let path = uri.path();
    let ours = uri.authority().is_some_and(|authority| authority.as_str() == host);
    (ours && !path.starts_with("//")).then(|| path.to_owned())
}

/// What `default_service` answers.
pub async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("There is nothing at this address."))
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;

    #[test]
    fn codes_of_the_framework_keep_their_status() {
        for status in [400_u16, 401, 403, 404, 405, 408, 409, 410, 413, 415, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(ErrorCode::of_status(status).status(), status);
        }
        assert_eq!(ErrorCode::of_status(StatusCode::IM_A_TEAPOT), ErrorCode::Malformed);
        assert_eq!(ErrorCode::of_status(StatusCode::BAD_GATEWAY), ErrorCode::Internal);
    }
}
