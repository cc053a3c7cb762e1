//! Health, on both listeners, and metrics, on the operator's.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::HttpState;
use crate::storage::Db;

/// A load balancer asks every few seconds and gives up after a few.
const PING_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Whether pages and the API can be served. Collection goes on without it.
    control: bool,
    servers_up: usize,
    servers_total: usize,
}

/// The process runs. Says nothing about databases: restarting weir would not bring them back.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("live\n")
}

/// Whether requests should come here: not while stopping, and not while no server answers. The
/// control database alone does not decide, since events can be committed without it.
pub async fn ready(state: web::Data<HttpState>) -> HttpResponse {
    let servers = state.storage.shards.servers();
    let pings = servers.iter().map(|server| async move {
        match server.db() {
            Ok(db) => answers(db).await,
            Err(_) => false,
        }
    });
    let (control, up) =
        futures_util::future::join(answers(&state.storage.control), futures_util::future::join_all(pings))
            .await;
    let servers_up = up.iter().filter(|up| **up).count();
    let status = match (state.readiness.is_stopping(), servers_up) {
        (true, _) => "stopping",
        (false, 0) => "no server answers",
        (false, _) => "ready",
    };
    let health = Health { status, control, servers_up, servers_total: servers.len() };
    match status {
        "ready" => HttpResponse::Ok().json(health),
        _ => HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "2")).json(health),
    }
}

async fn answers(db: &Db) -> bool {
    matches!(tokio::time::timeout(PING_TIME_MAX, db.now_ms()).await, Ok(Ok(_)))
}

pub async fn metrics(state: web::Data<HttpState>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}
