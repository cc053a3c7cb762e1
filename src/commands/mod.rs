//! The command line: one file a command.

pub mod account;
pub mod ask;
pub mod demo;
pub mod doctor;
mod filling;
pub mod generate;
pub mod healthcheck;
pub mod import;
pub mod key;
pub mod migrate;
pub mod output;
pub mod project;
pub mod serve;
pub mod shards;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::app;
use crate::cache::Cache;
use crate::config::{Config, StorageConfig};
use crate::model::{Clock, Random, SystemClock, SystemRandom};
use crate::storage::{Dsn, PoolOptions, Storage, StorageSettings};

/// Shards of a new installation when the configuration names no number.
const SHARDS_DEFAULT: u16 = 16;
const SHARDS_DEFAULT_EMBEDDED: u16 = 4;

/// What every command starts from.
pub struct Context {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

impl Context {
    pub fn new(config: Config) -> Self {
        Self { config, clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }

    /// Opens the store, creating it on the first start.
    pub async fn open_storage(&self) -> anyhow::Result<Storage> {
        let settings = storage_settings(&self.config.storage)?;
        if let Dsn::Sqlite(file) = &settings.control
            && let Some(folder) = file.parent()
        {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("the data folder {} cannot be created", folder.display()))?;
        }
        let storage = Storage::open(&settings, &*self.clock, &*self.random).await;
        storage.map_err(|error| {
            let shown = settings.control.shown();
            let what = match error.is_transient() {
                true => format!(
                    "the database at {shown} cannot be reached: check that it runs there, and that \
                     storage.control (WEIR__STORAGE__CONTROL) names its host and port"
                ),
                false => format!("the store at {shown} cannot be opened"),
            };
            anyhow::Error::new(error).context(what)
        })
    }

    pub fn open_cache(&self, storage: &Storage) -> anyhow::Result<Cache> {
        app::open_cache(&self.config.cache, storage, self.clock.clone())
    }
}

fn storage_settings(config: &StorageConfig) -> anyhow::Result<StorageSettings> {
    let parse =
        |key: &str, text: &str| Dsn::parse(text).map_err(|fix| anyhow::anyhow!("{key} is not usable: {fix}"));
    let control = match config.control.reveal() {
        "" => Dsn::Sqlite(config.data_dir.join("control.db")),
        url => parse("storage.control", url)?,
    };
    let mut servers = Vec::new();
    for server in &config.servers {
        servers.push(parse("storage.servers", server.reveal())?);
    }
    if servers.is_empty() {
        servers.push(match &control {
            // A file of its own, so that a long write there never makes a log-in wait.
            Dsn::Sqlite(_) if config.is_embedded() => Dsn::Sqlite(config.data_dir.join("server.db")),
            same => same.clone(),
        });
    }
    Ok(StorageSettings {
        shards_default: match control {
            Dsn::Sqlite(_) => SHARDS_DEFAULT_EMBEDDED,
            Dsn::MySql(_) => SHARDS_DEFAULT,
        },
        control,
        servers,
        shards: config.shards,
        pool: PoolOptions {
            connections_max: config.pool_connections_max,
            acquire_timeout: Duration::from_millis(config.acquire_timeout_ms.into()),
            statement_max: Duration::from_secs(config.statement_secs_max.into()),
        },
    })
}

/// Reads the configuration for a command; `file` is `--config`.
pub fn read_config(file: Option<&PathBuf>) -> anyhow::Result<Config> {
    Ok(crate::config::load(file.map(PathBuf::as_path))?)
}
