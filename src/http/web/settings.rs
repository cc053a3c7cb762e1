//! `/p/{project_id}/settings`: the project's name and time zone.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::format;
use super::index::see_other;
use super::projects::{ProjectFields, form_with};
use super::views::{self, Nav, ProjectForm, SettingsPage, time_zone_names};
use crate::config::CollectionConfig;
use crate::http::extract::{CsrfForm, ProjectPage};
use crate::http::{ApiError, HttpState};
use crate::model::Role;

#[derive(Deserialize)]
pub struct ShowQuery {
    #[serde(default)]
    saved: Option<u8>,
}

/// `GET …/settings`.
pub async fn show(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<ShowQuery>,
) -> Result<HttpResponse, ApiError> {
    let form = ProjectForm {
        name: project.project.name.clone(),
        time_zone: project.project.time_zone.clone(),
        ..ProjectForm::default()
    };
    page(&state, &project, StatusCode::OK, form, query.saved.is_some()).await
}

/// `POST …/settings`.
pub async fn save(
    state: web::Data<HttpState>,
    project: ProjectPage,
    CsrfForm(fields): CsrfForm<ProjectFields>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    match state.access.update_project(project.project_id(), &fields.name, &fields.time_zone).await {
        Ok(()) => Ok(see_other(&format!("/p/{}/settings?saved=1", project.project_id()))),
        Err(error) => {
            let form = form_with(fields, error)?;
            page(&state, &project, StatusCode::BAD_REQUEST, form, false).await
        }
    }
}

async fn page(
    state: &HttpState,
    project: &ProjectPage,
    status: StatusCode,
    form: ProjectForm,
    saved: bool,
) -> Result<HttpResponse, ApiError> {
    let page = SettingsPage {
        frame: project.frame(state, "Settings", Nav::Settings).await?,
        form,
        time_zones: time_zone_names(),
        created_at: project.project.created_at,
        saved,
        may_change: project.role >= Role::Owner,
        limits: limits(&state.config.collection, project.project.span),
    };
    Ok(views::respond(status, &page)?)
}

/// What senders must keep to, and where more is refused.
fn limits(config: &CollectionConfig, span: u16) -> Vec<(&'static str, String)> {
    let number = |n: u32| format::thousands(n);
    vec![
        ("Events in a request", number(config.batch_events_max)),
        ("A request's body", format::bytes(config.body_bytes_max.into())),
        ("An event", format::bytes(config.event_bytes_max.into())),
        ("Properties of an event", number(config.properties_max)),
        ("Event names", number(config.event_names_max)),
        ("Property names", number(config.property_names_max)),
        ("Rejected events that are kept", number(config.rejected_kept_max)),
        ("Shards that hold the project", number(span.into())),
    ]
}
