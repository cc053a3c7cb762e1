//! The pages: accounts, projects, questions and answers as HTML, made on the server and readable
//! without JavaScript.

pub mod ask;
pub mod assets;
pub mod chart;
pub mod format;
pub mod range;
pub mod views;
