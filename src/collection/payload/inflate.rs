//! Undoing a content encoding under a hard cap.

use std::io::{self, Read};

use super::BodyError;
use crate::collection::budget::Reserved;

/// What is inflated before the cap is looked at again.
const STEP_BYTES: usize = 64 * 1024;

/// A zstd frame may ask for a window of this size at most, 8 MiB, whatever its header says.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// What the `Content-Encoding` header says.
    pub fn from_header(value: Option<&str>) -> Result<Self, BodyError> {
        let value = value.unwrap_or_default().trim();
        match value.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            list if list.contains(',') => Err(BodyError::Nested),
            _ => Err(BodyError::Encoding { encoding: value.chars().take(40).collect() }),
        }
    }

    /// What the body is. Some browsers' SDKs send gzip without a word.
    pub fn sniffed(self, body: &[u8]) -> Self {
        if self == Self::Identity && body.starts_with(GZIP_MAGIC) { Self::Gzip } else { self }
    }
}

/// The plain body, at most `bytes_max` of it; the memory it takes never exceeds that by more than a
/// step and the decompressor's window. `reserved` grows with it.
pub fn inflate(
    encoding: Encoding,
    body: Vec<u8>,
    bytes_max: usize,
    reserved: &mut Reserved,
) -> Result<Vec<u8>, BodyError> {
    let raw = body.as_slice();
    let mut inflating = Inflating { plain: Vec::new(), bytes_max, raw_bytes: raw.len(), reserved };
    match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => inflating.read(flate2::read::MultiGzDecoder::new(raw))?,
        // The name means zlib, but raw deflate is sent under it too.
        Encoding::Deflate if is_zlib(raw) => inflating.read(flate2::read::ZlibDecoder::new(raw))?,
        Encoding::Deflate => inflating.read(flate2::read::DeflateDecoder::new(raw))?,
        Encoding::Zstd => inflating.read(zstd_reader(raw)?)?,
    }
    let plain = inflating.plain;
    if plain.starts_with(GZIP_MAGIC) {
        return Err(BodyError::Nested);
    }
    Ok(plain)
}

fn zstd_reader(body: &[u8]) -> Result<impl Read, BodyError> {
    let made = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(decoder)
    });
    made.map_err(|error| broken(&error))
}

fn is_zlib(body: &[u8]) -> bool {
    // RFC 1950: the method 8 in the low half of the first byte, and both bytes a multiple of 31.
    matches!(body, [first, second, ..]
        if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
}

struct Inflating<'r> {
    plain: Vec<u8>,
    bytes_max: usize,
    raw_bytes: usize,
    reserved: &'r mut Reserved,
}

impl Inflating<'_> {
    fn read(&mut self, mut reader: impl Read) -> Result<(), BodyError> {
        let mut step = vec![0; STEP_BYTES];
        loop {
            match reader.read(&mut step) {
                Ok(0) => return Ok(()),
                Ok(size) => self.push(&step[..size])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    fn push(&mut self, step: &[u8]) -> Result<(), BodyError> {
        let size = self.plain.len() + step.len();
        if size > self.bytes_max {
            return Err(BodyError::TooLarge { limit: self.bytes_max });
        }
        if size > self.plain.capacity() {
            // Twofold as usual, but never beyond the cap.
            let capacity = (2 * self.plain.capacity()).clamp(size, self.bytes_max);
            self.reserved.grow_to(self.raw_bytes + capacity)?;
            self.plain.reserve_exact(capacity - self.plain.len());
        }
        self.plain.extend_from_slice(step);
        Ok(())
    }
}

fn broken(error: &io::Error) -> BodyError {
    BodyError::Inflate { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::collection::budget::Budget;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(plain, 3).unwrap()
    }

    fn inflated(encoding: Encoding, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        let memory = Budget::new(100 << 20);
        inflate(encoding, body.to_vec(), bytes_max, &mut memory.reserve(0).unwrap())
    }

    const PLAIN: &[u8] = br#"{"event":"e","distinct_id":"u"}"#;

    #[test]
    fn each_encoding_gives_the_plain_body() {
        for (name, header, body) in [
            ("none", None, PLAIN.to_vec()),
            ("identity", Some("identity"), PLAIN.to_vec()),
            ("gzip", Some("gzip"), gzip(PLAIN)),
            ("gzip in capitals", Some(" GZIP "), gzip(PLAIN)),
            ("gzip of two members", Some("gzip"), [gzip(&PLAIN[..5]), gzip(&PLAIN[5..])].concat()),
            ("gzip without a word", None, gzip(PLAIN)),
            ("deflate", Some("deflate"), zlib(PLAIN)),
            ("raw deflate", Some("deflate"), raw_deflate(PLAIN)),
            ("zstd", Some("zstd"), zstd(PLAIN)),
        ] {
            let encoding = Encoding::from_header(header).unwrap().sniffed(&body);
            assert_eq!(inflated(encoding, &body, 1000).unwrap(), PLAIN, "{name}");
        }
    }

    #[test]
    fn unknown_and_nested_encodings_are_refused() {
        assert!(matches!(Encoding::from_header(Some("br")), Err(BodyError::Encoding { .. })));
        assert_eq!(Encoding::from_header(Some("gzip, gzip")), Err(BodyError::Nested));
        assert_eq!(inflated(Encoding::Gzip, &gzip(&gzip(PLAIN)), 1000), Err(BodyError::Nested));
        assert_eq!(inflated(Encoding::Zstd, &zstd(&gzip(PLAIN)), 1000), Err(BodyError::Nested));
    }

    #[test]
    fn bombs_stop_at_the_cap() {
        let zeros = vec![b' '; 3 << 20];
        for (name, encoding, bomb) in [
            ("gzip", Encoding::Gzip, gzip(&zeros)),
            ("zlib", Encoding::Deflate, zlib(&zeros)),
            ("raw deflate", Encoding::Deflate, raw_deflate(&zeros)),
            ("zstd", Encoding::Zstd, zstd(&zeros)),
        ] {
            let limit = zeros.len() - 1;
            assert_eq!(inflated(encoding, &bomb, limit), Err(BodyError::TooLarge { limit }), "{name}");
            assert_eq!(inflated(encoding, &bomb, zeros.len()).unwrap().len(), zeros.len(), "{name}");
        }
    }

    #[test]
    fn a_zstd_frame_with_a_large_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(PLAIN).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(inflated(Encoding::Zstd, &body, 1000), Err(BodyError::Inflate { .. })));
    }

    #[test]
    fn cut_and_false_bodies_are_errors() {
        for (name, encoding, body) in [
            ("cut gzip", Encoding::Gzip, gzip(PLAIN)[..20].to_vec()),
            ("cut gzip trailer", Encoding::Gzip, gzip(PLAIN)[..gzip(PLAIN).len() - 4].to_vec()),
            ("cut zlib", Encoding::Deflate, zlib(PLAIN)[..10].to_vec()),
            ("cut zstd", Encoding::Zstd, zstd(PLAIN)[..20].to_vec()),
            ("no gzip at all", Encoding::Gzip, PLAIN.to_vec()),
            ("no zstd at all", Encoding::Zstd, PLAIN.to_vec()),
            ("no deflate at all", Encoding::Deflate, PLAIN.to_vec()),
            ("bytes after gzip", Encoding::Gzip, [gzip(PLAIN), b"x".to_vec()].concat()),
        ] {
            let result = inflated(encoding, &body, 1000);
            assert!(matches!(result, Err(BodyError::Inflate { .. })), "{name}: {result:?}");
        }
    }

    #[test]
    fn inflating_stops_where_the_shared_memory_ends() {
        let body = gzip(&vec![b' '; 3 << 20]);
        let memory = Budget::new(1 << 20);
        let mut reserved = memory.reserve(body.len()).unwrap();
        let result = inflate(Encoding::Gzip, body, 10 << 20, &mut reserved);
        assert!(matches!(result, Err(BodyError::OutOfMemory(_))));
    }
}
