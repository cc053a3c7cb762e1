//! `/account`: the password, and every other place where the account is signed in.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::frame::account_frame;
use super::index::see_other;
use super::login::{Nothing, signed_out, try_again_in};
use super::views::{self, AccountPage, Nav};
use crate::access::{ChangePasswordError, PASSWORD_CHARS_MIN, Session};
use crate::http::extract::{CsrfForm, SignedIn, cookie};
use crate::http::{ApiError, ErrorCode, HttpState};

#[derive(Deserialize)]
pub struct ShowQuery {
    #[serde(default)]
    changed: Option<u8>,
}

#[derive(Deserialize)]
pub struct PasswordForm {
    #[serde(default)]
    current: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    again: String,
}

#[derive(Default)]
struct Problems {
    current: Option<String>,
    new: Option<String>,
}

/// `GET /account`.
pub async fn show(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
    query: web::Query<ShowQuery>,
) -> Result<HttpResponse, ApiError> {
    page(&state, &session, StatusCode::OK, query.changed.is_some(), Problems::default()).await
}

/// `POST /account/password`: every session ends, and this browser gets a new one.
pub async fn change_password(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
    CsrfForm(form): CsrfForm<PasswordForm>,
) -> Result<HttpResponse, ApiError> {
    let mut problems = Problems::default();
    if form.new != form.again {
        problems.new = Some("The two new passwords differ.".to_owned());
        return page(&state, &session, StatusCode::BAD_REQUEST, false, problems).await;
    }
    match state.access.change_password(&session, &form.current, &form.new).await {
        Ok(new) => {
            let mut response = see_other("/account?changed=1");
            let set = cookie::set(&new.token, state.config.http.is_https());
            response.headers_mut().insert(header::SET_COOKIE, set);
            return Ok(response);
        }
        Err(ChangePasswordError::Current) => {
            problems.current = Some("The current password is wrong.".to_owned());
        }
        Err(ChangePasswordError::Throttled { retry_after_secs }) => {
            problems.current = Some(try_again_in(retry_after_secs));
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut response = page(&state, &session, status, false, problems).await?;
            response.headers_mut().insert(header::RETRY_AFTER, retry_after_secs.into());
            return Ok(response);
        }
        Err(ChangePasswordError::New(text)) => problems.new = Some(text),
        Err(ChangePasswordError::Busy(busy)) => {
            let detail = "Too many passwords are being checked at this moment. Try again in a few seconds.";
            return Err(ApiError::new(ErrorCode::Unavailable, detail).with_retry_after(3).with_source(busy));
        }
        Err(ChangePasswordError::Storage(error)) => return Err(error.into()),
    }
    page(&state, &session, StatusCode::BAD_REQUEST, false, problems).await
}

/// `POST /account/sign-out-everywhere`.
pub async fn sign_out_everywhere(
    state: web::Data<HttpState>,
    SignedIn(session): SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> Result<HttpResponse, ApiError> {
    state.access.log_out_everywhere(session.account_id).await?;
    Ok(signed_out(&state))
}

async fn page(
    state: &HttpState,
    session: &Session,
    status: StatusCode,
    changed: bool,
    problems: Problems,
) -> Result<HttpResponse, ApiError> {
    let page = AccountPage {
        frame: account_frame(state, session, "Account", Nav::None).await?,
        changed,
        current_error: problems.current,
        new_error: problems.new,
        password_chars_min: PASSWORD_CHARS_MIN,
    };
    Ok(views::respond(status, &page)?)
}
