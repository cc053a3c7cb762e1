use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::Millis;

/// The event that every snippet sends, with `from` saying which snippet it was.
pub const FIRST_EVENT: &str = "first_event";

/// A place that events come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    Browser,
    Node,
    Python,
    Curl,
}

impl Sender {
    pub const ALL: [Self; 4] = [Self::Browser, Self::Node, Self::Python, Self::Curl];

    /// The property `from` of its first event.
    pub fn word(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Node => "node",
            Self::Python => "python",
            Self::Curl => "curl",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Browser => "A web page",
            Self::Node => "Node",
            Self::Python => "Python",
            Self::Curl => "curl, or any program",
        }
    }

    fn remark(self) -> &'static str {
        match self {
            Self::Browser => {
                "Paste it into every page; the first line alone counts page views, also those of single-page apps. No cookies, and what cannot be sent is sent later."
            }
            Self::Node => {
                "Segment's SDK with weir as its host. Install it with npm install @segment/analytics-node."
            }
            Self::Python => {
                "Segment's SDK with weir as its host. Install it with pip install segment-analytics-python."
            }
            Self::Curl => "One event, a list of events or lines of them, as JSON.",
        }
    }
}

/// A snippet and when its event arrived.
pub struct SenderState {
    pub sender: Sender,
    pub arrived_at: Option<Millis>,
}

/// `/p/{id}/start`: how to send a first event, waiting until one arrives.
#[derive(Template)]
#[template(path = "start.html")]
pub struct StartPage {
    pub frame: Frame,
    /// Where clients reach weir, without a slash at the end: `https://weir.example.org`.
    pub public_url: String,
    /// A write key that is not revoked.
    pub write_key: Option<String>,
    /// When the newest event of any kind arrived; `None` while waiting for the first.
    pub last_event_at: Option<Millis>,
    pub senders: Vec<SenderState>,
}

impl StartPage {
    fn snippet(&self, sender: &Sender) -> String {
        let url = &self.public_url;
        let key = self.write_key.as_deref().unwrap_or("YOUR_WRITE_KEY");
        match sender {
            Sender::Browser => format!(
                r#"<script defer src="{url}/weir.js" data-key="{key}"></script>
<script>
  window.weir = window.weir || [];
  weir.push(["track", "{FIRST_EVENT}", {{ from: "browser" }}]);
</script>"#
            ),
            Sender::Node => format!(
                r#"import {{ Analytics }} from "@segment/analytics-node";

const analytics = new Analytics({{ writeKey: "{key}", host: "{url}" }});
analytics.track({{ userId: "me", event: "{FIRST_EVENT}", properties: {{ from: "node" }} }});
await analytics.closeAndFlush();"#
            ),
            Sender::Python => format!(
                r#"import segment.analytics as analytics

analytics.write_key = "{key}"
analytics.host = "{url}"
analytics.track("me", "{FIRST_EVENT}", {{"from": "python"}})
analytics.flush()"#
            ),
            Sender::Curl => format!(
                r#"curl {url}/api/v1/events \
  -H 'Authorization: Bearer {key}' \
  -H 'Content-Type: application/json' \
  -d '{{"event": "{FIRST_EVENT}", "distinct_id": "me", "properties": {{"from": "curl"}}}}'"#
            ),
        }
    }

    fn import(&self) -> String {
        let project = self.frame.project.as_ref().map_or_else(String::new, |project| project.id.to_string());
        format!("weir import events.ndjson.gz --project {project}")
    }
}
