//! Which keyrings are there, how new is each, and which one has a key version? Memory only, and little of it: at most
//! 150 bytes a keyring, however many there are. What a keyring says is read from the store when it is used.
//! This module never reads the store and holds no wrap.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use super::StoreHead;
use super::partition::Names;
use crate::names::KeyVersionId;
use crate::store::{PartitionName, Tag};

/// How many of the newest changes are remembered by their intents; older ones are looked up in the chain.
const RECENT: usize = 1024;
/// KEKs that should wrap every key: the primary and the escrow.
pub(super) const ROLES: usize = 2;
/// A keyring that has nothing to rotate.
pub(super) const NEVER: u32 = u32::MAX;

/// The newest generation of a keyring's head and the first half of its tag: 128 bits of an HMAC are as hard to forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub generation: u64,
    seen: [u8; 16],
}

impl Known {
    pub(super) fn new(generation: u64, tag: &Tag) -> Self {
        Self { generation, seen: tag.0.first_chunk().copied().unwrap_or_default() }
    }
}

/// What is counted of a keyring beside its newest head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// When its active version has reached the end of its cryptoperiod, in minutes since 1970; [`NEVER`] if none is active.
    pub due: u32,
    /// How many keys it has.
    pub keys: u16,
    /// How many of them have no wrap by each of the KEKs.
    pub without: [u16; ROLES],
}

impl Default for Facts {
    fn default() -> Self {
        Self { due: NEVER, keys: 0, without: [0; ROLES] }
    }
}

/// Which intent of which log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent {
    /// The log's origin.
    pub log: String,
    pub index: u64,
}

struct Entry {
    name: Box<str>,
    known: Known,
    facts: Facts,
}

/// All keyrings of a store, keyward's own keys included.
pub(super) struct Directory {
    head: StoreHead,
    entries: Vec<Entry>,
    /// By a keyed digest of the name; the next free number where two names share one.
    names: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    keyed: RandomState,
    versions: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    recent: VecDeque<(Intent, u32)>,
    /// Of all keyrings: a name is a digest over its keyring too, so no two share one. 17 bytes each and free room.
    shredded: HashSet<PartitionName>,
    /// Those that were made. What is shredded stands in both.
    live: Names,
    keys: usize,
    without: [usize; ROLES],
}

impl Directory {
    /// An empty one, with room for as many keyrings as the store says that it has.
    pub(super) fn with_room(keyrings: usize) -> Self {
        Self {
            head: StoreHead::default(),
            entries: Vec::with_capacity(keyrings),
            names: HashMap::with_capacity_and_hasher(keyrings, BuildHasherDefault::default()),
            keyed: RandomState::new(),
            versions: HashMap::with_capacity_and_hasher(keyrings, BuildHasherDefault::default()),
            recent: VecDeque::new(),
            shredded: HashSet::new(),
            live: Names::default(),
            keys: 0,
            without: [0; ROLES],
        }
    }

    /// Where the chain of changes ends.
    pub(super) const fn head(&self) -> StoreHead {
        self.head
    }

    pub(super) fn set_head(&mut self, head: StoreHead) {
        self.head = head;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys there are, and how many have no wrap by each of the KEKs.
    pub(super) const fn totals(&self) -> (usize, [usize; ROLES]) {
        (self.keys, self.without)
    }

    /// The newest head of a keyring.
    pub(super) fn known(&self, name: &str) -> Option<Known> {
        self.entries.get(self.find(name)?).map(|entry| entry.known)
    }

    /// The keyring that has a version.
    pub(super) fn of_version(&self, id: KeyVersionId) -> Option<&str> {
        let at = usize::try_from(*self.versions.get(&number(id))?).ok()?;
        self.entries.get(at).map(|entry| &*entry.name)
    }

    /// Whether an id is taken.
    pub(super) fn has_version(&self, id: KeyVersionId) -> bool {
        self.versions.contains_key(&number(id))
    }

    /// Notes the newest head of a keyring.
    pub(super) fn note(&mut self, name: &str, known: Known) {
        match self.find(name).and_then(|at| self.entries.get_mut(at)) {
            Some(entry) => entry.known = known,
            None => self.add(name, known),
        }
    }

    /// Notes what a keyring's rows say: its versions and what is counted.
    pub(super) fn describe(&mut self, name: &str, ids: impl Iterator<Item = KeyVersionId>, facts: Facts) {
        let Some(at) = self.find(name) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        let old = std::mem::replace(&mut entry.facts, facts);
        self.keys = (self.keys + usize::from(facts.keys)).saturating_sub(usize::from(old.keys));
        for ((total, new), old) in self.without.iter_mut().zip(facts.without).zip(old.without) {
            *total = (*total + usize::from(new)).saturating_sub(usize::from(old));
        }
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        self.versions.extend(ids.map(|id| (number(id), at)));
    }

    /// Remembers whose intent the last change of a keyring was.
    pub(super) fn remember(&mut self, intent: Intent, name: &str) {
        let Some(at) = self.find(name).and_then(|at| u32::try_from(at).ok()) else { return };
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((intent, at));
    }

    /// The keyring that the change of an intent touched, if that was one of the newest changes.
    pub(super) fn recent(&self, intent: &Intent) -> Option<&str> {
        let (_, at) = self.recent.iter().rev().find(|(known, _)| known == intent)?;
        self.entries.get(usize::try_from(*at).ok()?).map(|entry| &*entry.name)
    }

    /// Notes partitions that were shredded; nothing ever takes one out.
    pub(super) fn shred(&mut self, names: &[PartitionName]) {
        self.shredded.extend(names);
    }

    /// Notes partitions that are there.
    pub(super) fn live(&mut self, names: &[PartitionName]) {
        for name in names {
            self.live.add(self.keyed.hash_one(name));
        }
    }

    /// Whether a partition was made, and then its row is there for ever, shredded or not.
    pub(super) fn is_made(&self, name: PartitionName) -> bool {
        self.live.has(self.keyed.hash_one(name))
    }

    /// Whether the chain tells of the shredding of a partition.
    pub(super) fn is_shredded(&self, name: PartitionName) -> bool {
        self.shredded.contains(&name)
    }

    /// The keyrings whose cryptoperiod ends at or before a minute, and the next minute at which another one's does.
    pub(super) fn due(&self, minute: u32) -> (Vec<Box<str>>, Option<u32>) {
        let due = self.entries.iter().filter(|entry| entry.facts.due <= minute).map(|entry| entry.name.clone());
        let later = self.entries.iter().map(|entry| entry.facts.due).filter(|due| *due > minute && *due != NEVER);
        (due.collect(), later.min())
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.name)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let mut at = self.keyed.hash_one(name);
        loop {
            let found = usize::try_from(*self.names.get(&at)?).ok()?;
            if self.entries.get(found).is_some_and(|entry| &*entry.name == name) {
                return Some(found);
            }
            at = at.wrapping_add(1);
        }
    }

    fn add(&mut self, name: &str, known: Known) {
        let mut at = self.keyed.hash_one(name);
        while self.names.contains_key(&at) {
            at = at.wrapping_add(1);
        }
        let Ok(place) = u32::try_from(self.entries.len()) else { return };
        self.names.insert(at, place);
        self.entries.push(Entry { name: name.into(), known, facts: Facts::default() });
    }
}

/// A key version id as the key of a map.
pub(super) const fn number(id: KeyVersionId) -> u64 {
    u64::from_be_bytes(id.0)
}

/// Ids are random and chosen by keyward alone, and names are hashed before: both are their own hash.
#[derive(Default, Clone, Copy)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_at_most_64_bytes() {
        // With 16 + 1 bytes for each of two maps at worst half full, and 32 for the name, that is below 150.
        assert!(std::mem::size_of::<Entry>() <= 56, "{}", std::mem::size_of::<Entry>());
    }

    #[test]
    fn what_was_noted_is_found_and_counted_once() {
        let mut directory = Directory::with_room(0);
        let known = |generation| Known::new(generation, &Tag([7; 32]));
        for n in 0..1000_u64 {
            let name = format!("default/k{n}");
            directory.note(&name, known(1));
            let facts = Facts { due: u32::try_from(n).unwrap(), keys: 2, without: [0, 1] };
            directory.describe(&name, std::iter::once(KeyVersionId(n.to_be_bytes())), facts);
        }
        directory.note("default/k5", known(2));
        directory.describe("default/k5", std::iter::empty(), Facts { due: NEVER, keys: 3, without: [1, 0] });
        assert_eq!(directory.len(), 1000);
        assert_eq!(directory.known("default/k5"), Some(known(2)));
        assert_eq!(directory.known("default/k1000"), None);
        assert_eq!(directory.of_version(KeyVersionId(999_u64.to_be_bytes())), Some("default/k999"));
        assert_eq!(directory.totals(), (2001, [1, 999]));
        let (due, next) = directory.due(9);
        assert_eq!((due.len(), next), (9, Some(10)));
    }
}
