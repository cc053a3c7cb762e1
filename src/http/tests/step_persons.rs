//! Who is behind a step of a funnel: from the funnel's page to the list, and over the API.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use serde_json::{Value, json};

use crate::analysis::{QuestionKind, QuestionLimits, QuestionParts};
use crate::cache::Cache;
use crate::config::Config;
use crate::eventstore::fixture::seal_context;
use crate::eventstore::object_cache::ObjectCache;
use crate::eventstore::scan::Scanner;
use crate::eventstore::sealer::{Homes, SealContext, Sealer};
use crate::http::HttpState;
use crate::http::testing::{Browser, NOW, Page, TestSite};
use crate::model::{
    BatchId, DAY_MS, Event, EventId, ProjectId, Properties, Role, SystemRandom, TimeSource, shard_of,
};
use crate::storage::batch::BatchEncoder;
use crate::storage::control::accounts::find_account_by_email;
use crate::storage::control::projects::set_role;
use crate::storage::server::journal::{self, NewBatch};
use crate::telemetry::Metrics;
use crate::tickets::{TicketSettings, Tickets, TicketsParts, WRITTEN_AFTER};

/// As configured here; the page asks for so many.
const PERSONS_MAX: u32 = 125;
const VIEWED: usize = 130;
const BOUGHT: usize = 20;
const FUNNEL: &str = "kind=funnel&range=7d&s0.event=viewed&s1.event=bought&window=1d";

/// Questions are answered as in a whole program.
async fn site() -> TestSite {
    let mut config = Config::default();
    config.questions.persons_max = PERSONS_MAX;
    TestSite::start_with(config, |state| {
        let tickets = web::Data::new(tickets(state));
        Arc::new(move |services: &mut web::ServiceConfig| {
            services.app_data(tickets.clone());
        })
    })
    .await
}

fn tickets(state: &HttpState) -> Tickets {
    let control = state.storage.control.clone();
    let kind = QuestionKind::new(QuestionParts {
        control: control.clone(),
        shards: state.storage.shards.clone(),
        scanner: Scanner::new(ObjectCache::none(), 2, 1 << 20, &Metrics::default()),
        clock: state.clock.clone(),
        limits: QuestionLimits { persons_max: PERSONS_MAX as usize, ..QuestionLimits::default() },
        split_after: Duration::from_secs(2),
        move_settle: Duration::ZERO,
    });
    Tickets::new(TicketsParts {
        control,
        cache: Cache::off(),
        clock: state.clock.clone(),
        random: Arc::new(SystemRandom),
        settings: TicketSettings {
            slots: 4,
            lease: Duration::from_secs(20),
            poll: Duration::from_secs(1),
            attempts_max: 3,
            kept: Duration::from_secs(86_400),
            queued_max: 100,
            run_max: Duration::from_secs(60),
            written_after: WRITTEN_AFTER,
        },
        metrics: Metrics::default(),
        kinds: vec![Arc::new(kind)],
    })
}

/// Person n viewed n seconds into the day before yesterday; the first of them bought an hour later.
async fn send(site: &TestSite, project_id: ProjectId, name: impl Fn(usize) -> String) {
    let day = NOW - 2 * DAY_MS;
    let event = |person: usize, event: &str, at: i64| Event {
        project_id,
        distinct_id: name(person).into(),
        anonymous_id: None,
        event: event.into(),
        event_id: EventId((at as u128).to_be_bytes()),
        occurred_at: at,
        received_at: NOW,
        time_source: TimeSource::Client,
        properties: Properties::default(),
        route: vec![],
    };
    let viewed = (0..VIEWED).map(|person| event(person, "viewed", day + 1_000 * person as i64));
    let bought = (0..BOUGHT).map(|person| event(person, "bought", day + 3_600_000 + 1_000 * person as i64));
    for event in viewed.chain(bought) {
        let shards = &site.state.storage.shards;
        let shard_no = shard_of(project_id, &event.distinct_id, shards.count(), shards.count());
        let batch = BatchEncoder::default().encode_events(std::slice::from_ref(&event));
        let batch_id = BatchId::random(&SystemRandom);
        let db = shards.db_of(shard_no).unwrap();
        journal::insert(db, vec![NewBatch { shard_no, batch_id, batch }]).await.unwrap();
    }
}

/// Once: it keeps the leases.
async fn seal(site: &TestSite) {
    let sealing = &site.state.config.sealing;
    let context = SealContext {
        clock: site.state.clock.clone(),
        random: site.state.random.clone(),
        pass_bytes_max: sealing.pass_bytes_max.into(),
        segment_rows_min: sealing.segment_rows_min as usize,
        segment_rows_max: sealing.segment_rows_max as usize,
        write: sealing.into(),
        ..seal_context(Homes::new(site.state.storage.control.clone(), site.state.storage.shards.clone()))
    };
    let sealer = Sealer::new(context, site.state.storage.shards.clone(), 2, &Metrics::default());
    sealer.seal_everything().await.unwrap();
}

/// The addresses of a page's links whose text or label has these words; with `>` before them, whose
/// text they are.
fn links(page: &Page, words: &str) -> Vec<String> {
    let anchors = page.body.split("<a ").skip(1).filter_map(|rest| rest.split_once("</a>"));
    let is_meant =
        |anchor: &&str| if words.starts_with('>') { anchor.ends_with(words) } else { anchor.contains(words) };
    let anchors = anchors.map(|(anchor, _)| anchor).filter(is_meant);
    let href = |anchor: &str| anchor.split("href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    anchors.map(|anchor| href(anchor).replace("&amp;", "&").replace("&#38;", "&")).collect()
}

async fn follow(browser: &Browser, page: &Page, words: &str) -> Page {
    let found = links(page, words);
    let [href] = found.as_slice() else { panic!("{} links with {words:?}: {}", found.len(), page.body) };
    let page = browser.get(href).await;
    assert_eq!(page.status, 200, "{href}: {}", page.body);
    page
}

/// The ids of a list, in its order.
fn ids(page: &Page) -> Vec<String> {
    let rows = page.body.split("/persons?id=").skip(1);
    rows.map(|rest| rest.split(['>', '<']).nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_a_funnel_lead_to_the_persons_behind_them() {
    let site = site().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    send(&site, project, |person| format!("p{person:03}")).await;
    seal(&site).await;
    let funnel = browser.get(&format!("/p/{project}/ask?{FUNNEL}")).await;
    assert_eq!(funnel.status, 200);

    let bought = follow(&browser, &funnel, "20 persons reached step 2").await;
    assert!(bought.body.contains("<h1>Reached step 2</h1>"), "{}", bought.body);
    assert!(
        bought.body.contains("<h2>20 persons</h2>") && bought.body.contains("viewed → bought within 1 day")
    );
    assert!(bought.body.contains("all 4 shards"), "how whole it is: {}", bought.body);
    let newest_first: Vec<String> = (0..BOUGHT).rev().map(|person| format!("p{person:03}")).collect();
    assert_eq!(ids(&bought), newest_first);
    let person = links(&bought, "p019");
    assert_eq!(person, [format!("/p/{project}/persons?id=p019")]);
    assert_eq!(browser.get(&person[0]).await.status, 200);

    let dropped = follow(&browser, &funnel, "110 persons").await;
    assert!(dropped.body.contains("reached viewed and did not go on to bought"), "{}", dropped.body);
    assert_eq!((ids(&dropped).len(), ids(&dropped)[0].as_str()), (100, "p129"));
    assert!(dropped.body.contains("1 to 100 of 110"), "{}", dropped.body);
    let older = follow(&browser, &dropped, "Older").await;
    assert_eq!(ids(&older), (20..30).rev().map(|person| format!("p{person:03}")).collect::<Vec<_>>());
    assert!(older.body.contains("101 to 110 of 110"));
    assert_eq!(ids(&follow(&browser, &older, "Newer").await), ids(&dropped));
    assert!(links(&older, "Older").is_empty());

    let everybody = follow(&browser, &funnel, "130 persons reached step 1").await;
    assert!(everybody.body.contains("1 to 100 of 130; the first 125 are listed"), "{}", everybody.body);
    assert!(links(&everybody, "Dropped out").is_empty(), "nobody drops out before the first step");
    let csv = follow(&browser, &everybody, "CSV").await;
    assert_eq!(csv.body.lines().next(), Some("distinct_id,reached_at"));
    assert_eq!(csv.body.lines().count(), 1 + PERSONS_MAX as usize);

    // Every list leads to the other one, and back to the very funnel.
    assert_eq!(ids(&follow(&browser, &bought, "Dropped out").await), ids(&dropped));
    let back = links(&dropped, "Back to the funnel");
    assert!(browser.get(&back[0]).await.body.contains("20 persons reached step 2"), "{back:?}");
    let ticket = follow(&browser, &bought, ">Ticket").await;
    assert!(ticket.body.contains("Persons who reached step 2 of viewed → bought"), "{}", ticket.body);
    let shown = links(&ticket, "Show the answer");
    let list = browser.get(&shown[0]).await;
    assert!(list.location().starts_with(&format!("/p/{project}/ask/persons?range=custom")), "{list:?}");
    assert_eq!(ids(&browser.get(list.location()).await), ids(&bought));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_persons_are_careful_with_names_addresses_and_nobody() {
    let site = site().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    send(&site, project, |person| if person == 0 { "=1+<b>".into() } else { format!("p{person:03}") }).await;
    seal(&site).await;
    let list = format!("/p/{project}/ask/persons?{FUNNEL}");
    let page = browser.get(&format!("{list}&step=2")).await;
    assert!(page.body.contains("=1+&#60;b&#62;") && !page.body.contains("<b>&"), "{}", page.body);
    assert!(links(&page, "=1+")[0].ends_with("?id=%3D1%2B%3Cb%3E"), "{:?}", links(&page, "=1+"));
    assert!(follow(&browser, &page, "CSV").await.body.contains("\r\n'=1+<b>,"), "no formula");

    for (query, words) in [
        ("step=3", "whole number from 1 to 2"),
        ("step=x", "whole number from 1 to 2"),
        ("step=1&outcome=dropped", "nobody drops out before the first step"),
        ("step=2&outcome=gone", "is none of converted, dropped"),
    ] {
        let page = browser.get(&format!("{list}&{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        assert!(page.body.contains(words), "{query}: {}", page.body);
    }
    let unfinished = format!("/p/{project}/ask/persons?kind=funnel&s0.event=viewed&step=2");
    assert_eq!(
        browser.get(&unfinished).await.location(),
        format!("/p/{project}/ask?kind=funnel&s0.event=viewed")
    );
    let silent = FUNNEL.replace("range=7d", "range=today");
    let nobody = browser.get(&format!("/p/{project}/ask/persons?{silent}&step=2&outcome=dropped")).await;
    assert!(nobody.body.contains("no person reached viewed and did not go on to bought"), "{}", nobody.body);

    // A funnel that only JSON can say keeps its JSON, here and on the way back.
    let steps = json!([{"event": "viewed"}, {"event": "bought"}]);
    let json = json!({"kind": "funnel", "from": "-7d", "to": "now", "window": "1d", "steps": steps});
    let query: String = serde_urlencoded::to_string([("q", json.to_string())]).unwrap();
    let page = browser.get(&format!("/p/{project}/ask/persons?{query}&step=2")).await;
    assert_eq!(ids(&page).len(), BOUGHT, "{}", page.body);
    assert!(links(&page, "Back to the funnel")[0].starts_with(&format!("/p/{project}/ask?q=")));
    let asked = json!({"kind": "persons", "funnel": json, "step": 2, "outcome": "dropped"});
    let query: String = serde_urlencoded::to_string([("q", asked.to_string())]).unwrap();
    let moved = browser.get(&format!("/p/{project}/ask?{query}")).await;
    assert!(moved.location().ends_with("&step=2&outcome=dropped"), "{moved:?}");
    assert_eq!(browser.get(moved.location()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_are_listed_for_those_who_may_read_their_project_only() {
    let site = site().await;
    let (ada, adas) = site.signed_in("ada@example.org").await;
    let (eve, eves) = site.signed_in("eve@example.org").await;
    send(&site, adas, |person| format!("ada-{person}")).await;
    send(&site, eves, |person| format!("eve-{person}")).await;
    seal(&site).await;
    let list = |project: ProjectId| format!("/p/{project}/ask/persons?{FUNNEL}&step=2");
    for (browser, project, prefix) in [(&ada, adas, "ada-"), (&eve, eves, "eve-")] {
        let found = ids(&browser.get(&list(project)).await);
        assert!(
            found.len() == BOUGHT && found.iter().all(|id| id.starts_with(prefix)),
            "{prefix}: {found:?}"
        );
    }
    assert_eq!(eve.get(&list(adas)).await.status, 404);
    assert_eq!(site.browser().get(&list(adas)).await.status, 303, "a stranger logs in");
    // Nor does the ticket of another project's list open here.
    let ticket = links(&ada.get(&list(adas)).await, ">Ticket");
    let ticket = ticket[0].rsplit('/').next().unwrap();
    let found = ids(&eve.get(&format!("{}&ticket={ticket}", list(eves))).await);
    assert!(found.iter().all(|id| id.starts_with("eve-")), "{found:?}");

    let (val, _) = site.signed_in("val@example.org").await;
    let control = &site.state.storage.control;
    let account = find_account_by_email(control, "val@example.org").await.unwrap().unwrap();
    set_role(control, account.account_id, adas, Role::Viewer, 1).await.unwrap();
    assert_eq!(ids(&val.get(&list(adas)).await).len(), BOUGHT, "a viewer reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_lists_as_many_persons_as_configured_and_counts_all() {
    let site = site().await;
    let project = site.project("Shop", None).await;
    send(&site, project.project_id, |person| format!("p{person:03}")).await;
    seal(&site).await;
    let key = project.secret_key.unwrap();
    let ask = async |limit: Value| {
        let steps = json!([{"event": "viewed"}, {"event": "bought"}]);
        let funnel = json!({"kind": "funnel", "from": "-7d", "window": "1d", "steps": steps});
        let question = json!({"kind": "persons", "funnel": funnel, "step": 1, "limit": limit});
        let url = format!("http://{}/api/v1/tickets", site.address);
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url).bearer_auth(&key);
        let request = request.header("prefer", "wait=20").json(&json!({"question": question}));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    for (limit, listed) in [(json!(null), 100), (json!(1), 1), (json!(PERSONS_MAX), PERSONS_MAX as usize)] {
        let (status, ticket) = ask(limit).await;
        let result = &ticket["result"];
        assert_eq!((status, result["total"].as_u64()), (200, Some(VIEWED as u64)), "{ticket}");
        assert_eq!(result["persons"].as_array().unwrap().len(), listed);
        assert_eq!(result["persons"][0]["distinct_id"], "p129", "the latest first");
        assert_eq!((&result["step"], &result["outcome"]), (&json!(1), &json!("converted")));
    }
    let (status, problem) = ask(json!(PERSONS_MAX + 1)).await;
    assert_eq!(
        (status, problem["errors"][0]["pointer"].as_str()),
        (400, Some("/question/limit")),
        "{problem}"
    );
    assert!(problem["detail"].as_str().unwrap().contains("from 1 to 125"), "{problem}");
}
