//! The tickets API from outside.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::AskError;

/// Longer than any request takes: 25 s, and the way.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(40);
/// The server sends at most 10 MB.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Rows of a page of CSV.
const PAGE_ROWS: u32 = 100_000;
/// How often an answer that asks for another try gets one, for a ticket that is there already.
const TRIES_MAX: u32 = 8;
const PAUSE_FIRST: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Client {
    agent: Agent,
    server: String,
    key: String,
}

/// What is looked at of a ticket.
#[derive(Deserialize, Debug)]
pub struct TicketView {
    pub id: String,
    pub state: String,
    pub progress: Progress,
    pub queue_position: Option<u32>,
    pub as_of: Option<String>,
    pub partial: bool,
    pub error: Option<Problem>,
    pub result: Option<Value>,
    #[serde(skip)]
    pub etag: String,
}

#[derive(Deserialize, Clone, Copy, Debug)]
pub struct Progress {
    pub shards_done: u64,
    pub shards_total: u64,
    pub rows_done: u64,
    pub rows_total: u64,
}

/// A problem document, or the error of a ticket.
#[derive(Deserialize, Debug)]
pub struct Problem {
    pub detail: String,
    #[serde(default)]
    pub errors: Vec<FieldProblem>,
}

#[derive(Deserialize, Debug)]
pub struct FieldProblem {
    pub pointer: String,
    pub detail: String,
}

impl TicketView {
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

impl Client {
    pub fn new(server: &str, key: &str) -> Self {
        // The certificates that this machine trusts, so that a company's own are good too.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST_TIME_MAX))
            .http_status_as_error(false)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let server = server.trim_end_matches('/').to_owned();
        Self { agent: config.into(), server, key: key.to_owned() }
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// Waits for a moment, so that most answers come without another request.
    pub fn submit(&self, question: &Value, idempotency_key: &str) -> Result<TicketView, AskError> {
        let body = serde_json::json!({"question": question}).to_string();
        let request = self
            .agent
            .post(self.url("/api/v1/tickets"))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .header("prefer", "wait=1")
            .header("idempotency-key", idempotency_key);
        self.ticket(self.judged(request.send(body))?)
    }

    /// The ticket when it has changed, or after some seconds; `None` when it has not.
    pub fn follow(&self, ticket: &TicketView) -> Result<Option<TicketView>, AskError> {
        let path = format!("/api/v1/tickets/{}?wait=5", ticket.id);
        let answer = self.patiently(|| self.get(&path).header("if-none-match", &ticket.etag).call())?;
        if answer.status() == 304 { Ok(None) } else { self.ticket(answer).map(Some) }
    }

    pub fn cancel(&self, ticket_id: &str) -> Result<(), AskError> {
        let url = self.url(&format!("/api/v1/tickets/{ticket_id}/cancel"));
        let request = self.agent.post(url).header("authorization", format!("Bearer {}", self.key));
        self.judged(request.send_empty()).map(drop)
    }

    /// The whole result, put together from as many pages as it has.
    pub fn result(&self, ticket: &TicketView) -> Result<Value, AskError> {
        if let Some(result) = &ticket.result {
            return Ok(result.clone());
        }
        let mut next = Some(format!("/api/v1/tickets/{}/result", ticket.id));
        let mut whole: Map<String, Value> = Map::new();
        while let Some(path) = next {
            let answer = self.patiently(|| self.get(&path).call())?;
            next = next_page(&answer);
            let page: Map<String, Value> = self.read(answer)?;
            for (name, value) in page {
                match (whole.get_mut(&name), value) {
                    // The rows; every other list is the same on each page.
                    (Some(Value::Array(rows)), Value::Array(more)) if name != "buckets" => rows.extend(more),
                    (_, value) => drop(whole.insert(name, value)),
                }
            }
        }
        whole.remove("page");
        Ok(Value::Object(whole))
    }

    /// The same as CSV, page by page, with one head line.
    pub fn csv(&self, ticket: &TicketView, sink: &mut dyn FnMut(&str)) -> Result<(), AskError> {
        let mut next = Some(format!("/api/v1/tickets/{}/result?format=csv&limit={PAGE_ROWS}", ticket.id));
        let mut is_first = true;
        while let Some(path) = next {
            let mut answer = self.patiently(|| self.get(&path).call())?;
            next = next_page(&answer);
            let text = text_of(&mut answer, &self.server)?;
            let lines = if is_first { &*text } else { text.split_once("\r\n").map_or("", |(_, rest)| rest) };
            is_first = false;
            sink(lines);
        }
        Ok(())
    }

    fn get(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        self.agent.get(self.url(path)).header("authorization", format!("Bearer {}", self.key))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    /// For a ticket that is there: a replica that goes away is no reason to lose its answer.
    fn patiently(
        &self,
        call: impl Fn() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, AskError> {
        let mut pause = PAUSE_FIRST;
        for _ in 1..TRIES_MAX {
            match self.judged(call()) {
                Err(AskError::Unreachable { .. } | AskError::Busy { .. }) => std::thread::sleep(pause),
                judged => return judged,
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
        self.judged(call())
    }

    /// An answer that is one, or what is wrong in words that say what to do.
    fn judged(&self, called: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, AskError> {
        let server = self.server.clone();
        let mut answer =
            called.map_err(|error| AskError::Unreachable { server, cause: error.to_string() })?;
        let status = answer.status().as_u16();
        if status < 400 {
            return Ok(answer);
        }
        let text = text_of(&mut answer, &self.server)?;
        let problem: Problem = serde_json::from_str(&text).map_err(|_| AskError::NotWeir {
            server: self.server.clone(),
            found: format!("it answered {status} without saying why"),
        })?;
        Err(match status {
            400 | 413 | 415 => AskError::Invalid(problem),
            401 | 403 => AskError::Key { server: self.server.clone() },
            429 | 502 | 503 | 504 => AskError::Busy { detail: problem.detail },
            _ => AskError::Failed(problem.detail),
        })
    }

    fn ticket(&self, answer: Response<Body>) -> Result<TicketView, AskError> {
        let etag = header(&answer, "etag").unwrap_or_default().to_owned();
        let ticket: TicketView = self.read(answer)?;
        Ok(TicketView { etag, ..ticket })
    }

    fn read<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, AskError> {
        let text = text_of(&mut answer, &self.server)?;
        serde_json::from_str(&text).map_err(|error| AskError::NotWeir {
            server: self.server.clone(),
            found: format!("its answer cannot be read: {error}"),
        })
    }
}

fn text_of(answer: &mut Response<Body>, server: &str) -> Result<String, AskError> {
    let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    read.map_err(|error| AskError::Unreachable { server: server.to_owned(), cause: error.to_string() })
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// The path in `Link: <…>; rel="next"`.
fn next_page(answer: &Response<Body>) -> Option<String> {
    let link = header(answer, "link")?;
    let (path, _) = link.strip_prefix('<')?.split_once('>')?;
    link.contains("rel=\"next\"").then(|| path.to_owned())
}
