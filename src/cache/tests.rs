//! The same behaviour with memory and with Redis, and with a Redis that dies.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::model::{ManualClock, Random, SystemRandom};

struct Greeting(&'static str);

impl CacheKey for Greeting {
    type Value = String;
    const NAME: &'static str = "greeting";
    const TTL: Duration = Duration::from_secs(60);

    fn id(&self) -> String {
        self.0.to_owned()
    }
    fn encode(value: &String) -> Bytes {
        Bytes::copy_from_slice(value.as_bytes())
    }
    fn decode(bytes: Bytes) -> Option<String> {
        String::from_utf8(bytes.into()).ok()
    }
}

fn settings(redis: Option<String>) -> CacheSettings {
    CacheSettings {
        redis,
        namespace: format!("test{:x}", SystemRandom.next_u64()),
        redis_connections_max: 4,
        redis_timeout: Duration::from_millis(500),
        memory_bytes_max: 1 << 20,
    }
}

fn open(settings: &CacheSettings) -> Cache {
    Cache::open(settings, Arc::new(ManualClock::new(0))).unwrap()
}

/// A Redis of our own on a free port, so that a test may kill it.
struct OwnRedis {
    process: Child,
    port: u16,
}

impl OwnRedis {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port).await
    }

    async fn start_on(port: u16) -> Self {
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed; scripts/test sees to it");
        let started = Self { process, port };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        started
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.end();
    }
}

async fn keeps_and_forgets(cache: &Cache) {
    assert_eq!(cache.get(&Greeting("a")).await, None);
    cache.put(&Greeting("a"), &"hello".to_owned()).await;
    assert_eq!(cache.get(&Greeting("a")).await.as_deref(), Some("hello"));
    assert_eq!(cache.get(&Greeting("b")).await, None);
    cache.put(&Greeting("a"), &"x".repeat(VALUE_BYTES_MAX + 1)).await;
    assert_eq!(cache.get(&Greeting("a")).await.as_deref(), Some("hello"));
    cache.remove(&Greeting("a")).await;
    assert_eq!(cache.get(&Greeting("a")).await, None);
}

#[tokio::test]
async fn memory_keeps_and_forgets() {
    keeps_and_forgets(&open(&settings(None))).await;
}

#[tokio::test]
async fn off_keeps_nothing() {
    let cache = Cache::off();
    cache.put(&Greeting("a"), &"hello".to_owned()).await;
    assert_eq!(cache.get(&Greeting("a")).await, None);
}

#[tokio::test]
async fn redis_keeps_and_forgets_apart_from_other_installations() {
    let redis = OwnRedis::start().await;
    let cache = open(&settings(Some(redis.url())));
    keeps_and_forgets(&cache).await;
    cache.put(&Greeting("a"), &"ours".to_owned()).await;
    assert_eq!(open(&settings(Some(redis.url()))).get(&Greeting("a")).await, None);
}

#[tokio::test]
async fn a_dead_redis_costs_nothing_and_is_found_when_it_returns() {
    let redis = OwnRedis::start().await;
    let cache = open(&settings(Some(redis.url())));
    cache.put(&Greeting("a"), &"hello".to_owned()).await;
    assert_eq!(cache.get(&Greeting("a")).await.as_deref(), Some("hello"));
    let port = redis.kill();
    assert_eq!(cache.get(&Greeting("a")).await, None);
    assert_eq!(cache.redis_is_well(), Some(false));
    // 100,000 misses in the time that a few timeouts would take.
    let began = std::time::Instant::now();
    for _ in 0..100_000 {
        assert_eq!(cache.get(&Greeting("a")).await, None);
        cache.put(&Greeting("a"), &String::new()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let _again = OwnRedis::start_on(port).await;
    while cache.redis_is_well() == Some(false) {
        tokio::task::yield_now().await;
    }
    cache.put(&Greeting("a"), &"back".to_owned()).await;
    assert_eq!(cache.get(&Greeting("a")).await.as_deref(), Some("back"));
}

#[tokio::test]
async fn a_silent_redis_is_a_miss_after_one_timeout() {
    // Takes connections and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = listener.accept().await {
            kept.push(connection);
        }
    });
    let cache = open(&CacheSettings { redis_timeout: Duration::from_millis(50), ..settings(Some(url)) });
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        assert_eq!(cache.get(&Greeting("a")).await, None);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    silent.abort();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    assert!(Cache::open(&settings(Some("http://x".to_owned())), Arc::new(ManualClock::new(0))).is_err());
}

/// Sends until it arrives: subscribing takes a moment, and a message before that is lost.
async fn reaches(from: &Cache, to: &Cache) {
    let mut heard = to.wakeups().listen();
    loop {
        from.wakeups().send(Wakeup::TicketQueued);
        if let Ok(wakeup) = tokio::time::timeout(Duration::from_millis(50), heard.recv()).await {
            assert_eq!(wakeup.unwrap(), Wakeup::TicketQueued);
            return;
        }
    }
}

#[tokio::test]
async fn wakeups_reach_other_processes_also_after_redis_was_away() {
    let redis = OwnRedis::start().await;
    let settings = settings(Some(redis.url()));
    let (one, other) = (open(&settings), open(&settings));
    reaches(&one, &other).await;
    let port = redis.kill();
    // In this process nothing changes.
    let mut here = one.wakeups().listen();
    one.wakeups().send(Wakeup::TicketQueued);
    assert_eq!(here.recv().await.unwrap(), Wakeup::TicketQueued);
    let _again = OwnRedis::start_on(port).await;
    reaches(&one, &other).await;
}
