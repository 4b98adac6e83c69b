//! What does a store hold as of one moment, however many pages it takes to read and whoever changes it meanwhile?
//! For whoever compares rows of many statements with each other: an admission, a backup, a copy.

use super::{
    ChangeRow, Counts, GenesisRow, KeyVersionId, PartitionName, PartitionRow, RingRows, SidecarRow, StoreError,
    UsageRow,
};
use crate::clock::BoxFuture;

/// One moment of a store, until it is dropped. It comes from the store itself, never from a mirror, and holds a connection
/// of its own. While it lives the database keeps what was replaced since, so it is dropped as soon as it was read.
/// Each read may find the store gone (`Unavailable`): then the moment is gone too, and another one is taken.
pub trait Snapshot: Send + Sync {
    /// The genesis row; None before the founding.
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>>;
    /// How many rows each table has.
    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>>;
    /// Where the chain ends.
    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>>;
    /// At most `limit` changes with a sequence number above `after`, in order.
    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>>;
    /// A keyring's head with all of its keys.
    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>>;
    /// Keyrings whose name stands after `after`, by name, whole: as many as have at most `keys` keys together, and at
    /// least one unless there is none.
    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>>;
    /// At most `limit` partitions of a keyring whose name stands after `after`, by name.
    fn partitions(
        &self,
        keyring: String,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>>;
    /// What every sidecar counted of one key; of all keys without one.
    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>>;
    /// Every sidecar that ever registered, by id.
    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>>;
}
