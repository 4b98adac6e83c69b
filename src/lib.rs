//! keyward: an envelope-encryption and key-management sidecar.

pub mod app;
pub mod audit;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod crypto;
pub mod durable;
pub mod envelope;
pub mod fields;
pub mod identity;
pub mod jobs;
pub mod kek;
pub mod keyring;
pub mod names;
pub mod operations;
pub mod policy;
pub mod secret;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
