//! What weir says over HTTP: one listener for collection, API and pages, and one for the operator.
//!
//! `routes` holds every address on one screen. Handlers take typed extractors (`extract`) that hand
//! them a signed-in account, a project they may see, or a body within its limit, and give
//! [`ApiError`] when something is wrong; `middleware` turns that into a problem document or a page,
//! logs its cause once, and adds what every answer carries. [`HttpServer`] binds and stops.

pub mod api;
pub mod collect;
pub mod error;
pub mod extract;
mod middleware;
mod ops;
mod routes;
mod server;
mod snippet;
mod state;
mod streams;
pub mod web;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use error::{ApiError, ErrorCode, FieldError};
pub use middleware::RequestId;
pub use server::{HttpServer, ListenSettings, Register, Stop};
pub use state::{HttpMetrics, HttpState, Readiness};
