//! Files of events as chunks of lines: opened, inflated and cut in a thread of their own, so that
//! only a few chunks are in memory, however large the files are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Large enough that decoding, not waiting, takes the time.
const READ_BYTES: usize = 256 * 1024;

/// What is collected at once. 1,000 events are a good batch (measured: 332,000 events/s), and a
/// megabyte of text is far below every limit of a request.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    pub lines_max: usize,
    pub bytes_max: usize,
    /// A longer line is rejected without being kept in memory.
    pub line_bytes_max: usize,
}

/// Some lines of one file.
#[derive(Default, Debug)]
pub struct Chunk {
    pub file: usize,
    pub text: String,
    /// The number of each line of `text` in its file, from 1.
    pub line_numbers: Vec<u64>,
    /// Lines that are not even text.
    pub unreadable: Vec<Unreadable>,
}

#[derive(PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub line_number: u64,
    pub code: &'static str,
    pub detail: String,
}

/// Reads all files into `chunks`, one after the other; ends early when nobody listens any more.
///
/// `bytes_read` counts bytes as they are stored, for a progress bar. A path of `-` is standard input.
pub fn read_files(
    files: &[PathBuf],
    limits: ChunkLimits,
    bytes_read: &Arc<AtomicU64>,
    chunks: &mpsc::Sender<Chunk>,
) -> anyhow::Result<()> {
    for (file, path) in files.iter().enumerate() {
        let read = open(path, bytes_read).and_then(|reader| cut(reader, file, limits, chunks));
        match read {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                return Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display())));
            }
        }
    }
    Ok(())
}

/// The text of a file that is plain, gzip or zstd, told by its first bytes.
fn open(path: &Path, bytes_read: &Arc<AtomicU64>) -> io::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(path)?),
    };
    let mut stored = BufReader::with_capacity(READ_BYTES, Counted { raw, bytes_read: bytes_read.clone() });
    // One read: a pipe that begins with fewer than four bytes is no compressed file's.
    Ok(match stored.fill_buf()? {
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(READ_BYTES, flate2::bufread::MultiGzDecoder::new(stored)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::with_capacity(READ_BYTES, zstd::Decoder::with_buffer(stored)?))
        }
        _ => Box::new(stored),
    })
}

struct Counted<R> {
    raw: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// False when nobody listens any more.
fn cut(
    mut reader: Box<dyn BufRead>,
    file: usize,
    limits: ChunkLimits,
    chunks: &mpsc::Sender<Chunk>,
) -> io::Result<bool> {
    let mut chunk = Chunk { file, ..Chunk::default() };
    let mut line = Vec::new();
    let mut line_number = 0;
    loop {
        line.clear();
        // One more than allowed tells a line that is too long from one that just fits.
        let wanted = limits.line_bytes_max as u64 + 1;
        if (&mut reader).take(wanted).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        line_number += 1;
        let is_whole = line.last() == Some(&b'\n') || line.len() as u64 <= limits.line_bytes_max as u64;
        if is_whole {
            chunk.push(&line, line_number);
        } else {
            skip_line(&mut reader)?;
            chunk.unreadable.push(Unreadable {
                line_number,
                code: "too_large",
                detail: format!("the line is longer than {} bytes", limits.line_bytes_max),
            });
        }
        let is_full = chunk.line_numbers.len() + chunk.unreadable.len() >= limits.lines_max
            || chunk.text.len() >= limits.bytes_max;
        if is_full {
            let full = std::mem::replace(&mut chunk, Chunk { file, ..Chunk::default() });
            if chunks.blocking_send(full).is_err() {
                return Ok(false);
            }
        }
    }
    let is_empty = chunk.line_numbers.is_empty() && chunk.unreadable.is_empty();
    Ok(is_empty || chunks.blocking_send(chunk).is_ok())
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let count = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(count);
        if end.is_some() {
            return Ok(());
        }
    }
}

impl Chunk {
    fn push(&mut self, line: &[u8], line_number: u64) {
        let Ok(line) = std::str::from_utf8(line) else {
            let detail = "the line is not UTF-8".to_owned();
            self.unreadable.push(Unreadable { line_number, code: "not_json", detail });
            return;
        };
        // Some programs begin a file with a byte order mark.
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            return;
        }
        self.line_numbers.push(line_number);
        match place_of_missing_id(line) {
            None => self.text.push_str(line),
            Some(MissingId::Absent) => {
                let members = &line[1..];
                self.text.push_str(&format!("{{\"id\":\"{}\",{members}", id_of_line(line)));
            }
            Some(MissingId::Empty(empty)) => {
                let (before, after) = (&line[..empty.start], &line[empty.end..]);
                self.text.push_str(&format!("{before}\"{}\"{after}", id_of_line(line)));
            }
        }
        self.text.push('\n');
    }
}

/// How an event can lack an id.
enum MissingId {
    Absent,
    /// `null` or blank, at these bytes of the line.
    Empty(Range<usize>),
}

/// `None` when a line has an id, and when it is no event: what is no JSON is left to collection to
/// reject.
fn place_of_missing_id(line: &str) -> Option<MissingId> {
    #[derive(Deserialize)]
    struct Members<'l> {
        #[serde(borrow, default, deserialize_with = "is_written")]
        id: Option<&'l RawValue>,
        /// Without it the line is no event, and `{}` has no place for one more member.
        #[serde(default, deserialize_with = "is_there")]
        event: bool,
    }
    let members: Members<'_> = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    if !members.event {
        return None;
    }
    let Some(id) = members.id.map(RawValue::get) else { return Some(MissingId::Absent) };
    let is_empty = match serde_json::from_str::<Option<String>>(id) {
        Ok(text) => text.is_none_or(|text| text.trim().is_empty()),
        Err(_) => false,
    };
    // A raw value is a part of the line it was read from.
    let start = id.as_ptr() as usize - line.as_ptr() as usize;
    is_empty.then(|| MissingId::Empty(start..start + id.len()))
}

fn is_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The id of a line that has none: a hash of its text, so that the same file imported again, or
/// in another order, counts once. Two lines that are equal to the byte are therefore one event.
fn id_of_line(line: &str) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(line.as_bytes());
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: ChunkLimits = ChunkLimits { lines_max: 3, bytes_max: 10_000, line_bytes_max: 200 };

    fn chunks_of(bytes: &[u8]) -> Vec<Chunk> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let files = [file.path().to_owned()];
        let read = Arc::new(AtomicU64::new(0));
        let (sender, mut receiver) = mpsc::channel(100);
        read_files(&files, LIMITS, &read, &sender).unwrap();
        drop(sender);
        assert_eq!(read.load(Ordering::Relaxed), bytes.len() as u64);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    fn lines(chunks: &[Chunk]) -> Vec<(u64, String)> {
        let of_one = |chunk: &Chunk| {
            let numbers = chunk.line_numbers.clone();
            numbers.into_iter().zip(chunk.text.lines().map(str::to_owned)).collect::<Vec<_>>()
        };
        chunks.iter().flat_map(of_one).collect()
    }

    const TEXT: &str = "{\"event\":\"a\",\"id\":\"1\"}\n\n{\"event\":\"b\",\"id\":\"2\"}\r\n  {\"event\":\"c\",\"id\":3}\n{\"event\":\"d\",\"id\":\"4\"}";

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_passed_over() {
        let chunks = chunks_of(TEXT.as_bytes());
        assert_eq!(chunks.len(), 2);
        let numbers: Vec<_> = lines(&chunks).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 3, 4, 5]);
        assert_eq!(lines(&chunks)[2].1, "{\"event\":\"c\",\"id\":3}");
    }

    #[test]
    fn compressed_files_read_the_same() {
        let plain = lines(&chunks_of(TEXT.as_bytes()));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT.as_bytes()).unwrap();
        assert_eq!(lines(&chunks_of(&gzip.finish().unwrap())), plain);
        assert_eq!(lines(&chunks_of(&zstd::encode_all(TEXT.as_bytes(), 1).unwrap())), plain);
        // Files that were compressed apart and put together are one file.
        let (first, second) = TEXT.split_at(TEXT.find("{\"event\":\"b\"").unwrap());
        let mut joined = zstd::encode_all(first.as_bytes(), 1).unwrap();
        joined.extend(zstd::encode_all(second.as_bytes(), 1).unwrap());
        assert_eq!(lines(&chunks_of(&joined)), plain);
    }

    #[test]
    fn lines_that_cannot_be_read_are_named() {
        let mut bytes = vec![b'x'; 500];
        bytes.extend(b"\n\xff\xfe\n{\"event\":\"a\",\"id\":\"1\"}\n");
        let chunks = chunks_of(&bytes);
        let unreadable: Vec<_> =
            chunks[0].unreadable.iter().map(|line| (line.line_number, line.code)).collect();
        assert_eq!(unreadable, [(1, "too_large"), (2, "not_json")]);
        assert_eq!(lines(&chunks), [(3, "{\"event\":\"a\",\"id\":\"1\"}".to_owned())]);
    }

    #[test]
    fn a_line_without_an_id_gets_one_that_follows_from_its_text() {
        let id = |line: &str| {
            let value: serde_json::Value =
                serde_json::from_str(&lines(&chunks_of(line.as_bytes()))[0].1).unwrap();
            value["id"].as_str().unwrap().to_owned()
        };
        let first = id(r#"{"event":"a","user_id":"u"}"#);
        assert_eq!(first, id("  {\"event\":\"a\",\"user_id\":\"u\"}\n"));
        assert_ne!(first, id(r#"{"event":"a","user_id":"v"}"#));
        assert!(uuid::Uuid::parse_str(&first).is_ok());
        assert_eq!(id(r#"{"event":"a","id":"mine"}"#), "mine");
        // No event, or no JSON: left as it is.
        for line in ["{}", "{\"event\":\"a\"", "[1]", "{\"id\":null}"] {
            assert_eq!(lines(&chunks_of(line.as_bytes()))[0].1, line);
        }
    }

    #[test]
    fn an_empty_id_is_replaced_by_one_that_follows_from_the_text() {
        for line in [
            r#"{"event":"a", "id" : null ,"properties":{"id":null}}"#,
            r#"{"id":"  ","event":"a"}"#,
            r#"{"id":"","event":"a","distinct_id":"null"}"#,
        ] {
            let [first, second] = [(); 2].map(|()| lines(&chunks_of(line.as_bytes()))[0].1.clone());
            assert_eq!(first, second, "the same each time");
            let mut value: serde_json::Value = serde_json::from_str(&first).unwrap();
            assert!(uuid::Uuid::parse_str(value["id"].as_str().unwrap()).is_ok(), "{first}");
            let mut before: serde_json::Value = serde_json::from_str(line).unwrap();
            value["id"] = serde_json::Value::Null;
            before["id"] = serde_json::Value::Null;
            assert_eq!(value, before, "and nothing else is changed");
        }
        let number = r#"{"event":"a","id":0}"#;
        assert_eq!(lines(&chunks_of(number.as_bytes()))[0].1, number);
    }
}
