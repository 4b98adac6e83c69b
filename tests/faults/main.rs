//! Every durable write failed, failed but persisted, and lost; crashes and kills.
#[path = "../support/mod.rs"]
mod support;

mod kill;
mod log;
mod store;
