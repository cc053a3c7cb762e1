//! What happens to every request and answer, from the outside in: [`request`] gives an id, a log
//! line and the security headers, [`compress`] makes texts small, [`errors`] writes failures down.

mod compress;
mod errors;
mod request;

pub use compress::compress;
pub use errors::{errors, nothing_here};
pub use request::{RequestId, request};
