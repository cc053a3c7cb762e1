//! A pull reader of JSON (RFC 8259) that tells what a value is before anything is made of it.
//!
//! Why not a ready-made parser: one event must not cost its neighbours. To serde_json a lone
//! surrogate, `1e400` or a deep nest is an error of the whole document; here only broken grammar
//! is ([`SyntaxError`], with its byte offset), and everything else is the judgement of whoever asks
//! for the value. Nothing is allocated but strings with escapes.
//!
//! The grammar is held to serde_json's by a property test below.

use std::borrow::Cow;

/// Nesting beyond this is refused as a whole; an event's own limit is far lower.
const NESTING_MAX: usize = 100_000;

/// The text is not JSON. `at` is a byte offset into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct SyntaxError {
    pub at: usize,
    pub what: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A string's value. A surrogate without its other half has no place in UTF-8: it became U+FFFD, and
/// `is_repaired` says so, because two different names must not become one.
#[derive(Clone, PartialEq, Debug)]
pub struct Text<'a> {
    pub value: Cow<'a, str>,
    pub is_repaired: bool,
}

/// A number as written, known to be well-formed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Number<'a> {
    pub text: &'a str,
    /// Without fraction and exponent.
    pub is_integer: bool,
}

impl Number<'_> {
    /// `None` when it is not written as an integer or does not fit.
    pub fn as_i64(&self) -> Option<i64> {
        if self.is_integer { self.text.parse().ok() } else { None }
    }

    /// `None` when it is beyond every float.
    pub fn as_f64(&self) -> Option<f64> {
        self.text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

#[derive(Clone)]
pub struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// Where the next value begins, once white space is passed.
    pub fn offset(&mut self) -> usize {
        self.skip_white_space();
        self.at
    }

    /// Where the last value ended.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes back (or ahead) to an offset where a value begins.
    pub fn seek(&mut self, offset: usize) {
        self.at = offset;
    }

    /// What was read since `start`.
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// What comes next, without reading it.
    pub fn peek(&mut self) -> Result<Kind> {
        self.skip_white_space();
        match self.bytes.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("a value was expected")),
            None => Err(self.error("the text ends where a value was expected")),
        }
    }

    /// Passes the `{` of an object.
    pub fn begin_object(&mut self) -> Result<()> {
        self.expect(b'{', "an object was expected")
    }

    /// The next member's name, or `None` after the last, with the `}` passed. The member's value must
    /// be read or skipped before the next call.
    pub fn next_key(&mut self, is_first: bool) -> Result<Option<Text<'a>>> {
        self.skip_white_space();
        match self.bytes.get(self.at) {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !is_first => {
                self.at += 1;
                self.skip_white_space();
            }
            _ if is_first => {}
            _ => return Err(self.error("a comma or the end of the object was expected")),
        }
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(self.error("a member's name was expected"));
        }
        let key = self.string()?;
        self.expect(b':', "a colon was expected")?;
        Ok(Some(key))
    }

    /// Passes the `[` of an array.
    pub fn begin_array(&mut self) -> Result<()> {
        self.expect(b'[', "an array was expected")
    }

    /// Whether another element follows; after the last one the `]` is passed.
    pub fn next_element(&mut self, is_first: bool) -> Result<bool> {
        self.skip_white_space();
        match self.bytes.get(self.at) {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => Err(self.error("a comma or the end of the array was expected")),
        }
    }

    pub fn string(&mut self) -> Result<Text<'a>> {
        self.expect(b'"', "a string was expected")?;
        let start = self.at;
        loop {
            self.skip_plain_text();
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let value = Cow::Borrowed(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(Text { value, is_repaired: false });
                }
                Some(b'\\') => return self.escaped_string(start),
                Some(0..=0x1f) => return Err(self.error("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// Passes bytes of a string that mean themselves, eight at a time: up to one that does not, or to the
    /// last eight of the text.
    fn skip_plain_text(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = ONES << 7;
        // The lowest bit set is that of the first byte below `limit`; those above it may be false.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
        while let Some(eight) = self.bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*eight);
            let quote = below(word ^ (ONES * u64::from(b'"')), 1);
            let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
            let special = below(word, 0x20) | quote | backslash;
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    /// The rest of a string from its first escape on.
    fn escaped_string(&mut self, start: usize) -> Result<Text<'a>> {
        let mut value = String::with_capacity(self.at - start + 32);
        let mut is_repaired = false;
        let mut plain_from = start;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    value.push_str(&self.text[plain_from..self.at]);
                    self.at += 1;
                    return Ok(Text { value: Cow::Owned(value), is_repaired });
                }
                Some(b'\\') => {
                    value.push_str(&self.text[plain_from..self.at]);
                    self.at += 1;
                    let character = self.escape()?;
                    is_repaired |= character.is_none();
                    value.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                    plain_from = self.at;
                }
                Some(0..=0x1f) => return Err(self.error("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// What follows a backslash; `None` is a surrogate without its other half.
    fn escape(&mut self) -> Result<Option<char>> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(self.error("the text ends inside a string"));
        };
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.error("an unknown escape")),
        };
        self.at += 1;
        Ok(Some(character))
    }

    fn unicode_escape(&mut self) -> Result<Option<char>> {
        let first = self.four_hex_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            // A low half alone is no character.
            return Ok(char::from_u32(first));
        }
        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Ok(None);
        }
        let after_first = self.at;
        self.at += 2;
        let second = self.four_hex_digits()?;
        if !(0xdc00..0xe000).contains(&second) {
            // It may be a character, or a high half, of its own.
            self.at = after_first;
            return Ok(None);
        }
        Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)))
    }

    fn four_hex_digits(&mut self) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.error("four hexadecimal digits were expected"));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |number, &digit| {
            number << 4 | char::from(digit).to_digit(16).expect("checked to be a digit")
        }))
    }

    pub fn number(&mut self) -> Result<Number<'a>> {
        self.skip_white_space();
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.error("a digit was expected")),
        }
        let mut is_integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            is_integer = false;
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            is_integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(Number { text: &self.text[start..self.at], is_integer })
    }

    fn some_digits(&mut self) -> Result<()> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.error("a digit was expected"));
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    pub fn bool(&mut self) -> Result<bool> {
        self.skip_white_space();
        let rest = &self.bytes[self.at..];
        let (value, size) = match rest {
            [b't', b'r', b'u', b'e', ..] => (true, 4),
            [b'f', b'a', b'l', b's', b'e', ..] => (false, 5),
            _ => return Err(self.error("true or false was expected")),
        };
        self.at += size;
        Ok(value)
    }

    pub fn null(&mut self) -> Result<()> {
        self.skip_white_space();
        if !self.bytes[self.at..].starts_with(b"null") {
            return Err(self.error("null was expected"));
        }
        self.at += 4;
        Ok(())
    }

    /// Passes a value of any kind and depth, checking its grammar. Does not recurse.
    pub fn skip(&mut self) -> Result<()> {
        // The kinds of the open containers: true for an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let mut is_first = true;
            match self.peek()? {
                Kind::Object => {
                    self.at += 1;
                    open.push(true);
                }
                Kind::Array => {
                    self.at += 1;
                    open.push(false);
                }
                kind => {
                    self.skip_scalar(kind)?;
                    is_first = false;
                }
            }
            if open.len() > NESTING_MAX {
                return Err(self.error("nested too deep"));
            }
            // Close what ends here, then go on to the next value inside what is still open.
            loop {
                let another = match open.last() {
                    None => return Ok(()),
                    Some(true) => self.next_key(is_first)?.is_some(),
                    Some(false) => self.next_element(is_first)?,
                };
                if another {
                    break;
                }
                open.pop();
                is_first = false;
            }
        }
    }

    pub fn skip_scalar(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.null(),
            Kind::Object | Kind::Array => self.skip(),
        }
    }

    /// Passes an array or object by its brackets and strings alone, several times as fast as
    /// [`Reader::skip`]: for a value that will be read properly later.
    pub fn skip_unchecked(&mut self) -> Result<()> {
        self.skip_white_space();
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at) {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                Some(b'"') => self.skip_string_unchecked()?,
                Some(_) => {}
                None => return Err(self.error("the text ends inside an array or object")),
            }
            self.at += 1;
        }
    }

    /// Leaves the closing quote to be passed.
    fn skip_string_unchecked(&mut self) -> Result<()> {
        loop {
            self.at += 1;
            match self.bytes.get(self.at) {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.at += 1,
                Some(_) => {}
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<()> {
        self.skip_white_space();
        if self.at < self.bytes.len() {
            return Err(self.error("something follows the end of the JSON"));
        }
        Ok(())
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        self.skip_white_space();
        if self.bytes.get(self.at) != Some(&byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { at: self.at.min(self.bytes.len()), what }
    }
}

#[cfg(test)]
mod tests;
