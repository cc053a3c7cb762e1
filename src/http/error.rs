//! The one way to say that a request failed.
//!
//! A handler gives an [`ApiError`]: a code of a closed list, a public sentence that names the value
//! and the limit, and the private cause. The middleware makes a problem document (RFC 9457) or a
//! page of it and logs the cause, once. Nothing of the cause is ever shown.

use std::error::Error;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::storage::StorageError;

/// Every way to fail. Clients match on these, so a name never changes its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be read: not JSON, a wrong type, a missing parameter.
    Malformed,
    /// It can be read, and something in it is not allowed; `errors` says what and where.
    Invalid,
    /// No key or session, or one that is unknown, revoked or over.
    Unauthenticated,
    /// Known, but not allowed to do this.
    Forbidden,
    /// A form whose token does not fit, or that another site has sent.
    StaleForm,
    NotFound,
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// Somebody else was first, or the thing is not in a state for this.
    Conflict,
    /// It existed and has expired.
    Gone,
    PayloadTooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    Internal,
    /// A database is away or this replica has too much to do: send again.
    Unavailable,
}

impl ErrorCode {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::StaleForm => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// As it stands in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::StaleForm => "stale_form",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooManyRequests => "too_many_requests",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// The same for every error of the code.
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request cannot be read",
            Self::Invalid => "The request is not valid",
            Self::Unauthenticated => "A valid key or session is needed",
            Self::Forbidden => "This is not allowed",
            Self::StaleForm => "The form has expired",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The request took too long to arrive",
            Self::Conflict => "It does not fit the present state",
            Self::Gone => "It has expired",
            Self::PayloadTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The content type or encoding is not supported",
            Self::TooManyRequests => "Too many requests",
            Self::Internal => "Something failed on our side",
            Self::Unavailable => "Not available at the moment",
        }
    }

    /// The code for an error that actix made itself.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            408 => Self::RequestTimeout,
            409 => Self::Conflict,
            410 => Self::Gone,
            413 => Self::PayloadTooLarge,
            415 => Self::UnsupportedMediaType,
            429 => Self::TooManyRequests,
            503 => Self::Unavailable,
            400..500 => Self::Malformed,
            _ => Self::Internal,
        }
    }
}

/// One thing that is wrong in a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FieldError {
    /// A JSON pointer into the body (`/question/series/0/measure`), or a parameter's name.
    pub pointer: String,
    pub detail: String,
}

#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_secs: Option<u32>,
    /// Where a browser is sent in place of an error page.
    redirect: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// `detail` is public: a whole sentence that names the value and the limit.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_secs: None,
            redirect: None,
            source: None,
        }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Malformed, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// A defect of ours or of what is stored. The cause goes to the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "The cause is in the server's log under this request id.";
        Self::new(ErrorCode::Internal, detail).with_source(source)
    }

    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    pub fn with_retry_after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn with_redirect(mut self, location: String) -> Self {
        self.redirect = Some(location);
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn retry_after_secs(&self) -> Option<u32> {
        self.retry_after_secs
    }

    pub(super) fn redirect(&self) -> Option<&str> {
        self.redirect.as_deref()
    }

    /// The problem document.
    pub fn problem<'a>(&'a self, request_id: &'a str) -> Problem<'a> {
        Problem {
            kind: format!("urn:weir:error:{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.name(),
            request_id,
            errors: &self.errors,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The middleware writes the body, since only it knows the request; this is what stays when an
/// error leaves by another way.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.code.status())
    }
}

/// RFC 9457. All members are always there, so that clients need not ask.
#[derive(Serialize)]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
    errors: &'a [FieldError],
}

impl Problem<'_> {
    pub fn respond(&self, status: StatusCode) -> HttpResponse {
        let body = serde_json::to_vec(self).expect("texts and numbers become JSON");
        HttpResponse::build(status)
            .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")))
            .body(body)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::Unavailable { .. } => {
                let detail = "A database cannot be reached at the moment. Try again shortly.";
                Self::new(ErrorCode::Unavailable, detail).with_retry_after(2).with_source(error)
            }
            StorageError::Conflict { .. } => {
                let detail = "Somebody else changed the same thing at the same time.";
                Self::new(ErrorCode::Conflict, detail).with_source(error)
            }
            StorageError::Corrupt { .. } | StorageError::Query { .. } | StorageError::Refused(_) => {
                Self::internal(error)
            }
        }
    }
}

/// A template that cannot be rendered is a defect.
impl From<askama::Error> for ApiError {
    fn from(error: askama::Error) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_says_everything_but_the_cause() {
        let error = ApiError::new(ErrorCode::Invalid, "The question has 1 problem.")
            .with_errors(vec![FieldError {
                pointer: "/question/kind".into(),
                detail: "\"funel\" is no kind.".into(),
            }])
            .with_source("a secret of the machine room");
        insta::assert_json_snapshot!(error.problem("00c0ffee"), @r#"
        {
          "type": "urn:weir:error:invalid",
          "title": "The request is not valid",
          "status": 400,
          "detail": "The question has 1 problem.",
          "code": "invalid",
          "request_id": "00c0ffee",
          "errors": [
            {
              "pointer": "/question/kind",
              "detail": "\"funel\" is no kind."
            }
          ]
        }
        "#);
    }

    #[test]
    fn storage_errors_say_whether_to_try_again() {
        let refused = ApiError::from(StorageError::Refused("SELECT secret".into()));
        assert_eq!(refused.code(), ErrorCode::Internal);
        assert!(!refused.detail().contains("SELECT"));
        let conflict = ApiError::from(StorageError::Conflict { name: "x" });
        assert_eq!((conflict.code(), conflict.retry_after_secs()), (ErrorCode::Conflict, None));
    }
}
