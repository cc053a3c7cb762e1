//! What zstd has packed, as a whole.

use std::cell::RefCell;
use std::io;

/// What says that it is larger is inflated piece by piece, so that memory is taken only for what comes.
pub(super) const AT_ONCE_MAX: usize = 256 << 20;

thread_local! {
    /// Making one takes longer than inflating most pages.
    static INFLATER: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("memory is the only thing zstd can lack"));
}

/// What has so many bytes; `None`: it says that it has too many.
pub(super) fn inflate_known(packed: &[u8], bytes: usize) -> io::Result<Option<Vec<u8>>> {
    if bytes > AT_ONCE_MAX {
        return Ok(None);
    }
    INFLATER.with_borrow_mut(|inflater| inflater.decompress(packed, bytes)).map(Some)
}

/// What has exactly so many bytes, instead of what `inflated` has.
pub(super) fn inflate_into(packed: &[u8], bytes: usize, inflated: &mut Vec<u8>) -> io::Result<()> {
    inflated.clear();
    inflated.reserve(bytes.min(AT_ONCE_MAX));
    INFLATER.with_borrow_mut(|inflater| inflater.decompress_to_buffer(packed, inflated))?;
    match inflated.len() == bytes {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} bytes where {bytes} should be", inflated.len()))),
    }
}

/// A frame, which mostly says how many bytes it has.
pub(super) fn inflate(packed: &[u8]) -> io::Result<Vec<u8>> {
    let bytes = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    match bytes.map(|bytes| inflate_known(packed, bytes)).transpose()?.flatten() {
        Some(inflated) => Ok(inflated),
        None => zstd::decode_all(packed),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_frame_is_inflated_whether_or_not_it_says_how_large_it_is() {
        let plain = b"quarters ".repeat(1_000);
        let whole = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(inflate(&whole).unwrap(), plain);
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(&plain).unwrap();
        let streamed = encoder.finish().unwrap();
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&streamed).unwrap(), None);
        assert_eq!(inflate(&streamed).unwrap(), plain);
        assert!(inflate(&whole[..whole.len() - 1]).is_err() && inflate(b"no frame").is_err());
        assert!(inflate_known(&whole, AT_ONCE_MAX + 1).unwrap().is_none());
        let mut buffer = vec![7; 3];
        inflate_into(&whole, plain.len(), &mut buffer).unwrap();
        assert_eq!(buffer, plain);
        // The buffer has room for more, and says nothing of what should be there.
        for (packed, bytes) in [(&*whole, plain.len() + 1), (&*whole, plain.len() - 1), (&whole[..9], 100)] {
            assert!(inflate_into(packed, bytes, &mut buffer).is_err());
        }
    }
}
