//! Stored rows for tests of everything that reads or rewrites them, and what tests seal with.

use std::sync::Arc;
use std::time::Duration;

use super::format::{self, ObjectBytes, StoredRow, WriteOptions};
use super::forwarder::Forwarder;
use super::object_cache::ObjectCache;
use super::objects::Placement;
use super::scan::{Listing, ScanRequest, Scanner, ShardRows};
use super::sealer::{ChunkLimits, Homes, SealContext, Sealer, TraitLimits};
use crate::model::{
    EventId, ManualClock, Millis, ObjectId, ProjectId, PropertyValue, Random, ReplicaId, SeededRandom,
    ShardNo, SystemRandom, TimeSource,
};
use crate::storage::conformance::{POOL, TestDatabase};
use crate::storage::server::{journal, links, objects};
use crate::storage::{Db, Storage, StorageError, StorageSettings};

pub const SHARD: ShardNo = ShardNo(3);
pub const PROJECT: ProjectId = ProjectId(1);

/// Row `n` of a project: everything about it follows from `n`.
pub fn row(project_id: ProjectId, n: u32) -> StoredRow {
    let person_no = n * 7 % 50;
    let mut properties = vec![("plan".to_owned(), PropertyValue::String(format!("p{}", n % 3)))];
    if n.is_multiple_of(2) {
        properties.push(("value".to_owned(), PropertyValue::Float(f64::from(n) / 3.0)));
    } else {
        properties.push(("value".to_owned(), PropertyValue::Integer(i64::from(n))));
    }
    StoredRow {
        project_id,
        person_no,
        id_no: person_no + 100,
        // Several rows share a time, and days mix.
        occurred_at: Millis::from(n / 3 * 911 % 500) * 3_600_000,
        received_at: 1_000_000 + Millis::from(n),
        event: ["$pageview", "purchase"][n as usize % 2].into(),
        event_id: EventId((u128::from(n.wrapping_mul(0x9e37_79b9)) << 64 | u128::from(n)).to_be_bytes()),
        time_source: TimeSource::Client,
        properties: properties.into(),
    }
}

pub fn rows(project_id: ProjectId, numbers: std::ops::Range<u32>) -> Vec<StoredRow> {
    numbers.map(|n| row(project_id, n)).collect()
}

/// Small pages, so that few rows are many pages.
pub fn write_options() -> WriteOptions {
    WriteOptions { page_rows: 64, ..WriteOptions::default() }
}

pub async fn store_run(db: &Db, random: &dyn Random, mut rows: Vec<StoredRow>) -> ObjectId {
    rows.sort_by_key(StoredRow::run_key);
    store(db, random, None, format::write_run(&rows, &write_options()).unwrap()).await
}

pub async fn store_segment(db: &Db, random: &dyn Random, rows: Vec<StoredRow>) -> ObjectId {
    store_segment_with(db, random, rows, write_options()).await
}

pub async fn store_segment_with(
    db: &Db,
    random: &dyn Random,
    mut rows: Vec<StoredRow>,
    options: WriteOptions,
) -> ObjectId {
    rows.sort_by_key(StoredRow::segment_key);
    let project_id = rows[0].project_id;
    store(db, random, Some(project_id), format::write_segment(&rows, &options).unwrap()).await
}

async fn store(db: &Db, random: &dyn Random, project_id: Option<ProjectId>, object: ObjectBytes) -> ObjectId {
    let object_id = ObjectId::random(random);
    let placement = Placement { object_id, shard_no: SHARD, project_id, tier: 0, mask_version: 0 };
    objects::upload(db, placement.place(object), 1_000).await.unwrap();
    let live: Result<bool, StorageError> = db
        .transaction(move |tx| {
            Box::pin(async move { objects::make_live(tx, placement.kind(), SHARD, &[object_id]).await })
        })
        .await;
    assert!(live.unwrap());
    object_id
}

/// Forwards and seals until nothing is on its way; `before` each round.
pub async fn settle(storage: &Storage, forwarder: &Forwarder, sealer: &Sealer, before: impl Fn()) {
    for _ in 0..200 {
        before();
        for server in storage.shards.servers() {
            forwarder.forward_server(server).await.unwrap();
        }
        sealer.seal_everything().await.unwrap();
        let mut is_quiet = true;
        for server in storage.shards.servers() {
            let db = server.db().unwrap();
            is_quiet &= journal::list_shards(db).await.unwrap().is_empty();
            is_quiet &= links::list_shards(db).await.unwrap().is_empty();
        }
        if is_quiet {
            return;
        }
    }
    panic!("events circulate for ever");
}

/// What a question would read of a shard now.
pub async fn scan(scanner: &Scanner, db: &Db, shard_no: ShardNo, request: &ScanRequest) -> ShardRows {
    let listing = Listing::read(db, scanner.objects(), shard_no, request).await.unwrap();
    scanner.read(db, request, listing).await.unwrap().expect("nothing is deleted meanwhile")
}

/// Every row that a scan shows, as text that differs for values that differ in a single bit, sorted.
pub async fn shown(db: &Db, project_id: ProjectId) -> Vec<String> {
    let mut request = ScanRequest::everything(project_id);
    request.properties = vec!["value".to_owned(), "plan".to_owned()];
    let scanned =
        scan(&Scanner::new(ObjectCache::none(), 2, 1 << 20, &Default::default()), db, SHARD, &request).await;
    let mut shown = Vec::new();
    for block in &scanned.blocks {
        for n in block.rows() {
            let values: Vec<_> = block.properties.iter().map(|column| column.value(n)).collect();
            let (person, at) = (block.person_no[n], block.occurred_at.at(n));
            shown.push(format!("{person} {at} {:?} {values:?}", block.event.get(n)));
        }
    }
    shown.sort();
    shown
}

/// What a sealer works with, for tests to change what matters to them: a clock that stands still, segments
/// of a few rows, and moves of two rows at a time, which begin at once.
pub fn seal_context(homes: Homes) -> SealContext {
    SealContext {
        clock: Arc::new(ManualClock::new(1_000_000)),
        random: Arc::new(SeededRandom::new(1)),
        holder: ReplicaId([9; 16]),
        pass_bytes_max: 1 << 20,
        lease_ms: 60_000,
        idle: Duration::from_millis(1),
        segment_rows_min: 3,
        segment_rows_max: 100,
        write: WriteOptions::default(),
        persons_cache_entries_max: 1_000,
        filters_bytes_max: 64 << 20,
        traits: TraitLimits { keys_max: 10, bytes_max: 1_000 },
        homes,
        retention: Arc::default(),
        move_settle_ms: 0,
        move_chunk: ChunkLimits { rows_max: 2, raw_bytes_max: 1 << 20 },
    }
}

/// A store of four shards, dealt out in turn to the second and third database; the first is the
/// control database.
pub async fn two_servers(databases: &[TestDatabase; 3]) -> Storage {
    servers_with_shards(databases, 4).await
}

/// The same with any number of shards.
pub async fn servers_with_shards(databases: &[TestDatabase; 3], shards: u16) -> Storage {
    let [control, one, two] = databases;
    open(control, &[one, two], shards).await
}

/// One database for all.
pub async fn one_server(database: &TestDatabase, shards: u16) -> Storage {
    open(database, &[database], shards).await
}

async fn open(control: &TestDatabase, servers: &[&TestDatabase], shards: u16) -> Storage {
    let settings = StorageSettings {
        control: control.dsn.clone(),
        servers: servers.iter().map(|server| server.dsn.clone()).collect(),
        shards: Some(shards),
        shards_default: shards,
        pool: POOL,
    };
    Storage::open(&settings, &ManualClock::new(1), &SystemRandom).await.unwrap()
}
