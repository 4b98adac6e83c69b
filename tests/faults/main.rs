//! Every durable write failed, failed but persisted, and lost; crashes and kills.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up what it needs must fail")]
#[path = "../support/openbao.rs"]
mod openbao;
#[path = "../support/mod.rs"]
mod support;

mod kill;
mod log;
mod store;
mod transit;
