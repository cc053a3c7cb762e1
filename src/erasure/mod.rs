//! The ticket kind `erasure`: takes everything that is known of one person out of a project, and ends
//! with a receipt of counts.
//!
//! A run goes through these steps, and what the next one needs is committed before it: the ticket's
//! body holds how far it is ([`body`]). So a run that dies anywhere is repeated by any replica without
//! harm; what is done twice changes nothing.
//!
//! 1. **Find** ([`find`]): all ids of the person, along links in both directions and over all shards and
//!    servers, those that wait in a journal too; and the numbers that they have or had anywhere.
//! 2. **Mask** ([`mask`]): tombstones on every server, then one transaction a shard that takes the lease
//!    from its sealer, masks the numbers and deletes ids, links, moves, days and traits. From here on no
//!    question sees the person. A server that is away is waited for; the others are not.
//! 3. **Clear answers** (`tickets::StoredAnswers`): the project's erasure epoch is raised, so that no question
//!    that began before comes into the table of tickets; then questions that run begin again, results and
//!    cached ones go. Nothing that saw the person is published after this.
//! 4. **Wait** ([`wait`]) until every batch that was in any journal is sealed, and no run or segment in any
//!    state holds a row of the person. Sealing and compaction do that anyway.
//! 5. **Finish**: samples of rejected events that name the person go, caches are cleared once more, and
//!    the receipt takes the place of the ids in the ticket's body.

mod body;
mod find;
mod mask;
mod samples;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::eventstore::scan::ScanError;
use crate::model::Clock;
use crate::storage::control::projects::{self, Project};
use crate::storage::{Db, Shards, StorageError};
use crate::telemetry::{Metrics, failpoint};
use crate::tickets::{
    InvalidBody, Names, PrepareError, Prepared, RunError, StoredAnswers, TicketKind, TicketOutput, TicketRun,
    fail, retry,
};

use body::{Body, Work};
pub use body::{Receipt, shown_body};
use wait::SeenClear;

pub const ERASURE: &str = "erasure";

/// As long as a distinct id may be when it is sent.
const DISTINCT_ID_BYTES_MAX: usize = 255;
/// A run waits about this long itself, so that most erasures are one run, and then makes place. Those beyond half of
/// the slots make place at once: questions want the others.
const WAIT_HERE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(2);

pub struct ErasureKind {
    control: Db,
    shards: Shards,
    clock: Arc<dyn Clock>,
    answers: StoredAnswers,
    metrics: ErasureMetrics,
    /// To wait in a slot of tickets.
    waiting: Semaphore,
}

struct ErasureMetrics {
    erasures: prometheus::IntCounterVec,
    rows: prometheus::IntCounter,
}

impl ErasureMetrics {
    fn new(metrics: &Metrics) -> Self {
        let made = Self {
            erasures: metrics.counters(
                "weir_erasures_total",
                "Erasures of persons, by how far they have got: masked (no question sees them) and done.",
                &["outcome"],
            ),
            rows: metrics.counter("weir_erased_rows_total", "Stored events of persons who were erased."),
        };
        for outcome in ["masked", "done"] {
            made.erasures.with_label_values(&[outcome]);
        }
        made
    }
}

impl ErasureKind {
    /// `slots`: how many tickets run at the same time.
    pub fn new(
        control: Db,
        shards: Shards,
        clock: Arc<dyn Clock>,
        cache: Cache,
        slots: usize,
        metrics: &Metrics,
    ) -> Self {
        let answers = StoredAnswers::new(control.clone(), cache);
        let waiting = Semaphore::new(slots / 2);
        Self { control, shards, clock, answers, metrics: ErasureMetrics::new(metrics), waiting }
    }

    async fn erase(&self, run: &TicketRun) -> Result<TicketOutput, RunError> {
        let mut work = match Body::read(&run.body) {
            Ok(Body::Open(work)) => *work,
            Ok(Body::Done { receipt }) => return output(&receipt),
            Err(_) => return Err(retry("this release cannot read the stored state of the erasure")),
        };
        let project = projects::find_project(&self.control, run.project_id).await.map_err(retry)?;
        let Some(project) = project else { return Err(fail("no_project", "The project is gone.")) };
        run.progress.set_totals(u32::from(project.span), 0);
        if !self.is_masked(&project, &work) {
            self.mask(run, &project, &mut work).await?;
            self.metrics.erasures.with_label_values(&["masked"]).inc();
        }
        failpoint::hit("erasure.after_masks");
        if work.wait_until.is_none() {
            let now = self.clock.now_ms();
            // What is kept in memory is forgotten, before anything else is computed; and a question that is not in
            // the table yet stays out of it from now on. So before the table is looked through.
            projects::raise_erasure_epoch(&self.control, run.project_id).await.map_err(retry)?;
            let names = Names::new(work.ids.iter().map(String::as_str));
            self.answers.clear(run.project_id, ERASURE, &names, now).await.map_err(retry)?;
            failpoint::hit("erasure.after_answers");
            work.wait_until = Some(self.latest_now().await?);
            self.save(run, &work).await?;
        }
        self.wait(run, &project, &work).await?;
        failpoint::hit("erasure.before_receipt");
        self.finish(run, &project, work).await
    }

    /// Until nobody holds the person any more; not longer than a run should keep its slot.
    async fn wait(&self, run: &TicketRun, project: &Project, work: &Work) -> Result<(), RunError> {
        let until = tokio::time::Instant::now() + WAIT_HERE;
        let mut seen = SeenClear::default();
        let place = self.waiting.try_acquire();
        loop {
            match self.is_clear(run, project, work, &mut seen).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.is_transient() => return Err(RunError::Later(LATER)),
                Err(error) => return Err(retry(error)),
            }
            if place.is_err() || tokio::time::Instant::now() >= until {
                return Err(RunError::Later(self.later_than(run)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The longer it has waited, the later it is looked at again: each look reads anew what may hold the person.
    fn later_than(&self, run: &TicketRun) -> Duration {
        let waited = self.clock.now_ms().saturating_sub(run.created_at).max(0) as u64;
        Duration::from_millis(waited / 4).clamp(LATER, WAIT_HERE)
    }

    async fn finish(&self, run: &TicketRun, project: &Project, work: Work) -> Result<TicketOutput, RunError> {
        let names = Names::new(work.ids.iter().map(String::as_str));
        let samples = samples::delete_naming(&self.shards, run.project_id, &names).await.map_err(later)?;
        let now = self.clock.now_ms();
        let until = work.wait_until.unwrap_or(run.created_at);
        self.answers.clear_rest(run.project_id, ERASURE, &names, until, now).await.map_err(retry)?;
        projects::raise_erasure_epoch(&self.control, run.project_id).await.map_err(retry)?;
        let receipt = work.receipt(project, self.shards.servers().len(), samples, run.created_at, now);
        let body = Body::Done { receipt: receipt.clone() }.write()?;
        // The last commit that has to do with the ids: they are nowhere after it.
        run.replace_body(&body, true).await?;
        failpoint::hit("erasure.after_receipt");
        self.metrics.erasures.with_label_values(&["done"]).inc();
        self.metrics.rows.inc_by(receipt.events);
        output(&receipt)
    }

    async fn save(&self, run: &TicketRun, work: &Work) -> Result<(), RunError> {
        run.replace_body(&Body::Open(Box::new(work.clone())).write()?, false).await
    }
}

fn output(receipt: &Receipt) -> Result<TicketOutput, RunError> {
    let body = Bytes::from(serde_json::to_vec(receipt).map_err(retry)?);
    Ok(TicketOutput { body, as_of: None, partial: false, data_version: None })
}

/// A server that is away is waited for; anything else is a failure of this run.
fn later(error: StorageError) -> RunError {
    if error.is_transient() { RunError::Later(LATER) } else { retry(error) }
}

fn later_scan(error: ScanError) -> RunError {
    if error.is_transient() { RunError::Later(LATER) } else { retry(error) }
}

impl TicketKind for ErasureKind {
    fn name(&self) -> &'static str {
        ERASURE
    }

    fn prepare<'a>(
        &'a self,
        _: crate::model::ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        Box::pin(async move {
            let distinct_id = read_request(body)?;
            let body = Body::Open(Box::new(Work::new(distinct_id)));
            let body = body.write().map_err(|_| InvalidBody::default())?;
            Ok(Prepared { body, data_version: None, estimate: Duration::from_secs(5), project: None })
        })
    }

    fn run<'a>(&'a self, run: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            tokio::select! {
                erased = self.erase(run) => erased,
                // Every step may be cut off anywhere.
                _ = stop.stopped() => Err(RunError::Stopped),
            }
        })
    }

    fn is_owed(&self) -> bool {
        true
    }
}

fn read_request(body: &Value) -> Result<String, InvalidBody> {
    let invalid = |pointer: &str, detail: String| InvalidBody {
        detail: "The erasure is not valid.".to_owned(),
        errors: vec![(pointer.to_owned(), detail)],
    };
    let Value::Object(fields) = body else {
        return Err(invalid("", "Use {\"distinct_id\": \"…\"}.".to_owned()));
    };
    if let Some(unknown) = fields.keys().find(|name| *name != "distinct_id") {
        return Err(invalid(&format!("/{unknown}"), "There is no such field.".to_owned()));
    }
    match fields.get("distinct_id") {
        Some(Value::String(id)) if (1..=DISTINCT_ID_BYTES_MAX).contains(&id.len()) => Ok(id.clone()),
        Some(Value::String(id)) => {
            let detail = format!("It has {} bytes; use 1 to {DISTINCT_ID_BYTES_MAX}.", id.len());
            Err(invalid("/distinct_id", detail))
        }
        Some(_) => Err(invalid("/distinct_id", "It must be a text.".to_owned())),
        None => Err(invalid("/distinct_id", "Name one of the ids of the person.".to_owned())),
    }
}
