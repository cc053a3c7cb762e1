//! Erasures as tickets: how they are asked for, shown, and not stopped.

use super::*;
use crate::erasure::ERASURE;

/// An erasure that has something to wait for.
pub struct Waits;

impl TicketKind for Waits {
    fn name(&self) -> &'static str {
        ERASURE
    }

    fn prepare<'a>(
        &'a self,
        _project: ProjectId,
        body: &'a Value,
    ) -> BoxFuture<'a, Result<Prepared, PrepareError>> {
        Box::pin(async move {
            if !body["distinct_id"].is_string() {
                let errors = vec![("/distinct_id".to_owned(), "It must be a text.".to_owned())];
                return Err(InvalidBody { detail: "The erasure is not valid.".to_owned(), errors }.into());
            }
            let body = body.to_string().into_bytes();
            Ok(Prepared { body, data_version: None, estimate: Duration::from_secs(5), project: None })
        })
    }

    fn run<'a>(&'a self, _: &'a TicketRun) -> BoxFuture<'a, Result<TicketOutput, RunError>> {
        Box::pin(async { Err(RunError::Later(Duration::from_secs(3_600))) })
    }

    fn is_owed(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_a_ticket_that_nobody_cancels() {
    let api = Api::start(1).await;
    let post = |body: Value| api.request(Method::POST, "").json(&body);
    for body in [
        json!({}),
        json!({"erasure": {"distinct_id": "u"}, "question": {}}),
        json!({"erase": {"distinct_id": "u"}}),
    ] {
        assert_eq!(Answer::to(post(body)).await.status, 400);
    }
    let invalid = Answer::to(post(json!({"erasure": {"distinct_id": 5}}))).await;
    assert_eq!(invalid.problem(), (400, "invalid".to_owned()));
    assert_eq!(invalid.json()["errors"][0]["pointer"], "/erasure/distinct_id");

    let answer = Answer::to(post(json!({"erasure": {"distinct_id": "u"}}))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let ticket = answer.json();
    assert_eq!((&ticket["kind"], &ticket["question"]), (&json!("erasure"), &Value::Null), "{ticket:#}");
    assert_eq!(ticket["erasure"], json!({"distinct_id": "u"}));
    assert_eq!(ticket["links"]["cancel"], Value::Null);
    let id = ticket["id"].as_str().unwrap();
    let cancel = Answer::to(api.request(Method::POST, &format!("/{id}/cancel"))).await;
    assert_eq!(cancel.problem(), (409, "conflict".to_owned()));
    // It makes place for others while it waits, and that is no attempt.
    let question = Answer::to(api.post(json!({"kind": "funnel"})).header("prefer", "wait=20")).await;
    assert_eq!(question.status, 200);
    let ticket = Answer::to(api.get(&format!("/{id}"))).await.json();
    assert_eq!((&ticket["state"], &ticket["attempt"]), (&json!("queued"), &json!(0)), "{ticket:#}");
}
