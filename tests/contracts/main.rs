//! One suite a trait, run against every implementation.
mod kek;
mod store;
