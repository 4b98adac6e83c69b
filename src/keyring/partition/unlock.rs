//! How does a permit become a partition's key? The data key that wraps it comes first, by the same rules as where there are
//! no partitions; then the row of the partition, from the cache or by one read of the store.
//!
//! A row is used only if it is sealed, live, and not one whose shredding the chain of changes tells of.

use std::sync::Arc;

use super::cache::PartitionSlot;
use super::rows::{self, Partition};
use super::wrap::{self, Place};
use super::{NewPartition, PartitionName, Unlock};
use crate::clock::Deadline;
use crate::crypto::{KeyClass, MessageKey};
use crate::keyring::cache::Slot;
use crate::keyring::follow::Open;
use crate::keyring::rings::{Ring, Version};
use crate::keyring::unlock::may_open;
use crate::keyring::verify::Damage;
use crate::keyring::{ApplyError, Inner, UnlockError};
use crate::policy::Action;
use crate::store::PartitionRow;

/// Of a partition that the chain or an earlier look knows.
pub(super) const DELETED: &str = "its row has been deleted";

/// What the key is for, and until when.
type Asks = (Action, Deadline);

impl Inner {
    /// The name of the partition; None where the keyring has none. A keyring that has them is not used without.
    pub(in crate::keyring) fn sought(
        &self,
        open: &Open,
        ring: &Ring,
        partition: Option<&str>,
    ) -> Result<Option<(PartitionName, Box<str>)>, UnlockError> {
        match (&ring.view.partition_key, partition) {
            (None, _) => Ok(None),
            (Some(_), None) => Err(UnlockError::NoPartition),
            (Some(_), Some(value)) => {
                let name = open.system.partitions.name(&ring.label, value);
                let name = name.map_err(|_| UnlockError::Unavailable("the value is too large".to_owned()))?;
                Ok(Some((name, value.into())))
            }
        }
    }

    /// The key of a partition, under whichever data key version wraps it.
    pub(in crate::keyring) async fn partition_key(
        self: &Arc<Self>,
        open: &Open,
        ring: &Ring,
        name: PartitionName,
        asks: Asks,
    ) -> Result<Unlock<Arc<PartitionSlot>>, UnlockError> {
        let now = self.clock.mono();
        if let Some(slot) = self.partitions.look(name, now) {
            // The data key that wraps it must be one that may be used now: then its leases are those of the partition.
            if let Some(parent) = ring.version(slot.parent) {
                self.parent_slot(ring, parent, asks).await?;
                return Ok(Unlock::Ready(slot));
            }
            self.partitions.evict(&[name]);
        }
        let read = self.read_partition(open, ring, name, asks).await;
        if let Err(UnlockError::Tampered) = &read {
            tracing::error!(keyring = %ring.label, partition = hex::encode(name.0), "the partition cannot be used");
        }
        read
    }

    async fn read_partition(
        self: &Arc<Self>,
        open: &Open,
        ring: &Ring,
        name: PartitionName,
        asks: Asks,
    ) -> Result<Unlock<Arc<PartitionSlot>>, UnlockError> {
        let asked = self.clock.mono();
        let seat = match self.partitions.take_seat(name, asked).await {
            // Whoever fetched it may have been overtaken by a shredding.
            Ok(_) if open.directory().is_shredded(name) => return Err(UnlockError::Shredded),
            Ok(slot) => {
                // Whoever fetched it may have been allowed more: each looks at the data key for its own action.
                let moving = || UnlockError::Unavailable("the partition is being moved".to_owned());
                let parent = ring.version(slot.parent).ok_or_else(moving)?;
                self.parent_slot(ring, parent, asks).await?;
                return Ok(Unlock::Ready(slot));
            }
            Err(seat) => seat,
        };
        // What is known before the row is read is there; what another task makes or shreds meanwhile may be or not.
        let known = {
            let directory = open.directory();
            (directory.is_shredded(name), directory.is_made(name))
        };
        let row = self.writer.partition(ring.label.to_string(), name).await.map_err(ApplyError::from)?;
        let Some((row, created)) = self.usable(open, ring, (name, known), row)? else {
            return Ok(Unlock::Needs(NewPartition(name)));
        };
        let current;
        let parent = match ring.version(row.parent) {
            Some(parent) => parent,
            // Another sidecar has rotated and moved it since this ring was read.
            None => {
                current = self.current_version(open, ring, &row).await?;
                &current
            }
        };
        let data_key = self.parent_slot(ring, parent, asks).await?;
        let store = open.system.genesis.store;
        let place = Place { store, keyring: &ring.label, name, parent: row.parent, created };
        let key = wrap::unwrap(data_key.key(), &row.wrap, &place).map_err(|_| self.damaged(ring, &row))?;
        let key = MessageKey::derive(&key, KeyClass::Field);
        let key = key.map_err(|_| UnlockError::Unavailable("no locked memory is left for another key".to_owned()))?;
        let slot = Arc::new(PartitionSlot { key, parent: row.parent, ends: self.partitions.ends(asked) });
        let directory = open.directory();
        if directory.is_shredded(name) {
            return Err(UnlockError::Shredded);
        }
        // Under the directory's lock: a shredding that comes after it finds the key in the cache and drops it. Should
        // the seat be gone, the key was dropped already and serves this request alone.
        let _kept = seat.insert(Arc::clone(&slot));
        drop(directory);
        Ok(Unlock::Ready(slot))
    }

    /// The verified row and when it was made; None if there is no such partition.
    fn usable(
        &self,
        open: &Open,
        ring: &Ring,
        (name, (shredded, made)): (PartitionName, (bool, bool)),
        row: Option<PartitionRow>,
    ) -> Result<Option<(PartitionRow, crate::clock::Wall)>, UnlockError> {
        let Some(row) = row else {
            let what = match (shredded, made) {
                (true, _) => "its tombstone has been deleted",
                (false, true) => DELETED,
                (false, false) => return Ok(None),
            };
            return Err(self.note_partition_damage(ring, Damage::of(rows::describe(&ring.label, name), what)));
        };
        match rows::read(&row, &open.system.rows) {
            Ok(Partition::Shredded(_)) => Err(UnlockError::Shredded),
            Ok(Partition::Live(_)) if shredded => {
                let what = "it was shredded, and an older copy of its row was put back";
                Err(self.note_partition_damage(ring, Damage::of(rows::describe(&ring.label, name), what)))
            }
            Ok(Partition::Live(created)) => Ok(Some((row, created))),
            Err(damage) => Err(self.note_partition_damage(ring, damage)),
        }
    }

    async fn current_version(&self, open: &Open, ring: &Ring, row: &PartitionRow) -> Result<Arc<Version>, UnlockError> {
        self.catch_up(open).await?;
        let newer = self.ring(open, &ring.view.name).await?;
        newer.and_then(|ring| ring.version(row.parent).map(Arc::clone)).ok_or_else(|| self.damaged(ring, row))
    }

    /// The unwrapped data key that wraps partitions, if its state allows that.
    async fn parent_slot(
        self: &Arc<Self>,
        ring: &Ring,
        parent: &Arc<Version>,
        (action, deadline): Asks,
    ) -> Result<Arc<Slot>, UnlockError> {
        may_open(parent, action)?;
        self.data_key(ring, parent, deadline).await
    }

    fn damaged(&self, ring: &Ring, row: &PartitionRow) -> UnlockError {
        self.note_partition_damage(ring, Damage::of(rows::describe(&row.keyring, row.name), "its wrap does not open"))
    }

    fn note_partition_damage(&self, ring: &Ring, damage: Damage) -> UnlockError {
        let error = ApplyError::from(damage);
        if let ApplyError::Tampered(why) = &error {
            self.note_damage(ring.label.as_ref(), why);
        }
        error.into()
    }
}
