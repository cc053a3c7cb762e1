//! Senders of every kind: browsers of other origins, many at once, and those that send slowly, too
//! much or not at all.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Site, event};
use crate::config::CollectionConfig;

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_any_origin_may_send_and_read_every_answer() {
    let site = Site::start().await;
    let preflight = site
        .client
        .request(reqwest::Method::OPTIONS, site.url())
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-retry-count,rsa-retry-attempt");
    let answer = site.ask(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.headers["access-control-allow-headers"],
        "authorization,x-retry-count,rsa-retry-attempt"
    );
    assert_eq!(answer.headers["access-control-max-age"], "7200");
    for (name, request, status) in [
        ("accepted", site.request().bearer_auth(&site.write_key).body(event("x")), 200),
        ("refused", site.request().body(event("x")), 401),
        ("broken", site.request().bearer_auth(&site.write_key).body("{"), 400),
    ] {
        let answer = site.ask(request.header("origin", "https://shop.example")).await;
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example", "{name}");
        assert_eq!(answer.headers["access-control-allow-credentials"], "true", "{name}");
        assert_eq!(answer.headers["access-control-expose-headers"], "Retry-After", "{name}");
        assert_eq!(answer.headers["vary"], "Origin, accept-encoding", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_batches_at_once_are_all_answered() {
    let site = Arc::new(Site::start().await);
    let batch: Vec<Value> = (0..100)
        .map(|n| json!({"event": "e", "distinct_id": format!("u{n}"), "id": format!("i{n}")}))
        .collect();
    let batch = Value::from(batch).to_string();
    let sends: Vec<_> = (0..50)
        .map(|_| {
            let (site, batch) = (site.clone(), batch.clone());
            tokio::spawn(async move { site.send(batch).await.status })
        })
        .collect();
    for send in sends {
        assert_eq!(send.await.unwrap(), 200);
    }
    // Each is in the journal as often as it was sent; the sealer counts it once.
    let mut stored = site.stored().await;
    assert_eq!(stored.len(), 5_000);
    stored.dedup_by_key(|event| event.event_id);
    assert_eq!(stored.len(), 100);
    let batches = site.metric("weir_collect_batches_total");
    assert!(batches < 200, "{batches} batches for 50 requests to 4 shards: nothing was grouped");
}

/// Writes a request's head and pieces of its body with a pause after each, and reads the answer.
async fn by_hand(site: &Site, head: &str, pieces: &[&[u8]], pause: Duration) -> String {
    let mut stream = TcpStream::connect(site.site.address).await.unwrap();
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{head}\r\n\r\n",
        site.write_key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let writer = tokio::spawn(async move {
        for piece in pieces {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        writing
    });
    let mut answer = vec![0; 16 * 1024];
    let size =
        tokio::time::timeout(Duration::from_secs(8), reading.read(&mut answer)).await.unwrap().unwrap();
    writer.abort();
    String::from_utf8_lossy(&answer[..size]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_length_is_refused_before_the_body_comes() {
    let site = Site::start().await;
    let answer = by_hand(&site, "Content-Length: 99999999", &[], Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends_at_the_limit() {
    let site =
        Site::start_with(CollectionConfig { body_bytes_max: 100_000, ..CollectionConfig::default() }).await;
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    let pieces = vec![chunk.as_slice(); 50];
    let answer = by_hand(&site, "Transfer-Encoding: chunked", &pieces, Duration::from_millis(5)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_and_a_slow_sender_end_at_the_deadline_and_harm_nobody() {
    let site = Site::start_with(CollectionConfig { body_secs_max: 1, ..CollectionConfig::default() }).await;
    let silent = by_hand(&site, "Content-Length: 100", &[b"{"], Duration::ZERO);
    let drops: Vec<&[u8]> = vec![b" "; 50];
    let slow = by_hand(&site, "Content-Length: 100", &drops, Duration::from_millis(200));
    let others = async {
        for _ in 0..20 {
            assert_eq!(site.send(event("x")).await.status, 200);
        }
    };
    let (silent, slow, ()) = tokio::join!(silent, slow, others);
    assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
}

/// Anybody can announce a body, send most of it and fall silent; those who show a key never notice.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_a_key_have_memory_of_their_own() {
    let site = Site::start_with(CollectionConfig {
        body_bytes_max: 1 << 20,
        bodies_bytes_max: 4 << 20,
        keyless_bodies_bytes_max: 1 << 20,
        ..CollectionConfig::default()
    })
    .await;
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let padded = format!("{}{}", event("x"), " ".repeat(800_000));
    let refused = async {
        loop {
            // Where one of ours is in memory just then, it is the stranger who is refused, and comes again.
            let mut stranger = TcpStream::connect(site.site.address).await.unwrap();
            let _ = stranger.write_all(&[head.as_bytes(), &[b' '; 900_000]].concat()).await;
            // Taken or refused for its key until the stranger's body is in memory.
            for _ in 0..20 {
                if site.ask(site.client.post(site.url()).body(padded.clone())).await.status == 503 {
                    return stranger;
                }
            }
        }
    };
    let stranger = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(site.send(padded).await.status, 200);
    drop(stranger);
}
