//! How do people do what no one person may do alone? Proposals, signed decisions, the states of a ceremony, grants and
//! minutes: documents in, documents out. Pure: this module does no IO, reads no clock, trusts no field that it can compute,
//! and never carries anything out. Its formats are those of `FORMAT.md`.
#![deny(clippy::indexing_slicing)]

pub mod action;
mod canonical;
pub mod copies;
pub mod grant;
pub mod machine;
pub mod minutes;
pub mod proposal;
pub mod words;

pub use action::{Action, Parameters};
pub use grant::{Grant, GrantError};
pub use machine::{Ceremony, Event, Outcome, Rejection, State, World};
pub use minutes::Report;
pub use proposal::{CeremonyId, Draft, Preconditions, Proposal, ProposalError};
