//! The whole service: the real binary, its sockets, its log.
#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod lifecycle;
mod requests;
