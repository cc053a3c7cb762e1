//! From the bytes of a request to text: read under a limit and a deadline, inflated under a cap.
//!
//! actix's own extractors inflate a whole chunk before they look at their limit (a 405-byte body can
//! take half a gigabyte), and they never give up on a sender that has gone silent. So the raw body
//! is read here ([`read_body`]), then undone step by step ([`inflate`]), and what is read afterwards
//! is plain text ([`into_text`]) that the [`json`] reader walks through.
//!
//! Content-Type is not believed: real SDKs send JSON as text/plain, and gzip without saying so.

mod inflate;
pub mod json;
mod read;

pub use inflate::{Encoding, inflate};
pub use read::{Body, BodyLimits, read_body};

use crate::collection::budget::OutOfMemory;

/// Why a body could not be had. None of its events was looked at.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive within {secs} s")]
    TooSlow { secs: u64 },
    #[error("the body ended before it was complete")]
    Broken,
    #[error("the content encoding {encoding:?} is not understood; send gzip, deflate, zstd or none")]
    Encoding { encoding: String },
    #[error("the body is compressed more than once; compress it once")]
    Nested,
    #[error("the body cannot be inflated: {detail}")]
    Inflate { detail: String },
    #[error("the body is empty")]
    Empty,
    #[error("the body is not UTF-8 from byte {at} on")]
    NotUtf8 { at: usize },
    /// Too many bodies are being read at the same time.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The body as text, without a byte order mark.
pub fn into_text(body: Vec<u8>) -> Result<String, BodyError> {
    let at = |error: std::string::FromUtf8Error| BodyError::NotUtf8 { at: error.utf8_error().valid_up_to() };
    let mut text = String::from_utf8(body).map_err(at)?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.trim_ascii().is_empty() {
        return Err(BodyError::Empty);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf8_with_something_in_it_is_text() {
        let text = |bytes: &[u8]| into_text(bytes.to_vec());
        assert_eq!(text(b"{}").as_deref(), Ok("{}"));
        assert_eq!(text(b"\xef\xbb\xbf{}").as_deref(), Ok("{}"));
        assert_eq!(text(b""), Err(BodyError::Empty));
        assert_eq!(text(b" \r\n"), Err(BodyError::Empty));
        assert_eq!(text(b"{\"a\":\"\xff\"}"), Err(BodyError::NotUtf8 { at: 6 }));
        let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text(&utf16), Err(BodyError::NotUtf8 { at: 0 }));
    }
}
