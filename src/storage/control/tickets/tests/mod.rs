//! Every statement on both back ends, and the bugs that other queues shipped.

mod ending;
mod erase;
mod maintenance;
mod queue;
mod steps;
mod unless_changed;

use super::*;
use crate::model::{ManualClock, ReplicaId, SeededRandom};
use crate::storage::conformance::on_both;
use crate::storage::db::Value;

const KINDS: &[&str] = &["question"];
const RULES: MaintenanceRules = MaintenanceRules {
    runner_deaths_max: 3,
    rescue_delay_ms: 1_000,
    result_ttl_ms: 100_000,
    gone_for_ms: 1_000_000,
};
const NOW: Millis = 1_700_000_000_000;
const US: ReplicaId = ReplicaId([1; 16]);
const THEM: ReplicaId = ReplicaId([2; 16]);

fn lease(by: ReplicaId, now: Millis) -> LeaseRequest {
    LeaseRequest { by, now, until: now + 30_000 }
}

/// Ids in the order of `n`.
fn id(n: u8) -> TicketId {
    let clock = ManualClock::new(NOW + i64::from(n));
    TicketId::time_ordered(&clock, &SeededRandom::new(u64::from(n)))
}

fn ticket(n: u8) -> NewTicket {
    NewTicket {
        ticket_id: id(n),
        project_id: ProjectId(1),
        kind: "question",
        body: vec![b'{', b'}'],
        body_hash: [n; 32],
        request_hash: [n + 100; 32],
        data_version: None,
        idempotency_key: None,
        created_by: "key:1".to_owned(),
        attempts_max: 3,
        created_at: NOW,
        overdue_at: NOW + 86_400_000,
    }
}

async fn put(store: &TicketStore, ticket: &NewTicket, r#as: InsertAs<'_>) -> TicketRow {
    match store.insert(ticket, r#as).await.unwrap() {
        Inserted::Ticket(row) => row,
        Inserted::Earlier(_) => panic!("there was an earlier one"),
    }
}

async fn get(store: &TicketStore, n: u8) -> TicketRow {
    store.find(id(n)).await.unwrap().unwrap()
}

fn result(body: &[u8]) -> TicketResult {
    TicketResult {
        body: body.to_vec().into(),
        as_of: Some(NOW - 5),
        partial: false,
        data_version: None,
        progress: TicketProgress { shards_done: 4, shards_total: 4, rows_done: 9, rows_total: 9 },
    }
}

fn ended() -> Finished {
    Finished::Yes { settled: vec![] }
}
