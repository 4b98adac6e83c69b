//! Every durable write failed, failed but persisted, and lost; crashes and kills; tokens that fail under a running sidecar.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up what it needs must fail")]
#[path = "../support/custodians.rs"]
mod custodians;
#[path = "../support/openbao.rs"]
mod openbao;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/softhsm.rs"]
mod softhsm;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tokens.rs"]
mod tokens;

mod custody;
mod kek;
mod kill;
mod log;
mod partitions;
mod store;
mod transit;
mod verbs;
