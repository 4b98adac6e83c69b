//! What custodians decide, with each write of it failed, lost, and kept although it failed, and with two sidecars that are
//! asked at once: a decision and its effect are there together or not at all, and nothing happens twice.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod people;
mod races;
mod writes;

pub use people::SEPARATION;
