//! Backup and restore as docs/operations.md describes them: its own commands are run while weir takes
//! events, and the restored copy gives the same answers and goes on where the original was.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Browser, Installation, MariaDb, Project, Weir, repository};

const EVENTS: u64 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_gives_the_same_answers_embedded() {
    let installation = brief(Installation::embedded(4));
    let data = installation.folder().join("data");
    let copy = brief(Installation::embedded(4));
    let restored = copy.folder().join("data");
    let backup = tempfile::tempdir().expect("a temporary folder");
    let folders = [("DATA", data.as_path()), ("BACKUP", backup.path()), ("RESTORED", &restored)];
    let folders = folders.map(|(name, path)| (name, path.display().to_string()));
    check(&installation, &copy, &folders, "sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_gives_the_same_answers_on_mariadb() {
    let (one, two) = tokio::join!(MariaDb::start(), MariaDb::start());
    // In the document they are on one machine, with these names.
    let at = |server: &MariaDb, name: &str| format!("{}/{name}", server.server_url());
    for name in ["weir_control", "weir_server_2"] {
        one.create_database_named(name).await;
        two.create_database_named(&format!("restored_{name}")).await;
    }
    let servers = |server: &MariaDb, prefix: &str| {
        ["weir_control", "weir_server_2"].map(|name| at(server, &format!("{prefix}{name}")))
    };
    let installation = brief(Installation::mysql(&servers(&one, ""), 4));
    let copy = brief(Installation::mysql(&servers(&two, "restored_"), 4));
    let backup = tempfile::tempdir().expect("a temporary folder");
    let variables = [
        ("BACKUP", backup.path().display().to_string()),
        ("RESTORED", "restored_".to_owned()),
        ("DUMP_FROM", one.client_options()),
        ("LOAD_INTO", two.client_options()),
    ];
    check(&installation, &copy, &variables, "mariadb").await;
}

/// A copy holds the leases of the moment it was made in; they run out first.
fn brief(installation: Installation) -> Installation {
    installation.with("WEIR__SEALING__LEASE_SECS", "2")
}

async fn check(
    installation: &Installation,
    copy: &Installation,
    variables: &[(&'static str, String)],
    back_end: &str,
) {
    let project = installation.create_project("kept");
    let browser = Browser::new(installation, "kept@example.com");
    let weir = installation.serve().await;
    browser.log_in(&weir.api.url("")).await;
    let (sealed, late) = events().split_at(EVENTS as usize / 2);
    weir.api.send_all(&project, sealed).await;
    ask(&weir, &project).await;
    weir.api.send_all(&project, late).await;
    let answers = ask(&weir, &project).await;

    // Another project's events come in all the time: they may be in the copy or not.
    let other = installation.create_project("busy");
    let busy = async {
        for n in 0.. {
            let event = json!({"id": format!("busy {n}"), "event": "busy", "distinct_id": format!("u{n}")});
            weir.api.send_all(&other, &[event]).await;
        }
    };
    let script = block(&format!("backup-{back_end}"));
    let folder = installation.folder().to_owned();
    let copying = {
        let variables = variables.to_vec();
        tokio::task::spawn_blocking(move || run(&script, &variables, &folder))
    };
    tokio::select! {
        () = busy => unreachable!("it goes on for ever"),
        copied = copying => copied.expect("the backup is made"),
    }
    weir.stop();

    run(&block(&format!("restore-{back_end}")), variables, copy.folder());
    let weir = copy.serve().await;
    assert_eq!(ask(&weir, &project).await, answers);
    // Keys, accounts and sessions are there, ids count once, and new events are taken.
    browser.read(&weir.api.url(&format!("/p/{}/tickets", project.project_id))).await;
    weir.api.send_all(&project, events()).await;
    assert_eq!(ask(&weir, &project).await, answers, "what was sent before the backup is known");
    let mut more = events()[0].clone();
    more["id"] = json!("after the restore");
    weir.api.send_all(&project, &[more]).await;
    assert_ne!(ask(&weir, &project).await, answers);
    // A project made now does not get the number of one that was there.
    assert!(copy.create_project("new").project_id > other.project_id);
    weir.stop();
}

/// The commands under a mark of the document.
fn block(name: &str) -> String {
    let text =
        std::fs::read_to_string(repository().join("docs/operations.md")).expect("the document is there");
    let mark = format!("<!-- test: {name} -->\n```sh\n");
    let block = text.split(&mark).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("docs/operations.md has no commands for {name}")).to_owned()
}

/// As an operator does, except that the MariaDB programs are told where the test's servers are.
fn run(script: &str, variables: &[(&str, String)], folder: &Path) {
    let functions = r#"
        set -euo pipefail
        mariadb-dump() { command mariadb-dump $DUMP_FROM "$@"; }
        mariadb() { command mariadb $LOAD_INTO "$@"; }
    "#;
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{functions}\n{script}")]).current_dir(folder);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let ran = command.output().expect("bash runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{script}\n{said}");
}

async fn ask(weir: &Weir, project: &Project) -> Vec<Value> {
    let range = |mut question: Value| {
        question["from"] = json!("2026-01-01");
        question["to"] = json!("2026-02-01");
        question
    };
    let series = json!([
        {"measure": "count"}, {"measure": "persons"}, {"measure": "sum", "property": "amount"},
    ]);
    let questions = [
        json!({"kind": "trends", "series": series, "granularity": "day"}),
        json!({"kind": "trends", "series": series, "breakdown": {"property": "plan"}}),
        json!({"kind": "funnel", "steps": [{"event": "seen"}, {"event": "bought"}], "window": "7d"}),
    ];
    let mut answers = Vec::new();
    for question in questions {
        answers.push(weir.api.ask(project, &range(question)).await);
    }
    answers
}

fn events() -> &'static [Value] {
    static EVENTS_SENT: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    EVENTS_SENT.get_or_init(|| {
        let event = |n: u64| {
            let name = ["seen", "seen", "bought"][(n % 3) as usize];
            json!({
                "id": format!("e{n}"), "event": name,
                "distinct_id": format!("u{}", n % 41),
                "timestamp": format!("2026-01-{:02}T{:02}:00:00Z", 1 + n % 28, n % 24),
                "properties": {"amount": n as f64 / 10.0, "plan": format!("p{}", n % 4)},
            })
        };
        (0..EVENTS).map(event).collect()
    })
}
