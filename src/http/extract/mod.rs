//! Typed ways into a request: what a handler gets is already checked.
//!
//! | extractor | gives | refuses with |
//! |---|---|---|
//! | [`SignedIn`] | the session of a browser | a way to `/login` |
//! | [`ProjectPage`] | the `{project_id}` of the path, when the account may see it | 404 |
//! | [`CsrfForm`] | a posted form, sent by one of our own pages | 403 |
//! | [`PostedForm`] | a posted form of somebody who is not signed in yet | 403 |
//! | [`Caller`] | the project an API call is about, by secret key or session | 401, 404 |
//! | [`Params`] | the query | 400 |
//! | [`JsonBody`] | a JSON body within its limit | 400, 408, 413, 415 |
//! | [`ClientAddress`] | who sent it, as far as proxies are trusted | |

mod body;
mod caller;
mod client_address;
pub mod cookie;
mod csrf;
mod form;
mod params;
mod project_page;
mod signed_in;

pub use body::{JsonBody, read_body};
pub use caller::{Caller, CallerId};
pub use client_address::ClientAddress;
pub use csrf::{csrf_field, is_from_our_pages};
pub use form::{CsrfForm, PostedForm};
pub use params::Params;
pub use project_page::ProjectPage;
pub use signed_in::{SignedIn, find_session, safe_next};

use actix_web::{HttpRequest, web};

use super::HttpState;

/// The state that [`super::HttpServer`] registers for every route.
pub fn state_of(request: &HttpRequest) -> web::Data<HttpState> {
    request.app_data::<web::Data<HttpState>>().expect("the server registers its state").clone()
}
