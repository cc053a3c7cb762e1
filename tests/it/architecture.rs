//! Modules depend downwards only. The table is the one in `src/README.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each module may use beside itself.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("config", &["model"]),
    ("telemetry", &["model", "config"]),
    ("storage", &["model", "telemetry"]),
    ("cache", &["model", "config", "telemetry", "storage"]),
    ("access", &["model", "config", "telemetry", "storage", "cache"]),
    ("collection", &["model", "config", "telemetry", "storage", "cache"]),
    ("eventstore", &["model", "config", "telemetry", "storage", "cache"]),
    ("tickets", &["model", "config", "telemetry", "storage", "cache"]),
    ("analysis", &["model", "config", "telemetry", "storage", "cache", "eventstore", "tickets"]),
    ("erasure", &["model", "config", "telemetry", "storage", "cache", "eventstore", "tickets"]),
    (
        "http",
        &[
            "model",
            "config",
            "telemetry",
            "storage",
            "cache",
            "access",
            "collection",
            "eventstore",
            "tickets",
            "analysis",
            "erasure",
        ],
    ),
    (
        "app",
        &[
            "model",
            "config",
            "telemetry",
            "storage",
            "cache",
            "access",
            "collection",
            "eventstore",
            "tickets",
            "analysis",
            "erasure",
            "http",
        ],
    ),
    (
        "commands",
        &[
            "model",
            "config",
            "telemetry",
            "storage",
            "cache",
            "access",
            "collection",
            "eventstore",
            "tickets",
            "analysis",
            "erasure",
            "http",
            "app",
        ],
    ),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules of ours that a file names, in `use crate::x`, `crate::{x, y}` or a full path.
fn modules_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name = name.trim();
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            used.insert(name[..end].to_owned());
        }
    }
    used
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut offences = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            offences.push(format!("{}: the module {module} is not in the table", inside.display()));
            continue;
        };
        seen.insert(module.clone());
        for used in modules_used(&std::fs::read_to_string(&file).unwrap()) {
            if known.contains(used.as_str()) && used != module && !may_use.contains(&used.as_str()) {
                offences.push(format!("{}: {module} may not use {used}", inside.display()));
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
    assert!(seen.len() >= 9, "the walk found only {seen:?}");
}

#[test]
fn sql_is_only_in_storage() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(inside.starts_with("storage") || !text.contains("sqlx::"), "{} uses sqlx", inside.display());
    }
}

#[test]
fn the_reader_of_imports_sees_all_ways_to_write_one() {
    let text = "use crate::storage::Db;\nuse crate::{model::Event, cache};\n// crate::http\nlet x = crate::tickets::y();";
    let used: Vec<String> = modules_used(text).into_iter().collect();
    assert_eq!(used, ["cache", "model", "storage", "tickets"]);
}
