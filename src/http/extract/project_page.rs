//! A page of a project.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::{SignedIn, state_of};
use crate::access::{Membership, Session};
use crate::http::ApiError;
use crate::model::{ProjectId, Role};
use crate::storage::control::projects::Project;

/// The project of `{project_id}` in the path, as somebody sees it who may. To everybody else it
/// does not exist: a 403 would tell strangers which projects there are.
pub struct ProjectPage {
    pub session: Session,
    pub project: Arc<Project>,
    pub role: Role,
}

impl ProjectPage {
    /// Refuses those whose role is less.
    pub fn require(&self, role: Role) -> Result<(), ApiError> {
        require(self.role, role)
    }

    pub fn project_id(&self) -> ProjectId {
        self.project.project_id
    }

    /// The project of the path as the session sees it; `None` for none, a stranger's, or a path
    /// without one.
    pub async fn find(request: &HttpRequest, session: &Session) -> Result<Option<Self>, ApiError> {
        let project_id = request.match_info().get("project_id").and_then(|text| text.parse().ok());
        let Some(project_id) = project_id else { return Ok(None) };
        let found = state_of(request).access.find_membership(session, ProjectId(project_id)).await?;
        Ok(found.map(|Membership { project, role }| Self { session: session.clone(), project, role }))
    }
}

pub(super) fn require(has: Role, needs: Role) -> Result<(), ApiError> {
    if has >= needs {
        return Ok(());
    }
    let (has, needs) = (has.as_str(), needs.as_str());
    Err(ApiError::forbidden(format!("This needs the role {needs} in the project; yours is {has}.")))
}

impl FromRequest for ProjectPage {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let SignedIn(session) = SignedIn::extract(&request).await?;
            let found = Self::find(&request, &session).await?;
            found.ok_or_else(|| ApiError::not_found("There is no such project, or it is not yours to see."))
        })
    }
}
