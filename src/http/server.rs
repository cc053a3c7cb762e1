//! The two listeners, from binding to the last answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, dev};
use tokio::sync::oneshot;

use super::{HttpState, middleware, routes};
use crate::config::HttpConfig;

/// Adds what the handlers of other modules take as `web::Data`, for every worker.
pub type Register = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A head that does not arrive in this time ends its connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections each worker takes at once, several times what 64 replicas of a client need.
const CONNECTIONS_PER_WORKER_MAX: usize = 10_000;

pub struct ListenSettings {
    pub bind: SocketAddr,
    pub ops_bind: SocketAddr,
    /// 0: one per core.
    pub workers: usize,
    pub keep_alive: Duration,
    /// How long readiness fails before connections are drained.
    pub drain_wait: Duration,
    /// How long open requests may take to end.
    pub drain_max: Duration,
}

impl ListenSettings {
    /// Fails on addresses that cannot be read, which the configuration's own rules find first.
    pub fn from_config(config: &HttpConfig) -> io::Result<Self> {
        let address = |text: &str| {
            text.parse()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{text}: {error}")))
        };
        Ok(Self {
            bind: address(&config.bind)?,
            ops_bind: address(&config.ops_bind)?,
            workers: config.workers.into(),
            keep_alive: Duration::from_secs(config.keep_alive_secs.into()),
            drain_wait: Duration::from_secs(config.drain_wait_secs.into()),
            drain_max: Duration::from_secs(config.drain_secs_max.into()),
        })
    }
}

/// How a server is told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Load balancers see readiness fail for `drain_wait` before the port is closed.
    Announced,
    Now,
}

/// Bound to its addresses, so that whoever starts it can say where it is before it runs.
pub struct HttpServer {
    main: dev::Server,
    ops: dev::Server,
    address: SocketAddr,
    ops_address: SocketAddr,
    state: web::Data<HttpState>,
    drain_wait: Duration,
}

impl HttpServer {
    /// Binds both listeners. `register` adds the state of collection, tickets and whatever else the
    /// routes lead to.
    pub fn bind(
        state: web::Data<HttpState>,
        register: Register,
        listen: &ListenSettings,
    ) -> io::Result<Self> {
        let drain_secs = listen.drain_max.as_secs();
        let app_state = state.clone();
        let mut main = actix_web::HttpServer::new(move || {
            let register = register.clone();
            App::new()
                .app_data(app_state.clone())
                .configure(|config| register(config))
                .configure(|config| routes::configure(config, &app_state.config.roles))
                .default_service(web::to(middleware::nothing_here))
                .wrap(from_fn(middleware::errors))
                .wrap(from_fn(middleware::compress))
                .wrap(from_fn(middleware::methods))
                .wrap(from_fn(middleware::request))
        })
        .disable_signals()
        .keep_alive(listen.keep_alive)
        .client_request_timeout(HEAD_TIME_MAX)
        .max_connections(CONNECTIONS_PER_WORKER_MAX)
        .shutdown_timeout(drain_secs);
        if listen.workers > 0 {
            main = main.workers(listen.workers);
        }
        let main = named(main.bind(listen.bind), listen.bind, "http.bind")?;
        let address = main.addrs()[0];

        let ops_state = state.clone();
        let ops = actix_web::HttpServer::new(move || {
            App::new()
                .app_data(ops_state.clone())
                .configure(routes::configure_ops)
                .default_service(web::to(middleware::nothing_here))
                .wrap(from_fn(middleware::errors))
                .wrap(from_fn(middleware::methods))
                .wrap(from_fn(middleware::request))
        })
        .disable_signals()
        .workers(1)
        .shutdown_timeout(drain_secs);
        let ops = named(ops.bind(listen.ops_bind), listen.ops_bind, "http.ops_bind")?;
        let ops_address = ops.addrs()[0];
        let (main, ops) = (main.run(), ops.run());
        Ok(Self { main, ops, address, ops_address, state, drain_wait: listen.drain_wait })
    }

    /// With the port that was taken when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Serves until `stop` is done; then readiness fails, connections are drained, and the
    /// operator's listener goes last so that the end can be watched.
    pub async fn run(self, stop: impl Future<Output = Stop>) -> io::Result<()> {
        let (main_handle, ops_handle) = (self.main.handle(), self.ops.handle());
        let mut main = tokio::spawn(self.main);
        let ops = tokio::spawn(self.ops);
        let (serving, served) = oneshot::channel::<Infallible>();
        let deleting = tokio::spawn(delete_ended_sessions(self.state.clone(), served));
        let stop = tokio::select! {
            stop = stop => stop,
            // It never ends by itself, except when it cannot go on.
            ended = &mut main => return ended.map_err(io::Error::other)?,
        };
        self.state.readiness.stop();
        if stop == Stop::Announced {
            tokio::time::sleep(self.drain_wait).await;
        }
        self.state.streams.close();
        main_handle.stop(true).await;
        let ended = main.await.map_err(io::Error::other)?;
        ops_handle.stop(true).await;
        ops.await.map_err(io::Error::other)??;
        drop(serving);
        deleting.await.map_err(io::Error::other)?;
        ended
    }
}

/// At the start and then every few minutes, until the server has stopped. Any replica does it: two
/// at once delete the same rows once.
async fn delete_ended_sessions(state: web::Data<HttpState>, mut served: oneshot::Receiver<Infallible>) {
    let every = Duration::from_secs(state.config.http.sessions_deleted_every_secs.into());
    loop {
        if let Err(error) = state.access.delete_expired().await {
            tracing::warn!(%error, "ended sessions could not be deleted; this is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = &mut served => return,
        }
    }
}

/// An address in use is the commonest reason not to start: say which one and whose setting it is.
fn named<T>(bound: io::Result<T>, address: SocketAddr, key: &str) -> io::Result<T> {
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {key} {address}: {error}")))
}
