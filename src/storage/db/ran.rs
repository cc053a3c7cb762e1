//! Which statements the tests ran, and in which dialect.
//!
//! Each process of tests writes what it ran into a file of its own under `WEIR_TEST_STATEMENTS`;
//! `scripts/test` compares them with all statements there are.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

use super::Dialect;

static RAN: Mutex<BTreeSet<(&'static str, &'static str)>> = Mutex::new(BTreeSet::new());

pub(super) fn note(name: &'static str, dialect: Dialect) {
    let Ok(folder) = std::env::var("WEIR_TEST_STATEMENTS") else { return };
    let dialect = match dialect {
        Dialect::MySql => "mysql",
        Dialect::Sqlite => "sqlite",
    };
    let mut ran = RAN.lock().expect("no holder of this lock can panic");
    if ran.insert((dialect, name)) {
        let path = format!("{folder}/{}", std::process::id());
        let file = std::fs::File::options().create(true).append(true).open(path);
        writeln!(file.expect("the folder is there"), "{dialect} {name}").expect("the file can be written");
    }
}
