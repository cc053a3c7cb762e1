//! What happens to every request and answer, from the outside in: [`request`] gives an id, a log
//! line and the security headers, [`methods`] answers HEAD and OPTIONS, [`compress`] makes texts
//! small, [`errors`] writes failures down.

mod compress;
mod errors;
mod methods;
mod request;

pub use compress::compress;
pub use errors::{errors, nothing_here};
pub use methods::methods;
pub use request::{RequestId, request};
