//! `/p/{project_id}/members`: who works on the project, and in which role.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::index::see_other;
use super::login::Nothing;
use super::views::{self, MemberRow, MembersPage, Nav};
use crate::access::{AccountError, AddedMember, MemberError};
use crate::http::extract::{CsrfForm, ProjectPage};
use crate::http::{ApiError, ErrorCode, HttpState};
use crate::model::{AccountId, Role};

#[derive(Deserialize)]
pub struct AddForm {
    #[serde(default)]
    email: String,
    #[serde(default)]
    role: String,
}

#[derive(Deserialize)]
pub struct RoleForm {
    #[serde(default)]
    role: String,
}

#[derive(Deserialize)]
pub struct MemberPath {
    account_id: u64,
}

#[derive(Default)]
struct Shown {
    added: Option<AddedMember>,
    /// What was typed, kept when it fails.
    email: String,
    email_error: Option<String>,
    /// Why a change was not made.
    problem: Option<String>,
}

/// `GET …/members`.
pub async fn list(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    page(&state, &project, StatusCode::OK, Shown::default()).await
}

/// `POST …/members`. The answer is the page itself and no redirect: the password of a new account is
/// shown once and lies nowhere that a redirect could read it from.
pub async fn add(
    state: web::Data<HttpState>,
    project: ProjectPage,
    CsrfForm(form): CsrfForm<AddForm>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    let role = read_role(&form.role)?;
    match state.access.add_member(project.project_id(), &form.email, role).await {
        Ok(added) => {
            tracing::info!(project.id = project.project_id().0, role = role.as_str(), "a member was added");
            page(&state, &project, StatusCode::OK, Shown { added: Some(added), ..Shown::default() }).await
        }
        Err(error) => {
            let email_error = Some(sentence(error)?);
            let shown = Shown { email: form.email, email_error, ..Shown::default() };
            page(&state, &project, StatusCode::BAD_REQUEST, shown).await
        }
    }
}

/// `POST …/members/{account_id}/role`.
pub async fn change_role(
    state: web::Data<HttpState>,
    project: ProjectPage,
    path: web::Path<MemberPath>,
    CsrfForm(form): CsrfForm<RoleForm>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    let role = read_role(&form.role)?;
    let changed = state.access.change_role(project.project_id(), AccountId(path.account_id), role).await;
    after(&state, &project, changed, "a member's role was changed").await
}

/// `POST …/members/{account_id}/remove`.
pub async fn remove(
    state: web::Data<HttpState>,
    project: ProjectPage,
    path: web::Path<MemberPath>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    let removed = state.access.remove_member(project.project_id(), AccountId(path.account_id)).await;
    after(&state, &project, removed, "a member was removed").await
}

async fn after(
    state: &HttpState,
    project: &ProjectPage,
    done: Result<(), MemberError>,
    what: &'static str,
) -> Result<HttpResponse, ApiError> {
    match done {
        Ok(()) => {
            tracing::info!(project.id = project.project_id().0, "{what}");
            Ok(see_other(&format!("/p/{}/members", project.project_id())))
        }
        // Somebody else was faster, and the list shows what is there now.
        Err(MemberError::NoMember) => Ok(see_other(&format!("/p/{}/members", project.project_id()))),
        Err(error) => {
            let shown = Shown { problem: Some(sentence(error)?), ..Shown::default() };
            page(state, project, StatusCode::CONFLICT, shown).await
        }
    }
}

fn read_role(text: &str) -> Result<Role, ApiError> {
    Role::parse(text).ok_or_else(|| {
        ApiError::malformed(format!("There is no role {text:?}; use owner, editor or viewer."))
    })
}

/// What is wrong, for the person who asked for it.
fn sentence(error: MemberError) -> Result<String, ApiError> {
    match error {
        MemberError::AlreadyMember(email) => Ok(format!("{email} is a member already.")),
        MemberError::NoMember => Ok("This account is no member any more.".to_owned()),
        MemberError::LastOwner => {
            Ok("A project keeps at least one owner: make somebody else an owner first.".to_owned())
        }
        error @ MemberError::TooMany => {
            let text = error.to_string();
            Ok(format!("{}{}.", text[..1].to_uppercase(), &text[1..]))
        }
        MemberError::Account(AccountError::Email(text)) => Ok(format!("{text:?} is no email address.")),
        MemberError::Account(AccountError::Busy(busy)) => {
            let detail = "Too many passwords are being made at this moment. Try again in a few seconds.";
            Err(ApiError::new(ErrorCode::Unavailable, detail).with_retry_after(3).with_source(busy))
        }
        MemberError::Account(AccountError::Storage(error)) | MemberError::Storage(error) => Err(error.into()),
        MemberError::Account(AccountError::EmailTaken(email)) => {
            Ok(format!("{email} was made an account just now; add it once more."))
        }
        MemberError::Account(error @ (AccountError::Unknown(_) | AccountError::Password(_))) => {
            Err(ApiError::internal(error))
        }
    }
}

async fn page(
    state: &HttpState,
    project: &ProjectPage,
    status: StatusCode,
    shown: Shown,
) -> Result<HttpResponse, ApiError> {
    let members = state.access.list_members(project.project_id()).await?;
    let own = project.session.account_id;
    let page = MembersPage {
        frame: project.frame(state, "Members", Nav::Members).await?,
        members: members
            .into_iter()
            .map(|member| MemberRow {
                id: member.account_id.0,
                is_self: member.account_id == own,
                email: member.email,
                role: member.role,
                added_at: member.added_at,
                is_disabled: member.is_disabled,
            })
            .collect(),
        may_change: project.role >= Role::Owner,
        is_admin: project.session.is_admin,
        login_url: format!("{}/login", state.config.http.shown_url()),
        added: shown.added.map(|added| (added.email, added.password)),
        email: shown.email,
        email_error: shown.email_error,
        problem: shown.problem,
    };
    Ok(views::respond(status, &page)?)
}
