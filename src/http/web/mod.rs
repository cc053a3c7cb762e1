//! The pages: accounts, projects, questions and answers as HTML, made on the server and readable
//! without JavaScript.

pub mod account;
pub mod ask;
pub mod asking;
pub mod assets;
pub mod chart;
pub mod erase_person;
pub mod format;
pub mod frame;
pub mod index;
pub mod keys;
pub mod live;
pub mod login;
pub mod members;
pub mod menu;
pub mod overview;
pub mod persons;
pub mod projects;
pub mod range;
pub mod rejected;
pub mod settings;
pub mod sort;
pub mod start;
pub mod tickets;
pub mod views;
