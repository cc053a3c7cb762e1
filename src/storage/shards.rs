//! Which server holds which shard.
//!
//! Every server carries its own id (`server_identity`), and the control database maps shards to
//! those ids. So the order of `storage.servers`, an edited host name or a DSN that now points
//! somewhere else can never send a shard's rows to the wrong place: a server is used only after it
//! has said who it is. One that is away at the start stays [`StorageError::Unavailable`] until it
//! comes back and has been asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::db::{Db, Statement, statement};
use super::{Dsn, PoolOptions, StorageError, schema};
use crate::model::{Clock, Random, ServerId, ShardNo};
use crate::values;

/// The routing hash; stored, so that a release with another one refuses to start.
const HASH_NAME: &str = "xxh3-64";

/// Connections to each server that only commit. One insert is in flight at a time; the others are for
/// those that hang while their server does not answer.
pub const COMMIT_CONNECTIONS: u32 = 4;

pub struct StorageSettings {
    pub control: Dsn,
    /// In any order. The control database's own DSN may be among them.
    pub servers: Vec<Dsn>,
    /// Fixed when the installation is created; afterwards it must not differ. `None`: as it is.
    pub shards: Option<u16>,
    /// The number of shards of an installation that is created now without one being asked for.
    pub shards_default: u16,
    pub pool: PoolOptions,
}

/// The control database and the servers: all that the rest of weir needs to reach its data.
#[derive(Clone)]
pub struct Storage {
    pub control: Db,
    pub shards: Shards,
}

#[derive(Clone)]
pub struct Shards {
    inner: Arc<Inner>,
}

struct Inner {
    installation_id: ServerId,
    servers: Vec<Arc<Server>>,
    /// Index into `servers` for each shard.
    map: Vec<usize>,
}

/// One MySQL server or SQLite file that carries shards.
pub struct Server {
    pub server_id: ServerId,
    /// Host, port and database, or the file; no password.
    pub shown: String,
    db: Db,
    /// Connections of the journal's inserts alone: a question that reads on all others must never
    /// make a sender wait. The same as `db` when embedded, where writes have their own anyway.
    commits: Db,
    verified: OnceLock<()>,
}

impl Server {
    /// The database, once the server has said that it is the one the map means.
    pub fn db(&self) -> Result<&Db, StorageError> {
        self.once_verified(&self.db)
    }

    /// The database as collection's commits use it.
    pub fn commits_db(&self) -> Result<&Db, StorageError> {
        self.once_verified(&self.commits)
    }

    fn once_verified<'a>(&self, db: &'a Db) -> Result<&'a Db, StorageError> {
        if self.verified.get().is_some() {
            return Ok(db);
        }
        Err(StorageError::Unavailable { name: "server.identity", source: sqlx::Error::PoolTimedOut })
    }

    pub fn is_verified(&self) -> bool {
        self.verified.get().is_some()
    }

    /// How long ago it last did what it was asked to; `None`: not since this process began.
    pub fn heard_before(&self) -> Option<Duration> {
        [&self.db, &self.commits].into_iter().filter_map(Db::heard_before).min()
    }
}

impl Shards {
    /// The same for all replicas: keeps what they share in Redis apart from other installations.
    pub fn installation_id(&self) -> ServerId {
        self.inner.installation_id
    }

    pub fn count(&self) -> u16 {
        self.inner.map.len() as u16
    }

    pub fn all(&self) -> impl Iterator<Item = ShardNo> + use<> {
        (0..self.count()).map(ShardNo)
    }

    pub fn servers(&self) -> &[Arc<Server>] {
        &self.inner.servers
    }

    pub fn server_of(&self, shard: ShardNo) -> &Arc<Server> {
        &self.inner.servers[self.inner.map[usize::from(shard.0)]]
    }

    pub fn db_of(&self, shard: ShardNo) -> Result<&Db, StorageError> {
        self.server_of(shard).db()
    }

    pub fn shards_of(&self, server_id: ServerId) -> Vec<ShardNo> {
        self.all().filter(|&shard| self.server_of(shard).server_id == server_id).collect()
    }

    /// Asks every server that has not yet been heard who it is. Call it now and then: a server
    /// that was away at the start joins here. Returns those that are still missing.
    pub async fn verify_missing(&self) -> Vec<(Arc<Server>, StorageError)> {
        let mut missing = Vec::new();
        for server in &self.inner.servers {
            if server.is_verified() {
                continue;
            }
            match verify(&server.db, server.server_id, self.inner.installation_id).await {
                Ok(()) => {
                    tracing::info!(server.id = %server.server_id, server.at = server.shown, "server joined");
                    let _ = server.verified.set(());
                }
                Err(error) => missing.push((server.clone(), error)),
            }
        }
        missing
    }
}

async fn verify(db: &Db, expected: ServerId, installation_id: ServerId) -> Result<(), StorageError> {
    schema::apply(db, schema::Schema::Server).await?;
    let found = read_identity(db).await?;
    if found.server_id != Some(expected) || found.installation_id != Some(installation_id) {
        return Err(StorageError::Refused(format!(
            "this server says it is {}, but server {expected} was expected here; put the DSN of \
             {expected} back into storage.servers",
            found.server_id.map_or("new".to_owned(), |id| format!("server {id}"))
        )));
    }
    Ok(())
}

struct Identity {
    server_id: Option<ServerId>,
    installation_id: Option<ServerId>,
}

static READ_IDENTITY: Statement =
    statement!("server_identity.read", "SELECT name, value FROM server_identity");
static WRITE_IDENTITY: Statement = statement!(
    "server_identity.write",
    mysql: "INSERT INTO server_identity (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name",
    sqlite: "INSERT INTO server_identity (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
);
static READ_INSTALLATION: Statement = statement!("installation.read", "SELECT name, value FROM installation");
static WRITE_INSTALLATION: Statement = statement!(
    "installation.write",
    mysql: "INSERT INTO installation (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name",
    sqlite: "INSERT INTO installation (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
);
static LIST_SERVERS: Statement =
    statement!("servers.list", "SELECT server_id, name FROM servers ORDER BY server_id");
static WRITE_SERVER: Statement = statement!(
    "servers.write",
    mysql: "INSERT INTO servers (server_id, name, added_at) VALUES (?, ?, ?) \
            ON DUPLICATE KEY UPDATE name = VALUES(name)",
    sqlite: "INSERT INTO servers (server_id, name, added_at) VALUES (?, ?, ?) \
             ON CONFLICT (server_id) DO UPDATE SET name = excluded.name",
);
static LIST_MAP: Statement =
    statement!("shard_map.list", "SELECT shard_no, server_id FROM shard_map ORDER BY shard_no");
static WRITE_MAP: Statement = statement!(
    "shard_map.write",
    mysql: "INSERT INTO shard_map (shard_no, server_id, version) VALUES {rows} \
            ON DUPLICATE KEY UPDATE shard_no = shard_no",
    sqlite: "INSERT INTO shard_map (shard_no, server_id, version) VALUES {rows} \
             ON CONFLICT (shard_no) DO NOTHING",
);

async fn read_identity(db: &Db) -> Result<Identity, StorageError> {
    let mut identity = Identity { server_id: None, installation_id: None };
    for row in db.fetch_all(&READ_IDENTITY, vec![]).await? {
        let value = row.text(1)?.parse().ok();
        match row.text(0)?.as_str() {
            "server_id" => identity.server_id = value,
            "installation_id" => identity.installation_id = value,
            _ => {}
        }
    }
    Ok(identity)
}

impl Storage {
    /// Applies both schemas, creates the installation on the first start, and finds every server's
    /// place. Only the control database must be there, and on the first start every server.
    pub async fn open(
        settings: &StorageSettings,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, StorageError> {
        let control = Db::open(&settings.control, settings.pool)?;
        schema::apply(&control, schema::Schema::Control).await?;
        let installation = Installation::find_or_create(&control, settings, random).await?;

        let mut candidates = Vec::new();
        for dsn in &settings.servers {
            // One pool for both roles when the first server is the control database itself.
            let db = if *dsn == settings.control { control.clone() } else { Db::open(dsn, settings.pool)? };
            let commits = match dsn {
                Dsn::Sqlite(_) => db.clone(),
                Dsn::MySql(_) => {
                    let pool = PoolOptions { connections_max: COMMIT_CONNECTIONS, ..settings.pool };
                    Db::open(dsn, pool)?
                }
            };
            let joined = join(&db, installation.id, random).await;
            candidates.push(Candidate { shown: dsn.shown(), db, commits, joined });
        }
        let shards = place(&control, &installation, candidates, clock).await?;
        Ok(Self { control, shards })
    }

    pub async fn close(&self) {
        for server in self.shards.servers() {
            server.commits.close().await;
            server.db.close().await;
        }
        self.control.close().await;
    }
}

struct Installation {
    id: ServerId,
    shards: u16,
}

impl Installation {
    async fn find_or_create(
        control: &Db,
        settings: &StorageSettings,
        random: &dyn Random,
    ) -> Result<Self, StorageError> {
        let shards = settings.shards.unwrap_or(settings.shards_default);
        // Each row is written only when it is not there: replicas that start together agree on
        // whatever was first.
        for (name, value) in [
            ("installation_id", ServerId::random(random).to_string()),
            ("shards", shards.to_string()),
            ("hash", HASH_NAME.to_owned()),
        ] {
            control.execute(&WRITE_INSTALLATION, values![name, value]).await?;
        }
        let (mut id, mut stored, mut hash) = (None, None, String::new());
        for row in control.fetch_all(&READ_INSTALLATION, vec![]).await? {
            let value = row.text(1)?;
            match row.text(0)?.as_str() {
                "installation_id" => id = value.parse().ok(),
                "shards" => stored = value.parse().ok(),
                "hash" => hash = value,
                _ => {}
            }
        }
        let (Some(id), Some(stored)) = (id, stored) else {
            return Err(StorageError::corrupt("installation", "value", "an entry is missing or unreadable"));
        };
        if hash != HASH_NAME {
            return Err(StorageError::Refused(format!(
                "this installation routes by {hash}, this release by {HASH_NAME}: use the release that \
                 created it"
            )));
        }
        if settings.shards.is_some_and(|asked| asked != stored) {
            return Err(StorageError::Refused(format!(
                "storage.shards is {shards}, but this installation was created with {stored} shards, and \
                 that never changes: set storage.shards to {stored} or leave it out"
            )));
        }
        Ok(Self { id, shards: stored })
    }
}

struct Candidate {
    shown: String,
    db: Db,
    commits: Db,
    joined: Result<ServerId, StorageError>,
}

/// Applies the server schema and gives the server an id when it has none.
async fn join(db: &Db, installation_id: ServerId, random: &dyn Random) -> Result<ServerId, StorageError> {
    schema::apply(db, schema::Schema::Server).await?;
    let fresh = ServerId::random(random).to_string();
    db.execute(&WRITE_IDENTITY, values!["installation_id", installation_id.to_string()]).await?;
    db.execute(&WRITE_IDENTITY, values!["server_id", fresh]).await?;
    let identity = read_identity(db).await?;
    if identity.installation_id != Some(installation_id) {
        return Err(StorageError::Refused(
            "it belongs to another weir installation; give this one a database of its own".to_owned(),
        ));
    }
    identity
        .server_id
        .ok_or_else(|| StorageError::corrupt("server_identity", "value", "server_id is unreadable"))
}

/// Matches the configured servers with the stored map, creating the map on the first start.
async fn place(
    control: &Db,
    installation: &Installation,
    candidates: Vec<Candidate>,
    clock: &dyn Clock,
) -> Result<Shards, StorageError> {
    let mut servers: Vec<Arc<Server>> = Vec::new();
    let mut away = Vec::new();
    for Candidate { shown, db, commits, joined } in candidates {
        match joined {
            Ok(server_id) => {
                if let Some(twin) = servers.iter().find(|server| server.server_id == server_id) {
                    return Err(StorageError::Refused(format!(
                        "storage.servers names one server twice: {} and {shown}",
                        twin.shown
                    )));
                }
                control.execute(&WRITE_SERVER, values![server_id, shown.as_str(), clock.now_ms()]).await?;
                let verified = OnceLock::from(());
                servers.push(Arc::new(Server { server_id, shown, db, commits, verified }));
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(server.at = shown, error = &error as &dyn std::error::Error, "server is away");
                away.push((shown, db, commits));
            }
            Err(error) => {
                return Err(StorageError::Refused(format!("server {shown}: {}", detail(&error))));
            }
        }
    }

    let mut map = read_map(control).await?;
    if map.is_empty() {
        if let Some((shown, ..)) = away.first() {
            return Err(StorageError::Refused(format!(
                "server {shown} cannot be reached; on the first start all of storage.servers must be there"
            )));
        }
        map = create_map(control, installation, &servers).await?;
    }
    if map.len() != usize::from(installation.shards) {
        return Err(StorageError::corrupt(
            "shard_map",
            "shard_no",
            format!("{} rows for {} shards", map.len(), installation.shards),
        ));
    }
    attach_away(control, &map, &mut servers, away).await?;

    let index = |server_id: &ServerId| servers.iter().position(|server| server.server_id == *server_id);
    let places = map.iter().map(|server_id| {
        index(server_id).ok_or_else(|| {
            StorageError::Refused(format!(
                "server {server_id} holds shards of this installation, but no DSN in storage.servers \
                 leads to it: add it"
            ))
        })
    });
    let map = places.collect::<Result<Vec<_>, _>>()?;
    Ok(Shards { inner: Arc::new(Inner { installation_id: installation.id, servers, map }) })
}

/// Gives the servers that did not answer their places: by the name they had when they last did,
/// or because only one place is left. They are asked for their id before they are used.
async fn attach_away(
    control: &Db,
    map: &[ServerId],
    servers: &mut Vec<Arc<Server>>,
    mut away: Vec<(String, Db, Db)>,
) -> Result<(), StorageError> {
    let mut known = Vec::new();
    for row in control.fetch_all(&LIST_SERVERS, vec![]).await? {
        let server_id = ServerId(row.array(0)?);
        if !servers.iter().any(|server| server.server_id == server_id) && map.contains(&server_id) {
            known.push((server_id, row.text(1)?));
        }
    }
    while let Some((shown, db, commits)) = away.pop() {
        let by_name = known.iter().position(|(_, name)| *name == shown);
        let only_one = (known.len() == 1 && away.is_empty()).then_some(0);
        let Some(found) = by_name.or(only_one) else {
            return Err(StorageError::Refused(format!(
                "server {shown} cannot be reached, and no server was known at that address before: start \
                 it, or correct storage.servers"
            )));
        };
        let (server_id, _) = known.swap_remove(found);
        servers.push(Arc::new(Server { server_id, shown, db, commits, verified: OnceLock::new() }));
    }
    Ok(())
}

async fn read_map(control: &Db) -> Result<Vec<ServerId>, StorageError> {
    let rows = control.fetch_all(&LIST_MAP, vec![]).await?;
    rows.iter().map(|row| row.array(1).map(ServerId)).collect()
}

/// Deals the shards out in turn. Rows are written only where there are none, and read back.
async fn create_map(
    control: &Db,
    installation: &Installation,
    servers: &[Arc<Server>],
) -> Result<Vec<ServerId>, StorageError> {
    let mut binds = Vec::new();
    for shard_no in 0..installation.shards {
        let server = &servers[usize::from(shard_no) % servers.len()];
        binds.extend(values![shard_no, server.server_id, 1_i64]);
    }
    let sql = WRITE_MAP.with_rows("(?, ?, ?)", usize::from(installation.shards));
    control.execute(sql, binds).await?;
    read_map(control).await
}

/// The public part of an error for a refusal's text.
fn detail(error: &StorageError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
