//! One suite a trait, run against every implementation.
mod documented;
mod kek;
mod live;
mod probe;
mod shim;
#[path = "../support/softhsm.rs"]
mod softhsm;
mod status;
mod store;
mod suite;
mod token;
#[path = "../support/tokens.rs"]
mod tokens;
