//! How does one patient get a key of his own, so that his values can be made unreadable and nobody else's?
//!
//! A partition key is 32 random bytes for one value of the keyring's partition key (a context key, `patient` say). It is
//! wrapped by a data key of the keyring, never by a key-encryption key, and the values of that patient are sealed under
//! it alone; a value's header still names the data key version that was active. Its row is named by a digest under a
//! store key, so that no row names a patient. It is made on first use of sealing, never of opening; destroying it is for
//! good, and its tombstone keeps it from being made again.
//!
//! This module never keeps the value that names a partition, and never believes a row that the head of its keyring does
//! not account for: see `sum` and `admit`.

mod admit;
mod cache;
mod change;
mod names;
mod rows;
mod sum;
mod unlock;
mod wrap;

use std::collections::BTreeMap;

use self::sum::{Sum, Summer};
use super::bodies::PartitionsBody;
use super::verify::{Damage, describe_head};
use super::{Action, ApplyError, Keyrings, UnlockError};
use crate::clock::Wall;
use crate::crypto::{CryptoError, DataKey, MacKey, canonical};
use crate::names::{KeyVersionId, KeyringName, StoreId};

pub use crate::store::PartitionName;
pub(super) use admit::check as admit;
pub(super) use cache::{PartitionCache, PartitionSlot};
pub(super) use change::carry_out;
pub(super) use names::Names;

/// Rows that one transaction makes or moves at most (design): it stays short beside what others wait to write.
pub const BATCH: usize = 500;

/// The label of the key that names partitions, and of the tuples.
const NAMES: &str = "keyward/v1/partition-names";

/// A change to partitions of one keyring. Holds names, never the values behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionChange {
    /// Which keyring.
    pub keyring: KeyringName,
    /// What happens to its partitions.
    pub step: PartitionStep,
}

/// What happens to partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionStep {
    /// They get keys, but for those that have one already. At most [`BATCH`] in one change.
    Make(Vec<PartitionName>),
    /// One loses its key for good.
    Shred {
        /// Which one.
        name: PartitionName,
        /// Why: a closed code.
        reason: String,
    },
    /// At most so many are wrapped by the active version instead of an older one.
    Rewrap(usize),
}

impl PartitionChange {
    /// What policy calls it. Making rests on the permission to seal, and moving belongs to rotating.
    pub const fn action(&self) -> Action {
        match self.step {
            PartitionStep::Make(_) => Action::Seal,
            PartitionStep::Shred { .. } => Action::PartitionShred,
            PartitionStep::Rewrap(_) => Action::KeyringRotate,
        }
    }

    pub(super) fn check(&self) -> Result<(), ApplyError> {
        match &self.step {
            PartitionStep::Make(names) if names.len() > BATCH => {
                Err(ApplyError::Invalid(format!("one change makes at most {BATCH} partitions")))
            }
            PartitionStep::Make(_) | PartitionStep::Shred { .. } | PartitionStep::Rewrap(_) => Ok(()),
        }
    }
}

/// What became of partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionsApplied {
    /// How many got a key or were wrapped anew.
    pub done: u64,
    /// How many are not under the active version.
    pub remaining: u64,
    /// How many of these were looked at and cannot be moved: their rows were edited.
    pub damaged: u64,
    /// The tombstone.
    pub shredded: Option<Shredded>,
}

/// The tombstone of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shredded {
    /// Which one.
    pub name: PartitionName,
    /// When.
    pub at: Wall,
    /// Who: a principal's name, or `sidecar`.
    pub actor: String,
    /// Why: a closed code.
    pub reason: String,
    /// The name of the log that has the intent; empty where there was none.
    pub log: String,
    /// The index of the intent.
    pub intent: u64,
    /// Whether it had been shredded before it was asked for.
    pub before: bool,
}

/// An unlocking that may need a partition first.
#[must_use]
pub enum Unlock<K> {
    /// The key.
    Ready(K),
    /// There is no such partition yet: it is to be made, and then the unlocking succeeds.
    Needs(NewPartition),
}

/// A partition that a permit to seal asked for and that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPartition(PartitionName);

impl NewPartition {
    /// Its name, for the change that makes it.
    pub const fn name(self) -> PartitionName {
        self.0
    }
}

/// The keys, derived from the store key, that name partitions and add up their rows.
pub(super) struct Partitions {
    names: MacKey,
    summer: Summer,
}

impl Partitions {
    pub(super) fn new(store_key: &DataKey) -> Result<Self, CryptoError> {
        Ok(Self { names: MacKey::derive(store_key, NAMES)?, summer: Summer::new(store_key)? })
    }

    const fn summer(&self) -> &Summer {
        &self.summer
    }

    /// The name of a partition: the same in every sidecar and after every rotation.
    fn name(&self, keyring: &str, value: &str) -> Result<PartitionName, CryptoError> {
        let pairs: [(&[u8], &[u8]); 2] = [(b"keyring", keyring.as_bytes()), (b"value", value.as_bytes())];
        let tag = self.names.tag(&[&canonical::encode(NAMES, &[], pairs).ok_or(CryptoError)?]);
        tag.first_chunk().copied().map(PartitionName).ok_or(CryptoError)
    }
}

impl Keyrings {
    /// The name of the partition that a value of the partition key stands for.
    pub fn partition_name(&self, keyring: &KeyringName, value: &str) -> Result<PartitionName, UnlockError> {
        let open = self.inner.opened()?;
        let name = open.system.partitions.name(&keyring.to_string(), value);
        name.map_err(|_| UnlockError::Unavailable("the value is too large".to_owned()))
    }

    /// Which store; None until admitted.
    pub fn store(&self) -> Option<StoreId> {
        self.inner.opened().ok().map(|open| open.system.genesis.store)
    }

    /// Partition keys in the cache.
    pub fn cached_partitions(&self) -> usize {
        self.inner.partitions.len()
    }
}

/// What the head of a keyring says of its partitions, unmasked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Totals {
    count: u64,
    shredded: u64,
    /// Live ones by the data key version that wraps them.
    parents: BTreeMap<KeyVersionId, u64>,
    sum: Sum,
}

impl Totals {
    fn read(keyring: &str, body: Option<&PartitionsBody>, summer: &Summer) -> Result<Self, Damage> {
        let Some(body) = body else { return Ok(Self::default()) };
        let broken = |what: &str| Damage::of(describe_head(keyring), what);
        let sum = summer.reveal(&body.sum).ok_or_else(|| broken("its sum of partitions is none"))?;
        let mut parents = BTreeMap::new();
        for (id, count) in &body.parents {
            parents.insert(id.parse().map_err(|_| broken("it counts partitions of no version"))?, *count);
        }
        Ok(Self { count: body.count, shredded: body.shredded, parents, sum })
    }

    fn body(&self, summer: &Summer) -> Result<PartitionsBody, CryptoError> {
        let parents = self.parents.iter().filter(|(_, count)| **count > 0);
        Ok(PartitionsBody {
            count: self.count,
            parents: parents.map(|(id, count)| (id.to_string(), *count)).collect(),
            shredded: self.shredded,
            sum: summer.hide(self.sum)?,
        })
    }

    /// Live ones that the version does not wrap.
    fn elsewhere(&self, active: Option<KeyVersionId>) -> u64 {
        self.parents.iter().filter(|(id, _)| Some(**id) != active).map(|(_, count)| count).sum()
    }
}

/// How many live partitions a data key version wraps, as the head of its keyring says.
pub(super) fn wrapped_by(body: Option<&PartitionsBody>, id: KeyVersionId) -> u64 {
    body.and_then(|body| body.parents.get(&id.to_string())).copied().unwrap_or_default()
}
