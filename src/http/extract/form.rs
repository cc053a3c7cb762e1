//! Posted forms.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::params::parse;
use super::{SignedIn, csrf, is_from_our_pages, read_body};
use crate::http::{ApiError, ErrorCode};

/// A question's JSON is the largest thing that a form carries.
const FORM_BYTES_MAX: usize = 256 * 1_024;
const READ_TIME_MAX: Duration = Duration::from_secs(15);

/// The form of a signed-in account, with the token of its session in `csrf`.
pub struct CsrfForm<T>(pub T);

/// A form that needs no session: log-in. Only where it comes from is checked.
pub struct PostedForm<T>(pub T);

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    csrf: String,
}

impl<T: DeserializeOwned + 'static> FromRequest for CsrfForm<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            let SignedIn(session) = SignedIn::extract(&request).await?;
            let text = read(&request, &mut payload).await?;
            let Token { csrf } = parse(&text, "field")?;
            if !csrf::fits(&session.csrf_token, &csrf) {
                return Err(stale("The form's token does not fit this session."));
            }
            Ok(Self(parse(&text, "field")?))
        })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for PostedForm<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        Box::pin(async move {
            let text = read(&request, &mut payload).await?;
            Ok(Self(parse(&text, "field")?))
        })
    }
}

async fn read(request: &HttpRequest, payload: &mut Payload) -> Result<String, ApiError> {
    if !is_from_our_pages(request) {
        return Err(stale(
            "The form was sent by another site. If it was not, set http.public_url to the address in use.",
        ));
    }
    let body = read_body(request, payload, FORM_BYTES_MAX, READ_TIME_MAX).await?;
    String::from_utf8(body.into()).map_err(|_| ApiError::malformed("The form is not UTF-8."))
}

fn stale(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::StaleForm, detail)
}
