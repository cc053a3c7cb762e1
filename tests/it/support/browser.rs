//! A person at the pages: follows no redirect by itself and keeps its cookies.

use std::time::Duration;

use reqwest::{Client, Response, redirect};

use super::Installation;

/// One account and its session, which any replica knows.
#[derive(Clone)]
pub struct Browser {
    client: Client,
    email: String,
    password: String,
}

impl Browser {
    /// With a new account that sees every project, not logged in yet.
    pub fn new(installation: &Installation, email: &str) -> Self {
        let printed = installation.run(&["account", "create", email, "--admin"]);
        let password = printed.split("Password: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let password = password.unwrap_or_else(|| panic!("account create printed {printed:?}"));
        let client = Client::builder().cookie_store(true).redirect(redirect::Policy::none());
        let client = client.timeout(Duration::from_secs(40)).build().expect("a client can be built");
        Self { client, email: email.to_owned(), password: password.to_owned() }
    }

    /// `url` is where the pages are. The cookie goes to every port of that host, as in a browser.
    pub async fn log_in(&self, url: &str) {
        let form = [("email", self.email.as_str()), ("password", &self.password)];
        let form = serde_urlencoded::to_string(form).expect("a form of text");
        let request = self.client.post(format!("{url}/login")).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.expect("a log-in is answered");
        assert_eq!(answer.status().as_u16(), 303, "{:?}", answer.text().await);
    }

    pub async fn open(&self, url: &str) -> reqwest::Result<Response> {
        self.client.get(url).send().await
    }

    /// A page that must be there.
    pub async fn read(&self, url: &str) -> String {
        let answer = self.open(url).await.expect("a page is answered");
        let status = answer.status();
        let text = answer.text().await.expect("a page is text");
        assert_eq!(status.as_u16(), 200, "GET {url}: {text}");
        text
    }

    /// Fills a form of a page; the status, and where it leads or what it says.
    pub async fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let form = self.read(page).await;
        let token = form.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut all = vec![("csrf", token.expect("a form has a token"))];
        all.extend_from_slice(fields);
        let body = serde_urlencoded::to_string(all).expect("a form of text");
        let request = self.client.post(action).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.expect("a form is answered");
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        match location.map(str::to_owned) {
            Some(location) => (status, location),
            None => (status, answer.text().await.expect("a page is text")),
        }
    }
}
