//! The ways into a final state: succeeded, failed, cancelled. And what that means for the equal
//! tickets that waited.

use bytes::Bytes;

use super::row::{read, select};
use super::{ResultRef, TicketRow, TicketState, TicketStore};
use crate::model::{Millis, ProjectId, TicketId};
use crate::storage::db::{Statement, Tx, statement};
use crate::storage::{Read, Sql, StorageError, Value};
use crate::values;

/// Far below max_allowed_packet (16 MiB), and small enough to be read one at a time.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// Sent as text with the statement that publishes it, which doubles it.
pub const SENT_ALONG_BYTES_MAX: usize = 64 << 10;

/// The width of `error_detail`, in characters.
const DETAIL_CHARS_MAX: usize = 1_000;
/// The width of `error_code`.
const CODE_CHARS_MAX: usize = 64;

/// How many equal tickets one ending settles at once; those beyond find the result on their own.
const FOLLOWERS_MAX: u32 = 500;

static GET_FOR_UPDATE: Statement =
    select!("tickets.get_for_update", mysql: "", sqlite: "", "WHERE ticket_id = ?", " FOR UPDATE");
static PUBLISH: Statement = statement!(
    "tickets.publish",
    "UPDATE tickets SET state = 'succeeded', finished_at = ?, expires_at = ?, sweep_at = ?, as_of = ?, \
     partial = ?, data_version = ?, result_bytes = ?, result_parts = ?, result_ticket = ticket_id, \
     result_fence = fence, error_code = NULL, error_detail = NULL, lease_until = NULL, shards_done = ?, \
     shards_total = ?, rows_done = ?, rows_total = ? \
     WHERE ticket_id = ? AND fence = ? AND leased_by = ? AND state = 'running'"
);
// Only while it runs under this fence: whoever erases somebody deletes results, and none may come after.
static INSERT_PART: Statement = statement!(
    "tickets.insert_part",
    "INSERT INTO ticket_results (ticket_id, fence, part_no, body) SELECT ticket_id, fence, ?, ? FROM tickets \
     WHERE ticket_id = ? AND fence = ? AND leased_by = ? AND state = 'running'"
);
// In one message with the publishing, and only after this very one: a result that was published before and
// has been erased since has another time to expire.
static INSERT_PUBLISHED: Statement = statement!(
    "tickets.insert_published",
    "INSERT INTO ticket_results (ticket_id, fence, part_no, body) SELECT ticket_id, fence, 0, ? FROM tickets \
     WHERE ticket_id = ? AND fence = ? AND leased_by = ? AND state = 'succeeded' AND expires_at = ? \
     AND NOT EXISTS (SELECT 1 FROM ticket_results WHERE ticket_id = ? AND fence = ? AND part_no = 0)"
);
static ANSWER: Statement = statement!(
    "tickets.answer",
    "UPDATE tickets SET state = 'succeeded', finished_at = ?, started_at = COALESCE(started_at, ?), \
     expires_at = ?, sweep_at = ?, as_of = ?, partial = ?, data_version = ?, result_bytes = ?, \
     result_parts = ?, result_ticket = ?, result_fence = ?, shards_done = ?, shards_total = ?, \
     rows_done = ?, rows_total = ?, error_code = NULL, error_detail = NULL, lease_until = NULL, \
     waits_for = NULL WHERE ticket_id = ? AND fence = ? AND state = ?"
);
static FAIL: Statement = statement!(
    "tickets.fail",
    "UPDATE tickets SET state = 'failed', finished_at = ?, expires_at = ?, sweep_at = ?, error_code = ?, \
     error_detail = ?, lease_until = NULL, waits_for = NULL WHERE ticket_id = ? AND fence = ? AND state = ?"
);
static CANCELLED: Statement = statement!(
    "tickets.cancelled",
    "UPDATE tickets SET state = 'cancelled', finished_at = ?, expires_at = ?, sweep_at = ?, \
     error_code = NULL, error_detail = NULL, lease_until = NULL, waits_for = NULL \
     WHERE ticket_id = ? AND fence = ? AND state = ?"
);
static CANCELLING: Statement = statement!(
    "tickets.cancelling",
    "UPDATE tickets SET state = 'cancelling' WHERE ticket_id = ? AND fence = ? AND state = 'running'"
);
// As with equal tickets, any other index may be the whole table.
static FOLLOWERS: Statement = statement!(
    "tickets.followers",
    mysql: "SELECT ticket_id, fence FROM tickets FORCE INDEX (tickets_waiting) WHERE waits_for = ? \
            AND state = 'queued' ORDER BY ticket_id LIMIT ?",
    sqlite: "SELECT ticket_id, fence FROM tickets INDEXED BY tickets_waiting WHERE waits_for = ? \
             AND state = 'queued' ORDER BY ticket_id LIMIT ?",
);
static RELEASE: Statement = statement!(
    "tickets.release",
    "UPDATE tickets SET waits_for = NULL, run_after = ? WHERE ticket_id = ? AND fence = ? AND state = 'queued'"
);

/// Why a ticket failed: a code for programs and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub code: String,
    pub detail: String,
}

impl Failure {
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.chars().take(CODE_CHARS_MAX).collect(), detail: detail.into() }
    }

    pub(super) fn stored_detail(&self) -> String {
        self.detail.chars().take(DETAIL_CHARS_MAX).collect()
    }
}

/// What a successful run hands over.
#[derive(Clone, Debug)]
pub struct TicketResult {
    /// JSON text.
    pub body: Bytes,
    pub as_of: Option<Millis>,
    pub partial: bool,
    /// The state of the data that was really read; `None` when the result may not be shared.
    pub data_version: Option<[u8; 32]>,
    pub progress: super::TicketProgress,
}

/// What became of an attempt to end a ticket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finished {
    /// It has this end now, by this call or an earlier one of the same run. The tickets that waited
    /// for it were answered or set free.
    Yes { settled: Vec<TicketId> },
    /// It was asked to be cancelled meanwhile.
    Cancelling,
    /// It is not ours any more.
    Lost,
}

impl TicketRow {
    /// What a running one is once this has been published, as it is read then.
    pub fn published(&self, result: &TicketResult, now: Millis, expires_at: Millis) -> Self {
        let stored = ResultRef {
            ticket_id: self.ticket_id,
            fence: self.fence,
            bytes: result.body.len() as u64,
            parts: split(&result.body).len() as u32,
        };
        Self {
            state: TicketState::Succeeded,
            finished_at: Some(now),
            expires_at,
            sweep_at: expires_at,
            as_of: result.as_of,
            partial: result.partial,
            data_version: result.data_version,
            result: Some(stored),
            error: None,
            lease_until: None,
            progress: result.progress,
            ..self.clone()
        }
    }
}

/// The statement beside the one that publishes: the result of a small one.
pub(super) fn insert_published(
    ticket: &TicketRow,
    result: &TicketResult,
    expires_at: Millis,
) -> (Sql, Vec<Value>) {
    let (ticket_id, fence, leased_by) = (ticket.ticket_id, ticket.fence, ticket.leased_by);
    let binds = values![result.body.clone(), ticket_id, fence, leased_by, expires_at, ticket_id, fence];
    (Sql::from(&INSERT_PUBLISHED), binds)
}

impl TicketStore {
    /// Publishes a result under the fence of the run that made it. Safe to call again when it is
    /// not known whether the first call arrived.
    pub async fn publish(
        &self,
        ticket: &TicketRow,
        result: &TicketResult,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Finished, StorageError> {
        let parts: Vec<Bytes> = split(&result.body);
        // A small result goes with the publishing; a larger one is there before it.
        let is_small = result.body.len() <= SENT_ALONG_BYTES_MAX;
        let uploaded = if is_small { &[][..] } else { &parts[..] };
        for (part_no, part) in uploaded.iter().enumerate() {
            let binds = values![part_no, part.clone(), ticket.ticket_id, ticket.fence, ticket.leased_by];
            match self.db.execute(&INSERT_PART, binds).await {
                // Only this run writes under this fence: the part is there from an earlier call.
                Ok(_) | Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let publish = values![
            now,
            expires_at,
            expires_at,
            result.as_of,
            result.partial,
            result.data_version,
            result.body.len(),
            parts.len(),
            result.progress.shards_done,
            result.progress.shards_total,
            result.progress.rows_done,
            result.progress.rows_total,
            ticket.ticket_id,
            ticket.fence,
            ticket.leased_by,
        ];
        let ticket_id = ticket.ticket_id;
        let mut statements = vec![(Sql::from(&PUBLISH), publish)];
        if is_small {
            statements.push(insert_published(ticket, result, expires_at));
        }
        let followers = Read::new(&FOLLOWERS, values![ticket_id, 1], |rows| Ok(rows.len()));
        let (changed, followers) = self.db.change_and_read(statements, followers).await?;
        let published = (changed[0] > 0).then(Vec::new);
        let finished = self.finished(ticket, TicketState::Succeeded, published).await?;
        if !matches!(finished, Finished::Yes { .. }) || followers == 0 {
            return Ok(finished);
        }
        // It is published, whatever becomes of this: they would find the result on their own, later.
        let settled = self.settle_followers_of(ticket_id, now).await.unwrap_or_else(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, ticket.id = %ticket_id, "equal tickets were not answered at once");
            Vec::new()
        });
        Ok(Finished::Yes { settled })
    }

    /// Answers a ticket that runs under our lease with the result of an equal one.
    pub async fn answer_with(
        &self,
        ticket: &TicketRow,
        by: &TicketRow,
        now: Millis,
    ) -> Result<Finished, StorageError> {
        let binds = answer_binds(ticket.ticket_id, ticket.fence, TicketState::Running, by, now);
        let settled = self.change_and_settle(&ANSWER, binds, ticket.ticket_id, now).await?;
        self.finished(ticket, TicketState::Succeeded, settled).await
    }

    pub async fn fail(
        &self,
        ticket: &TicketRow,
        failure: &Failure,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Finished, StorageError> {
        let settled = self.fail_from(ticket, TicketState::Running, failure, now, expires_at).await?;
        self.finished(ticket, TicketState::Failed, settled).await
    }

    pub(super) async fn fail_from(
        &self,
        ticket: &TicketRow,
        from: TicketState,
        failure: &Failure,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Option<Vec<TicketId>>, StorageError> {
        let binds = values![
            now,
            expires_at,
            expires_at,
            failure.code.as_str(),
            failure.stored_detail(),
            ticket.ticket_id,
            ticket.fence,
            from.as_str(),
        ];
        self.change_and_settle(&FAIL, binds, ticket.ticket_id, now).await
    }

    /// Ends a run that stopped because it was asked to.
    pub async fn finish_cancelling(
        &self,
        ticket: &TicketRow,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Finished, StorageError> {
        let settled = self.cancel_from(ticket, TicketState::Cancelling, now, expires_at).await?;
        self.finished(ticket, TicketState::Cancelled, settled).await
    }

    pub(super) async fn cancel_from(
        &self,
        ticket: &TicketRow,
        from: TicketState,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Option<Vec<TicketId>>, StorageError> {
        let binds = values![now, expires_at, expires_at, ticket.ticket_id, ticket.fence, from.as_str()];
        self.change_and_settle(&CANCELLED, binds, ticket.ticket_id, now).await
    }

    /// Asks for the end of a ticket: a queued one is cancelled at once, a running one is told
    /// through its state. The ticket as it is afterwards; final states stay as they are.
    pub async fn cancel(
        &self,
        project: ProjectId,
        ticket: TicketId,
        now: Millis,
        expires_at: Millis,
    ) -> Result<Option<(TicketRow, Vec<TicketId>)>, StorageError> {
        let mut settled = Vec::new();
        // It may be leased, given back or retried between the look and the change: look again.
        for _ in 0..8 {
            let Some(row) = self.find_of_project(project, ticket).await? else { return Ok(None) };
            match row.state {
                TicketState::Queued => {
                    let done = self.cancel_from(&row, TicketState::Queued, now, expires_at).await?;
                    settled.extend(done.unwrap_or_default());
                }
                TicketState::Running => {
                    self.db.execute(&CANCELLING, values![row.ticket_id, row.fence]).await?;
                }
                TicketState::Cancelling
                | TicketState::Succeeded
                | TicketState::Failed
                | TicketState::Cancelled => return Ok(Some((row, settled))),
            }
        }
        Err(StorageError::Conflict { name: "tickets.cancel" })
    }

    /// Answers or sets free the tickets that wait for one that has ended, for a follower that
    /// was inserted in the moment of that end.
    pub async fn settle_followers_of(
        &self,
        ended: TicketId,
        now: Millis,
    ) -> Result<Vec<TicketId>, StorageError> {
        self.db.transaction(move |tx| Box::pin(settle(tx, ended, now))).await
    }

    async fn change_and_settle(
        &self,
        change: &'static Statement,
        binds: Vec<crate::storage::Value>,
        ticket: TicketId,
        now: Millis,
    ) -> Result<Option<Vec<TicketId>>, StorageError> {
        self.db
            .transaction(move |tx| {
                let binds = binds.clone();
                Box::pin(async move {
                    match tx.execute(change, binds).await? {
                        0 => Ok::<_, StorageError>(None),
                        _ => settle(tx, ticket, now).await.map(Some),
                    }
                })
            })
            .await
    }

    /// Reads what the guard meant when it found no row.
    async fn finished(
        &self,
        ticket: &TicketRow,
        end: TicketState,
        settled: Option<Vec<TicketId>>,
    ) -> Result<Finished, StorageError> {
        if let Some(settled) = settled {
            return Ok(Finished::Yes { settled });
        }
        Ok(match self.state_under(ticket).await? {
            // The same run, whose first commit arrived although its answer did not.
            Some(state) if state == end => Finished::Yes { settled: Vec::new() },
            Some(TicketState::Cancelling) => Finished::Cancelling,
            _ => Finished::Lost,
        })
    }
}

/// In the transaction that ends a ticket, or after it: the tickets that waited for it get its
/// result, or the queue if it has none.
async fn settle(tx: &mut Tx, ended: TicketId, now: Millis) -> Result<Vec<TicketId>, StorageError> {
    let followers = tx.fetch_all(&FOLLOWERS, values![ended, FOLLOWERS_MAX]).await?;
    if followers.is_empty() {
        return Ok(Vec::new());
    }
    let leader = tx.fetch_optional(&GET_FOR_UPDATE, values![ended]).await?.as_ref().map(read).transpose()?;
    let mut settled = Vec::with_capacity(followers.len());
    for follower in followers {
        let (ticket, fence) = (TicketId(follower.array(0)?), follower.u64(1)?);
        match &leader {
            Some(leader) if leader.state == TicketState::Succeeded => {
                let binds = answer_binds(ticket, fence, TicketState::Queued, leader, now);
                tx.execute(&ANSWER, binds).await?;
            }
            Some(leader) if !leader.state.is_final() => continue,
            _ => {
                tx.execute(&RELEASE, values![now, ticket, fence]).await?;
            }
        }
        settled.push(ticket);
    }
    Ok(settled)
}

fn answer_binds(
    ticket: TicketId,
    fence: u64,
    from: TicketState,
    by: &TicketRow,
    now: Millis,
) -> Vec<crate::storage::Value> {
    let result = by.result;
    values![
        now,
        now,
        by.expires_at,
        by.sweep_at,
        by.as_of,
        by.partial,
        by.data_version,
        result.map(|result| result.bytes),
        result.map(|result| result.parts),
        result.map(|result| result.ticket_id),
        result.map(|result| result.fence),
        by.progress.shards_done,
        by.progress.shards_total,
        by.progress.rows_done,
        by.progress.rows_total,
        ticket,
        fence,
        from.as_str(),
    ]
}

/// At least one part, so that every result can be read in the same way.
fn split(body: &Bytes) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut from = 0;
    while from < body.len() || parts.is_empty() {
        let until = body.len().min(from + PART_BYTES_MAX);
        parts.push(body.slice(from..until));
        from = until;
    }
    parts
}
