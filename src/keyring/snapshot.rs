//! What did the verified rows say? An immutable picture in memory: locate, find, list and unlock read nothing else.
//! This module never reads the store; a new picture replaces the old one whole.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::bodies::{self, HeadBody, KeyBody};
use super::pseudonym::Pseudonyms;
use super::seal::RowSealer;
use super::verify::{Chain, Damage};
use super::wraps::{self, Owner};
use super::{Environment, Genesis, KeyState, KeyringView, StoreHead, VersionView};
use crate::clock::Wall;
use crate::crypto::Suite;
use crate::kek::{Wrap, WrapRole};
use crate::names::{KekName, KeyVersionId, KeyringName, StoreId};
use crate::store::{Image, KeyringRow, SealedKey};

/// The head row over keyward's own keys; the dot keeps it apart from every keyring's name.
pub(super) const SYSTEM: &str = "kw.system";

/// What is fixed once the store has been admitted.
pub(super) struct System {
    pub genesis: Genesis,
    pub rows: RowSealer,
    pub pseudonyms: Pseudonyms,
}

/// All keyrings at one moment.
pub(super) struct Snapshot {
    pub system: Arc<System>,
    pub rings: HashMap<KeyringName, Arc<Ring>>,
    versions: HashMap<u64, (Arc<Ring>, usize), BuildHasherDefault<IdHasher>>,
    /// Which keyring the change of an intent touched.
    pub intents: HashMap<u64, KeyringName>,
    pub head: StoreHead,
    /// How many keys there are, keyward's own included, and how many of them each KEK wraps.
    keys: usize,
    wrapped: HashMap<KekName, usize>,
}

/// One keyring.
pub(super) struct Ring {
    pub view: Arc<KeyringView>,
    /// `tenant/name`, the value of `kw.keyring`.
    pub label: Box<str>,
    pub versions: Vec<Arc<Version>>,
}

/// One key version with its wraps.
pub(super) struct Version {
    pub view: VersionView,
    pub owner: Owner,
    pub wraps: Vec<(WrapRole, Wrap)>,
}

impl Snapshot {
    /// The picture of an image that [`super::verify::verify`] has passed.
    pub(super) fn of(image: &Image, chain: Chain, system: Arc<System>) -> Result<Self, Damage> {
        let Chain { head, intents, .. } = chain;
        let mut keys: HashMap<&str, Vec<&SealedKey>> = HashMap::new();
        for key in &image.keys {
            keys.entry(&key.row.keyring).or_default().push(key);
        }
        let mut snapshot = Self {
            system,
            rings: HashMap::new(),
            versions: HashMap::default(),
            intents: HashMap::new(),
            head,
            keys: 0,
            wrapped: HashMap::new(),
        };
        for own in image.keys.iter().filter(|key| key.row.keyring == SYSTEM) {
            let wraps = wraps::decode(&own.wraps).map_err(|why| Damage::unreadable(describe(own), why))?;
            snapshot.count(&wraps);
        }
        for row in image.keyrings.iter().filter(|row| row.name != SYSTEM) {
            let keys = keys.get(&*row.name).map_or(&[][..], Vec::as_slice);
            snapshot.put(Ring::read(row, keys, &snapshot.system.genesis)?);
        }
        // Intents of keyward's own changes are not asked for.
        snapshot.intents =
            intents.into_iter().filter_map(|(intent, name)| Some((intent, name.parse().ok()?))).collect();
        Ok(snapshot)
    }

    /// This picture with one keyring more or changed, after the change of the intent.
    pub(super) fn with(&self, ring: Ring, intent: u64, head: StoreHead) -> Self {
        let mut next = Self {
            system: Arc::clone(&self.system),
            rings: self.rings.clone(),
            versions: self.versions.clone(),
            intents: self.intents.clone(),
            head,
            keys: self.keys,
            wrapped: self.wrapped.clone(),
        };
        next.intents.insert(intent, ring.view.name.clone());
        next.put(ring);
        next
    }

    /// The keyring of a version, and the version.
    pub(super) fn version(&self, id: KeyVersionId) -> Option<(&Arc<Ring>, &Arc<Version>)> {
        let (ring, at) = self.versions.get(&number(id))?;
        Some((ring, ring.versions.get(*at)?))
    }

    /// How many keys have no wrap by this KEK.
    pub(super) fn without(&self, kek: &KekName) -> usize {
        self.keys.saturating_sub(self.wrapped.get(kek).copied().unwrap_or_default())
    }

    fn count(&mut self, wraps: &[(WrapRole, Wrap)]) {
        self.keys = self.keys.saturating_add(1);
        for (_, wrap) in wraps {
            let wrapped = self.wrapped.entry(wrap.kek.clone()).or_default();
            *wrapped = wrapped.saturating_add(1);
        }
    }

    fn put(&mut self, ring: Ring) {
        let ring = Arc::new(ring);
        for (at, version) in ring.versions.iter().enumerate() {
            let known = self.versions.insert(number(version.view.id), (Arc::clone(&ring), at));
            if known.is_none() {
                self.count(&version.wraps);
            }
        }
        self.rings.insert(ring.view.name.clone(), ring);
    }
}

impl Ring {
    /// A keyring from its verified rows.
    pub(super) fn read(row: &KeyringRow, keys: &[&SealedKey], genesis: &Genesis) -> Result<Self, Damage> {
        let head = || format!("the head of keyring {}", row.name);
        let name: KeyringName = row.name.parse().map_err(|_| Damage::of(head(), "its name is none"))?;
        let body: HeadBody = bodies::decode(&row.body).map_err(|why| Damage::unreadable(head(), why))?;
        let suite = suite(body.suite).ok_or_else(|| Damage::of(head(), "its suite is unknown"))?;
        let mut versions: Vec<Arc<Version>> =
            keys.iter().map(|key| Version::read(key, genesis).map(Arc::new)).collect::<Result<_, _>>()?;
        versions.sort_by_key(|version| (version.view.created, version.view.id));
        let view = KeyringView {
            name,
            required_context: body.required_context,
            subject_key: body.subject_key,
            suite,
            versions: versions.iter().map(|version| version.view.clone()).collect(),
            created: Wall(body.created),
            generation: row.generation,
        };
        Ok(Self { label: row.name.as_str().into(), view: Arc::new(view), versions })
    }

    /// The version that seals; the newest one if several could.
    pub(super) fn sealing(&self) -> Option<&Arc<Version>> {
        self.versions.iter().rev().find(|version| version.view.state.seals())
    }
}

impl Version {
    fn read(key: &SealedKey, genesis: &Genesis) -> Result<Self, Damage> {
        let wrong = |what: &str| Damage::of(describe(key), what);
        let unreadable = |why| Damage::unreadable(describe(key), why);
        let body: KeyBody = bodies::decode(&key.row.body).map_err(unreadable)?;
        if body.development && genesis.environment == Environment::Production {
            return Err(Damage::Development(describe(key)));
        }
        let view = VersionView {
            id: key.row.id,
            state: KeyState::of(&key.row.state).ok_or_else(|| wrong("its state is unknown"))?,
            created: Wall(body.created),
            suite: suite(body.suite).ok_or_else(|| wrong("its suite is unknown"))?,
            keks: body.keks,
        };
        let wraps = wraps::decode(&key.wraps).map_err(unreadable)?;
        let owner = owner(key, genesis.store, key.row.keyring.clone(), view.created);
        Ok(Self { view, owner, wraps })
    }
}

/// What the wraps of a key row are bound to.
pub(super) const fn owner(key: &SealedKey, store: StoreId, owner: String, created: Wall) -> Owner {
    Owner { store, owner, key: key.row.id, created }
}

/// A key row as an operator is told about it.
pub(super) fn describe(key: &SealedKey) -> String {
    format!("the {} key {} of {}", key.row.purpose, key.row.id, key.row.keyring)
}

fn suite(number: Option<u8>) -> Option<Suite> {
    [Suite::Xaes, Suite::XaesCommitted].into_iter().find(|suite| Some(*suite as u8) == number)
}

/// A key version id as the key of a map.
pub(super) const fn number(id: KeyVersionId) -> u64 {
    u64::from_be_bytes(id.0)
}

/// Ids are random and chosen by keyward alone, so they are their own hash.
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
