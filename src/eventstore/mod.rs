//! The event store: journal → runs → segments.

mod block;
pub mod compaction;
mod cores;
pub mod examples;
#[cfg(test)]
pub(crate) mod fixture;
pub mod format;
pub mod forwarder;
pub mod gauges;
pub mod held;
#[cfg(test)]
mod link_tests;
pub mod object_cache;
mod objects;
pub mod person;
mod reading;
pub mod recent;
pub mod retention;
pub mod scan;
pub mod sealer;
#[cfg(test)]
mod small_tests;
mod weighted;

use std::sync::Arc;

use crate::storage::{Server, Shards};

pub use crate::telemetry::failpoint;
pub use block::{
    ABSENT, Bits, ByQuarter, ByText, COUNT_STEPS, CodesMut, Counted, Dictionary, DictionaryBuilder, Numbers,
    Picker, PropertyColumn, QUARTER_MS, QuarterTable, Quarters, QuartersBuilder, QuartersWithin, RowBlock,
    RowColumns, TextPicker, Times, ValueRef, begins_a_quarter, retain,
};
pub use cores::{Cores, EndedEarly};
pub use objects::Placement;

/// Runs a task for each server until all have ended. One that panics has been logged; the others go on.
async fn each_server<Work>(shards: &Shards, work: impl Fn(Arc<Server>) -> Work)
where
    Work: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = shards.servers().iter().map(|server| tokio::spawn(work(server.clone()))).collect();
    for task in tasks {
        let _ = task.await;
    }
}
