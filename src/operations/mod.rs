//! What does each data verb do once it is permitted? One file a verb.
//! This module never sees the log: no verb can skip, double or fake its record.

pub mod canary;
pub mod open;
pub mod rewrap;
pub mod seal;

use crate::crypto;
use crate::keyring::{BindError, KeyState, UnlockError};
use crate::names::Context;
use crate::policy::Permit;

/// Why one item of a request was not done. The caller reads few classes; the log holds each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemError {
    /// Neither `text` nor `bytes`, both, bad base64: told by the wire format.
    MalformedItem,
    /// Not a sealed value: not `kw1.`, not base64url, wrong version byte, too short, too large.
    MalformedValue,
    /// The context has a bad key, too many pairs or too many bytes.
    InvalidContext,
    /// A context key that the keyring demands is missing.
    ContextMissing,
    /// Item and permit disagree about a context value.
    ContextConflict,
    /// Policy said no to the group of this item, or (before authorization) the key is unknown: one code on purpose.
    Denied,
    /// Tag, commitment, context, class or suite: one code on purpose.
    CannotOpen,
    /// Suspended, compromised or destroyed.
    KeyState(KeyState),
    /// The active version is older than any may be: it seals no more.
    Spent,
    /// The patient's own key was destroyed for good.
    Shredded,
    /// A person or a rule has locked the keyring.
    Locked,
    /// The wrapped key does not unwrap to what it was: the value is not to blame, an operator must act.
    KeyDamaged,
    /// The KEK, the store or the time did not suffice: retrying is right.
    Unavailable,
    /// The plaintext is not UTF-8 and the caller asked for text.
    NotText,
}

impl From<&UnlockError> for ItemError {
    fn from(error: &UnlockError) -> Self {
        match error {
            UnlockError::NotCovered => Self::Denied,
            UnlockError::Unknown => Self::CannotOpen,
            UnlockError::Tampered => Self::KeyDamaged,
            UnlockError::State(state) => Self::KeyState(*state),
            UnlockError::Spent => Self::Spent,
            UnlockError::Shredded => Self::Shredded,
            UnlockError::NoPartition => Self::ContextMissing,
            UnlockError::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<BindError> for ItemError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Missing => Self::ContextMissing,
            BindError::Conflict => Self::ContextConflict,
            BindError::TooLarge => Self::InvalidContext,
        }
    }
}

/// The items of a request that one permit covers, by their place in the request.
pub struct Permitted {
    /// The permission.
    pub permit: Permit,
    /// Places of the items, ascending.
    pub places: Vec<usize>,
    /// The context key that names the partition, where the keyring has partitions.
    pub partition_key: Option<String>,
}

impl Permitted {
    /// The value that names the partition of an item.
    fn partition<'a>(&self, context: &'a Context) -> Option<&'a str> {
        context.get(self.partition_key.as_deref()?)
    }
}

/// SHA-256 over the sealed values (the texts that a seal answered, the binary forms that an open was asked for) in order, each with its length: what exactly was sealed or opened.
pub fn items_digest<'a>(values: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut all = Vec::new();
    for value in values {
        all.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
        all.extend_from_slice(value);
    }
    crypto::sha256(&[b"keyward/items/v1\0", &all])
}
