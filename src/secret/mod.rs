//! Where do secret bytes live? In memory that is wiped, compared in constant time and never printed.
//! This module never logs, stores or sends a secret; keys sit in one locked slab, other secrets on the heap for as
//! long as they are needed.

mod bytes;
mod harden;
mod slab;

pub use bytes::{SecretBytes, constant_time_eq};
pub use harden::{HardenError, harden_process};
pub use slab::{Locked, OnLockFailure, SLOT_BYTES, Settings, SlabError, Usage, install, usage};
