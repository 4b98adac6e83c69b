//! Which keyrings are there, how new is each, and which one has a key version? Memory only, and little of it: at most
//! 100 bytes and its name for a keyring of one version, however many there are, and usually 70. What a keyring says is
//! read from the store when it is used.
//! This module never reads the store and holds no wrap.

mod texts;

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;

use self::texts::{Place, Texts};
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
    /// Whether partitions are wrapped by another version than the active one.
    pub elsewhere: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { due: NEVER, keys: 0, without: [0; ROLES], elsewhere: false }
    }
}

/// Which intent of which log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent {
    /// The log's origin.
    pub log: String,
    pub index: u64,
}

/// A keyring: what is known of its head, where its name is, and its facts, in the order that leaves no gap.
struct Entry {
    known: Known,
    name_at: u32,
    due: u32,
    keys: u16,
    without: [u16; ROLES],
    name_len: u8,
    elsewhere: bool,
}

impl Entry {
    const fn name(&self) -> Place {
        Place { at: self.name_at, len: self.name_len }
    }

    const fn facts(&self) -> Facts {
        let Self { due, keys, without, elsewhere, .. } = *self;
        Facts { due, keys, without, elsewhere }
    }

    const fn set_facts(&mut self, Facts { due, keys, without, elsewhere }: Facts) {
        (self.due, self.keys, self.without, self.elsewhere) = (due, keys, without, elsewhere);
    }
}

/// The keyring of a version.
struct Owned {
    id: KeyVersionId,
    by: u32,
}

/// All keyrings of a store, keyward's own keys included.
pub(super) struct Directory {
    head: StoreHead,
    entries: Vec<Entry>,
    texts: Texts,
    /// By a keyed digest of the name. Two names that share one are told apart by the names themselves.
    names: HashTable<u32>,
    keyed: RandomState,
    /// By the id, which is random and chosen by keyward alone: it is its own digest.
    versions: HashTable<Owned>,
    /// Most of them are of one log, whose origin they share.
    recent: VecDeque<(Arc<str>, u64, u32)>,
    /// Of all keyrings: a name is a digest over its keyring too, so no two share one. 17 bytes each and free room.
    shredded: HashSet<PartitionName>,
    /// Those that were made. What is shredded stands in both.
    live: Names,
    keys: usize,
    without: [usize; ROLES],
    /// Keyrings that have partitions elsewhere.
    lagging: usize,
}

impl Directory {
    /// An empty one, with room for as many keyrings and keys as the store says that it has.
    pub(super) fn with_room(keyrings: usize, keys: usize) -> Self {
        Self {
            head: StoreHead::default(),
            entries: Vec::with_capacity(keyrings),
            texts: Texts::default(),
            names: HashTable::with_capacity(keyrings),
            keyed: RandomState::new(),
            versions: HashTable::with_capacity(keys),
            recent: VecDeque::new(),
            shredded: HashSet::new(),
            live: Names::default(),
            keys: 0,
            without: [0; ROLES],
            lagging: 0,
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
        self.name(self.versions.find(number(id), |owned| owned.id == id)?.by)
    }

    /// Whether an id is taken.
    pub(super) fn has_version(&self, id: KeyVersionId) -> bool {
        self.versions.find(number(id), |owned| owned.id == id).is_some()
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
        let old = entry.facts();
        entry.set_facts(facts);
        self.keys = (self.keys + usize::from(facts.keys)).saturating_sub(usize::from(old.keys));
        self.lagging = (self.lagging + usize::from(facts.elsewhere)).saturating_sub(usize::from(old.elsewhere));
        for ((total, new), old) in self.without.iter_mut().zip(facts.without).zip(old.without) {
            *total = (*total + usize::from(new)).saturating_sub(usize::from(old));
        }
        let Ok(by) = u32::try_from(at) else { return };
        for id in ids {
            let entry = self.versions.entry(number(id), |owned| owned.id == id, |owned| number(owned.id));
            entry.and_modify(|owned| owned.by = by).or_insert(Owned { id, by });
        }
    }

    /// Remembers whose intent the last change of a keyring was.
    pub(super) fn remember(&mut self, intent: Intent, name: &str) {
        let Some(at) = self.find(name).and_then(|at| u32::try_from(at).ok()) else { return };
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        let log = self.recent.back().filter(|(log, ..)| **log == *intent.log).map(|(log, ..)| Arc::clone(log));
        self.recent.push_back((log.unwrap_or_else(|| intent.log.into()), intent.index, at));
    }

    /// The keyring that the change of an intent touched, if that was one of the newest changes.
    pub(super) fn recent(&self, intent: &Intent) -> Option<&str> {
        let is = |(log, index, _): &&(Arc<str>, u64, u32)| *index == intent.index && **log == *intent.log;
        let (.., at) = self.recent.iter().rev().find(is)?;
        self.name(*at)
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
        let due = self.entries.iter().filter(|entry| entry.due <= minute).filter_map(|entry| self.name_of(entry));
        let later = self.entries.iter().map(|entry| entry.due).filter(|due| *due > minute && *due != NEVER);
        (due.map(Box::from).collect(), later.min())
    }

    /// The keyrings that have partitions under another version than the active one. Looks at none while there is none.
    pub(super) fn lagging(&self) -> Vec<Box<str>> {
        let lagging = self.entries.iter().filter(|entry| entry.elsewhere).filter_map(|entry| self.name_of(entry));
        if self.lagging == 0 { Vec::new() } else { lagging.map(Box::from).collect() }
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| self.name_of(entry))
    }

    /// The number of a keyring, below [`Self::len`] and for ever the same.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let is = |at: &u32| self.name(*at) == Some(name);
        usize::try_from(*self.names.find(self.keyed.hash_one(name), is)?).ok()
    }

    fn name(&self, at: u32) -> Option<&str> {
        self.name_of(self.entries.get(usize::try_from(at).ok()?)?)
    }

    fn name_of(&self, entry: &Entry) -> Option<&str> {
        self.texts.get(entry.name())
    }

    /// The caller has looked whether it is there. A name that is too long is none: its keyring then counts as unknown.
    fn add(&mut self, name: &str, known: Known) {
        let Ok(at) = u32::try_from(self.entries.len()) else { return };
        let Some(Place { at: name_at, len: name_len }) = self.texts.add(name) else { return };
        let Facts { due, keys, without, elsewhere } = Facts::default();
        if self.entries.len() == self.entries.capacity() {
            // By an eighth: twice as large would be half empty.
            self.entries.reserve_exact(FEW.max(self.entries.len() / 8));
        }
        self.entries.push(Entry { known, name_at, due, keys, without, name_len, elsewhere });
        let Self { entries, texts, keyed, names, .. } = self;
        let digest = |at: &u32| {
            let entry = usize::try_from(*at).ok().and_then(|at| entries.get(at));
            keyed.hash_one(entry.and_then(|entry| texts.get(entry.name())).unwrap_or_default())
        };
        names.insert_unique(keyed.hash_one(name), at, digest);
    }
}

/// Entries that are added at once while there are few.
const FEW: usize = 64;

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

    /// What the allocator was asked for, and not what is in use of it.
    fn allocated(directory: &Directory) -> usize {
        let Directory { entries, texts, names, versions, .. } = directory;
        let tables = names.allocation_size() + versions.allocation_size();
        entries.capacity() * std::mem::size_of::<Entry>() + texts.allocated() + tables
    }

    fn fill(directory: &mut Directory, numbers: std::ops::Range<u64>) {
        for n in numbers {
            let name = format!("default/records-{n:07}");
            directory.note(&name, Known::new(1, &Tag([7; 32])));
            let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            directory.describe(&name, std::iter::once(KeyVersionId(id)), Facts { keys: 1, ..Facts::default() });
        }
    }

    #[test]
    fn a_keyring_takes_at_most_100_bytes_of_memory_and_its_name_however_many_there_are() {
        let name = "default/records-0000000".len();
        let mut directory = Directory::with_room(100_000, 100_000);
        fill(&mut directory, 0..100_000);
        assert!(allocated(&directory) <= 100_000 * (70 + name), "{}", allocated(&directory));
        // Made one by one. The tables are worst when they have just been doubled: at 7/8 of a power of two, and one more.
        let mut directory = Directory::with_room(0, 0);
        let mut from = 0;
        for many in [14_336, 14_337, 28_673, 57_345, 100_000, 114_688, 114_689] {
            fill(&mut directory, from..many);
            from = many;
            let each = allocated(&directory) / directory.len();
            assert!(each <= 100 + name, "{each} bytes each of {many}");
        }
        assert!((0..from).all(|n| directory.find(&format!("default/records-{n:07}")).is_some()));
    }

    #[test]
    fn a_name_is_told_from_those_that_share_its_digest() {
        let mut directory = Directory::with_room(200, 200);
        fill(&mut directory, 0..100);
        let (one, unknown) = ("default/records-0000099", "default/records-0000100");
        for digest in [one, unknown].map(|name| directory.keyed.hash_one(name)) {
            for stranger in 0..40 {
                directory.names.insert_unique(digest, stranger, |_| digest);
            }
        }
        assert_eq!((directory.find(one), directory.find(unknown)), (Some(99), None));
        directory.note(unknown, Known::new(3, &Tag([7; 32])));
        assert_eq!((directory.find(one), directory.find(unknown)), (Some(99), Some(100)));
    }

    #[test]
    fn what_was_noted_is_found_and_counted_once() {
        let mut directory = Directory::with_room(0, 0);
        let known = |generation| Known::new(generation, &Tag([7; 32]));
        for n in 0..1000_u64 {
            let name = format!("default/k{n}");
            directory.note(&name, known(1));
            let facts = Facts { due: u32::try_from(n).unwrap(), keys: 2, without: [0, 1], elsewhere: n < 3 };
            directory.describe(&name, std::iter::once(KeyVersionId(n.to_be_bytes())), facts);
        }
        directory.note("default/k5", known(2));
        directory.describe(
            "default/k5",
            std::iter::empty(),
            Facts { due: NEVER, keys: 3, without: [1, 0], elsewhere: true },
        );
        assert_eq!(directory.len(), 1000);
        assert_eq!(directory.known("default/k5"), Some(known(2)));
        assert_eq!(directory.known("default/k1000"), None);
        assert_eq!(directory.of_version(KeyVersionId(999_u64.to_be_bytes())), Some("default/k999"));
        assert_eq!(directory.totals(), (2001, [1, 999]));
        let (due, next) = directory.due(9);
        assert_eq!((due.len(), next), (9, Some(10)));
        assert_eq!(directory.lagging().len(), 4);
        for name in ["default/k0", "default/k1", "default/k2", "default/k5"] {
            directory.describe(name, std::iter::empty(), Facts::default());
        }
        assert_eq!((directory.lagging().len(), directory.lagging), (0, 0));
    }
}
