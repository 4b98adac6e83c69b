//! Where do sealed rows rest? Typed tables of rows that `keyring` sealed; every change is a compare-and-swap.
//! A store compares generations and never interprets a row, never sees an unwrapped key, and never computes a tag.
//!
//! Only `keyring` names [`Writer`]: it is the one way to a wrapped key and the one way to change a row.

pub mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::BoxFuture;
use crate::names::KeyVersionId;

/// A store opened for reading and for its one writer.
pub struct Opened {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
}

impl Opened {
    /// Joins the two halves of an implementation.
    pub fn new(reader: Arc<dyn Reader>, writer: Arc<dyn Writer>) -> Self {
        Self { reader, writer }
    }

    /// The half that anyone may have: metadata, never a wrap.
    pub fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.reader)
    }

    /// The half that only `keyring` takes; spends the value, so that a store has one writer.
    pub fn into_writer(self) -> Arc<dyn Writer> {
        self.writer
    }
}

/// Reads metadata. Rows are as stored: only `keyring` can tell whether their tags are right.
pub trait Reader: Send + Sync {
    /// The genesis row; None before the founding.
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>>;
    /// Every keyring's head row, by name.
    fn keyrings(&self) -> BoxFuture<'_, Result<Vec<KeyringRow>, StoreError>>;
    /// Every key, by id, without its wraps.
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>>;
    /// At most `limit` changes with a sequence number above `after`, in order.
    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>>;
}

/// Changes rows and reads wraps.
pub trait Writer: Send + Sync {
    /// All rows of the batch or none, durable when this returns. Row generations are the expectation: see [`Write`].
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Everything, wraps included, as of one moment: what `keyring` verifies.
    fn image(&self) -> BoxFuture<'_, Result<Image, StoreError>>;
}

/// One row of a batch. A row of generation 1 must not exist yet; a row of generation n replaces generation n - 1.
/// Anything else is a [`StoreError::Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The store's own row.
    Genesis(GenesisRow),
    /// A keyring's head.
    Keyring(KeyringRow),
    /// A key with its wraps. Purpose and keyring of a key never change.
    Key(SealedKey),
    /// The next link of the chain: its sequence number is one more than the last one's.
    Change(ChangeRow),
}

/// A row's authentication tag (HMAC-SHA-256). Made in `keyring/seal.rs` and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub [u8; 32]);

/// What the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisRow {
    /// 1 at the founding.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// Over every field.
    pub tag: Tag,
}

/// The head of a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringRow {
    /// `tenant/name`, or keyward's own.
    pub name: String,
    /// Counts the changes of the keyring.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// Over every field.
    pub tag: Tag,
}

/// A wrapped key of any purpose, without its wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Unique in the store.
    pub id: KeyVersionId,
    /// `data`, `store`, `pseudonym`, `look-up`, `partition`, `caller`, `log`.
    pub purpose: String,
    /// The keyring whose head counts it.
    pub keyring: String,
    /// What wraps it: `kek:NAME` or `key:ID`.
    pub parent: String,
    /// The state's name.
    pub state: String,
    /// Counts the changes of this key.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// Over every field and the wraps.
    pub tag: Tag,
}

/// A key row with its wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The metadata.
    pub row: KeyRow,
    /// The wraps, as `keyring` encodes them; empty when the key is destroyed.
    pub wraps: Vec<u8>,
}

/// One link of the append-only chain of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// 1, 2, ...
    pub seq: u64,
    /// Digest of the link before; zero for the first.
    pub previous: [u8; 32],
    /// Canonical JSON.
    pub body: String,
    /// Over every field.
    pub tag: Tag,
}

/// The whole store as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// None before the founding.
    pub genesis: Option<GenesisRow>,
    /// By name.
    pub keyrings: Vec<KeyringRow>,
    /// By id.
    pub keys: Vec<SealedKey>,
    /// In order.
    pub changes: Vec<ChangeRow>,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed a row first: read again and decide again. Nothing was written.
    #[error("the store was changed by somebody else at the same time")]
    Conflict,
    /// The database cannot be reached, is locked for too long, or was closed after a failed write. Nothing was written.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The commit failed in a way that leaves open whether it will be there after a restart. The store is closed.
    #[error("it is not known whether the store kept the change until a restart has recovered it: {0}")]
    Unsettled(String),
    /// No space is left. Nothing was written; the operator makes room.
    #[error("the store has no space left: {0}")]
    Full(String),
    /// A newer keyward made or changed the store.
    #[error("the store has schema {found}, this keyward knows {known}: run keyward {needs} or newer")]
    NewerSchema {
        /// The store's schema number.
        found: u32,
        /// The newest that this build knows.
        known: u32,
        /// The oldest keyward that knows it, as the store says.
        needs: String,
    },
    /// Not a keyward store, or damaged: the operator restores it from a backup.
    #[error("the store is damaged or not keyward's: {0}")]
    Corrupt(String),
    /// Creating would overwrite.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Opening never makes a store.
    #[error("there is no store at {}", .0.display())]
    Missing(PathBuf),
    /// Others than the owner may read or write the file.
    #[error("{} has mode {mode:04o}: only its owner may read and write it (chmod 600)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}
