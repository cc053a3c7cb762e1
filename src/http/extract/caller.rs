//! Who calls the API, and about which project.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use super::project_page::require;
use super::signed_in::find_session;
use super::{is_from_our_pages, state_of};
use crate::http::{ApiError, ErrorCode};
use crate::model::{AccountId, KeyId, ProjectId, Role};
use crate::storage::control::projects::Project;

/// The header that names the project when a session calls. Other sites cannot send it without
/// being asked first, which is why a session that changes something must.
const PROJECT_HEADER: &str = "x-weir-project";

/// The caller of an API route: `Authorization: Bearer sk_…`, whose project is the key's, or the
/// session of a browser with `X-Weir-Project: 1` (`?project=1` will do for a GET).
pub struct Caller {
    pub project: Arc<Project>,
    pub role: Role,
    pub id: CallerId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallerId {
    Key(KeyId),
    Account(AccountId),
}

/// `key:7` or `account:3`, as `created_by` stores it.
impl std::fmt::Display for CallerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Account(id) => write!(f, "account:{id}"),
        }
    }
}

impl Caller {
    /// Refuses those whose role is less.
    pub fn require(&self, role: Role) -> Result<(), ApiError> {
        require(self.role, role)
    }

    pub fn project_id(&self) -> ProjectId {
        self.project.project_id
    }

    async fn extract(request: &HttpRequest) -> Result<Self, ApiError> {
        match request.headers().get(header::AUTHORIZATION) {
            Some(value) => Self::by_key(request, value.to_str().unwrap_or_default()).await,
            None => Self::by_session(request).await,
        }
    }

    async fn by_key(request: &HttpRequest, authorization: &str) -> Result<Self, ApiError> {
        let (scheme, key) = authorization.split_once(' ').unwrap_or_default();
        let key = key.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() || key.len() > 200 {
            return Err(unauthenticated("Send Authorization: Bearer sk_… with a secret key."));
        }
        if key.starts_with("wk_") {
            return Err(unauthenticated("A write key may only send events; this needs a secret key."));
        }
        match state_of(request).access.find_secret_key(key).await? {
            Some((key_id, project)) => Ok(Self { project, role: Role::Owner, id: CallerId::Key(key_id) }),
            None => Err(unauthenticated("The key is unknown or was revoked.")),
        }
    }

    async fn by_session(request: &HttpRequest) -> Result<Self, ApiError> {
        let session = find_session(request).await?;
        let session = session.ok_or_else(|| unauthenticated("Send a secret key, or log in."))?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if changes && !is_from_our_pages(request) {
            return Err(ApiError::new(ErrorCode::StaleForm, "The call was made by another site."));
        }
        let project_id = match request.headers().get(PROJECT_HEADER) {
            Some(value) => value.to_str().ok().and_then(|text| text.trim().parse().ok()),
            None if changes => None,
            None => project_parameter(request),
        };
        let Some(project_id) = project_id else {
            return Err(ApiError::malformed("Name the project in the header X-Weir-Project."));
        };
        let found = state_of(request).access.find_membership(&session, ProjectId(project_id)).await?;
        match found {
            Some(membership) => Ok(Self {
                project: membership.project,
                role: membership.role,
                id: CallerId::Account(session.account_id),
            }),
            None => Err(ApiError::not_found("There is no such project, or it is not yours to see.")),
        }
    }
}

fn project_parameter(request: &HttpRequest) -> Option<u32> {
    #[derive(Deserialize)]
    struct Parameters {
        project: Option<u32>,
    }
    web::Query::<Parameters>::from_query(request.query_string()).ok()?.project
}

fn unauthenticated(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::extract(&request).await })
    }
}
