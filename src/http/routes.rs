//! Every address, on one screen. Another module's handlers come in as its `routes` function or as
//! resources here; whatever state they take is registered where the server is bound.

use actix_web::web::{ServiceConfig, get, post, resource, scope};

use super::ops;
use super::web::{
    account, ask, assets, erase_person, index, keys, live, login, members, overview, persons, projects,
    rejected, retention, settings, start, tickets,
};
use super::{api, collect, snippet};
use crate::config::Roles;

/// The listener that clients and people reach.
pub fn configure(config: &mut ServiceConfig, roles: &Roles) {
    config.configure(health);
    if roles.collect() {
        config.configure(collect::routes).configure(snippet::routes);
    }
    if roles.web() {
        config.configure(api::routes).configure(assets::routes).configure(pages);
    }
}

fn pages(config: &mut ServiceConfig) {
    config
        // Pages that need no project.
        .service(resource("/").route(get().to(index::show)))
        .service(resource("/login").route(get().to(login::show)).route(post().to(login::log_in)))
        .service(resource("/logout").route(post().to(login::log_out)))
        .service(resource("/projects").route(get().to(projects::list)).route(post().to(projects::create)))
        .service(resource("/account").route(get().to(account::show)))
        .service(resource("/account/password").route(post().to(account::change_password)))
        .service(resource("/account/sign-out-everywhere").route(post().to(account::sign_out_everywhere)))
        // Pages of a project.
        .service(
            scope("/p/{project_id}")
                .service(resource("").route(get().to(index::project)))
                .service(resource("/overview").route(get().to(overview::show)))
                .service(resource("/ask").route(get().to(ask::show)))
                .service(resource("/ask/persons").route(get().to(ask::persons::show)))
                .service(resource("/ask/menu").route(get().to(ask::suggest::menu)))
                .service(resource("/ask/values").route(get().to(ask::suggest::values)))
                .service(resource("/tickets").route(get().to(tickets::list)))
                .service(resource("/tickets/{ticket_id}").route(get().to(tickets::show)))
                .service(resource("/tickets/{ticket_id}/cancel").route(post().to(tickets::cancel)))
                .service(resource("/live").route(get().to(live::show)))
                .service(resource("/persons").route(get().to(persons::show)))
                .service(
                    resource("/persons/erase")
                        .route(get().to(erase_person::show))
                        .route(post().to(erase_person::erase)),
                )
                .service(resource("/start").route(get().to(start::show)))
                .service(
                    resource("/settings").route(get().to(settings::show)).route(post().to(settings::save)),
                )
                .service(
                    resource("/retention").route(get().to(retention::show)).route(post().to(retention::save)),
                )
                .service(resource("/keys").route(get().to(keys::list)).route(post().to(keys::create)))
                .service(resource("/keys/{key_id}/revoke").route(post().to(keys::revoke)))
                .service(resource("/members").route(get().to(members::list)).route(post().to(members::add)))
                .service(resource("/members/{account_id}/role").route(post().to(members::change_role)))
                .service(resource("/members/{account_id}/remove").route(post().to(members::remove)))
                .service(resource("/rejected").route(get().to(rejected::list))),
        );
}

/// The operator's listener.
pub fn configure_ops(config: &mut ServiceConfig) {
    config.configure(health).service(resource("/metrics").route(get().to(ops::metrics)));
}

fn health(config: &mut ServiceConfig) {
    config
        .service(resource("/healthz/live").route(get().to(ops::live)))
        .service(resource("/healthz/ready").route(get().to(ops::ready)));
}
