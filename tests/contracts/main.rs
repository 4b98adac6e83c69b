//! One suite a trait, run against every implementation.
mod kek;
#[path = "../support/softhsm.rs"]
mod softhsm;
mod status;
mod store;
mod token;
