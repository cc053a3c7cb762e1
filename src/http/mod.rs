//! What weir says over HTTP.

pub mod web;
