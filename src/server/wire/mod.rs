//! How do bytes become an operation, and an answer bytes? Pure functions: the same bytes always give the same result.
//! This module never decides and never does IO; its messages name a place in the body, never what stands there.
#![deny(clippy::indexing_slicing)]

mod answer;
mod batch;
mod context;
mod control;
mod custody;
mod following;
mod json;
mod keks;
mod keyrings;
mod keys;
mod lookups;
mod open;
mod pen;
mod policy;
mod query;
mod rewrap;
mod seal;
mod subject;
mod wraps;

pub use answer::{Encoded, encode, refuse};
pub use control::{parse_create_keyring, parse_shred_partition};
pub use custody::{CustodyPath, custody_without_body, parse_custody};
pub use keys::{KeyVerb, parse_configure, parse_rotate, parse_step};
pub use lookups::{LookupPath, parse_lookup};
pub use open::parse_open;
pub use policy::parse_nothing;
pub use query::{no_query, parse_audit_query, parse_inventory_query, parse_list_query, parse_sidecars_query};
pub use rewrap::parse_rewrap;
pub use seal::parse_seal;
pub use subject::parse_subject;
pub use wraps::{parse_retire_kek, parse_rewrap_keys, parse_rewrap_partitions};

/// Bytes of a request body: 1,000 items of 64-byte fields with their contexts take 0.3 MiB, and one plaintext of 1 MiB
/// takes at most 6 MiB when every character of it is escaped.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Items of a batch: more gain nothing, since one append to the log already serves all of them.
pub const MAX_ITEMS: usize = 1_000;
/// Bytes of one plaintext; what is larger is an object, not a field.
pub const MAX_PLAINTEXT_BYTES: usize = 1024 * 1024;
/// Bytes of one sealed value as text: `kw1.` and the base64url of the largest plaintext with header (12), nonce (24),
/// commitment (32) and tag (16).
pub const MAX_SEALED_BYTES: usize = 4 + (MAX_PLAINTEXT_BYTES + 84).div_ceil(3) * 4;
/// Records of one answer of the audit route.
pub const MAX_AUDIT_RECORDS: u32 = 1_000;

/// Keyrings of one answer of the inventory.
pub const MAX_INVENTORY: u32 = 1_000;

/// Whether the caller sent one value or a list; the answer takes the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value; its failure is the failure of the request.
    One,
    /// A list; failures stand in their places.
    Many,
}

#[cfg(test)]
mod tests;
