//! Settings: compiled-in defaults, then `config/weir.toml` (or `--config FILE`), then the
//! environment as `WEIR__SECTION__KEY`.
//!
//! One file per section holds its struct, its defaults and its rules. Loading gathers **all**
//! problems before it gives up, each with the key, the value and what to do; unknown keys are
//! problems too, since a misspelt limit that is silently ignored is no limit. Values of keys that
//! hold secrets are never part of a message.

mod cache;
mod collection;
mod http;
mod load;
mod log;
mod questions;
mod roles;
mod sealing;
mod storage;
mod tickets;

use serde::{Deserialize, Serialize};

pub use cache::CacheConfig;
pub use collection::{CollectionConfig, IpAddresses};
pub use http::HttpConfig;
pub use load::{ConfigError, Problem, load, misspelt};
pub use log::{LogConfig, LogFormat};
pub use questions::QuestionsConfig;
pub use roles::{Role, Roles};
pub use sealing::SealingConfig;
pub use storage::StorageConfig;
pub use tickets::TicketsConfig;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What this process does: `collect`, `web`, `work`; all of them by default.
    pub roles: Roles,
    pub http: HttpConfig,
    pub storage: StorageConfig,
    pub cache: CacheConfig,
    pub collection: CollectionConfig,
    pub sealing: SealingConfig,
    pub tickets: TicketsConfig,
    pub questions: QuestionsConfig,
    pub log: LogConfig,
}

impl Config {
    /// Every rule that a type cannot hold.
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.roles.validate(&mut problems);
        self.http.validate(&mut problems);
        self.storage.validate(&mut problems);
        self.cache.validate(&mut problems);
        self.collection.validate(&mut problems);
        self.sealing.validate(&mut problems);
        self.tickets.validate(&mut problems);
        self.questions.validate(&mut problems);
        self.log.validate(&mut problems);
        problems
    }
}

/// Text that must not be shown: an address with a password in it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(secret)" })
    }
}

/// Adds a problem when a number is outside its bounds.
fn check_range(problems: &mut Vec<Problem>, key: &str, value: u64, low: u64, high: u64) {
    if !(low..=high).contains(&value) {
        problems.push(Problem::new(key, value, format!("set it between {low} and {high}")));
    }
}
