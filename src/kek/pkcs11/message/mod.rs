//! What do the sidecar and its worker say to each other? Requests, replies and faults, parsed strictly.
//! This module never copies a secret: requests and replies borrow from the frame that is wiped after use.

#![deny(clippy::indexing_slicing)]

mod reply;
mod request;
#[cfg(test)]
mod tests;

use super::frame::{Fields, Malformed};

pub use reply::{Reply, TokenFacts};
pub use request::{NewKey, Request};

/// The version of this protocol; both sides are the same binary, so any other one is an error.
pub const PROTOCOL: u16 = 5;

fn take_version(fields: &mut Fields<'_>) -> Result<u32, Malformed> {
    u32::try_from(fields.u64()?).map_err(|_| Malformed)
}
