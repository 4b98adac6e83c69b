//! Which partition keys are unwrapped right now? A bounded map of its own, one read of the store a partition at a time.
//!
//! Keyed by the partition's name, a digest over keyring and value: no two keyrings share one. A key lives for the time
//! to live from before the read of its row, and no longer than the store's last word may be believed, whatever happens
//! to the data key that wraps it; and it is used only while that data key may be used, so none of its leases outlive
//! the parent's. This module never extends a life.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, UnitWeighter};

use crate::clock::Mono;
use crate::crypto::MessageKey;
use crate::names::KeyVersionId;
use crate::store::PartitionName;

/// An unwrapped partition key. Dropping the last reference wipes it.
pub(in crate::keyring) struct PartitionSlot {
    pub key: MessageKey,
    /// The data key version that wrapped it when it was read.
    pub parent: KeyVersionId,
    /// When it serves nobody any more.
    pub ends: Mono,
}

/// Whoever holds it reads the row on behalf of all who wait.
pub(super) type Seat<'a> =
    PlaceholderGuard<'a, PartitionName, Arc<PartitionSlot>, UnitWeighter, DefaultHashBuilder, Lifecycle>;
type Lifecycle = DefaultLifecycle<PartitionName, Arc<PartitionSlot>>;

/// The partition keys of one store.
pub(in crate::keyring) struct PartitionCache {
    slots: Cache<PartitionName, Arc<PartitionSlot>>,
    life: Duration,
}

impl PartitionCache {
    pub(in crate::keyring) fn new(limit: usize, ttl: Duration, store_offline_max: Duration) -> Self {
        Self { slots: Cache::new(limit.max(1)), life: ttl.min(store_offline_max) }
    }

    /// When a key ends whose row was asked for then.
    pub(super) fn ends(&self, asked: Mono) -> Mono {
        asked.plus(self.life)
    }

    /// A live key.
    #[inline]
    pub(super) fn look(&self, name: PartitionName, now: Mono) -> Option<Arc<PartitionSlot>> {
        self.slots.get(&name).filter(|slot| slot.ends > now)
    }

    /// A live key, or the seat of whoever fetches it; the others wait for him, and one of them follows if he goes away.
    pub(super) async fn take_seat(&self, name: PartitionName, now: Mono) -> Result<Arc<PartitionSlot>, Seat<'_>> {
        self.slots.remove_if(&name, |slot| slot.ends <= now);
        self.slots.get_value_or_guard_async(&name).await
    }

    /// Drops keys at once; requests that hold one finish.
    pub(in crate::keyring) fn evict(&self, names: &[PartitionName]) {
        for name in names {
            self.slots.remove(name);
        }
    }

    pub(in crate::keyring) fn evict_all(&self) {
        self.slots.clear();
    }

    /// Drops the keys whose time is over, and those whose data key is not at hand any more.
    pub(in crate::keyring) fn sweep(&self, now: Mono, parent_lives: impl Fn(KeyVersionId) -> bool) {
        self.slots.retain(|_, slot| slot.ends > now && parent_lives(slot.parent));
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
