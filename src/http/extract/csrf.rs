//! Forms and calls that another site made a browser send.
//!
//! Two independent walls: the browser's own word about where a request comes from, and a token of
//! the session inside every form. In pages the token is masked anew each time, since pages are
//! compressed and an equal secret in many of them could be found out by their sizes (BREACH).

use actix_web::HttpRequest;
use actix_web::http::Uri;
use actix_web::http::header;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::state_of;
use crate::model::Random;

/// What a form carries as `csrf`: a random mask and the token under it.
pub fn csrf_field(token: &[u8; 32], random: &dyn Random) -> String {
    let mut bytes = [0; 64];
    random.fill(&mut bytes[..32]);
    for n in 0..32 {
        bytes[32 + n] = bytes[n] ^ token[n];
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether a posted `csrf` carries the session's token, in constant time.
pub(super) fn fits(token: &[u8; 32], field: &str) -> bool {
    let mut bytes = [0; 64];
    if URL_SAFE_NO_PAD.decode_slice(field, &mut bytes) != Ok(64) {
        return false;
    }
    let mut unmasked = [0; 32];
    for n in 0..32 {
        unmasked[n] = bytes[n] ^ bytes[32 + n];
    }
    unmasked.ct_eq(token).into()
}

/// What the browser says about who made it send this: `Sec-Fetch-Site`, which scripts cannot
/// write, else `Origin`. Clients that are no browsers send neither.
pub fn is_from_our_pages(request: &HttpRequest) -> bool {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN) else { return true };
    let public_url = state_of(request).config.http.shown_url();
    let authority =
        |url: &str| url.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
    let Some(origin) = authority(origin) else { return false };
    authority(&public_url).as_deref() == Some(&origin) || text(header::HOST) == Some(&origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeededRandom;

    #[test]
    fn a_masked_token_fits_and_nothing_else_does() {
        let random = SeededRandom::new(1);
        let token = [7; 32];
        let field = csrf_field(&token, &random);
        assert_ne!(field, csrf_field(&token, &random), "every page has another mask");
        assert!(fits(&token, &field));
        assert!(!fits(&[8; 32], &field));
        for bad in ["", "x", &field[1..], &"A".repeat(86), "Ä".repeat(43).as_str()] {
            assert!(!fits(&token, bad), "{bad}");
        }
    }
}
