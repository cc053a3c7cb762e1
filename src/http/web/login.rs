//! `/login` and `/logout`.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::index::see_other;
use super::views::{self, Frame, LoginPage};
use crate::access::LoginError;
use crate::http::extract::{ClientAddress, CsrfForm, PostedForm, SignedIn, cookie, safe_next};
use crate::http::{ApiError, ErrorCode, HttpState};

#[derive(Deserialize)]
pub struct ShowQuery {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct LoginForm {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub struct Nothing {}

/// `GET /login`.
pub async fn show(
    state: web::Data<HttpState>,
    request: HttpRequest,
    query: web::Query<ShowQuery>,
) -> Result<HttpResponse, ApiError> {
    let next = safe_next(&query.next);
    // Somebody who is signed in already came here by an old link.
    if let Some(token) = cookie::find_token(&request, state.config.http.is_https())
        && state.access.find_session(&token).await?.is_some()
    {
        return Ok(see_other(next));
    }
    page(&state, StatusCode::OK, "", next, None)
}

/// `POST /login`. Wrong passwords, unknown accounts and disabled ones get one and the same answer.
pub async fn log_in(
    state: web::Data<HttpState>,
    address: ClientAddress,
    PostedForm(form): PostedForm<LoginForm>,
) -> Result<HttpResponse, ApiError> {
    let next = safe_next(&form.next);
    match state.access.log_in(&form.email, &form.password, address.0).await {
        Ok(new) => {
            tracing::info!(account.id = new.session.account_id.0, "an account logged in");
            let mut response = see_other(next);
            let set = cookie::set(&new.token, state.config.http.is_https());
            response.headers_mut().insert(header::SET_COOKIE, set);
            Ok(response)
        }
        Err(LoginError::Wrong) => {
            let error = "The email or the password is wrong.".to_owned();
            page(&state, StatusCode::UNAUTHORIZED, &form.email, next, Some(error))
        }
        Err(LoginError::Throttled { retry_after_secs }) => {
            let error = try_again_in(retry_after_secs);
            let mut response = page(&state, StatusCode::TOO_MANY_REQUESTS, &form.email, next, Some(error))?;
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_secs.into());
            Ok(response)
        }
        Err(LoginError::Busy(busy)) => {
            let detail = "Too many people are logging in at this moment. Try again in a few seconds.";
            Err(ApiError::new(ErrorCode::Unavailable, detail).with_retry_after(3).with_source(busy))
        }
        Err(LoginError::Storage(error)) => Err(error.into()),
    }
}

/// `POST /logout`.
pub async fn log_out(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> Result<HttpResponse, ApiError> {
    state.access.log_out(&session).await?;
    Ok(signed_out(&state))
}

/// What somebody reads who tried too many passwords.
pub(super) fn try_again_in(secs: u32) -> String {
    format!("There were too many attempts. Try again in {} min.", secs.div_ceil(60))
}

/// To the log-in page, without a cookie.
pub(super) fn signed_out(state: &HttpState) -> HttpResponse {
    let mut response = see_other("/login");
    response.headers_mut().insert(header::SET_COOKIE, cookie::clear(state.config.http.is_https()));
    response
}

fn page(
    state: &HttpState,
    status: StatusCode,
    email: &str,
    next: &str,
    error: Option<String>,
) -> Result<HttpResponse, ApiError> {
    let page = LoginPage {
        frame: Frame::signed_out("Log in", "", state.clock.now_ms()),
        email: email.to_owned(),
        next: next.to_owned(),
        error,
    };
    Ok(views::respond(status, &page)?)
}
