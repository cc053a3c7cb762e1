//! The pages in a real Chromium: every page in both themes at the width of a phone and of a desk, and
//! what people do on them. `tests/browser` holds the checks; this makes a shop with a month of
//! events, serves it, and runs them.
//!
//! Screenshots are kept in `target/screenshots` (or `WEIR_TEST_SHOTS`), to be looked at.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Installation, Project, Weir, repository};

const EMAIL: &str = "ada@example.org";
/// Enough for every chart to have a shape, few enough to be there in seconds.
const EVENTS: &str = "8000";

struct Shop {
    _installation: Installation,
    weir: Weir,
    project: Project,
    password: String,
}

impl Shop {
    async fn open() -> Self {
        let installation = Installation::embedded(4);
        let project = installation.create_project("Demo shop");
        let neighbour = installation.create_project("Another shop");
        installation.run(&["generate", "--events", EVENTS, "--out", "events.ndjson"]);
        let id = project.project_id.to_string();
        installation.run(&["import", "events.ndjson", "--project", &id]);
        let printed = installation.run(&["account", "create", EMAIL, "--admin"]);
        let password = password_in(&printed);
        let weir = installation.serve().await;
        let event = json!({"event": "only_the_neighbour_has_this", "distinct_id": "eve", "id": "1",
                           "properties": {"only_the_neighbour_has_this": 1}});
        weir.api.send_all(&neighbour, &[event]).await;
        Self { _installation: installation, weir, project, password }
    }

    /// Events that stand in the journal still, and some that are refused.
    async fn send_some(&self) {
        let events = json!([
            {"event": "newsletter_opened", "distinct_id": "ada", "properties": {"subject": "<b>Winter</b> sale & more"}},
            {"event": "", "distinct_id": "ada"},
            {"event": "order placed", "distinct_id": ""},
        ]);
        let url = self.weir.api.url("/api/v1/events");
        let request = self.weir.api.client().post(url).bearer_auth(&self.project.write_key).json(&events);
        let answer = request.send().await.expect("events are answered");
        assert_eq!(answer.status().as_u16(), 200);
    }

    /// What the scripts of `tests/browser` need to know.
    fn plan(&self) -> Value {
        let page = |name: &str, path: &str| json!({"name": name, "path": self.path(path)});
        let mut pages = vec![
            page("overview", "overview"),
            page("ask", "ask"),
            page("ask-breakdown", "ask?s0.event=purchased&s0.measure=count&by=country&limit=8"),
            page("ask-totals", "ask?s0.measure=count&granularity=none&by=%24event"),
            page(
                "ask-filter",
                "ask?s0.event=purchased&s0.measure=sum&s0.property=&s0.f0.property=plan&s0.f0.op=eq",
            ),
            page("ask-nothing", "ask?s0.event=no_such_event&s0.measure=count"),
            page(
                "funnel",
                "ask?kind=funnel&s0.event=product_viewed&s1.event=added_to_cart&s2.event=purchased",
            ),
            page(
                "funnel-persons",
                "ask/persons?kind=funnel&s0.event=product_viewed&s1.event=added_to_cart&step=2&outcome=dropped",
            ),
            page(
                "funnel-persons-nobody",
                "ask/persons?kind=funnel&s0.event=purchased&s1.event=no_such_event&step=2",
            ),
            page("overview-filtered", "overview?range=7d&f0.property=country&f0.op=eq&f0.value=DE"),
            page("overview-silent", "overview?range=custom&from=2020-01-01&to=2020-01-31"),
            page("ask-wrong", "ask?s0.measure=count&f0.property=country&f0.op=gt&f0.value=abc"),
            page("persons", "persons"),
            page("person", "persons?id=ada"),
            page("person-unknown", "persons?id=nobody"),
            page("person-erase", "persons/erase?id=ada"),
            page("members", "members"),
            page("live", "live"),
            page("live-nothing", "live?event=no_such_event"),
            page("tickets", "tickets?all=1"),
            page("start", "start"),
            page("settings", "settings"),
            page("retention", "retention"),
            page("retention-preview", "retention?days=30"),
            page("retention-wrong", "retention?days=never"),
            page("keys", "keys"),
            page("rejected", "rejected"),
            page("no-such-page", "nowhere"),
        ];
        pages.push(json!({"name": "projects", "path": "/projects"}));
        pages.push(json!({"name": "account", "path": "/account"}));
        pages.push(json!({"name": "login", "path": "/login", "signedOut": true}));
        json!({
            "url": self.weir.api.url(""), "email": EMAIL, "password": self.password,
            "project": format!("/p/{}", self.project.project_id), "writeKey": self.project.write_key,
            "folder": screenshots(), "pages": pages,
        })
    }

    fn path(&self, page: &str) -> String {
        format!("/p/{}/{page}", self.project.project_id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_fits_in_both_themes_on_a_phone_and_a_desk() {
    let shop = Shop::open().await;
    shop.send_some().await;
    run(&shop, &["look"]);
    shop.weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn people_ask_filter_sort_and_find_their_way_back() {
    let shop = Shop::open().await;
    shop.send_some().await;
    run(&shop, &["menus", "sorting", "chart", "funnel", "overview"]);
    shop.weir.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_what_arrives_keep_the_theme_and_read_without_scripts() {
    let shop = Shop::open().await;
    shop.send_some().await;
    run(&shop, &["start", "live", "person", "theme", "plain", "print", "phone"]);
    shop.weir.stop();
}

fn run(shop: &Shop, checks: &[&str]) {
    run_plan(&shop.plan(), checks);
}

/// Runs checks of `tests/browser`; fails with what they found.
pub fn run_plan(checked: &Value, checks: &[&str]) {
    let plan = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(plan.path(), checked.to_string()).expect("the plan can be written");
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/run.mjs")).arg(plan.path()).args(checks);
    command.env("WEIR_TEST_PACKAGES", packages());
    let output = command.output().expect("node runs; scripts/test installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}screenshots are in {}", screenshots().display());
    assert!(output.status.success(), "the browser found problems:\n{said}\n{errors}");
}

/// The folder of what drives the browser; `scripts/test` has named it, and by hand it is asked for.
fn packages() -> PathBuf {
    if let Some(folder) = std::env::var_os("WEIR_TEST_PACKAGES") {
        return folder.into();
    }
    let output = Command::new(repository().join("scripts/packages")).output().expect("scripts/packages runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path is text").trim().into()
}

fn screenshots() -> PathBuf {
    match std::env::var_os("WEIR_TEST_SHOTS") {
        Some(folder) => folder.into(),
        None => repository().join("target/screenshots"),
    }
}

/// The password in what `weir account create` prints.
pub fn password_in(printed: &str) -> String {
    let found = printed.lines().find_map(|line| line.strip_prefix("Password: "));
    let word = found.and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("no password in {printed:?}")).to_owned()
}
