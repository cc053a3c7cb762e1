//! The public HTTP interface, as a client uses it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// What `weir project create --json` prints.
#[derive(Clone, Deserialize, Debug)]
pub struct Project {
    pub project_id: u32,
    pub write_key: String,
    pub secret_key: String,
}

#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    url: String,
}

/// How a collection request ended.
#[derive(Debug)]
pub enum Sent {
    /// 200, with the body.
    Done(Value),
    /// Any other status.
    Refused(u16, String),
    /// No answer: the events may be stored or not.
    Unanswered,
}

impl Api {
    pub fn new(url: &str) -> Self {
        // Longer than any request may take.
        let client = reqwest::Client::builder().timeout(Duration::from_secs(40)).build();
        Self { client: client.expect("a client can be built"), url: url.to_owned() }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub async fn send(&self, project: &Project, events: &Value) -> Sent {
        let request = self.client.post(self.url("/api/v1/events")).bearer_auth(&project.write_key);
        let Ok(answer) = request.json(events).send().await else { return Sent::Unanswered };
        let status = answer.status();
        let Ok(body) = answer.text().await else { return Sent::Unanswered };
        if status.as_u16() != 200 {
            return Sent::Refused(status.as_u16(), body);
        }
        Sent::Done(serde_json::from_str(&body).expect("a collection answer is JSON"))
    }

    /// Sends events that must all be accepted at once.
    pub async fn send_all(&self, project: &Project, events: &[Value]) {
        match self.send(project, &json!(events)).await {
            Sent::Done(answer) => assert_eq!(answer["accepted"], json!(events.len()), "{answer}"),
            other => panic!("events were not accepted: {other:?}"),
        }
    }

    /// The answer to a question, fresh and whole; fails the test when there is none.
    pub async fn ask(&self, project: &Project, question: &Value) -> Value {
        let ticket = self.ask_ticket(project, question).await;
        assert_eq!(ticket["state"], "succeeded", "{question}\n{ticket:#}");
        assert_eq!(ticket["partial"], json!(false), "{question}\n{ticket:#}");
        let mut answer = ticket["result"].clone();
        if answer.is_null() {
            let id = ticket["id"].as_str().expect("a ticket has an id");
            answer = self.get(project, &format!("/api/v1/tickets/{id}/result")).await;
        }
        // It says how fresh it is beside what it answers; callers compare what it answers.
        let fresh = answer.as_object_mut().and_then(|fields| fields.remove("fresh"));
        assert_eq!(fresh, Some(json!(true)), "{question}\n{ticket:#}");
        answer
    }

    /// The ticket of a fresh question in its final state.
    pub async fn ask_ticket(&self, project: &Project, question: &Value) -> Value {
        let request = self.client.post(self.url("/api/v1/tickets")).bearer_auth(&project.secret_key);
        let request = request.header("Prefer", "wait=20");
        let mut question = question.clone();
        question["fresh"] = json!(true);
        let answer = request.json(&json!({"question": question})).send().await;
        let answer = answer.expect("a question is answered");
        let status = answer.status();
        let body = answer.text().await.expect("a ticket is text");
        assert!(matches!(status.as_u16(), 200..=202), "{question}\n{status} {body}");
        let mut ticket: Value = serde_json::from_str(&body).expect("a ticket is JSON");
        let start = std::time::Instant::now();
        while !matches!(ticket["state"].as_str(), Some("succeeded" | "failed" | "cancelled")) {
            assert!(start.elapsed() < Duration::from_secs(180), "the ticket never ends: {ticket:#}");
            let id = ticket["id"].as_str().expect("a ticket has an id").to_owned();
            ticket = self.get(project, &format!("/api/v1/tickets/{id}?wait=20")).await;
        }
        ticket
    }

    pub async fn get(&self, project: &Project, path: &str) -> Value {
        let request = self.client.get(self.url(path)).bearer_auth(&project.secret_key);
        let answer = request.send().await.expect("a read is answered");
        let status = answer.status();
        let body = answer.text().await.expect("an answer is text");
        assert!(status.is_success(), "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("an answer is JSON")
    }
}
