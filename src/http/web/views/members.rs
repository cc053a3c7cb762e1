use askama::Template;

use super::{Frame, Nav, icon};
use crate::model::{Millis, Role};

pub struct MemberRow {
    /// What changes post to: `/p/{project}/members/{id}/role` and `…/remove`.
    pub id: u64,
    pub email: String,
    pub role: Role,
    pub added_at: Millis,
    pub is_self: bool,
    /// Cannot log in.
    pub is_disabled: bool,
}

impl MemberRow {
    fn selected(&self, role: &Role) -> &'static str {
        if self.role == *role { " selected" } else { "" }
    }
}

/// `/p/{id}/members`; adding posts `email` and `role`.
#[derive(Template)]
#[template(path = "members.html")]
pub struct MembersPage {
    pub frame: Frame,
    pub members: Vec<MemberRow>,
    /// Whoever looks is an owner.
    pub may_change: bool,
    /// Whoever looks sees every project, member or not.
    pub is_admin: bool,
    /// Where a new member logs in.
    pub login_url: String,
    /// The email of a member just added, and the password when the account is new: shown this once.
    pub added: Option<(String, Option<String>)>,
    pub email: String,
    pub email_error: Option<String>,
    pub problem: Option<String>,
}

/// What each role may do, for the page.
const ROLES: [(Role, &str, &str); 3] = [
    (Role::Viewer, "Viewer", "reads and asks"),
    (Role::Editor, "Editor", "also saves and deletes questions"),
    (Role::Owner, "Owner", "also manages keys, members and settings"),
];
