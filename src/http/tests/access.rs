//! Logging in, sessions, forms of other sites, strangers' projects, keys.

use std::sync::Arc;

use crate::access::Session;
use crate::config::Config;
use crate::http::testing::{PASSWORD, TestSite, free_ports};
use crate::http::{HttpServer, Stop};
use crate::model::{Clock, DAY_MS, Role};
use crate::storage::Db;
use crate::storage::control::projects::set_role;
use crate::storage::control::sessions::{self, SessionRow};

#[tokio::test(flavor = "multi_thread")]
async fn every_page_asks_strangers_to_log_in_and_leads_back() {
    let site = TestSite::start().await;
    let project = site.project("Shop", None).await.project_id;
    for page in ["live", "start", "settings", "keys", "rejected"] {
        let path = format!("/p/{project}/{page}?a=b");
        let answer = site.browser().get(&path).await;
        assert_eq!(answer.status, 303, "{path}");
        assert_eq!(answer.location(), format!("/login?next=/p/{project}/{page}%3Fa%3Db"));
    }
    for path in ["/", "/projects", "/account"] {
        assert!(site.browser().get(path).await.location().starts_with("/login"), "{path}");
    }
    for path in ["/logout", "/projects", "/account/password", "/account/sign-out-everywhere", "/p/1/keys"] {
        let answer = site.browser().post(path, &[("name", "x")]).await;
        assert_eq!((answer.status, answer.location()), (303, "/login"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_sets_a_careful_cookie_and_leads_to_where_it_was_asked_for() {
    let site = TestSite::start().await;
    site.account("ada@example.org", false).await;
    let browser = site.browser();
    let fields = [("email", " Ada@Example.org "), ("password", PASSWORD), ("next", "/projects?x=1")];
    let page = browser.post("/login", &fields).await;
    assert_eq!((page.status, page.location()), (303, "/projects?x=1"), "{}", page.body);
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("weir_session=") && !cookie.contains("Secure"), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(browser.get("/projects").await.body.contains("ada@example.org"));
    // Every log-in makes a new token.
    let again = browser.post("/login", &fields).await;
    assert_ne!(again.header("set-cookie"), cookie);

    let evil = [("email", "ada@example.org"), ("password", PASSWORD), ("next", "//evil.example")];
    assert_eq!(site.browser().post("/login", &evil).await.location(), "/");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_the_cookie_is_bound_to_the_host() {
    let mut config = Config::default();
    config.http.public_url = "https://weir.example.org".into();
    let site = TestSite::start_with(config, |_| Arc::new(|_| {})).await;
    site.account("ada@example.org", false).await;
    let page = site.browser().log_in("ada@example.org", PASSWORD).await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-weir_session=") && cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(page.header("strict-transport-security"), "max-age=31536000");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_and_unknown_accounts_get_the_same_answer() {
    let site = TestSite::start().await;
    site.account("ada@example.org", false).await;
    let wrong = site.browser().log_in("ada@example.org", "wrong").await;
    let unknown = site.browser().log_in("bob@example.org", "wrong").await;
    assert_eq!((wrong.status, unknown.status), (401, 401));
    assert_eq!(wrong.body.replace("ada@", "bob@"), unknown.body);
    assert!(wrong.body.contains(r#"value="ada@example.org""#), "the email stays typed");
    let evil = site.browser().log_in("\"><img src=x onerror=alert(1)>", "wrong").await;
    assert!(!evil.body.contains("<img"), "{}", evil.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down_even_with_the_right_password() {
    let site = TestSite::start().await;
    site.account("ada@example.org", false).await;
    site.account("bob@example.org", false).await;
    for _ in 0..10 {
        assert_eq!(site.browser().log_in("ada@example.org", "wrong").await.status, 401);
    }
    let page = site.browser().log_in("ada@example.org", PASSWORD).await;
    assert_eq!((page.status, page.header("retry-after")), (429, "900"), "{}", page.body);
    assert_eq!(site.browser().log_in("bob@example.org", PASSWORD).await.status, 303, "another account");
    site.clock.advance(15 * 60_000);
    assert_eq!(site.browser().log_in("ada@example.org", PASSWORD).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_idle_and_in_any_case() {
    let site = TestSite::start().await;
    let (browser, _) = site.signed_in("ada@example.org").await;
    // Used every six days it lives, but not beyond thirty.
    for day in [6, 12, 18, 24] {
        site.clock.advance(6 * DAY_MS);
        assert_eq!(browser.get("/projects").await.status, 200, "day {day}");
    }
    site.clock.advance(6 * DAY_MS);
    assert_eq!(browser.get("/projects").await.status, 303, "day 30");

    assert_eq!(browser.log_in("ada@example.org", PASSWORD).await.status, 303);
    site.clock.advance(7 * DAY_MS + 1);
    assert_eq!(browser.get("/projects").await.status, 303, "idle for seven days");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_need_their_token_and_our_own_pages() {
    let site = TestSite::start().await;
    let (mut browser, project) = site.signed_in("ada@example.org").await;
    let keys = format!("/p/{project}/keys");
    let (_, other_project) = site.signed_in("eve@example.org").await;
    let eve = site.browser();
    eve.log_in("eve@example.org", PASSWORD).await;
    let foreign = eve.get(&format!("/p/{other_project}/keys")).await.csrf();
    for csrf in ["", "x", foreign.as_str()] {
        let page = browser.post(&keys, &[("csrf", csrf), ("label", "New"), ("kind", "write")]).await;
        assert_eq!(page.status, 403, "{csrf}");
        assert!(page.body.contains("This form has expired"), "{}", page.body);
    }
    let csrf = browser.get(&keys).await.csrf();
    let fields = [("csrf", csrf.as_str()), ("label", "New"), ("kind", "write")];
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        browser.headers = vec![(name, value.into())];
        assert_eq!(browser.post(&keys, &fields).await.status, 403, "{name}: {value}");
    }
    assert!(!browser.get(&keys).await.body.contains(">New<"), "nothing was created");
    for (name, value) in
        [("origin", format!("http://{}", site.address)), ("sec-fetch-site", "same-origin".into())]
    {
        browser.headers = vec![(name, value)];
        assert_eq!(browser.post(&keys, &fields).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_project_does_not_exist() {
    let site = TestSite::start().await;
    let (ada, adas) = site.signed_in("ada@example.org").await;
    let (_, eves) = site.signed_in("eve@example.org").await;
    for page in ["", "/live", "/start", "/settings", "/retention", "/keys", "/rejected"] {
        assert_ne!(ada.get(&format!("/p/{adas}{page}")).await.status, 404, "{page}");
        assert_eq!(ada.get(&format!("/p/{eves}{page}")).await.status, 404, "{page}");
        assert_eq!(ada.get(&format!("/p/999{page}")).await.status, 404, "{page}");
        assert_eq!(ada.get(&format!("/p/x{page}")).await.status, 404, "{page}");
    }
    let csrf = ada.get(&format!("/p/{adas}/keys")).await.csrf();
    for path in [format!("/p/{eves}/keys"), format!("/p/{eves}/settings"), format!("/p/{eves}/keys/1/revoke")]
    {
        let fields = [("csrf", csrf.as_str()), ("label", "x"), ("kind", "secret"), ("name", "x")];
        assert_eq!(ada.post(&path, &fields).await.status, 404, "{path}");
    }
    // Nor can a key of hers be revoked through one's own project.
    let key = site.state.access.list_keys(eves).await.unwrap()[0].key_id;
    ada.submit(&format!("/p/{adas}/keys"), &format!("/p/{adas}/keys/{key}/revoke"), &[]).await;
    assert_eq!(site.state.access.list_keys(eves).await.unwrap()[0].revoked_at, None);
    assert!(!ada.get("/projects").await.body.contains(&format!("/p/{eves}/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_see_every_project_and_viewers_change_nothing() {
    let site = TestSite::start().await;
    let project = site.project("Shop", None).await.project_id;
    site.account("root@example.org", true).await;
    let root = site.browser();
    root.log_in("root@example.org", PASSWORD).await;
    assert_eq!(root.get(&format!("/p/{project}/keys")).await.status, 200);
    assert_eq!(root.get("/").await.location(), format!("/p/{project}/overview"));

    let (viewer, _) = site.signed_in("val@example.org").await;
    let db = &site.state.storage.control;
    let val = crate::storage::control::accounts::find_account_by_email(db, "val@example.org").await;
    set_role(db, val.unwrap().unwrap().account_id, project, Role::Viewer, 1).await.unwrap();
    let keys = format!("/p/{project}/keys");
    assert_eq!(viewer.get(&keys).await.status, 200);
    let page = viewer.submit(&keys, &keys, &[("label", "x"), ("kind", "write")]).await;
    assert_eq!(page.status, 403);
    assert!(page.body.contains("needs the role owner"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_session_and_a_new_password_ends_all() {
    let site = TestSite::start().await;
    let (laptop, _) = site.signed_in("ada@example.org").await;
    let phone = site.browser();
    phone.log_in("ada@example.org", PASSWORD).await;
    assert_eq!(phone.submit("/projects", "/logout", &[]).await.location(), "/login");
    assert_eq!(phone.get("/projects").await.status, 303);
    assert_eq!(laptop.get("/projects").await.status, 200);

    phone.log_in("ada@example.org", PASSWORD).await;
    let change = |current: &'static str, new: &'static str, again: &'static str| {
        let fields = [("current", current), ("new", new), ("again", again)];
        let laptop = &laptop;
        async move { laptop.submit("/account", "/account/password", &fields).await }
    };
    for (current, new, again, says) in [
        ("wrong", "a new password", "a new password", "current password is wrong"),
        (PASSWORD, "short", "short", "it needs at least 10"),
        (PASSWORD, "a new password", "another", "passwords differ"),
    ] {
        let page = change(current, new, again).await;
        assert_eq!(page.status, 400);
        assert!(page.body.contains(says), "{says}: {}", page.body);
    }
    let page = change(PASSWORD, "a new password", "a new password").await;
    assert_eq!((page.status, page.location()), (303, "/account?changed=1"));
    assert_eq!(laptop.get("/account?changed=1").await.status, 200, "this browser stays signed in");
    assert_eq!(phone.get("/projects").await.status, 303);
    assert_eq!(site.browser().log_in("ada@example.org", PASSWORD).await.status, 401);

    phone.log_in("ada@example.org", "a new password").await;
    laptop.submit("/account", "/account/sign-out-everywhere", &[]).await;
    assert_eq!((phone.get("/projects").await.status, laptop.get("/projects").await.status), (303, 303));
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_created_kept_as_typed_and_escaped() {
    let site = TestSite::start().await;
    let (browser, _) = site.signed_in("ada@example.org").await;
    for (name, zone, says) in
        [("", "UTC", "Give the project a name"), ("A & B", "Mars/Olympus", "is no known time zone")]
    {
        let page = browser.submit("/projects", "/projects", &[("name", name), ("time_zone", zone)]).await;
        assert_eq!(page.status, 400);
        assert!(page.body.contains(says), "{}", page.body);
        assert!(name.is_empty() || page.body.contains("A &#38; B"), "what was typed stays: {}", page.body);
    }
    let evil = "<script>alert(1)</script>";
    let page =
        browser.submit("/projects", "/projects", &[("name", evil), ("time_zone", "europe/berlin")]).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let start = browser.get(page.location()).await;
    assert_eq!(start.status, 200);
    assert!(start.body.contains("wk_") && !start.body.contains(evil), "{}", start.body);
    let projects = browser.get("/projects").await;
    assert!(projects.body.contains("Europe/Berlin") && !projects.body.contains(evil));
    // Renamed, it is so at once.
    let settings = page.location().replace("start", "settings");
    let saved = browser.submit(&settings, &settings, &[("name", "Shop 2"), ("time_zone", "UTC")]).await;
    assert_eq!(saved.status, 303);
    assert!(browser.get(&settings).await.body.contains("Shop 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_is_shown_once_and_revoked_with_the_click() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    let keys = format!("/p/{project}/keys");
    let page = browser.submit(&keys, &keys, &[("label", ""), ("kind", "secret")]).await;
    assert_eq!(page.status, 400);
    let page = browser.submit(&keys, &keys, &[("label", "Ser<b>ver"), ("kind", "secret")]).await;
    assert_eq!(page.status, 200);
    let (_, rest) = page.body.split_once("<code>sk_").expect("the key is shown");
    let key = format!("sk_{}", rest.split('<').next().unwrap());
    assert_eq!(key.len(), 35);
    assert!(!page.body.contains("Ser<b>ver"));
    assert!(!browser.get(&keys).await.body.contains(&key), "once");

    let access = &site.state.access;
    let (key_id, of_key) = access.find_secret_key(&key).await.unwrap().expect("it works");
    assert_eq!(of_key.project_id, project);
    let revoke = format!("{keys}/{key_id}/revoke");
    assert_eq!(browser.post(&revoke, &[]).await.status, 403, "without a token");
    assert_eq!(browser.submit(&keys, &revoke, &[]).await.location(), keys);
    assert!(access.find_secret_key(&key).await.unwrap().is_none(), "at once on this replica");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_by_another_replica_is_believed_for_seconds_only() {
    let site = TestSite::start().await;
    let project = site.project("Shop", None).await;
    let key = project.secret_key.unwrap();
    let access = &site.state.access;
    let (key_id, _) = access.find_secret_key(&key).await.unwrap().unwrap();
    let db = &site.state.storage.control;
    crate::storage::control::keys::revoke_key(db, project.project_id, key_id, 1).await.unwrap();
    assert!(access.find_secret_key(&key).await.unwrap().is_some(), "still believed");
    site.clock.advance(3_000);
    assert!(access.find_secret_key(&key).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_replicas_that_start_together_makes_the_first_account() {
    let site = TestSite::start().await;
    let state = &site.state;
    let access = &state.access;
    let (a, b, c) = tokio::join!(
        access.ensure_first_account(),
        access.ensure_first_account(),
        access.ensure_first_account()
    );
    let made: Vec<_> = [a, b, c].into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(made.len(), 1);
    let first = &made[0];
    let browser = site.browser();
    assert_eq!(browser.log_in(&first.email, &first.password).await.status, 303);
    let start = browser.get(&format!("/p/{}/start", first.project_id)).await;
    assert!(start.body.contains(&first.write_key), "{}", start.body);
    assert!(access.ensure_first_account().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_session_guesses_the_password_no_faster_than_a_log_in() {
    let site = TestSite::start().await;
    let (browser, _) = site.signed_in("ada@example.org").await;
    let change = |current: &'static str| {
        let fields = [("current", current), ("new", "a new password"), ("again", "a new password")];
        let browser = &browser;
        async move { browser.submit("/account", "/account/password", &fields).await }
    };
    for attempt in 1..=10 {
        assert_eq!(change("wrong").await.status, 400, "attempt {attempt}");
    }
    // The right one is not even looked at; whoever knows it can still log in.
    let page = change(PASSWORD).await;
    assert_eq!((page.status, page.header("retry-after")), (429, "900"));
    assert!(page.body.contains("too many attempts. Try again in 15 min."), "{}", page.body);
    assert_eq!(site.browser().log_in("ada@example.org", PASSWORD).await.status, 303);

    site.clock.advance(15 * 60_000);
    assert_eq!(change("wrong").await.status, 400);
    assert_eq!(change(PASSWORD).await.status, 303);
    // What was proven counts from nought again.
    for attempt in 1..=10 {
        assert_eq!(change("wrong").await.status, 400, "attempt {attempt} after a success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_and_old_counts_are_deleted_while_the_server_runs() {
    let site = TestSite::start().await;
    let control = &site.state.storage.control;
    site.account("ada@example.org", false).await;
    let access = &site.state.access;
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let ended = access.log_in("ada@example.org", PASSWORD, address).await.ok().unwrap().session;
    assert!(access.log_in("eve@example.org", "wrong", address).await.is_err());
    site.clock.advance(30 * DAY_MS + 1);
    let going_on = access.log_in("ada@example.org", PASSWORD, address).await.ok().unwrap().session;
    async fn find(control: &Db, session: &Session) -> Option<SessionRow> {
        sessions::find_session(control, &session.token_hash).await.unwrap()
    }
    assert!(find(control, &ended).await.is_some());

    // A server deletes when it starts, and is done with it when it has stopped.
    let server = HttpServer::bind(site.state.clone(), Arc::new(|_| {}), &free_ports()).unwrap();
    server.run(std::future::ready(Stop::Now)).await.unwrap();
    assert!(find(control, &ended).await.is_none());
    assert!(find(control, &going_on).await.is_some());
    let left = sessions::delete_old_failures(control, site.clock.now_ms()).await.unwrap();
    assert_eq!(left, 0, "the count of eve's attempt is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_keeps_the_navigation_of_who_is_signed_in() {
    let site = TestSite::start().await;
    let (browser, project) = site.signed_in("ada@example.org").await;
    let overview = format!("/p/{project}/overview");
    for (path, status, way_on) in [
        (format!("/p/{project}/nowhere"), 404, overview.as_str()),
        ("/p/999/keys".to_owned(), 404, "/projects"),
        ("/nowhere".to_owned(), 404, "/projects"),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains("action=\"/logout\""), "{path}: {}", page.body);
        assert!(
            page.body.contains(&format!("class=\"button primary\" href=\"{way_on}\"")),
            "{path}: {}",
            page.body
        );
        assert!(!page.body.contains("Log in"), "{path}");
    }
    let stranger = site.browser().get("/nowhere").await;
    assert!(stranger.body.contains("href=\"/login\">Log in") && !stranger.body.contains("/logout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_add_change_and_remove_members_and_nobody_else_does() {
    let site = TestSite::start().await;
    let (ada, project) = site.signed_in("ada@example.org").await;
    let members = format!("/p/{project}/members");
    // A new account: its password is shown once, and works.
    let page = ada.submit(&members, &members, &[("email", " Val@Example.org "), ("role", "viewer")]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let (_, rest) = page.body.split_once("data-copy=\"").expect("a password to copy");
    let password = rest.split('"').next().unwrap().to_owned();
    let listed = ada.get(&members).await.body;
    assert!(listed.contains("val@example.org") && !listed.contains(&password), "{listed}");
    let val = site.browser();
    assert_eq!(val.log_in("val@example.org", &password).await.status, 303);

    // A viewer reads the list and can do nothing with it.
    let seen = val.get(&members).await;
    assert!(seen.body.contains("Only owners add") && !seen.body.contains("Add member"), "{}", seen.body);
    let val_id = site.state.access.list_members(project).await.unwrap()[1].account_id;
    for (path, fields) in [
        (members.clone(), vec![("email", "eve@example.org"), ("role", "owner")]),
        (format!("{members}/{val_id}/role"), vec![("role", "owner")]),
        (format!("{members}/{val_id}/remove"), vec![]),
    ] {
        assert_eq!(val.submit(&members, &path, &fields).await.status, 403, "{path}");
    }

    // What is wrong stands at the field.
    for (email, role, status, says) in [
        ("val@example.org", "editor", 400, "is a member already"),
        ("nobody", "editor", 400, "is no email address"),
        ("x@example.org", "king", 400, "There is no role"),
    ] {
        let page = ada.submit(&members, &members, &[("email", email), ("role", role)]).await;
        assert_eq!(page.status, status, "{email}");
        assert!(page.body.contains(says), "{email}: {}", page.body);
    }

    // The last owner stays one; with a second one she may go.
    let ada_id = site.state.access.list_members(project).await.unwrap()[0].account_id;
    let page = ada.submit(&members, &format!("{members}/{ada_id}/remove"), &[]).await;
    assert_eq!(page.status, 409);
    assert!(page.body.contains("keeps at least one owner"), "{}", page.body);
    let promoted = ada.submit(&members, &format!("{members}/{val_id}/role"), &[("role", "owner")]).await;
    assert_eq!(promoted.location(), members);
    assert!(val.get(&members).await.body.contains("Add member"), "at once on this replica");
    assert_eq!(ada.submit(&members, &format!("{members}/{ada_id}/remove"), &[]).await.status, 303);
    assert_eq!(ada.get(&members).await.status, 404, "she sees the project no longer");

    // An account that exists is added as it is.
    let page = val.submit(&members, &members, &[("email", "ada@example.org"), ("role", "editor")]).await;
    assert!(
        page.body.contains("ada@example.org is a member now") && !page.body.contains("Pass this password on"),
        "{}",
        page.body
    );
    assert_eq!(ada.get(&members).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_of_one_address_keep_neither_owners_nor_an_office_out() {
    let mut config = Config::default();
    config.http.trusted_proxies = vec!["127.0.0.1".to_owned()];
    let site = TestSite::start_with(config, |_| std::sync::Arc::new(|_| {})).await;
    for name in ["ada", "bob"] {
        site.account(&format!("{name}@example.org"), false).await;
    }
    let at = |address: &str| {
        let mut browser = site.browser();
        browser.headers.push(("x-forwarded-for", address.to_owned()));
        browser
    };
    for _ in 0..10 {
        assert_eq!(at("203.0.113.7").log_in("ada@example.org", "wrong").await.status, 401);
    }
    assert_eq!(at("203.0.113.7").log_in("ada@example.org", PASSWORD).await.status, 429);
    assert_eq!(at("203.0.113.8").log_in("ada@example.org", PASSWORD).await.status, 303, "elsewhere");
    // More than fifty, which was the limit of an address, by many accounts.
    for n in 0..60 {
        assert_eq!(at("203.0.113.7").log_in(&format!("u{n}@example.org"), "wrong").await.status, 401);
    }
    assert_eq!(at("203.0.113.7").log_in("bob@example.org", PASSWORD).await.status, 303, "a colleague");
    // An operator's reset ends the waiting too.
    site.state.access.reset_password("ada@example.org", Some("a new password".to_owned())).await.unwrap();
    assert_eq!(at("203.0.113.7").log_in("ada@example.org", "a new password").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_reads_no_write_key_and_only_owners_delete_what_is_old() {
    let site = TestSite::start().await;
    let owner = site.account("ada@example.org", false).await;
    let project = site.project("Shop", Some(owner)).await;
    for (email, role, shown) in
        [("val@example.org", Role::Viewer, false), ("ed@example.org", Role::Editor, true)]
    {
        let account = site.account(email, false).await;
        let control = &site.state.storage.control;
        set_role(control, account, project.project_id, role, site.state.clock.now_ms()).await.unwrap();
        let browser = site.browser();
        assert_eq!(browser.log_in(email, PASSWORD).await.status, 303);
        for page in ["keys", "start"] {
            let page = browser.get(&format!("/p/{}/{page}", project.project_id)).await;
            assert_eq!(page.status, 200, "{}", page.body);
            assert_eq!(page.body.contains(&project.write_key), shown, "{email}: {}", page.body);
        }
        // Only owners say how long events are kept, on the page and over the API.
        let retention = format!("/p/{}/retention", project.project_id);
        let asked = browser.get(&format!("{retention}?days=1")).await;
        assert!(asked.status == 200 && !asked.body.contains("Events that go"), "{}", asked.body);
        let keys = format!("/p/{}/members", project.project_id);
        let set = browser.submit(&keys, &retention, &[("days", "")]).await;
        assert_eq!(set.status, 403, "{email}: {}", set.body);
    }
}
