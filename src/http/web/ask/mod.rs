//! Asking: a form or JSON becomes a question, the question a ticket, its answer charts and tables.

pub mod form;
