//! Why were keys not changed or not unlocked? By who must act.

use super::KeyState;
use super::life::Forbidden;
use crate::names::KeyringName;

/// Why a change did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The name is taken.
    #[error("the keyring {0} exists")]
    Exists(KeyringName),
    /// The authority does not cover the change.
    #[error("the authority does not cover this change")]
    NotCovered,
    /// Custodians are there, and this is nothing that one person does.
    #[error("custodians decide about this: propose it to them")]
    NeedsQuorum,
    /// There is no such keyring, or no such version in it.
    #[error("{0}")]
    Unknown(String),
    /// The state of the key, or what still needs it, does not allow it: the text says what would be needed.
    #[error("{0}")]
    Forbidden(Forbidden),
    /// Somebody else made the change, or another that this one did not expect.
    #[error("{0}")]
    Superseded(String),
    /// The change makes no sense: the caller corrects it.
    #[error("{0}")]
    Invalid(String),
    /// The KEK or the store is not available.
    #[error("{0}")]
    Unavailable(String),
    /// The change may or may not be there after a restart: its intent stays open until [`super::Keyrings::settle`] can tell.
    #[error("{0}")]
    Unsettled(String),
    /// A sealed row did not verify: the database was edited.
    #[error("a sealed row does not verify: {0}")]
    Tampered(String),
    /// Not this store with this configuration or this build: environment, KEK or schema. The operator corrects it.
    #[error("{0}")]
    Refused(String),
    /// Founding a store that has a genesis.
    #[error("the store has been founded already")]
    Founded,
    /// Admitting a store that has none.
    #[error("the store is empty: `keyward init` founds it")]
    NotFounded,
}

/// Why a key could not be unlocked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The permit does not cover the key.
    #[error("the permit does not cover this key")]
    NotCovered,
    /// No such version: after authorization this is `cannot_open`.
    #[error("no such key version")]
    Unknown,
    /// The partition's key was destroyed for good.
    #[error("the partition was shredded")]
    Shredded,
    /// The keyring has partitions, and nothing names one.
    #[error("no partition is named")]
    NoPartition,
    /// Suspended, compromised, destroyed.
    #[error("the key version is {0:?}")]
    State(KeyState),
    /// The active version is older than any may be: it seals no more.
    #[error("the active version has reached the hard limit of its age: it opens, and seals no more")]
    Spent,
    /// KEK unreachable, deadline passed, or the store is not open yet: retrying is right.
    #[error("{0}")]
    Unavailable(String),
    /// The wrap or its row does not verify.
    #[error("the wrapped key does not verify")]
    Tampered,
}
