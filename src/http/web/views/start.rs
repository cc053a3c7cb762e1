use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::Millis;

/// `/p/{id}/start`: how to send a first event, waiting until one arrives.
#[derive(Template)]
#[template(path = "start.html")]
pub struct StartPage {
    pub frame: Frame,
    /// Where clients reach weir, without a slash at the end: `https://weir.example.org`.
    pub public_url: String,
    /// A write key that is not revoked.
    pub write_key: Option<String>,
    /// When the newest event arrived; `None` while waiting for the first.
    pub last_event_at: Option<Millis>,
}

impl StartPage {
    fn key(&self) -> &str {
        self.write_key.as_deref().unwrap_or("YOUR_WRITE_KEY")
    }

    fn curl(&self) -> String {
        format!(
            "curl {}/api/v1/events \\\n  -H 'Authorization: Bearer {}' \\\n  -H 'Content-Type: application/json' \\\n  -d '{{\"event\": \"first_event\", \"distinct_id\": \"me\", \"properties\": {{\"from\": \"curl\"}}}}'",
            self.public_url,
            self.key()
        )
    }

    fn javascript(&self) -> String {
        format!(
            "fetch(\"{}/api/v1/events?key={}\", {{\n  method: \"POST\",\n  keepalive: true,\n  body: JSON.stringify({{\n    id: crypto.randomUUID(),\n    event: \"order_placed\",\n    distinct_id: userId,\n    properties: {{ plan: \"pro\", amount_pence: 1999 }},\n  }}),\n}});",
            self.public_url,
            self.key()
        )
    }

    fn import(&self) -> String {
        let project = self.frame.project.as_ref().map_or_else(String::new, |project| project.id.to_string());
        format!("weir import events.ndjson.gz --project {project}")
    }
}
