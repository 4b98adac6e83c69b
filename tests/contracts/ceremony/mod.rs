//! Ceremonies as people live them, each rule beside the attempt that must fail. What they sign is signed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod documents;
mod grants;
mod kept;
mod machine;
mod minutes;
