//! The session of a browser.

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::{cookie, state_of};
use crate::access::Session;
use crate::http::{ApiError, ErrorCode};

/// Somebody is signed in. Everybody else is sent to `/login` and, after it, back here.
pub struct SignedIn(pub Session);

impl SignedIn {
    pub(super) async fn extract(request: &HttpRequest) -> Result<Self, ApiError> {
        find_session(request).await?.map(Self).ok_or_else(|| {
            ApiError::new(ErrorCode::Unauthenticated, "Log in first.").with_redirect(login_address(request))
        })
    }
}

/// The session of the request's cookie, when there is one and it has not ended.
pub async fn find_session(request: &HttpRequest) -> Result<Option<Session>, ApiError> {
    let state = state_of(request);
    match cookie::find_token(request, state.config.http.is_https()) {
        Some(token) => Ok(state.access.find_session(&token).await?),
        None => Ok(None),
    }
}

impl FromRequest for SignedIn {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::extract(&request).await })
    }
}

fn login_address(request: &HttpRequest) -> String {
    let here = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if request.method() != Method::GET || here == "/" {
        return "/login".to_owned();
    }
    format!("/login?next={}", percent_encoded(here))
}

/// Everything but letters, digits and `-_./~` as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Where to go after a log-in: a path of ours, or `/` for anything that could lead elsewhere.
pub fn safe_next(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let ours = next.starts_with('/') && !next.starts_with("//");
    if plain && ours && next.len() <= 2_000 { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_only_to_our_own_pages() {
        for (next, leads_to) in [
            ("/p/1/ask?kind=trends&x=%2F", "/p/1/ask?kind=trends&x=%2F"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/\r\nSet-Cookie: a=b", "/"),
            ("/\t/evil.example", "/"),
        ] {
            assert_eq!(safe_next(next), leads_to, "{next}");
        }
    }

    #[test]
    fn an_address_survives_as_a_parameter() {
        assert_eq!(percent_encoded("/p/1/ask?a=b&c=ä"), "/p/1/ask%3Fa%3Db%26c%3D%C3%A4");
    }
}
