//! Which events and properties a project has, for menus: read from the catalogue of all its shards
//! and kept for a few seconds, since every edit of a question opens the page again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;

use super::{
    ask::form::PropertyTypes,
    views::{Menus, PropertyMenu},
};
use crate::{
    eventstore::{
        format::PropertyKind,
        scan::{MenuProperty, ProjectMenu},
    },
    http::ApiError,
    model::{Millis, ProjectId},
    storage::Storage,
    telemetry::Metrics,
};

const KEPT_MS: Millis = 10_000;
const PROJECTS_MAX: usize = 500;

/// One for the process.
pub struct MenuCache {
    names_max: usize,
    left_out: prometheus::IntCounterVec,
    known: Mutex<HashMap<ProjectId, (Millis, Arc<ProjectMenu>)>>,
}

impl MenuCache {
    /// Menus of at most so many events and properties.
    pub fn new(names_max: usize, metrics: &Metrics) -> Self {
        let left_out = metrics.counters(
            "weir_menu_names_left_out_total",
            "Names that were left out of menus and catalogues because there are too many, each time one is read.",
            &["names"],
        );
        Self { names_max, left_out, known: Mutex::default() }
    }

    /// The project's menu; of servers that are away nothing.
    pub async fn get(
        &self,
        storage: &Storage,
        project_id: ProjectId,
        now: Millis,
    ) -> Result<Arc<ProjectMenu>, ApiError> {
        let known = self.known.lock().expect("no holder of this lock can panic").get(&project_id).cloned();
        if let Some((read_at, menu)) = known
            && (0..KEPT_MS).contains(&(now - read_at))
        {
            return Ok(menu);
        }
        let menu = read(storage, project_id, self.names_max).await?;
        self.left_out.with_label_values(&["events"]).inc_by(menu.left_out.0);
        self.left_out.with_label_values(&["properties"]).inc_by(menu.left_out.1);
        let menu = Arc::new(menu);
        let mut known = self.known.lock().expect("no holder of this lock can panic");
        if known.len() >= PROJECTS_MAX {
            known.retain(|_, (read_at, _)| now - *read_at < KEPT_MS);
        }
        // An empty menu fills with the first sealed event, which somebody is waiting for.
        if known.len() < PROJECTS_MAX && !menu.events.is_empty() {
            known.insert(project_id, (now, menu.clone()));
        }
        Ok(menu)
    }
}

async fn read(storage: &Storage, project_id: ProjectId, names_max: usize) -> Result<ProjectMenu, ApiError> {
    let reads = storage.shards.all().map(|shard| async move {
        let db = storage.shards.db_of(shard)?;
        ProjectMenu::of_shard(db, shard, project_id, names_max).await
    });
    let mut whole = ProjectMenu::new(names_max);
    for menu in join_all(reads).await {
        match menu {
            Ok(menu) => whole.merge(menu),
            Err(error) if error.is_transient() => {
                whole.is_partial = true;
                tracing::debug!(project.id = project_id.0, error = %error, "a shard's part of a menu is missing");
            }
            Err(error) => return Err(ApiError::internal(error)),
        }
    }
    Ok(whole.finish())
}

/// As the form offers it: events by how many there are, properties by name.
pub fn menus(menu: &ProjectMenu) -> Menus {
    let mut events: Vec<_> = menu.events.iter().collect();
    events.sort_by_key(|(_, event)| std::cmp::Reverse(event.rows));
    Menus {
        events: events.into_iter().map(|(name, _)| name.clone()).collect(),
        properties: menu
            .properties
            .iter()
            .map(|(name, property)| PropertyMenu { name: name.clone(), types: types_shown(property) })
            .collect(),
    }
}

pub fn types_of(menu: &ProjectMenu, property: &str) -> PropertyTypes {
    menu.properties.get(property).map(types).unwrap_or_default()
}

fn types(property: &MenuProperty) -> PropertyTypes {
    let has = |kinds: &[PropertyKind]| kinds.iter().any(|kind| property.kinds.contains_key(kind));
    PropertyTypes {
        text: has(&[PropertyKind::String]),
        number: has(&[PropertyKind::Integer, PropertyKind::Float]),
        boolean: has(&[PropertyKind::Boolean]),
    }
}

/// The types of a property as a menu says them: "text", "text or number".
pub fn types_shown(property: &MenuProperty) -> String {
    types_in_words(types(property))
}

fn types_in_words(types: PropertyTypes) -> String {
    let mut words = Vec::new();
    for (has, word) in [(types.text, "text"), (types.number, "number"), (types.boolean, "yes or no")] {
        if has {
            words.push(word);
        }
    }
    words.join(" or ")
}
