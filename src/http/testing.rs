//! The real server on a free port over a fresh SQLite store, with a clock that is moved by hand and
//! seeded randomness, and a browser for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use tokio::sync::oneshot;

use super::{HttpServer, HttpState, ListenSettings, Register, Stop};
use crate::access::{CreateAccount, CreateProject, CreatedProject};
use crate::config::Config;
use crate::eventstore::object_cache::ObjectCache;
use crate::model::{AccountId, ManualClock, ProjectId, SeededRandom};
use crate::storage::conformance::{POOL, TestDatabase, fresh_sqlite};
use crate::storage::{Storage, StorageSettings};
use crate::telemetry::Metrics;

pub const NOW: i64 = 1_795_406_671_000;
pub const PASSWORD: &str = "correct horse battery";

/// Listeners on ports of the system's choice, with one worker.
pub fn free_ports() -> ListenSettings {
    ListenSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        ops_bind: "127.0.0.1:0".parse().unwrap(),
        workers: 1,
        keep_alive: Duration::from_secs(75),
        drain_wait: Duration::ZERO,
        drain_max: Duration::from_secs(5),
    }
}

pub struct TestSite {
    pub state: web::Data<HttpState>,
    pub clock: Arc<ManualClock>,
    pub address: SocketAddr,
    pub ops_address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub served: tokio::task::JoinHandle<std::io::Result<()>>,
    _databases: [TestDatabase; 2],
}

impl TestSite {
    pub async fn start() -> Self {
        Self::start_with(Config::default(), |_| Arc::new(|_| {})).await
    }

    /// `register` makes what other modules' routes need from the store of this site.
    pub async fn start_with(config: Config, register: impl FnOnce(&HttpState) -> Register) -> Self {
        let databases = [fresh_sqlite(), fresh_sqlite()];
        let settings = StorageSettings {
            control: databases[0].dsn.clone(),
            servers: vec![databases[1].dsn.clone()],
            shards: None,
            shards_default: 4,
            pool: POOL,
        };
        let clock = Arc::new(ManualClock::new(NOW));
        let random = Arc::new(SeededRandom::new(1));
        let storage = Storage::open(&settings, &*clock, &*random).await.unwrap();
        let state =
            HttpState::new(storage, ObjectCache::none(), config, clock.clone(), random, Metrics::default());
        let state = web::Data::new(state);
        let register = register(&state);
        let server = HttpServer::bind(state.clone(), register, &free_ports()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, ops_address) = (server.address(), server.ops_address());
        let served = tokio::spawn(server.run(async move {
            let _ = stopped.await;
            Stop::Announced
        }));
        Self { state, clock, address, ops_address, stop: Some(stop), served, _databases: databases }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }

    pub async fn account(&self, email: &str, is_admin: bool) -> AccountId {
        let (email, password) = (email.to_owned(), Some(PASSWORD.to_owned()));
        self.state.access.create_account(CreateAccount { email, password, is_admin }).await.unwrap().0
    }

    pub async fn project(&self, name: &str, owner: Option<AccountId>) -> CreatedProject {
        let create = CreateProject {
            name: name.to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            span: None,
            owner,
            with_secret_key: true,
        };
        self.state.access.create_project(create).await.unwrap()
    }

    pub fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().redirect(Policy::none()).cookie_store(true).no_proxy();
        Browser { client: client.build().unwrap(), base: format!("http://{}", self.address), headers: vec![] }
    }

    /// A browser that is signed in to a new account, and a project that it owns.
    pub async fn signed_in(&self, email: &str) -> (Browser, ProjectId) {
        let account_id = self.account(email, false).await;
        let project = self.project("Shop", Some(account_id)).await;
        let browser = self.browser();
        let page = browser.log_in(email, PASSWORD).await;
        assert_eq!(page.status, 303, "{}", page.body);
        (browser, project.project_id)
    }

    pub async fn ops(&self, path: &str) -> Page {
        Page::of(reqwest::get(format!("http://{}{path}", self.ops_address)).await.unwrap()).await
    }
}

pub struct Browser {
    client: reqwest::Client,
    base: String,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Page {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn location(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The token that the page's forms carry.
    pub fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("a form with a token");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8"));
        for (name, value) in &self.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        request = request.headers(headers);
        request
    }

    pub async fn get(&self, path: &str) -> Page {
        Page::of(self.request(reqwest::Method::GET, path).send().await.unwrap()).await
    }

    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> Page {
        let request = self.request(method.parse().unwrap(), path).header(CONTENT_TYPE, content_type);
        Page::of(request.body(body.to_owned()).send().await.unwrap()).await
    }

    /// Posts fields as they are.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let encode = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.send("POST", path, "application/x-www-form-urlencoded", &body.join("&")).await
    }

    /// Opens a page and posts its form, token included.
    pub async fn submit(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.get(page).await.csrf();
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.post(path, &all).await
    }

    pub async fn log_in(&self, email: &str, password: &str) -> Page {
        self.post("/login", &[("email", email), ("password", password)]).await
    }
}
