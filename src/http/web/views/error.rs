use actix_web::http::StatusCode;
use askama::Template;

use super::{Frame, Nav, icon};

/// A page that says what went wrong and what to do next. Posted forms whose token is stale, pages
/// that do not exist and stores that are away all end here. It has the navigation of whoever is
/// signed in; see [`BareErrorPage`] for everybody else.
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

/// The same without navigation, when nobody is signed in or it cannot be known who is.
#[derive(Template)]
#[template(path = "error_bare.html")]
pub struct BareErrorPage(pub ErrorPage);

impl std::ops::Deref for BareErrorPage {
    type Target = ErrorPage;

    fn deref(&self) -> &ErrorPage {
        &self.0
    }
}

impl ErrorPage {
    /// Any failure that has no words of its own.
    pub fn of(frame: Frame, status: StatusCode, heading: &str, detail: &str, request_id: &str) -> Self {
        let action = home(&frame);
        Self {
            frame,
            status: status.as_u16(),
            heading: heading.to_owned(),
            detail: detail.to_owned(),
            request_id: Some(request_id.to_owned()),
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
