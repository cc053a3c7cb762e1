//! Random texts that prove something, and the hash that is stored in their place.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::model::{KeyKind, Random};
use crate::storage::control::TokenHash;

/// 62 letters and digits: 32 of them carry 190 bits, and a double click selects all.
const KEY_ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const KEY_CHARS: usize = 32;

/// For reading aloud and typing: no 0/o, 1/l/i, and no upper case.
const PASSWORD_ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";

/// SHA-256. Keys and tokens have far too many bits to be guessed, so no slow hash is needed.
pub fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// A key such as `wk_` and 32 letters and digits.
pub fn make_key(kind: KeyKind, random: &dyn Random) -> String {
    format!("{}{}", kind.prefix(), letters(KEY_ALPHABET, KEY_CHARS, random))
}

/// Four groups of five characters, 99 bits.
pub fn make_password(random: &dyn Random) -> String {
    let group = || letters(PASSWORD_ALPHABET, 5, random);
    [group(), group(), group(), group()].join("-")
}

/// 32 random bytes as text for a cookie.
pub fn make_session_token(random: &dyn Random) -> String {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Every letter equally likely: bytes beyond the largest multiple of the alphabet are thrown away.
fn letters(alphabet: &[u8], count: usize, random: &dyn Random) -> String {
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 64];
        random.fill(&mut bytes);
        let fair_bytes = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < fair);
        text.extend(
            fair_bytes.take(count - text.len()).map(|byte| char::from(alphabet[byte % alphabet.len()])),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeededRandom;

    #[test]
    fn keys_have_their_prefix_and_length_and_differ() {
        let random = SeededRandom::new(1);
        let keys = [KeyKind::Write, KeyKind::Write, KeyKind::Secret].map(|kind| make_key(kind, &random));
        assert!(keys[0].starts_with("wk_") && keys[2].starts_with("sk_"));
        assert!(keys.iter().all(|key| key.len() == 35), "{keys:?}");
        assert_ne!(keys[0], keys[1]);
        assert_ne!(hash_token(&keys[0]), hash_token(&keys[1]));
    }

    #[test]
    fn every_letter_is_drawn() {
        let text = letters(KEY_ALPHABET, 5_000, &SeededRandom::new(2));
        assert!(KEY_ALPHABET.iter().all(|&letter| text.contains(char::from(letter))));
        assert_eq!(make_password(&SeededRandom::new(2)).len(), 23);
    }
}
