//! `/p/{project_id}/retention`: for how many days events are kept; what a number would delete is shown
//! before it is taken.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::index::see_other;
use super::views::{self, Nav, RetentionPage, RetentionPreview};
use super::{format, views::Note};
use crate::access::{ProjectError, RETENTION_DAYS};
use crate::http::api::retention::{day, look};
use crate::http::extract::{CsrfForm, ProjectPage};
use crate::http::{ApiError, HttpState};
use crate::model::{Role, kept_from, utc_day};

#[derive(Deserialize)]
pub struct RetentionQuery {
    /// As typed.
    days: Option<String>,
    saved: Option<u8>,
}

#[derive(Deserialize)]
pub struct RetentionForm {
    /// Empty: for ever.
    days: String,
    /// What the preview said.
    #[serde(default)]
    kept_from: String,
    #[serde(default)]
    typed: String,
}

/// `GET …/retention`, with `?days=30` what these would delete.
pub async fn show(
    state: web::Data<HttpState>,
    project: ProjectPage,
    query: web::Query<RetentionQuery>,
) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let saved = query.saved.is_some();
    page(&state, &project, StatusCode::OK, query.days, saved, None).await
}

/// `POST …/retention`.
pub async fn save(
    state: web::Data<HttpState>,
    project: ProjectPage,
    CsrfForm(form): CsrfForm<RetentionForm>,
) -> Result<HttpResponse, ApiError> {
    project.require(Role::Owner)?;
    let days = match read_days(&form.days) {
        Ok(days) => days,
        Err(_) => return page(&state, &project, StatusCode::BAD_REQUEST, Some(form.days), false, None).await,
    };
    if let Some(days) = days {
        let error = if day(kept_from(days, state.clock.now_ms())) != form.kept_from {
            Some("A day has passed since this was shown: look at what goes now.")
        } else if form.typed.trim() != project.project.name {
            Some("This is not the project's name, which counts to the letter.")
        } else {
            None
        };
        if error.is_some() {
            return page(&state, &project, StatusCode::BAD_REQUEST, Some(form.days), false, error).await;
        }
    }
    match state.access.set_retention(project.project_id(), days).await {
        Ok(()) => {}
        Err(ProjectError::Storage(error)) => return Err(error.into()),
        Err(error) => return Err(ApiError::internal(error)),
    }
    let (project_id, account) = (project.project_id(), project.session.account_id);
    tracing::info!(project.id = %project_id, by = %format_args!("account:{account}"), days, "retention was set");
    Ok(see_other(&format!("/p/{project_id}/retention?saved=1")))
}

/// `None`: for ever.
fn read_days(typed: &str) -> Result<Option<u32>, String> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    let (least, most) = (RETENTION_DAYS.start(), format::thousands(*RETENTION_DAYS.end()));
    match typed.parse() {
        Ok(days) if RETENTION_DAYS.contains(&days) => Ok(Some(days)),
        Ok(days) => {
            let days = format::thousands(days);
            Err(format!("{days} days is outside {least} to {most}."))
        }
        Err(_) => {
            Err(format!("Type a number of days from {least} to {most}, or nothing to keep events for ever."))
        }
    }
}

async fn page(
    state: &HttpState,
    project: &ProjectPage,
    status: StatusCode,
    typed: Option<String>,
    saved: bool,
    confirm_error: Option<&'static str>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now_ms();
    let frame = project.frame(state, "Retention", Nav::Retention).await?;
    let current = project.project.retention_days;
    let asked = typed.as_deref().map(read_days);
    let (mut preview, mut notes) = (None, Vec::new());
    // Who may not change it is shown no more than what holds.
    if let (Some(Ok(Some(days))), Role::Owner) = (&asked, project.role) {
        let days = *days;
        let kept_from = kept_from(days, now);
        let found = look(state, &project.project, kept_from).await?;
        if found.is_partial {
            notes.push(Note::warning(
                "Partial: a server did not answer, so there is more than these numbers say.",
            ));
        }
        preview = Some(RetentionPreview {
            days,
            kept_from: day(kept_from),
            kept_from_words: format::day_month_year(format::utc_date(utc_day(kept_from))),
            events: found.events,
            events_before: found.events_before,
            persons: found.persons,
            persons_before: found.persons_before,
        });
    }
    let current_days = current.map(|days| days.to_string()).unwrap_or_default();
    let page = RetentionPage {
        frame,
        kept_from_words: current
            .map(|days| format::day_month_year(format::utc_date(utc_day(kept_from(days, now))))),
        current,
        wants_all: matches!(asked, Some(Ok(None))) && current.is_some(),
        days_error: asked.and_then(Result::err),
        typed: typed.unwrap_or(current_days),
        notes,
        preview,
        confirm_error,
        saved,
        may_change: project.role >= Role::Owner,
    };
    Ok(views::respond(status, &page)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_within_their_limits() {
        assert_eq!(read_days(" "), Ok(None));
        assert_eq!(read_days(" 1 "), Ok(Some(1)));
        assert_eq!(read_days("36500"), Ok(Some(36_500)));
        for refused in ["0", "36501", "-1", "1.5", "ten", "99999999999"] {
            let error = read_days(refused).unwrap_err();
            assert!(error.contains("36,500") && error.ends_with('.'), "{refused}: {error}");
        }
    }
}
