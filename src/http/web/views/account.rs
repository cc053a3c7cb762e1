use askama::Template;

use super::{Frame, Nav, icon};

/// `/account` (posts `current`, `new`, `again` to `/account/password`).
#[derive(Template)]
#[template(path = "account.html")]
pub struct AccountPage {
    pub frame: Frame,
    /// The password was changed just now.
    pub changed: bool,
    pub current_error: Option<String>,
    pub new_error: Option<String>,
    pub password_chars_min: usize,
}
