//! Gathers the sources and reports every problem at once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Value, ValueKind};
use serde_json::{Map, Value as Json};

use super::Config;

/// Where the file is when no `--config` names one; it may be missing.
const DEFAULT_FILE: &str = "config/weir.toml";

/// What begins so is read, and a problem when it is no setting.
const PREFIX: &str = "WEIR__";

/// Keys that are lists: in the environment they are separated by commas.
const LISTS: [&str; 3] = ["roles", "storage.servers", "http.trusted_proxies"];

/// Keys whose values are never part of a message.
const SECRETS: [&str; 3] = ["storage.control", "storage.servers", "cache.redis"];

#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// As it was written; empty for a secret.
    pub value: String,
    pub fix: String,
    /// The file that says so; else the environment does, or could.
    file: Option<PathBuf>,
}

impl Problem {
    pub fn new(key: &str, value: impl ToString, fix: impl Into<String>) -> Self {
        let value = if SECRETS.contains(&key) { String::new() } else { value.to_string() };
        Self { key: key.to_owned(), value, fix: fix.into(), file: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}", shown(.0))]
    Problems(Vec<Problem>),
    #[error("the configuration file {} cannot be read: {detail}", .file.display())]
    File { file: PathBuf, detail: String },
}

fn shown(problems: &[Problem]) -> String {
    let mut text = String::from("the configuration has problems:");
    for Problem { key, value, fix, file } in problems {
        let place = match file {
            Some(file) => format!("in {}", file.display()),
            None => variable(key),
        };
        text += &match value.is_empty() {
            true => format!("\n  {key} ({place}): {fix}"),
            false => format!("\n  {key} = {value} ({place}): {fix}"),
        };
    }
    text
}

/// The environment's name of a key.
fn variable(key: &str) -> String {
    format!("WEIR__{}", key.replace('.', "__").to_uppercase())
}

/// Names in the environment that look like a setting but are none, `WEIR_HTTP_BIND` for one, each with
/// the name that was meant. Nothing reads them, and nothing else would say so.
pub fn misspelt(names: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let simple = |name: &str| name.to_uppercase().replace('_', "");
    let defaults = serde_json::to_value(Config::default()).expect("the defaults are plain data");
    let mut known = Vec::new();
    list_keys("", defaults.as_object().expect("the configuration is a table"), &mut known);
    let known: Vec<String> = known.iter().map(|key| variable(key)).collect();
    let mut found = Vec::new();
    for name in names {
        if name.starts_with(PREFIX) || !simple(&name).starts_with("WEIR") {
            continue;
        }
        if let Some(meant) = known.iter().find(|known| simple(known) == simple(&name)) {
            found.push((name, meant.clone()));
        }
    }
    found.sort();
    found
}

/// Reads `file` (or `config/weir.toml` when there is one) and the environment.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    load_from(file, Environment::with_prefix("WEIR"))
}

fn load_from(file: Option<&Path>, environment: Environment) -> Result<Config, ConfigError> {
    let from_file = read_file(file)?;
    let from_environment = environment.prefix_separator("__").separator("__").try_parsing(false);
    let from_environment = config::Config::builder()
        .add_source(from_environment)
        .build()
        .and_then(|built| built.cache.into_table())
        .map_err(|error| ConfigError::File { file: "environment".into(), detail: error.to_string() })?;

    let mut settings = Vec::new();
    for (key, value) in from_file {
        leaves(key, value, &mut settings);
    }
    let in_file: HashSet<String> = settings.iter().map(|(key, _)| key.clone()).collect();
    let mut overridden = Vec::new();
    for (key, value) in from_environment {
        leaves(key, value, &mut overridden);
    }
    let overridden_keys: HashSet<String> = overridden.iter().map(|(key, _)| key.clone()).collect();
    settings.extend(overridden);
    overlay(settings).map_err(|error| match error {
        ConfigError::Problems(mut problems) => {
            let file = file.unwrap_or(Path::new(DEFAULT_FILE));
            for problem in &mut problems {
                let says = in_file.contains(&problem.key) && !overridden_keys.contains(&problem.key);
                problem.file = says.then(|| file.to_owned());
            }
            ConfigError::Problems(problems)
        }
        other => other,
    })
}

fn read_file(file: Option<&Path>) -> Result<config::Map<String, Value>, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let source = File::from(path).format(FileFormat::Toml).required(file.is_some());
    config::Config::builder()
        .add_source(source)
        .build()
        .and_then(|built| built.cache.into_table())
        .map_err(|error| ConfigError::File { file: path.to_owned(), detail: error.to_string() })
}

/// Flattens tables into dotted keys.
fn leaves(key: String, value: Value, out: &mut Vec<(String, ValueKind)>) {
    match value.kind {
        ValueKind::Table(table) => {
            for (name, inner) in table {
                leaves(format!("{key}.{name}"), inner, out);
            }
        }
        kind => out.push((key, kind)),
    }
}

/// Lays each setting over the defaults on its own, so that each can fail on its own.
fn overlay(settings: Vec<(String, ValueKind)>) -> Result<Config, ConfigError> {
    let defaults = serde_json::to_value(Config::default()).expect("the defaults are plain data");
    let mut merged = defaults.clone();
    let mut problems = Vec::new();
    for (key, kind) in settings {
        let shown = shown_value(&kind);
        let Some(pointer) = pointer(&defaults, &key) else {
            problems.push(Problem::new(&key, shown, unknown(&defaults, &key)));
            continue;
        };
        let laid_over = |reading: &Json| {
            let mut alone = defaults.clone();
            *alone.pointer_mut(&pointer).expect("it was found above") = reading.clone();
            serde_json::from_value::<Config>(alone)
        };
        // A password may look like a number, and a number in the environment is always text: the
        // first reading that fits the key's type is the one that was meant.
        let readings = readings(&key, kind);
        match readings.iter().find(|reading| laid_over(reading).is_ok()) {
            Some(value) => *merged.pointer_mut(&pointer).expect("it was found above") = value.clone(),
            None => {
                let refused = readings.last().and_then(|last| laid_over(last).err());
                let refused = refused.map(|error| error.to_string()).unwrap_or_default();
                // The ends of the type are beyond those of the key, which say what may be set.
                let bounds = [0_u64, u16::MAX.into(), u32::MAX.into()].into_iter().find_map(|end| {
                    let problems = laid_over(&end.into()).ok()?.validate();
                    problems.into_iter().find(|problem| problem.key == key).map(|problem| problem.fix)
                });
                problems.push(Problem::new(&key, shown, fix_of(&refused, bounds)));
            }
        }
    }
    let config: Config = serde_json::from_value(merged).expect("each setting fits, so all of them do");
    problems.extend(config.validate());
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Problems(problems)) }
}

/// What a value should have been, in the user's words.
fn fix_of(refused: &str, bounds: Option<String>) -> String {
    let Some((_, expected)) = refused.rsplit_once("expected ") else { return refused.to_owned() };
    match (expected, bounds) {
        (number, Some(bounds)) if is_number(number) => bounds,
        ("u16", None) => format!("give a whole number from 0 to {}", u16::MAX),
        ("u32", None) => format!("give a whole number from 0 to {}", u32::MAX),
        (number, None) if is_number(number) => "give a whole number".to_owned(),
        ("a boolean", _) => "give true or false".to_owned(),
        ("a string", _) => "give a text".to_owned(),
        ("a sequence", _) => "give a list".to_owned(),
        (words, _) => format!("expected {}", words.replace('`', "")),
    }
}

fn is_number(expected: &str) -> bool {
    matches!(expected, "u8" | "u16" | "u32" | "u64" | "usize" | "i64" | "f64")
}

fn shown_value(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Array(items) => {
            items.iter().map(|item| shown_value(&item.kind)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn readings(key: &str, kind: ValueKind) -> Vec<Json> {
    match kind {
        ValueKind::String(text) if LISTS.contains(&key) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            vec![items.collect()]
        }
        ValueKind::String(text) => {
            let parsed = serde_json::from_str::<Json>(&text).ok().filter(|json| !json.is_string());
            [Json::String(text)].into_iter().chain(parsed).collect()
        }
        ValueKind::Array(items) => {
            let items = items.into_iter().map(|item| Json::String(item.to_string()));
            vec![items.collect()]
        }
        ValueKind::Boolean(flag) => vec![flag.into()],
        ValueKind::I64(number) => vec![number.into()],
        ValueKind::U64(number) => vec![number.into()],
        ValueKind::Float(number) => vec![number.into()],
        other => vec![Json::String(other.to_string())],
    }
}

/// The JSON pointer of a dotted key, when the defaults have it as a leaf.
fn pointer(defaults: &Json, key: &str) -> Option<String> {
    let pointer = format!("/{}", key.replace('.', "/"));
    defaults.pointer(&pointer).filter(|value| !value.is_object()).map(|_| pointer)
}

fn unknown(defaults: &Json, key: &str) -> String {
    let mut known = Vec::new();
    list_keys("", defaults.as_object().unwrap_or(&Map::new()), &mut known);
    let last = key.rsplit('.').next().unwrap_or(key);
    let near = known
        .iter()
        .find(|name| name.rsplit('.').next() == Some(last))
        .or_else(|| known.iter().find(|name| name.starts_with(key) || key.starts_with(name.as_str())));
    match near {
        Some(near) => format!("there is no such key; did you mean {near}?"),
        None => "there is no such key; config/example.toml lists them all".to_owned(),
    }
}

fn list_keys(prefix: &str, table: &Map<String, Json>, out: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Json::Object(inner) => list_keys(&key, inner, out),
            _ => out.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let source = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Environment::with_prefix("WEIR").source(Some(source))
    }

    fn load_with(file: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut written = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        load_from(Some(written.path()), environment(pairs))
    }

    fn problems(loaded: Result<Config, ConfigError>) -> Vec<Problem> {
        match loaded {
            Err(ConfigError::Problems(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let config = load_with(
            "[http]\nbind = \"127.0.0.1:1\"\nops_bind = \"127.0.0.1:2\"\n[storage]\nshards = 8\n",
            &[("WEIR__HTTP__BIND", "127.0.0.1:3"), ("WEIR__STORAGE__POOL_CONNECTIONS_MAX", "7")],
        )
        .unwrap();
        assert_eq!(config.http.bind, "127.0.0.1:3");
        assert_eq!(config.http.ops_bind, "127.0.0.1:2");
        assert_eq!(config.storage.shards, Some(8));
        assert_eq!(config.storage.pool_connections_max, 7);
        assert_eq!(config.collection.batch_events_max, CollectionConfigDefault::batch_events_max());
    }

    struct CollectionConfigDefault;
    impl CollectionConfigDefault {
        fn batch_events_max() -> u32 {
            Config::default().collection.batch_events_max
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let found = problems(load_with(
            "[http]\nbnid = \"x\"\n[storage]\nshards = 0\n",
            &[("WEIR__COLLECTION__BATCH_EVENTS_MAX", "many"), ("WEIR__CACHE__REDIS", "http://u:hunter2@h")],
        ));
        let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
        for key in ["http.bnid", "storage.shards", "collection.batch_events_max", "cache.redis"] {
            assert!(keys.contains(&key), "{key} in {keys:?}");
        }
        let text = ConfigError::Problems(found).to_string();
        assert!(text.contains("many") && text.contains("WEIR__COLLECTION__BATCH_EVENTS_MAX"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn lists_are_separated_by_commas_in_the_environment() {
        let config = load_with(
            "",
            &[
                ("WEIR__STORAGE__SERVERS", "mysql://a/x, mysql://b/x"),
                ("WEIR__ROLES", "collect,work"),
                ("WEIR__STORAGE__CONTROL", "mysql://a/x"),
            ],
        )
        .unwrap();
        assert_eq!(config.storage.servers.len(), 2);
        assert!(!config.roles.web());
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = load_with("", &[("WEIR__STORAGE__CONTROL", "mysql://u:hunter2@h/weir")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn the_example_file_lists_exactly_the_keys_that_exist() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/example.toml");
        let example = std::fs::read_to_string(path).unwrap();
        // Settings are commented out with "#key"; prose with "# ".
        let active: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let table: toml::Table = active.parse().unwrap();
        let listed = serde_json::to_value(table).unwrap();
        let (mut listed_keys, mut known) = (Vec::new(), Vec::new());
        list_keys("", listed.as_object().unwrap(), &mut listed_keys);
        let defaults = serde_json::to_value(Config::default()).unwrap();
        list_keys("", defaults.as_object().unwrap(), &mut known);
        listed_keys.sort();
        known.sort();
        assert_eq!(listed_keys, known);
        load_with(&active, &[]).unwrap();
    }

    #[test]
    fn a_problem_says_where_it_stands_and_what_may_be_set() {
        let file =
            "roles = [\"cook\"]\n[http]\nworkers = 100000\nkeep_alive_secs = 0\n[storage]\nshards = 9\n";
        let found = load_with(
            file,
            &[
                ("WEIR__COLLECTION__BATCH_EVENTS_MAX", "99999999999999999999"),
                ("WEIR__TICKETS__SLOTS", "few"),
                ("WEIR__TICKETS__POLL_MS", "-1"),
                ("WEIR__STORAGE__SHARDS", "100000"),
                ("WEIR__LOG__FORMAT", "xml"),
            ],
        );
        let text = found.unwrap_err().to_string();
        for line in [
            "http.workers = 100000 (in FILE): set it between 0 and 1024",
            "http.keep_alive_secs = 0 (in FILE): set it between 1 and 3600",
            "roles = cook (in FILE): expected one of collect, web, work",
            "collection.batch_events_max = 99999999999999999999 (WEIR__COLLECTION__BATCH_EVENTS_MAX): \
             set it between 1 and 100000",
            "tickets.slots = few (WEIR__TICKETS__SLOTS): set it between 1 and 256",
            "tickets.poll_ms = -1 (WEIR__TICKETS__POLL_MS): set it between 10 and 60000",
            "storage.shards = 100000 (WEIR__STORAGE__SHARDS): set it between 1 and 1024",
            "log.format = xml (WEIR__LOG__FORMAT): expected human or json",
        ] {
            let (before, after) = line.split_once("FILE").unwrap_or((line, ""));
            let holds = text.lines().any(|said| said.trim().starts_with(before) && said.ends_with(after));
            assert!(holds, "{line}\nis not in {text}");
        }
    }

    #[test]
    fn names_with_too_few_underscores_are_told_the_right_one() {
        let names =
            ["WEIR_HTTP_BIND", "weir_http__bind", "WEIR__HTTP__BIND", "WEIR_TEST_MYSQL", "WEIRD", "PATH"];
        let found = misspelt(names.map(str::to_owned));
        let right = "WEIR__HTTP__BIND".to_owned();
        let expected =
            vec![("WEIR_HTTP_BIND".to_owned(), right.clone()), ("weir_http__bind".to_owned(), right)];
        assert_eq!(found, expected);
    }
}
