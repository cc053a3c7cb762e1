//! One file a protocol: it reads its vendor's requests into [`RawEvent`]s and owns the answers that
//! its vendor's SDKs take for success or failure, so that `http` stays generic.

pub mod native;
