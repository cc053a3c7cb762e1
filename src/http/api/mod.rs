//! The JSON API that programs, the mobile client and the pages' own scripts use. The answers'
//! shapes are the `…View` structs; who may call is decided by the extractor
//! [`Caller`](super::extract::Caller).

pub mod catalogue;
mod persons;
mod result_format;
pub mod retention;
mod ticket_events;
mod ticket_view;
pub mod tickets;

#[cfg(test)]
mod tests;

use actix_web::web::{ServiceConfig, get, post, put, resource};

/// The handlers of tickets take `web::Data<Tickets>`, registered where the server is bound.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/api/v1/catalogue").route(get().to(catalogue::get_catalogue)))
        .service(
            resource("/api/v1/retention")
                .route(get().to(retention::get_retention))
                .route(put().to(retention::set_retention)),
        )
        .service(resource("/api/v1/retention/preview").route(get().to(retention::preview_retention)))
        .service(
            resource("/api/v1/tickets")
                .route(get().to(tickets::list_tickets))
                .route(post().to(tickets::submit_ticket)),
        )
        .service(resource("/api/v1/tickets/{ticket_id}").route(get().to(tickets::get_ticket)))
        .service(resource("/api/v1/tickets/{ticket_id}/result").route(get().to(tickets::get_ticket_result)))
        .service(resource("/api/v1/tickets/{ticket_id}/cancel").route(post().to(tickets::cancel_ticket)))
        .service(resource("/api/v1/tickets/{ticket_id}/events").route(get().to(tickets::ticket_events)))
        .service(resource("/api/v1/persons/{distinct_id}").route(get().to(persons::get_person)))
        .service(
            resource("/api/v1/persons/{distinct_id}/events").route(get().to(persons::list_person_events)),
        );
}
