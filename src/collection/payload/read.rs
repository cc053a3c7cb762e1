//! Reading a raw body under a limit and a deadline.

use std::time::Duration;

use actix_web::web::{Bytes, Payload};
use futures_util::StreamExt;

use super::{BodyError, Encoding};
use crate::collection::budget::{Budget, Reserved};

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// For a body that is compressed.
    pub compressed_bytes_max: usize,
    /// For a plain body.
    pub plain_bytes_max: usize,
    /// From the first read to the last byte.
    pub deadline: Duration,
}

/// A body as it arrived, and its share of the memory that all requests have.
pub struct Body {
    pub bytes: Vec<u8>,
    pub encoding: Encoding,
    pub reserved: Reserved,
}

/// The whole raw body. An announced length above the limit is refused before a byte is read; a body
/// that gives no length is read up to the limit.
pub async fn read_body(
    mut payload: Payload,
    encoding: Encoding,
    content_length: Option<u64>,
    limits: BodyLimits,
    memory: &Budget,
) -> Result<Body, BodyError> {
    let limit = limits.of(encoding);
    if content_length.is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLarge { limit });
    }
    let mut body = Body { bytes: Vec::new(), encoding, reserved: memory.reserve(0)? };
    let reading = async {
        // actix gives at most 32 KiB or so at a time.
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| BodyError::Broken)?;
            body.push(&chunk, content_length, limits)?;
        }
        Ok::<_, BodyError>(())
    };
    match tokio::time::timeout(limits.deadline, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(BodyError::TooSlow { secs: limits.deadline.as_secs() }),
    }
    Ok(body)
}

impl BodyLimits {
    fn of(self, encoding: Encoding) -> usize {
        match encoding {
            Encoding::Identity => self.plain_bytes_max,
            Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => self.compressed_bytes_max,
        }
    }
}

impl Body {
    fn push(&mut self, chunk: &Bytes, announced: Option<u64>, limits: BodyLimits) -> Result<(), BodyError> {
        let limit = limits.of(self.encoding);
        let size = self.bytes.len() + chunk.len();
        if size > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if size > self.bytes.capacity() {
            // What was announced is not believed beyond the next doubling: it costs nothing to say.
            let announced = announced.map_or(usize::MAX, |length| length as usize);
            let capacity = (2 * size).max(16 * 1024).min(announced.max(size)).min(limit);
            self.reserved.grow_to(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        // Compressed without a word: the smaller limit holds from here on.
        self.encoding = self.encoding.sniffed(&self.bytes);
        let limit = limits.of(self.encoding);
        if size > limit { Err(BodyError::TooLarge { limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use actix_web::FromRequest;
    use actix_web::dev;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { compressed_bytes_max: 10, plain_bytes_max: 40_000, deadline: Duration::from_millis(60) };

    async fn payload_of(
        chunks: impl futures_util::Stream<Item = Result<Bytes, PayloadError>> + 'static,
    ) -> Payload {
        let stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = _>>> = Box::pin(chunks);
        let mut payload = dev::Payload::from(stream);
        Payload::from_request(&TestRequest::default().to_http_request(), &mut payload).await.unwrap()
    }

    async fn read(chunks: Vec<Bytes>, encoding: Encoding, length: Option<u64>) -> Result<Body, BodyError> {
        let payload = payload_of(futures_util::stream::iter(chunks.into_iter().map(Ok))).await;
        read_body(payload, encoding, length, LIMITS, &Budget::new(1 << 20)).await
    }

    #[actix_web::test]
    async fn a_body_in_pieces_is_put_together() {
        let chunks = vec![Bytes::from_static(b"ab"), Bytes::from_static(b""), Bytes::from_static(b"c")];
        for length in [None, Some(3)] {
            assert_eq!(read(chunks.clone(), Encoding::Identity, length).await.ok().unwrap().bytes, b"abc");
        }
    }

    #[actix_web::test]
    async fn a_body_stops_at_its_limit() {
        let chunk = |size| Bytes::from(vec![b' '; size]);
        let full = read(vec![chunk(39_000), chunk(1_000)], Encoding::Identity, None).await;
        assert_eq!(full.ok().unwrap().bytes.len(), 40_000);
        let over = read(vec![chunk(39_000), chunk(1_001)], Encoding::Identity, None).await;
        assert_eq!(over.err(), Some(BodyError::TooLarge { limit: 40_000 }));
        let over = read(vec![chunk(11)], Encoding::Gzip, None).await;
        assert_eq!(over.err(), Some(BodyError::TooLarge { limit: 10 }));
    }

    #[actix_web::test]
    async fn gzip_without_a_word_has_the_limit_of_gzip() {
        let chunks = vec![Bytes::from_static(&[0x1f]), Bytes::from(vec![0x8b; 10])];
        let over = read(chunks, Encoding::Identity, None).await;
        assert_eq!(over.err(), Some(BodyError::TooLarge { limit: 10 }));
    }

    #[actix_web::test]
    async fn an_announced_length_is_refused_before_anything_is_read() {
        let (touched, was_touched) = mpsc::channel();
        let payload = payload_of(futures_util::stream::poll_fn(move |_| {
            touched.send(()).unwrap();
            std::task::Poll::Ready(None)
        }))
        .await;
        let body = read_body(payload, Encoding::Identity, Some(40_001), LIMITS, &Budget::new(1 << 20)).await;
        assert_eq!(body.err(), Some(BodyError::TooLarge { limit: 40_000 }));
        assert!(was_touched.try_recv().is_err());
    }

    #[actix_web::test]
    async fn silence_ends_at_the_deadline() {
        let payload = payload_of(futures_util::stream::pending()).await;
        let body = read_body(payload, Encoding::Identity, None, LIMITS, &Budget::new(1 << 20)).await;
        assert_eq!(body.err(), Some(BodyError::TooSlow { secs: 0 }));
    }

    #[actix_web::test]
    async fn a_trickle_ends_at_the_deadline_too() {
        let payload = payload_of(futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from_static(b" ")), ()))
        }))
        .await;
        let body = read_body(payload, Encoding::Identity, None, LIMITS, &Budget::new(1 << 20)).await;
        assert_eq!(body.err(), Some(BodyError::TooSlow { secs: 0 }));
    }

    #[actix_web::test]
    async fn bodies_beyond_the_shared_memory_are_refused() {
        let memory = Budget::new(30_000);
        let held = memory.reserve(20_000).unwrap();
        let payload =
            payload_of(futures_util::stream::iter([Ok::<_, PayloadError>(Bytes::from(vec![b' '; 16_000]))]))
                .await;
        let body = read_body(payload, Encoding::Identity, None, LIMITS, &memory).await;
        assert!(matches!(body.err(), Some(BodyError::OutOfMemory(_))));
        drop(held);
        assert_eq!(memory.used_bytes(), 0);
    }
}
