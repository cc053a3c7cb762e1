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
}
