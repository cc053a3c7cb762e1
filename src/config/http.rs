//! `[http]`: where weir listens and what it trusts.

use serde::{Deserialize, Serialize};

use super::{Problem, check_range};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Collection, API and pages.
    pub bind: String,
    /// Metrics and health, for the operator only.
    pub ops_bind: String,
    /// How people reach weir; `https` here means Secure cookies. Empty: `http://` + bind.
    pub public_url: String,
    /// Addresses of load balancers whose X-Forwarded-For is believed. Without them everybody who comes
    /// through a balancer has its address, and shares its limit of failed log-ins.
    pub trusted_proxies: Vec<String>,
    /// Worker threads for HTTP; 0 means one per core.
    pub workers: u16,
    /// How long an idle connection stays open. Several SDKs flush every 10 s and lose a batch when
    /// a close races with it.
    pub keep_alive_secs: u16,
    /// The longest body of an API request that is not collection.
    pub api_body_bytes_max: u32,
    /// Event streams of tickets that this process holds open; more are answered with 503.
    pub event_streams_max: u32,
    /// How long one stays open before the client has to come back. A common gateway cuts at 30 s.
    pub event_stream_secs: u32,
    /// The most events of one person in one answer or on their page.
    pub person_events_max: u32,
    /// Fewer come when they are longer than this together.
    pub person_bytes_max: u32,
    /// Event names, and property names, of a project that menus and the catalogue list, the most
    /// frequent ones.
    pub catalogue_names_max: u32,
    /// How often sessions that have ended and old counts of failed log-ins are deleted.
    pub sessions_deleted_every_secs: u32,
    /// At a stop by TERM, how long readiness fails while requests are still taken: two check intervals
    /// of the load balancer, or it sends requests to a port that is closed. Ctrl-C does not wait.
    pub drain_wait_secs: u16,
    /// At a stop, how long open requests may take to end.
    pub drain_secs_max: u16,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:8080".into(),
            ops_bind: "127.0.0.1:8081".into(),
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            workers: 0,
            keep_alive_secs: 75,
            api_body_bytes_max: 1024 * 1024,
            event_streams_max: 500,
            event_stream_secs: 25,
            person_events_max: 500,
            person_bytes_max: 4 << 20,
            catalogue_names_max: 2_000,
            sessions_deleted_every_secs: 600,
            drain_wait_secs: 5,
            drain_secs_max: 30,
        }
    }
}

impl HttpConfig {
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// The address that pages and snippets show, without a slash at its end.
    pub fn shown_url(&self) -> String {
        match self.public_url.trim_end_matches('/') {
            "" => format!("http://{}", self.bind),
            url => url.to_owned(),
        }
    }

    pub(super) fn validate(&self, problems: &mut Vec<Problem>) {
        for (key, value) in [("http.bind", &self.bind), ("http.ops_bind", &self.ops_bind)] {
            if value.parse::<std::net::SocketAddr>().is_err() {
                problems.push(Problem::new(key, value, "give an address and a port, as in 127.0.0.1:8080"));
            }
        }
        let url = &self.public_url;
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            problems.push(Problem::new("http.public_url", url, "begin it with https:// or http://"));
        }
        for proxy in &self.trusted_proxies {
            if proxy.parse::<std::net::IpAddr>().is_err() {
                problems.push(Problem::new("http.trusted_proxies", proxy, "give IP addresses"));
            }
        }
        check_range(problems, "http.catalogue_names_max", self.catalogue_names_max.into(), 1, 20_000);
        check_range(problems, "http.keep_alive_secs", self.keep_alive_secs.into(), 1, 3600);
        check_range(problems, "http.event_streams_max", self.event_streams_max.into(), 1, 100_000);
        check_range(problems, "http.event_stream_secs", self.event_stream_secs.into(), 1, 25);
        check_range(problems, "http.person_events_max", self.person_events_max.into(), 1, 10_000);
        check_range(problems, "http.person_bytes_max", self.person_bytes_max.into(), 1 << 16, 64 << 20);
        let every = self.sessions_deleted_every_secs;
        check_range(problems, "http.sessions_deleted_every_secs", every.into(), 1, 86_400);
        check_range(problems, "http.drain_wait_secs", self.drain_wait_secs.into(), 0, 300);
        check_range(problems, "http.workers", self.workers.into(), 0, 1024);
        check_range(problems, "http.api_body_bytes_max", self.api_body_bytes_max.into(), 1024, 16 << 20);
    }
}
