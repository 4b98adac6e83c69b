//! The whole service: the real binary, its sockets, its log.
#[path = "../support/softhsm.rs"]
mod softhsm;
#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod documents;
mod lifecycle;
mod order;
mod requests;
mod swap;
