//! What do the verified rows of a keyring say? The keyrings in use are kept whole, as many as the cache may hold keys.
//! This module never reads the store.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bodies::{self, HeadBody, KeyBody};
use super::directory::{Facts, NEVER, ROLES, number};
use super::follow::Loaded;
use super::lives;
use super::lookup::{self, Lookup};
use super::partition;
use super::shards::Shards;
use super::verify::Damage;
use super::wraps::{self, Owner};
use super::{Environment, Escrow, Genesis, KeyLimits, KeyState, KeyringView, VersionView};
use crate::clock::{Mono, Wall};
use crate::crypto::{KeyClass, Suite};
use crate::kek::{Wrap, WrapRole};
use crate::names::{KekName, KeyVersionId, KeyringName, LookupName, LookupUse, StoreId};
use crate::store::{RingRows, SealedKey};

/// The purpose of the keys that seal values.
pub(super) const DATA: &str = "data";

/// One keyring.
pub(super) struct Ring {
    pub view: Arc<KeyringView>,
    /// `tenant/name`, the value of `kw.keyring`.
    pub label: Box<str>,
    pub versions: Vec<Arc<Version>>,
    pub lookups: Vec<Lookup>,
    used: AtomicU64,
}

/// One key version with its wraps.
pub(super) struct Version {
    pub view: VersionView,
    pub owner: Owner,
    /// What it does with its subkey: seal values, or wrap the keys of partitions.
    pub class: KeyClass,
    /// Of a look-up key: what it is used for.
    pub lookup: Option<LookupUse>,
    pub wraps: Vec<(WrapRole, Wrap)>,
}

impl Ring {
    /// A keyring from its verified rows; `period` is for those that ask for no other.
    pub(super) fn read(rows: &RingRows, genesis: &Genesis, period: Duration) -> Result<Self, Damage> {
        let head = || format!("the head of keyring {}", rows.head.name);
        let name: KeyringName = rows.head.name.parse().map_err(|_| Damage::of(head(), "its name is none"))?;
        let body: HeadBody = bodies::decode(&rows.head.body).map_err(|why| Damage::unreadable(head(), why))?;
        let suite = suite(body.suite).ok_or_else(|| Damage::of(head(), "its suite is unknown"))?;
        let limits = KeyLimits::of(&body.limits);
        let period = limits.cryptoperiod.unwrap_or(period);
        let class = if body.partition_key.is_some() { KeyClass::Partition } else { KeyClass::Field };
        let data = rows.keys.iter().filter(|key| key.row.purpose == DATA);
        let wrapped = |id| partition::wrapped_by(body.partitions.as_ref(), id);
        let read = |key: &SealedKey| Version::read(key, genesis, period, (class, wrapped(key.row.id))).map(Arc::new);
        let mut versions: Vec<Arc<Version>> = data.map(read).collect::<Result<_, _>>()?;
        versions.sort_by_key(|version| (version.view.created, version.view.id));
        let lookups = lookup::read(rows, genesis)?;
        let view = KeyringView {
            name,
            required_context: body.required_context,
            subject_key: body.subject_key,
            partition_key: body.partition_key,
            limits,
            suite,
            versions: versions.iter().map(|version| version.view.clone()).collect(),
            lookups: lookup::views(&lookups),
            created: Wall(body.created),
            generation: rows.head.generation,
        };
        let label = rows.head.name.as_str().into();
        Ok(Self { label, view: Arc::new(view), versions, lookups, used: AtomicU64::new(0) })
    }

    /// The version that seals.
    pub(super) fn sealing(&self) -> Option<&Arc<Version>> {
        self.versions.iter().rev().find(|version| version.view.state.seals())
    }

    pub(super) fn version(&self, id: KeyVersionId) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.view.id == id)
    }

    /// Notes that it was used; a relaxed store that nothing waits for.
    pub(super) fn touch(&self, now: Mono) {
        self.used.store(now.0, Ordering::Relaxed);
    }
}

impl Version {
    /// A version of a look-up key; it has no suite.
    pub(super) fn of_lookup(key: &SealedKey, genesis: &Genesis, period: Duration) -> Result<Self, Damage> {
        Self::read(key, genesis, period, (KeyClass::System, 0))
    }

    fn read(
        key: &SealedKey,
        genesis: &Genesis,
        period: Duration,
        (class, partitions): (KeyClass, u64),
    ) -> Result<Self, Damage> {
        let wrong = |what: &str| Damage::of(describe(key), what);
        let unreadable = |why| Damage::unreadable(describe(key), why);
        let body: KeyBody = bodies::decode(&key.row.body).map_err(unreadable)?;
        if body.development && genesis.environment == Environment::Production {
            return Err(Damage::Development(describe(key)));
        }
        let life = lives::read(key, &body)?;
        let now = life.marks().last().ok_or_else(|| wrong("it was never made"))?;
        let name = body.name.as_deref().map(str::parse::<LookupName>).transpose();
        let name = name.map_err(|_| wrong("its name is none"))?;
        let suite = suite(body.suite);
        if suite.is_none() && key.row.purpose == DATA {
            return Err(wrong("its suite is unknown"));
        }
        let view = VersionView {
            id: key.row.id,
            state: now.state,
            created: Wall(body.created),
            activated: life.entered(KeyState::Active).map(|mark| mark.at),
            since: now.at,
            reason: now.reason,
            by: now.by.clone(),
            expires: (now.state == KeyState::Active).then(|| after(now.at, period)),
            destroy_at: life.plan().map(|plan| plan.due),
            suite,
            keks: body.keks,
            partitions,
        };
        let wraps = wraps_of(key)?;
        let of = lookup::owner_name(&key.row.keyring, body.name.as_deref());
        let owner = owner(key, genesis.store, of, view.created);
        Ok(Self { view, owner, class, lookup: name.map(|name| name.used_for()), wraps })
    }
}

fn after(at: Wall, period: Duration) -> Wall {
    Wall(at.0.saturating_add(u64::try_from(period.as_micros()).unwrap_or(u64::MAX)))
}

/// What the directory counts of a keyring's rows, under these KEKs.
pub(super) fn facts(ring: &Loaded, keks: &[&KekName], period: Duration) -> Result<Facts, Damage> {
    let Loaded { rows, head } = ring;
    let mut facts = Facts { keys: u16::try_from(rows.keys.len()).unwrap_or(u16::MAX), ..Facts::default() };
    // What a keyring does without by choice is not missing.
    let wanted = if head.limits.escrow() == Escrow::No { 1 } else { ROLES };
    for key in rows.keys.iter().filter(|key| key.row.state != KeyState::Destroyed.name()) {
        let wraps = wraps_of(key)?;
        for (without, kek) in facts.without.iter_mut().zip(keks.iter().take(wanted)) {
            *without = without.saturating_add(u16::from(!wraps.iter().any(|(_, wrap)| wrap.kek == **kek)));
        }
    }
    (facts.due, facts.elsewhere) = due(rows, head, period)?;
    Ok(facts)
}

/// When the active version's cryptoperiod ends, and whether another one wraps partitions.
fn due(rows: &RingRows, head: &HeadBody, period: Duration) -> Result<(u32, bool), Damage> {
    let active = |key: &&SealedKey| key.row.purpose == DATA && key.row.state == KeyState::Active.name();
    let Some(key) = rows.keys.iter().find(active) else { return Ok((NEVER, false)) };
    let unreadable = |why| Damage::unreadable(describe(key), why);
    let body: KeyBody = bodies::decode(&key.row.body).map_err(unreadable)?;
    let since = body.moves.get(KeyState::Active.name()).map_or(body.created, |moved| moved.at);
    let period = head.limits.cryptoperiod_days.map_or(period.as_secs() / 60, |days| u64::from(days) * 24 * 60);
    let elsewhere = head.partitions.as_ref().is_some_and(|partitions| {
        let id = key.row.id.to_string();
        partitions.parents.iter().any(|(parent, count)| *parent != id && *count > 0)
    });
    Ok((u32::try_from((since / 60_000_000).saturating_add(period)).unwrap_or(NEVER), elsewhere))
}

/// The wraps of a key row; none when it is destroyed.
pub(super) fn wraps_of(key: &SealedKey) -> Result<Vec<(WrapRole, Wrap)>, Damage> {
    if key.wraps.is_empty() && key.row.state == KeyState::Destroyed.name() {
        return Ok(Vec::new());
    }
    wraps::decode(&key.wraps).map_err(|why| Damage::unreadable(describe(key), why))
}

/// What the wraps of a key row are bound to.
pub(super) const fn owner(key: &SealedKey, store: StoreId, owner: String, created: Wall) -> Owner {
    Owner { store, owner, key: key.row.id, created }
}

/// A key row as an operator is told about it.
pub(super) fn describe(key: &SealedKey) -> String {
    format!("the {} key {} of {}", key.row.purpose, key.row.id, key.row.keyring)
}

pub(super) fn suite(number: Option<u8>) -> Option<Suite> {
    [Suite::Xaes, Suite::XaesCommitted].into_iter().find(|suite| Some(*suite as u8) == number)
}

/// The keyrings in use. A hit loads one pointer and takes no lock.
pub(super) struct HotRings {
    /// By a keyed digest of the name: two names that share one take turns.
    by_name: Shards<Arc<Ring>>,
    by_version: Shards<(Arc<Ring>, usize)>,
    keyed: RandomState,
    /// Taken by whoever changes the two.
    writing: Mutex<()>,
    limit: usize,
}

impl HotRings {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            by_name: Shards::with_room(limit),
            by_version: Shards::with_room(limit.saturating_mul(2)),
            keyed: RandomState::new(),
            writing: Mutex::new(()),
            limit,
        }
    }

    pub(super) fn named(&self, name: &KeyringName) -> Option<Arc<Ring>> {
        let its = |ring: &Arc<Ring>| (ring.view.name == *name).then(|| Arc::clone(ring));
        self.by_name.read(self.keyed.hash_one(name), its).flatten()
    }

    /// The keyring of a version, and the version.
    pub(super) fn version(&self, id: KeyVersionId) -> Option<(Arc<Ring>, Arc<Version>)> {
        let both = |(ring, at): &(Arc<Ring>, usize)| Some((Arc::clone(ring), Arc::clone(ring.versions.get(*at)?)));
        self.by_version.read(number(id), both).flatten()
    }

    /// Puts a keyring in, in place of its older self; whoever was used longest ago makes room. The caller holds the
    /// directory's lock, so that an older picture never replaces a newer one.
    pub(super) fn put(&self, ring: Arc<Ring>) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove(self.keyed.hash_one(&ring.view.name));
        while self.by_name.len() >= self.limit {
            let Some(idle) = self.by_name.idlest(|ring| ring.used.load(Ordering::Relaxed)) else { break };
            self.remove(idle);
        }
        for (at, version) in ring.versions.iter().enumerate() {
            self.by_version.put(number(version.view.id), (Arc::clone(&ring), at));
        }
        self.by_name.put(self.keyed.hash_one(&ring.view.name), ring);
    }

    /// Forgets a keyring, which is then read again.
    pub(super) fn forget(&self, name: &KeyringName) {
        if self.named(name).is_some() {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.remove(self.keyed.hash_one(name));
        }
    }

    fn remove(&self, key: u64) {
        if let Some(ring) = self.by_name.remove(key) {
            for version in &ring.versions {
                self.by_version.remove(number(version.view.id));
            }
        }
    }
}
