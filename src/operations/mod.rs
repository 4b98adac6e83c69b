//! What does each data verb do once it is permitted? One file a verb.
//! This module never sees the log: no verb can skip, double or fake its record.

pub mod open;
pub mod seal;

use crate::keyring::{KeyState, UnlockError};

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
    /// The KEK, the store or the time did not suffice: retrying is right.
    Unavailable,
    /// The plaintext is not UTF-8 and the caller asked for text.
    NotText,
}

impl From<&UnlockError> for ItemError {
    fn from(error: &UnlockError) -> Self {
        match error {
            UnlockError::NotCovered => Self::Denied,
            UnlockError::Unknown | UnlockError::Tampered => Self::CannotOpen,
            UnlockError::State(state) => Self::KeyState(*state),
            UnlockError::Unavailable(_) => Self::Unavailable,
        }
    }
}
