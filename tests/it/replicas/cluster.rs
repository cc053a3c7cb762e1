//! Replicas behind HAProxy on two MariaDB servers and Redis, all as they are shipped.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Browser, HaProxy, Installation, MariaDb, Project, Redis, Weir, free_port, until};

pub struct Cluster {
    pub servers: [MariaDb; 2],
    pub redis: Redis,
    pub haproxy: HaProxy,
    pub replicas: Vec<Weir>,
    pub project: Project,
    /// Not logged in yet.
    pub browser: Browser,
    installation: Installation,
    addresses: Vec<[String; 2]>,
}

impl Cluster {
    /// With `environment` beside what compose.yaml sets.
    pub async fn start(replicas: usize, environment: &[(&str, &str)]) -> Self {
        let (one, two, redis) =
            tokio::join!(MariaDb::start_as_shipped(), MariaDb::start_as_shipped(), Redis::start());
        let databases = [one.create_database().await, two.create_database().await];
        let mut installation = Installation::mysql(&databases, 8)
            .with("WEIR__CACHE__REDIS", &redis.url())
            .with("WEIR__HTTP__DRAIN_WAIT_SECS", "3")
            .with("WEIR__HTTP__TRUSTED_PROXIES", "127.0.0.1")
            .with("WEIR__LOG__LEVEL", "warn");
        for (key, value) in environment {
            installation = installation.with(key, value);
        }
        let project = installation.create_project("replicas");
        let browser = Browser::new(&installation, "someone@example.com");
        let address = || format!("127.0.0.1:{}", free_port());
        let addresses: Vec<[String; 2]> = (0..replicas).map(|_| [address(), address()]).collect();
        let binds: Vec<String> = addresses.iter().map(|[bind, _]| bind.clone()).collect();
        let mut haproxy = HaProxy::start(&binds);
        let mut running = Vec::new();
        for [bind, ops] in &addresses {
            let mut weir = installation.start_at(bind, ops, &[]);
            weir.ready().await;
            running.push(weir);
        }
        haproxy.has_up(replicas).await;
        let servers = [one, two];
        Self { servers, redis, haproxy, replicas: running, project, browser, installation, addresses }
    }

    /// Starts a replica again at its address, and waits until it gets requests.
    pub async fn start_again(&mut self, replica: usize) {
        let [bind, ops] = &self.addresses[replica];
        let mut weir = self.installation.start_at(bind, ops, &[]);
        weir.ready().await;
        self.replicas[replica] = weir;
        self.haproxy.has_up(self.replicas.len()).await;
    }

    /// Until every server's journal holds only its own shards' batches.
    pub async fn nothing_waits_elsewhere(&self) {
        until("spilled batches to be forwarded", Duration::from_secs(60), || async {
            let shown: Value = serde_json::from_str(&self.installation.run(&["shards", "--json"])).ok()?;
            let reachable =
                shown["servers"].as_array()?.iter().all(|server| server["reachable"] == json!(true));
            let mut elsewhere = 0.0;
            for weir in &self.replicas {
                elsewhere += weir.metric("weir_forward_waiting_batches").await;
            }
            (reachable && elsewhere == 0.0).then_some(())
        })
        .await;
    }

    /// Of the replica that has most.
    pub fn resident_bytes_max(&self) -> u64 {
        self.replicas.iter().map(Weir::resident_bytes).max().expect("there are replicas")
    }
}
