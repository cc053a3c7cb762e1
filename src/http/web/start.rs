//! `/p/{project_id}/start`: how to send a first event.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::live;
use super::views::{self, FIRST_EVENT, Nav, Sender, SenderState, StartPage};
use crate::access::find_write_key;
use crate::eventstore::recent::{RecentFilter, list_recent};
use crate::http::extract::ProjectPage;
use crate::http::{ApiError, HttpState};
use crate::model::{Event, PropertyRef};

/// First events that are looked at: whoever tries a snippet tries it a few times.
const FIRST_EVENTS_MAX: usize = 50;

/// `GET …/start`.
pub async fn show(state: web::Data<HttpState>, project: ProjectPage) -> Result<HttpResponse, ApiError> {
    let keys = state.access.list_keys(project.project_id()).await?;
    let shards = &state.storage.shards;
    let any = RecentFilter::default();
    let recent = list_recent(shards, &state.objects, project.project_id(), 1, &any);
    let recent = recent.await.map_err(live::failed)?;
    let last_event_at = recent.events.first().map(|event| event.received_at);
    let filter = RecentFilter { event: FIRST_EVENT.to_owned(), distinct_id: String::new() };
    let firsts = list_recent(shards, &state.objects, project.project_id(), FIRST_EVENTS_MAX, &filter);
    let firsts = firsts.await.map_err(live::failed)?.events;
    let senders = Sender::ALL.map(|sender| SenderState {
        sender,
        arrived_at: firsts.iter().find(|event| is_from(event, sender)).map(|event| event.received_at),
    });
    let page = StartPage {
        frame: project.frame(&state, "Get started", Nav::Start).await?,
        public_url: state.config.http.shown_url(),
        write_key: find_write_key(&keys).map(|key| super::keys::shown_to(project.role, key)),
        last_event_at,
        senders: senders.into(),
    };
    Ok(views::respond(StatusCode::OK, &page)?)
}

fn is_from(event: &Event, sender: Sender) -> bool {
    event.properties.get("from") == Some(PropertyRef::String(sender.word()))
}
