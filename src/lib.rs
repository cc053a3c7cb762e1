#![doc = include_str!("README.md")]

pub mod access;
pub mod analysis;
pub mod app;
pub mod cache;
pub mod collection;
pub mod commands;
pub mod config;
pub mod erasure;
pub mod eventstore;
pub mod http;
pub mod model;
pub mod storage;
pub mod telemetry;
pub mod tickets;
