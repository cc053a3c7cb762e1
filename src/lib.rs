#![doc = include_str!("README.md")]

pub mod commands;
pub mod eventstore;
pub mod model;
pub mod storage;
