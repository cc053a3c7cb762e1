//! Erasure over the public interface: a person who is known by several ids, on several shards and
//! servers, leaves no trace in any table or in Redis, whatever died on the way; whoever is not erased
//! keeps every event.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kill::quick;
use crate::support::{Browser, Installation, MariaDb, Project, Redis, Weir, traces, until};

const TRACES: [&str; 2] = ["needle-", "thistle-"];
const OTHERS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_leaves_no_trace_embedded() {
    follow(settings(Installation::embedded(4)), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_leaves_no_trace_on_two_servers_and_in_redis() {
    let (server, redis) = tokio::join!(MariaDb::start(), Redis::start());
    let databases = [server.create_database().await, server.create_database().await];
    let installation = settings(Installation::mysql(&databases, 8)).with("WEIR__CACHE__REDIS", &redis.url());
    follow(installation, Some(&redis)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_dies_anywhere_is_taken_up_embedded() {
    die(settings(Installation::embedded(2)), &FAILPOINTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_dies_anywhere_is_taken_up_on_mariadb() {
    let server = MariaDb::start().await;
    let databases = [server.create_database().await, server.create_database().await];
    // What differs there is where a transaction and a server end.
    let failpoints = ["erasure.after_tombstones", "erasure.after_shard:2", "erasure.before_receipt"];
    die(settings(Installation::mysql(&databases, 4)), &failpoints).await;
}

/// One of two servers is away: the other is cleaned, and nobody claims that it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_waits_for_a_server_that_is_away() {
    let (one, mut two) = tokio::join!(MariaDb::start(), MariaDb::start());
    let databases = [one.create_database().await, two.create_database().await];
    let installation = settings(Installation::mysql(&databases, 4))
        .with("WEIR__COLLECTION__SPILL_AFTER_MS", "500")
        .with("WEIR__STORAGE__STATEMENT_SECS_MAX", "3");
    let here = Installation::mysql(&databases[..1], 4);
    let project = installation.create_project("away");
    let weir = installation.serve().await;
    let (other, person) = (weir_other(), of_person("ada"));
    weir.api.send_all(&project, &other).await;
    weir.api.send_all(&project, &person).await;
    settled(&weir, &project, other.len() + 21).await;

    two.kill9();
    // What belongs there waits here.
    weir.api.send_all(&project, &person).await;
    let ticket = erase(&weir, &project, "needle-ada-user").await;
    until("the server that is there to be cleaned", Duration::from_secs(90), || async {
        let found = traces(&here, None, &TRACES).await;
        // What leads from one id to the next over the server that is away cannot be known yet.
        let waits = |trace: &String| ["journal", "tickets", "links"].iter().any(|t| trace.starts_with(t));
        // Shown when it takes too long.
        println!("{found:?}");
        found.iter().all(waits).then_some(())
    })
    .await;
    let open = weir.api.get(&project, &format!("/api/v1/tickets/{ticket}")).await;
    assert!(matches!(open["state"].as_str(), Some("queued" | "running")), "{open:#}");
    let waiting = traces(&here, None, &TRACES).await;
    assert!(waiting.iter().any(|trace| trace.starts_with("journal")), "{waiting:#?}");

    two.restart().await;
    let ticket = succeeded(&weir, &project, &ticket).await;
    assert_eq!(ticket["result"]["ids"], json!(3), "{ticket:#}");
    assert_eq!(traces(&installation, None, &TRACES).await, Vec::<String>::new());
    assert_eq!(count(&weir, &project).await, other.len());
    weir.stop();
}

/// Nothing goes by itself within the time of a test: what is replaced stays for minutes, unless an
/// erasure hastens it.
fn settings(installation: Installation) -> Installation {
    quick(installation)
        .with("WEIR__SEALING__RETIRED_GRACE_SECS", "600")
        .with("WEIR__SEALING__MOVE_SETTLE_MS", "0")
        .with("WEIR__SEALING__COMPACT_FAN_IN", "2")
        .with("WEIR__SEALING__RUN_AGE_SECS_MAX", "1")
        .with("WEIR__TICKETS__LEASE_SECS", "2")
        .with("WEIR__TICKETS__SPLIT_AFTER_MS", "0")
}

fn event(who: &str, n: usize) -> Value {
    json!({"id": format!("{who}/{n}"), "event": "visited", "distinct_id": who,
        "timestamp": format!("2026-01-{:02}T10:00:00Z", n + 1),
        "properties": {"mail": format!("mail of {who}"), "n": n}})
}

/// The person is a user, a phone and a tablet; some events come before their link, some after it.
fn of_person(name: &str) -> Vec<Value> {
    let [user, phone, tablet] = ["user", "phone", "tablet"].map(|device| format!("needle-{name}-{device}"));
    let mut events: Vec<Value> =
        [&user, &phone, &tablet].iter().flat_map(|who| (0..5).map(|n| event(who, n))).collect();
    for (n, (one, other)) in [(&user, &phone), (&phone, &tablet)].into_iter().enumerate() {
        events.push(json!({"id": format!("{name}/link{n}"), "event": "$identify", "distinct_id": one,
            "anonymous_id": other, "timestamp": "2026-01-07T10:00:00Z",
            "properties": {"name": format!("thistle-{name}"), "$set": {"city": format!("thistle-{name}-city")}}}));
    }
    events.extend([&phone, &tablet].iter().flat_map(|who| (10..13).map(|n| event(who, n))));
    events.iter_mut().for_each(|event| event["properties"]["mail"] = json!(format!("thistle-{name}-mail")));
    events
}

async fn follow(installation: Installation, redis: Option<&Redis>) {
    let project = installation.create_project("erasing");
    let weir = installation.serve().await;
    let (other, person) = (weir_other(), of_person("ada"));
    // In parts, so that the person is in several objects of each shard.
    for events in other.chunks(30) {
        weir.api.send_all(&project, events).await;
    }
    for events in person.chunks(4) {
        weir.api.send_all(&project, events).await;
        count(&weir, &project).await;
    }
    let refused =
        json!([{"distinct_id": "needle-ada-user", "event": "", "properties": {"mail": "thistle-ada"}}]);
    weir.api.send(&project, &refused).await;
    // Two links are no visits.
    settled(&weir, &project, other.len() + 21).await;
    let mails =
        ask(&weir, &project, json!({"series": [{"measure": "count"}], "breakdown": {"property": "mail"}}))
            .await;
    assert!(mails.to_string().contains("thistle-ada-mail"), "{mails:#}");
    let named = json!({"series": [{"measure": "count",
        "filters": [{"property": "mail", "op": "eq", "value": "of needle-ada-user"}]}]});
    ask(&weir, &project, named).await;
    let found = traces(&installation, redis, &TRACES).await;
    for table in ["parts", "links", "distinct_ids", "persons", "failed_events", "tickets", "ticket_results"] {
        assert!(found.iter().any(|trace| trace.starts_with(table)), "no trace in {table}: {found:#?}");
    }
    assert!(redis.is_none() || found.iter().any(|trace| trace.starts_with("redis")), "{found:#?}");

    // Any of the ids.
    let ticket = erase(&weir, &project, "needle-ada-tablet").await;
    let ticket = succeeded(&weir, &project, &ticket).await;
    let receipt = &ticket["result"];
    let counts = ["ids", "events", "rejected_events"].map(|name| receipt[name].as_u64().expect("a count"));
    assert_eq!(counts, [3, 23, 1], "{ticket:#}");
    assert!(ticket.get("erasure").is_none(), "{ticket:#}");
    assert_eq!(traces(&installation, redis, &TRACES).await, Vec::<String>::new());
    assert_eq!(count(&weir, &project).await, other.len());
    let gone = weir
        .api
        .client()
        .get(weir.api.url("/api/v1/persons/needle-ada-phone"))
        .bearer_auth(&project.secret_key);
    assert_eq!(gone.send().await.expect("an answer").status().as_u16(), 404);

    // Sent again, by every device.
    weir.api.send_all(&project, &person).await;
    assert_eq!(count(&weir, &project).await, other.len());
    until("what was sent again to be dropped", Duration::from_secs(30), || async {
        let dropped = weir.metric_of("weir_seal_events_total", "erased").await;
        (dropped >= person.len() as f64).then_some(())
    })
    .await;
    assert_eq!(
        traces(&installation, redis, &["thistle-", "ada-user", "ada-phone"]).await,
        Vec::<String>::new()
    );

    // Somebody new, who has the same device.
    let later = json!({"id": "later", "event": "visited", "distinct_id": "needle-ada-phone"});
    weir.api.send_all(&project, &[later]).await;
    let found = weir.api.get(&project, "/api/v1/persons/needle-ada-phone").await;
    assert_eq!((&found["events"], &found["distinct_ids"]), (&json!(1), &json!(["needle-ada-phone"])));
    weir.stop();
    let page = installation.serve().await;
    erase_on_its_page(&installation, &page, &project).await;
    page.stop();
}

fn weir_other() -> Vec<Value> {
    (0..OTHERS).flat_map(|n| (0..3).map(move |day| event(&format!("other{n}"), day))).collect()
}

async fn erase(weir: &Weir, project: &Project, distinct_id: &str) -> String {
    let request = weir.api.client().post(weir.api.url("/api/v1/tickets")).bearer_auth(&project.secret_key);
    let request = request.json(&json!({"erasure": {"distinct_id": distinct_id}}));
    let ticket: Value = request.send().await.expect("an answer").json().await.expect("a ticket is JSON");
    assert_eq!(ticket["kind"], "erasure", "{ticket:#}");
    ticket["id"].as_str().expect("a ticket has an id").to_owned()
}

async fn succeeded(weir: &Weir, project: &Project, ticket: &str) -> Value {
    until("the erasure to be done", Duration::from_secs(120), || async {
        let ticket = weir.api.get(project, &format!("/api/v1/tickets/{ticket}?wait=5")).await;
        assert_ne!(ticket["state"], "failed", "{ticket:#}");
        (ticket["state"] == "succeeded").then_some(ticket)
    })
    .await
}

async fn ask(weir: &Weir, project: &Project, mut question: Value) -> Value {
    question["kind"] = json!("trends");
    question["from"] = json!("2026-01-01");
    question["to"] = json!("2026-02-01");
    weir.api.ask(project, &question).await
}

/// All visits, fresh.
async fn count(weir: &Weir, project: &Project) -> usize {
    let question = json!({"series": [{"measure": "count", "event": "visited"}]});
    let answer = ask(weir, project, question).await;
    answer["series"][0]["total"].as_u64().expect("a number") as usize
}

async fn settled(weir: &Weir, project: &Project, expected: usize) {
    until("all events to be where they belong", Duration::from_secs(60), || async {
        (count(weir, project).await == expected).then_some(())
    })
    .await;
}

async fn erase_on_its_page(installation: &Installation, weir: &Weir, project: &Project) {
    let browser = Browser::new(installation, "ada@example.org");
    browser.log_in(&weir.api.url("")).await;
    let path = |rest: &str| weir.api.url(&format!("/p/{}/persons{rest}", project.project_id));
    let page = browser.read(&path("?id=other3")).await;
    assert!(page.contains("/persons/erase?id=other3"), "{page}");
    let (form, action) = (path("/erase?id=other3"), path("/erase"));
    let fields = |typed| [("distinct_id", "other3"), ("typed", typed)];
    let (status, page) = browser.submit(&form, &action, &fields("other")).await;
    assert!(status == 400 && page.contains("This is not the distinct id"), "{status} {page}");
    let (status, ticket) = browser.submit(&form, &action, &fields("other3")).await;
    assert_eq!(status, 303, "{ticket}");
    let id = ticket.rsplit('/').next().expect("an address");
    succeeded(weir, project, id).await;
    let page = browser.read(&weir.api.url(&ticket)).await;
    assert!(page.contains("Erasure of a person") && page.contains("Receipt"), "{page}");
    assert!(!page.contains("other3"), "{page}");
    assert_eq!(count(weir, project).await, (OTHERS - 1) * 3);
}

/// After the ids were found; after a server, and a shard; at the end of each part; before and after
/// the last commit.
const FAILPOINTS: [&str; 8] = [
    "erasure.after_find",
    "erasure.after_tombstones",
    "erasure.after_shard:1",
    "erasure.after_shard:2",
    "erasure.after_masks",
    "erasure.after_answers",
    "erasure.before_receipt",
    "erasure.after_receipt",
];

async fn die(installation: Installation, failpoints: &[&str]) {
    let project = installation.create_project("dying");
    let other = weir_other();
    let weir = installation.serve().await;
    weir.api.send_all(&project, &other).await;
    for n in 0..failpoints.len() {
        weir.api.send_all(&project, &of_person(&format!("p{n}"))).await;
    }
    settled(&weir, &project, other.len() + 21 * failpoints.len()).await;
    weir.stop();
    for (n, failpoint) in failpoints.iter().enumerate() {
        let mut weir = installation.serve_with(&[("WEIR_FAILPOINT", *failpoint)]).await;
        let ticket = erase(&weir, &project, &format!("needle-p{n}-phone")).await;
        weir.ended(Duration::from_secs(60)).await;
        let weir = installation.serve().await;
        let ticket = succeeded(&weir, &project, &ticket).await;
        assert_eq!(ticket["result"]["ids"], json!(3), "{failpoint}: {ticket:#}");
        assert_eq!(ticket["result"]["events"], json!(23), "{failpoint}: {ticket:#}");
        let person = [format!("needle-p{n}-"), format!("thistle-p{n}")];
        let texts: Vec<&str> = person.iter().map(String::as_str).collect();
        assert_eq!(traces(&installation, None, &texts).await, Vec::<String>::new(), "{failpoint}");
        assert_eq!(
            count(&weir, &project).await,
            other.len() + 21 * (failpoints.len() - 1 - n),
            "{failpoint}"
        );
        weir.stop();
    }
    assert_eq!(traces(&installation, None, &TRACES).await, Vec::<String>::new());
}
