//! Where do sealed rows rest? Typed tables of rows that `keyring` sealed; every change is a compare-and-swap.
//! A store compares generations and never interprets a row, never sees an unwrapped key, and never computes a tag.
//!
//! Only `keyring` names [`Writer`]: it is the one way to a wrapped key and the one way to change a row.

mod copy;
mod mirror;
pub mod postgres;
mod snapshot;
pub mod sqlite;

pub use copy::{CopyError, Progress, copy};
pub use mirror::MirrorState;
pub use snapshot::Snapshot;

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::BoxFuture;
use crate::names::KeyVersionId;

/// Which store, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// A file of this machine, for one sidecar.
    Sqlite(sqlite::Settings),
    /// A database that a fleet shares.
    Postgresql(Box<postgres::Settings>),
}

/// Makes an empty store and opens it. Never overwrites one.
pub async fn create(settings: &Settings) -> Result<Opened, StoreError> {
    match settings {
        Settings::Sqlite(settings) => sqlite::create(settings).await,
        Settings::Postgresql(settings) => Ok(with_mirror(postgres::create(settings).await?, settings).await),
    }
}

/// Opens a store that exists, and never makes one.
pub async fn open(settings: &Settings) -> Result<Opened, StoreError> {
    match settings {
        Settings::Sqlite(settings) => sqlite::open(settings).await,
        Settings::Postgresql(settings) => Ok(with_mirror(postgres::open(settings).await?, settings).await),
    }
}

/// The same for a sidecar that lives through outages: a database that cannot be reached now is opened when it can be.
pub async fn attach(settings: &Settings) -> Result<Opened, StoreError> {
    match settings {
        Settings::Sqlite(settings) => sqlite::open_after_readers(settings).await,
        Settings::Postgresql(settings) => Ok(with_mirror(postgres::attach(settings).await?, settings).await),
    }
}

/// The store as it is now, beside a sidecar that serves it: nothing is migrated and nobody is kept from writing.
pub async fn look(settings: &Settings) -> Result<Box<dyn Snapshot>, StoreError> {
    match settings {
        Settings::Sqlite(settings) => sqlite::look(settings).await,
        Settings::Postgresql(settings) => postgres::open(settings).await?.snapshot().await,
    }
}

/// Opens a store that exists so that nobody else changes it as long as the value, or what was made of it, is there. Whoever
/// tries is refused as by a database that does not answer in time.
pub async fn hold(settings: &Settings) -> Result<Opened, StoreError> {
    match settings {
        // The state directory's lock keeps others away.
        Settings::Sqlite(settings) => sqlite::open(settings).await,
        Settings::Postgresql(settings) => postgres::hold(settings).await,
    }
}

async fn with_mirror(opened: Opened, settings: &postgres::Settings) -> Opened {
    match &settings.mirror {
        Some(path) => mirror::mirrored(opened, path).await,
        None => opened,
    }
}

/// A store opened for reading and for its one writer.
pub struct Opened {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
    mirror: Option<Arc<MirrorState>>,
}

impl Opened {
    /// Joins the two halves of an implementation.
    pub fn new(reader: Arc<dyn Reader>, writer: Arc<dyn Writer>) -> Self {
        Self { reader, writer, mirror: None }
    }

    /// The half that anyone may have: metadata, never a wrap.
    pub fn reader(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.reader)
    }

    /// How the local mirror of a shared store fares, if there is one.
    pub fn mirror(&self) -> Option<Arc<MirrorState>> {
        self.mirror.clone()
    }

    /// The store as it is now, for as long as it takes to read it. Never from a mirror.
    pub async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.writer.snapshot().await
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
    /// At most `limit` heads whose name stands after `after`, by name (bytewise).
    fn keyrings(&self, after: Option<String>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyringRow>, StoreError>>;
    /// At most `limit` keys whose id stands after `after`, by id, without their wraps.
    fn keys(&self, after: Option<KeyVersionId>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>>;
    /// At most `limit` changes with a sequence number above `after`, in order.
    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>>;
    /// How many rows each table has.
    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>>;
}

/// Changes rows and reads wraps.
pub trait Writer: Send + Sync {
    /// All rows of the batch or none, durable when this returns. Row generations are the expectation: see [`Write`].
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// All rows of the batch or none, each as it is: none of them may exist yet, whatever its generation. For copies of
    /// a whole store.
    fn import(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// The newest change there is: where the chain ends now. Never from a mirror.
    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>>;
    /// A keyring's head with all of its keys, as of one moment. While the database is away a local mirror may answer, with
    /// a keyring that is older than the newest; one that it does not have is `Unavailable`.
    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>>;
    /// The same, never from a mirror: what the chain's newest links are compared with.
    fn ring_now(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>>;
    /// Keyrings whose name stands after `after`, by name, whole, each as of one moment: as many as have at most `keys`
    /// keys together, and at least one unless there is none.
    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>>;
    /// A partition of a keyring. Never from a mirror: what was shredded must be seen to be.
    fn partition(
        &self,
        keyring: String,
        name: PartitionName,
    ) -> BoxFuture<'_, Result<Option<PartitionRow>, StoreError>>;
    /// At most `limit` partitions of a keyring whose name stands after `after`, by name; with `parent`, only those that
    /// this key wraps.
    fn partitions(
        &self,
        keyring: String,
        parent: Option<KeyVersionId>,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>>;
    /// What every sidecar counted of one key; of all keys without one. By key, then by sidecar.
    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>>;
    /// Every sidecar that ever registered, by id.
    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>>;
    /// The store as it is now, for as long as it takes to read it. Never from a mirror.
    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>>;
    /// Resolves when every commit that was under way before, of this process or of one that is gone, is there for
    /// everybody or never will be. `Unavailable` while one of them still waits in the database, for a standby say.
    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Resolves when somebody else may have changed something: a hint to look sooner than the next poll, never a
    /// promise. A store without such hints never resolves.
    fn hint(&self) -> BoxFuture<'_, ()>;
}

/// One row of a batch; no row stands in a batch twice. A row of generation 1 must not exist yet; a row of generation n replaces generation n - 1.
/// Anything else is a [`StoreError::Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The store's own row.
    Genesis(GenesisRow),
    /// A keyring's head.
    Keyring(KeyringRow),
    /// A key with its wraps. Purpose and keyring of a key never change.
    Key(SealedKey),
    /// A partition of a keyring.
    Partition(PartitionRow),
    /// What one sidecar counted of one key.
    Usage(UsageRow),
    /// What one sidecar says of itself.
    Sidecar(SidecarRow),
    /// The next link of the chain: its sequence number is one more than the last one's.
    Change(ChangeRow),
}

impl Write {
    /// The row's generation; None for a link of the chain, which has a number instead.
    pub const fn generation(&self) -> Option<u64> {
        match self {
            Self::Genesis(row) => Some(row.generation),
            Self::Keyring(row) => Some(row.generation),
            Self::Key(key) => Some(key.row.generation),
            Self::Partition(row) => Some(row.generation),
            Self::Usage(row) => Some(row.generation),
            Self::Sidecar(row) => Some(row.generation),
            Self::Change(_) => None,
        }
    }

    /// What keyward says of the row, and the seal over it.
    pub const fn sealed(&self) -> (&String, &Tag) {
        match self {
            Self::Genesis(row) => (&row.body, &row.tag),
            Self::Keyring(row) => (&row.body, &row.tag),
            Self::Key(key) => (&key.row.body, &key.row.tag),
            Self::Partition(row) => (&row.body, &row.tag),
            Self::Usage(row) => (&row.body, &row.tag),
            Self::Sidecar(row) => (&row.body, &row.tag),
            Self::Change(row) => (&row.body, &row.tag),
        }
    }
}

/// A row's authentication tag (HMAC-SHA-256). Made in `keyring/seal.rs` and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub [u8; 32]);

/// A partition's name in the store: a keyed digest, so that no patient is named in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName(pub [u8; 16]);

/// Which sidecar of a fleet: the volume id of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SidecarId(pub [u8; 16]);

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
    /// `data`, `store`, `pseudonym`, `look-up`, `caller`, `log`.
    pub purpose: String,
    /// The keyring whose head counts it.
    pub keyring: String,
    /// What wraps it: `kek:NAME`, the primary one.
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

/// A keyring with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRows {
    /// The head.
    pub head: KeyringRow,
    /// By id.
    pub keys: Vec<SealedKey>,
}

/// A partition key: wrapped by a data key, or shredded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// The keyring that it is a part of.
    pub keyring: String,
    /// Unique in the keyring.
    pub name: PartitionName,
    /// The data key version that wraps it.
    pub parent: KeyVersionId,
    /// The state's name: `active` or `destroyed`.
    pub state: String,
    /// Counts the changes of this partition.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// The wrap; empty when shredded.
    pub wrap: Vec<u8>,
    /// Over every field.
    pub tag: Tag,
}

/// What one sidecar has counted of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The key.
    pub key: KeyVersionId,
    /// Who counted.
    pub sidecar: SidecarId,
    /// Counts the changes of this row.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// Over every field.
    pub tag: Tag,
}

/// What a sidecar says of itself to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarRow {
    /// Who.
    pub id: SidecarId,
    /// Counts the changes of this row.
    pub generation: u64,
    /// Canonical JSON.
    pub body: String,
    /// Over every field.
    pub tag: Tag,
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

/// How many rows there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// 0 before the founding, then 1.
    pub genesis: u64,
    /// Heads.
    pub keyrings: u64,
    /// Keys.
    pub keys: u64,
    /// Partitions, shredded ones included.
    pub partitions: u64,
    /// Rows of usage.
    pub usage: u64,
    /// Sidecars.
    pub sidecars: u64,
    /// Changes.
    pub changes: u64,
}

/// All rows of a small store.
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

/// Reads heads, keys and the chain into memory, page by page: as of one moment only while nobody changes the store.
pub async fn image(reader: &dyn Reader, writer: &dyn Writer) -> Result<Image, StoreError> {
    const PAGE: u32 = 1_000;
    let mut image = Image { genesis: reader.genesis().await?, ..Image::default() };
    loop {
        let after = image.keyrings.last().map(|head| head.name.clone());
        let rings = writer.rings(after, PAGE).await?;
        if rings.is_empty() {
            break;
        }
        for ring in rings {
            image.keyrings.push(ring.head);
            image.keys.extend(ring.keys);
        }
    }
    image.keys.sort_by_key(|key| key.row.id);
    loop {
        let links = reader.changes(image.changes.last().map_or(0, |link| link.seq), PAGE).await?;
        if links.is_empty() {
            return Ok(image);
        }
        image.changes.extend(links);
    }
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
    /// The commit failed in a way that leaves open whether it is there. An embedded store is closed until a restart has
    /// recovered it; a shared one shows it when it can be reached again.
    #[error("it is not known whether the store kept the change: {0}")]
    Unsettled(String),
    /// The database would not keep, order or admit what keyward writes: its operator changes its settings or rights.
    #[error("the database is not set up as keyward needs it: {0}")]
    Unsuitable(String),
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
