use askama::Template;

use super::{Frame, icon};

/// A page that says what went wrong and what to do next. Posted forms whose token is stale, pages
/// that do not exist and stores that are away all end here.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    pub frame: Frame,
    pub status: u16,
    pub heading: String,
    pub detail: String,
    /// Shown so that the line in the log can be found.
    pub request_id: Option<String>,
    /// Label and address of the one thing to do next.
    pub action: Option<(String, String)>,
}

impl ErrorPage {
    pub fn not_found(frame: Frame) -> Self {
        let action = home(&frame);
        Self {
            frame,
            status: 404,
            heading: "There is no such page".to_owned(),
            detail: "The address may be mistyped, or what it named was removed.".to_owned(),
            request_id: None,
            action,
        }
    }

    pub fn forbidden(frame: Frame, detail: &str) -> Self {
        let action = home(&frame);
        Self {
            frame,
            status: 403,
            heading: "This is not yours to see".to_owned(),
            detail: detail.to_owned(),
            request_id: None,
            action,
        }
    }

    /// The form's token did not match: signed out meanwhile, or the page was open for too long.
    pub fn expired_form(frame: Frame, back: &str) -> Self {
        Self {
            frame,
            status: 403,
            heading: "This form has expired".to_owned(),
            detail: "It was open for too long or you signed in again elsewhere. Nothing was changed: open the page again and send it once more.".to_owned(),
            request_id: None,
            action: Some(("Open the page again".to_owned(), back.to_owned())),
        }
    }

    pub fn internal(frame: Frame, request_id: &str) -> Self {
        let action = home(&frame);
        Self {
            frame,
            status: 500,
            heading: "weir could not answer this".to_owned(),
            detail:
                "Something failed on our side. The cause is in the server's log under the request id below."
                    .to_owned(),
            request_id: Some(request_id.to_owned()),
            action,
        }
    }

    /// A database is away.
    pub fn unavailable(frame: Frame, detail: &str, request_id: &str) -> Self {
        Self {
            frame,
            status: 503,
            heading: "A database cannot be reached".to_owned(),
            detail: detail.to_owned(),
            request_id: Some(request_id.to_owned()),
            action: None,
        }
    }
}

fn home(frame: &Frame) -> Option<(String, String)> {
    Some(match (&frame.account_email, &frame.project) {
        (None, _) => ("Log in".to_owned(), "/login".to_owned()),
        (Some(_), Some(_)) => ("Go to the overview".to_owned(), frame.href("overview")),
        (Some(_), None) => ("Go to your projects".to_owned(), "/projects".to_owned()),
    })
}
