//! The session cookie.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderValue};

/// Longer than any session lasts; the server decides when one ends.
const MAX_AGE_SECS: u32 = 30 * 86_400;

/// `__Host-` makes browsers insist on Secure, on `Path=/` and on this very host.
fn name(https: bool) -> &'static str {
    if https { "__Host-weir_session" } else { "weir_session" }
}

/// The token of the request's session cookie.
pub fn find_token(request: &HttpRequest, https: bool) -> Option<String> {
    let lists = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name(https)).then(|| value.trim().to_owned())
    })
}

/// `Set-Cookie` for a new session.
pub fn set(token: &str, https: bool) -> HeaderValue {
    made(token, MAX_AGE_SECS, https)
}

/// `Set-Cookie` that ends it.
pub fn clear(https: bool) -> HeaderValue {
    made("", 0, https)
}

fn made(token: &str, max_age_secs: u32, https: bool) -> HeaderValue {
    let secure = if https { "; Secure" } else { "" };
    let name = name(https);
    let text = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_secs}{secure}");
    HeaderValue::from_str(&text).expect("a token is base64url")
}
