//! The pages and what surrounds every answer, against the real server.

mod access;
mod answers;
mod step_persons;
