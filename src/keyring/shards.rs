//! How is a map read without a lock, and changed without copying all of it? It is cut into shards: a reader loads one
//! pointer and looks into an immutable map, a writer copies one shard, which stays small however large the map is.
//!
//! Writers of one map must take turns; whoever owns the map has the lock for that.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::directory::IdHasher;

/// Entries of a full shard, about: what one change copies.
const SHARD: usize = 128;
const MOST_SHARDS: usize = 1024;

type Shard<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// A map from random numbers: ids, or keyed digests.
pub(super) struct Shards<V> {
    shards: Box<[ArcSwap<Shard<V>>]>,
    len: AtomicUsize,
    /// Where [`Self::idlest`] looked last.
    hand: AtomicUsize,
}

impl<V: Clone> Shards<V> {
    /// Cut for so many entries; it is the owner who keeps to them.
    pub(super) fn with_room(entries: usize) -> Self {
        let count = (entries / SHARD).clamp(1, MOST_SHARDS).next_power_of_two();
        let shards = (0..count).map(|_| ArcSwap::default()).collect();
        Self { shards, len: AtomicUsize::new(0), hand: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// What stands there is read in place; the only way that a request takes.
    #[inline]
    pub(super) fn read<T>(&self, key: u64, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.shard(key)?.load().get(&key).map(read)
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<V> {
        self.read(key, V::clone)
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.read(key, |_| ()).is_some()
    }

    /// Sets an entry, and gives back what stood there.
    pub(super) fn put(&self, key: u64, value: V) -> Option<V> {
        let shard = self.shard(key)?;
        let mut copy = Shard::clone(&shard.load());
        let before = copy.insert(key, value);
        self.len.fetch_add(usize::from(before.is_none()), Ordering::Relaxed);
        shard.store(Arc::new(copy));
        before
    }

    /// Takes an entry out; costs nothing when there is none.
    pub(super) fn remove(&self, key: u64) -> Option<V> {
        let shard = self.shard(key)?;
        if !shard.load().contains_key(&key) {
            return None;
        }
        let mut copy = Shard::clone(&shard.load());
        let before = copy.remove(&key);
        self.len.fetch_sub(usize::from(before.is_some()), Ordering::Relaxed);
        shard.store(Arc::new(copy));
        before
    }

    /// Drops what is not to be kept, and says how much that was. Shards that lose nothing are not copied.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) -> usize {
        let mut dropped = 0_usize;
        for shard in &self.shards {
            let now = shard.load();
            if now.values().all(&keep) {
                continue;
            }
            let kept: Shard<V> =
                now.iter().filter(|(_, value)| keep(value)).map(|(key, value)| (*key, value.clone())).collect();
            dropped = dropped.saturating_add(now.len().saturating_sub(kept.len()));
            shard.store(Arc::new(kept));
        }
        self.len.fetch_sub(dropped, Ordering::Relaxed);
        dropped
    }

    /// Who makes room: the one of lowest rank in the next shard that has any. With one shard that is the lowest of all.
    pub(super) fn idlest(&self, rank: impl Fn(&V) -> u64) -> Option<u64> {
        let from = self.hand.fetch_add(1, Ordering::Relaxed);
        let (before, after) = self.shards.split_at_checked(from % self.shards.len())?;
        let lowest =
            |shard: &ArcSwap<Shard<V>>| shard.load().iter().min_by_key(|(_, value)| rank(value)).map(|(key, _)| *key);
        after.iter().chain(before).find_map(lowest)
    }

    /// Looks at every entry, a shard at a time.
    pub(super) fn each(&self, mut look: impl FnMut(&V)) {
        for shard in &self.shards {
            shard.load().values().for_each(&mut look);
        }
    }

    /// The high bits choose: the maps inside use the low ones.
    #[inline]
    fn shard(&self, key: u64) -> Option<&ArcSwap<Shard<V>>> {
        let at = (key >> 54) & (self.shards.len() as u64).wrapping_sub(1);
        self.shards.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers over all bits, as ids and digests are.
    const fn spread(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn entries_are_found_replaced_and_counted_in_every_shard() {
        let map = Shards::with_room(4096);
        assert_eq!(map.shards.len(), 32);
        for n in 0..4096 {
            assert_eq!(map.put(spread(n), n), None);
        }
        assert_eq!(map.put(spread(7), 70), Some(7));
        assert_eq!((map.len(), map.get(spread(7)), map.get(spread(5000))), (4096, Some(70), None));
        let used = map.shards.iter().filter(|shard| !shard.load().is_empty()).count();
        assert_eq!(used, 32);
        assert_eq!((map.remove(spread(7)), map.remove(spread(7)), map.len()), (Some(70), None, 4095));
        assert_eq!(map.retain(|n| n % 2 == 0), 2047);
        assert_eq!(map.len(), 2048);
        let mut sum = 0;
        map.each(|n| sum += n);
        assert_eq!(sum, 2047 * 2048);
    }

    #[test]
    fn a_map_at_its_limit_makes_room_in_every_shard_and_in_order_when_it_has_one() {
        let small = Shards::with_room(64);
        for n in 0..64 {
            small.put(spread(n), n);
        }
        assert_eq!(small.idlest(|n| *n), Some(spread(0)));
        let large = Shards::with_room(1024);
        for n in 0..1024 {
            large.put(spread(n), n);
        }
        for _ in 0..1024 {
            let idle = large.idlest(|n| *n).unwrap();
            large.remove(idle);
        }
        assert_eq!((large.len(), large.idlest(|n| *n)), (0, None));
    }
}
