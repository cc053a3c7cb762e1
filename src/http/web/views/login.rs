use askama::Template;

use super::{Frame, icon};

#[derive(Template)]
#[template(path = "login.html")]
pub struct LoginPage {
    pub frame: Frame,
    /// What was typed, kept when it fails. The password is not.
    pub email: String,
    /// Where to go afterwards; a path of ours, checked by the handler.
    pub next: String,
    pub error: Option<String>,
}
