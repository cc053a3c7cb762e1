//! `weir ask` against a running server: what it prints, where, and with which exit code.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Fault, Gate, Installation, Project, Weir, until};

struct Shop {
    installation: Installation,
    project: Project,
    weir: Weir,
}

impl Shop {
    async fn open() -> Self {
        let installation = Installation::embedded(4);
        let project = installation.create_project("Shop");
        let weir = installation.serve().await;
        let event = |n: u32, name: &str, person: &str, day: u32, country: &str| {
            json!({"event": name, "distinct_id": person, "id": format!("e{n}"),
                   "timestamp": format!("2025-05-{day:02}T12:00:00Z"),
                   "properties": {"amount": 10 * n, "country": country}})
        };
        let events = [
            event(1, "viewed", "a", 4, "NL"),
            event(2, "viewed", "b", 4, "DE"),
            event(3, "viewed", "c", 5, "=1+1"),
            event(4, "bought", "a", 5, "NL"),
        ];
        weir.api.send_all(&project, &events).await;
        Self { installation, project, weir }
    }

    /// `weir ask` with these arguments over May 2025, answered with what is there now.
    async fn ask(&self, arguments: &[&str]) -> Output {
        let range = ["--from", "2025-05-04", "--to", "2025-05-06", "--fresh"];
        self.ask_as(&self.project.secret_key, &[arguments, &range].concat(), "").await
    }

    async fn ask_as(&self, key: &str, arguments: &[&str], input: &str) -> Output {
        let server = self.weir.api.url("");
        ask(&self.installation, &server, key, arguments, input).await
    }
}

async fn ask(
    installation: &Installation,
    server: &str,
    key: &str,
    arguments: &[&str],
    input: &str,
) -> Output {
    let mut command = installation.command();
    command.arg("ask").args(arguments).env("WEIR_SERVER", server).env("WEIR_SECRET_KEY", key);
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("the weir binary runs");
    let mut stdin = child.stdin.take().expect("its input is ours");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.expect("it takes its input");
    drop(stdin);
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    ended.expect("weir ask ends").expect("weir ask has run")
}

/// What went to standard output; fails the test unless it ended well.
fn printed(output: &Output) -> &str {
    assert!(output.status.success(), "{}: {}", output.status, errors(output));
    std::str::from_utf8(&output.stdout).expect("weir prints UTF-8")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_a_table_json_or_csv() {
    let shop = Shop::open().await;
    let table = shop.ask(&["--event", "viewed", "--event", "bought", "--every", "day"]).await;
    let expected = "\
from        viewed  bought
──────────  ──────  ──────
2025-05-04       2       0
2025-05-05       1       1
total            3       1
";
    assert_eq!(printed(&table), expected);
    assert!(errors(&table).contains("as of 20"), "{}", errors(&table));

    let log =
        std::fs::read_to_string(shop.installation.folder().join("weir.log")).expect("weir writes a log");
    let line =
        log.lines().find(|line| line.contains("POST /api/v1/tickets")).expect("the request has a line");
    let queries = line.split("query.count=").nth(1).and_then(|rest| rest.split(' ').next());
    let queries: u32 =
        queries.and_then(|count| count.parse().ok()).expect("it says how many queries it made");
    assert!(queries > 0 && line.contains("query.duration_ms="), "{line}");

    let funnel = shop.ask(&["--step", "viewed", "--step", "bought", "--window", "7d"]).await;
    let expected = "\
step       persons  of the first  of the one before
─────────  ───────  ────────────  ─────────────────
1. viewed        3       100.0 %            100.0 %
2. bought        1        33.3 %             33.3 %
";
    assert_eq!(printed(&funnel), expected);

    let json =
        shop.ask(&["--measure", "sum", "--property", "amount", "--where", "country=NL", "--json"]).await;
    let answer: Value = serde_json::from_str(printed(&json)).expect("--json prints JSON");
    assert_eq!(answer["series"][0]["total"], 50, "{answer}");
    assert_eq!(errors(&json), "");

    let csv = shop.ask(&["--event", "viewed", "--by", "country", "--csv"]).await;
    let mut lines: Vec<&str> = printed(&csv).lines().collect();
    assert_eq!(lines.remove(0), "label,measure,breakdown,bucket,value");
    lines.sort_unstable();
    let expected = [
        "viewed,count,'=1+1,2025-05-04T00:00:00Z,1",
        "viewed,count,DE,2025-05-04T00:00:00Z,1",
        "viewed,count,NL,2025-05-04T00:00:00Z,1",
    ];
    assert_eq!(lines, expected, "a formula must not run in a spreadsheet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_comes_from_a_file_or_standard_input() {
    let shop = Shop::open().await;
    let question = json!({"kind": "trends", "from": "2025-05-04", "to": "2025-05-06", "fresh": true,
                          "series": [{"event": "viewed", "measure": "persons"}]});
    let file = shop.installation.folder().join("question.json");
    std::fs::write(&file, question.to_string()).expect("a file can be written");
    let key = shop.project.secret_key.as_str();
    let pasted = question.to_string();
    for (arguments, input) in [
        (vec!["question.json", "--json"], String::new()),
        (vec!["-", "--json"], question.to_string()),
        // As the pages show it.
        (vec![pasted.as_str(), "--json"], String::new()),
        // The body of a request, as the documentation shows it for curl.
        (vec!["-", "--json"], json!({"question": question}).to_string()),
    ] {
        let output = shop.ask_as(key, &arguments, &input).await;
        let answer: Value = serde_json::from_str(printed(&output)).expect("--json prints JSON");
        assert_eq!(answer["series"][0]["total"], 3, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_says_what_to_do_and_has_its_exit_code() {
    let shop = Shop::open().await;
    let key = shop.project.secret_key.as_str();
    let unknown = r#"{"kind": "funel"}"#;
    let wrong = r#"{"kind": "trends", "from": "-7d", "to": "now", "series": [{"measure": "most"}]}"#;
    for (name, key, arguments, input, code, said) in [
        ("an unknown kind", key, vec!["-"], unknown, 2, "/question/kind"),
        ("a wrong measure", key, vec!["-"], wrong, 2, "/question/series/0/measure"),
        ("no JSON", key, vec!["-"], "{", 2, "- is not JSON"),
        ("no file", key, vec!["missing.json"], "", 2, "missing.json"),
        ("an unknown key", "sk_unknown", vec![], "", 3, "weir key create --kind secret"),
        ("a write key", shop.project.write_key.as_str(), vec![], "", 3, "a secret key (sk_…)"),
        ("no key", "", vec![], "", 2, "WEIR_SECRET_KEY"),
        ("a server without a scheme", key, vec!["--server", "localhost:8080"], "", 2, "https://"),
        ("nobody there", key, vec!["--server", "http://127.0.0.1:9"], "", 4, "cannot be reached"),
        (
            "a page and not the API",
            key,
            vec!["--server", &shop.weir.api.url("/login?")],
            "",
            4,
            "does not seem to be weir",
        ),
        ("a wrong filter", key, vec!["--where", "country"], "", 2, "PROPERTY=VALUE"),
    ] {
        let output = shop.ask_as(key, &arguments, input).await;
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {errors}");
        assert!(errors.starts_with("weir: ") && errors.contains(said), "{name}: {errors}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_servers_is_an_answer_of_its_own() {
    let shop = Shop::open().await;
    let gate = Gate::start(&shop.weir.api.url(""));
    // Not repeated: nobody knows yet whether this is the right server.
    gate.fail_next(&[Fault::Refused]);
    let output = ask(&shop.installation, &gate.url, &shop.project.secret_key, &["--json"], "").await;
    assert_eq!(output.status.code(), Some(4), "{}", errors(&output));
    assert!(errors(&output).contains("answered 503"), "{}", errors(&output));
    let output = ask(&shop.installation, &gate.url, &shop.project.secret_key, &["--json"], "").await;
    assert!(output.status.success(), "{}", errors(&output));
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_cancels_the_ticket() {
    let installation = Installation::embedded(4);
    let project = installation.create_project("Shop");
    // Nobody works on tickets here, so this one waits until it is cancelled.
    let weir = installation.serve_with(&[("WEIR__ROLES", "collect,web")]).await;
    let mut command = installation.command();
    command.args(["ask", "--event", "viewed"]);
    command.env("WEIR_SERVER", weir.api.url("")).env("WEIR_SECRET_KEY", &project.secret_key);
    let mut command = tokio::process::Command::from(command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let child = child.expect("the weir binary runs");
    let tickets = || weir.api.get(&project, "/api/v1/tickets");
    until("the ticket to be there", Duration::from_secs(30), || async {
        (tickets().await["tickets"][0]["state"] == "queued").then_some(())
    })
    .await;
    let id = child.id().expect("it runs").to_string();
    // It follows the ticket by now or is about to; either way the ticket must not stay.
    until("the interrupt to be heard", Duration::from_secs(30), || async {
        let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
        sent.expect("kill(1) runs");
        (tickets().await["tickets"][0]["state"] == "cancelled").then_some(())
    })
    .await;
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
    assert!(errors(&output).contains("interrupted"), "{}", errors(&output));
}
