//! `/p/{project_id}/keys`: the keys, new ones, and their end.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::index::see_other;
use super::login::Nothing;
use super::views::{self, CreatedKey, KeyRow, KeysPage, Nav};
use crate::access::KeyError;
use crate::http::extract::{CsrfForm, ProjectPage};
use crate::http::{ApiError, HttpState};
use crate::model::{KeyId, KeyKind, Role};
use crate::storage::control::keys::ProjectKey;

#[derive(Deserialize)]
pub struct CreateForm {
    #[serde(default)]
    label: String,
    kind: KeyKind,
}

#[derive(Deserialize)]
pub struct KeyPath {
    key_id: u64,
}

/// `GET …/keys`.
pub async fn list(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    page(&state, &project, StatusCode::OK, Shown::default()).await
}

/// `POST …/keys`. The answer is the page itself and no redirect: a secret key must be shown, once,
/// and lies nowhere that a redirect could read it from.
pub async fn create(
    state: web::Data<HttpState>,
    project: ProjectPage,
    CsrfForm(form): CsrfForm<CreateForm>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    let by = Some(project.session.account_id);
    let created = match state.access.create_key(project.project_id(), form.kind, &form.label, by).await {
        Ok(created) => created,
        Err(KeyError::Label(error)) => {
            let shown = Shown { label: form.label, label_error: Some(error), created: None };
            return page(&state, &project, StatusCode::BAD_REQUEST, shown).await;
        }
        Err(KeyError::Storage(error)) => return Err(error.into()),
    };
    tracing::info!(project.id = project.project_id().0, key.id = created.key_id.0, "a key was created");
    let created = CreatedKey { kind: kind_view(created.kind), key: created.key };
    page(&state, &project, StatusCode::OK, Shown { created: Some(created), ..Shown::default() }).await
}

/// `POST …/keys/{key_id}/revoke`. Revoking twice is no error.
pub async fn revoke(
    state: web::Data<HttpState>,
    project: ProjectPage,
    path: web::Path<KeyPath>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    if state.access.revoke_key(project.project_id(), KeyId(path.key_id)).await? {
        tracing::info!(project.id = project.project_id().0, key.id = path.key_id, "a key was revoked");
    }
    Ok(see_other(&format!("/p/{}/keys", project.project_id())))
}

#[derive(Default)]
struct Shown {
    created: Option<CreatedKey>,
    label: String,
    label_error: Option<String>,
}

async fn page(
    state: &HttpState,
    project: &ProjectPage,
    status: StatusCode,
    shown: Shown,
) -> Result<HttpResponse, ApiError> {
    let keys = state.access.list_keys(project.project_id()).await?;
    let page = KeysPage {
        frame: project.frame(state, "Keys", Nav::Keys).await?,
        keys: keys.into_iter().map(|key| row(key, project.role)).collect(),
        created: shown.created,
        label: shown.label,
        label_error: shown.label_error,
        may_change: project.role >= Role::Owner,
    };
    Ok(views::respond(status, &page)?)
}

fn row(key: ProjectKey, role: Role) -> KeyRow {
    KeyRow {
        id: key.key_id.0,
        kind: kind_view(key.kind),
        shown: shown_to(role, &key),
        label: key.name,
        created_at: key.created_at,
        revoked_at: key.revoked_at,
    }
}

fn kind_view(kind: KeyKind) -> views::KeyKind {
    match kind {
        KeyKind::Write => views::KeyKind::Write,
        KeyKind::Secret => views::KeyKind::Secret,
    }
}

/// Whoever may only read sees which keys there are, and cannot send with them.
pub(super) fn shown_to(role: Role, key: &ProjectKey) -> String {
    match key.kind {
        KeyKind::Write if role < Role::Editor => {
            format!("{}…{}", KeyKind::Write.prefix(), &key.shown[key.shown.len().saturating_sub(4)..])
        }
        KeyKind::Write | KeyKind::Secret => key.shown.clone(),
    }
}
