//! Which keys are there, in what state, and how does a Permit become a key in hand?
//! This module never sees a request: it takes a Permit or an Authority. It alone names the store's Writer and Kek::unwrap.
//!
//! Reading order: `genesis` (how a store begins and is admitted), `verify` and `seal` (why its rows are believed),
//! `directory`, `rings` and `follow` (what is known of them, and how it keeps up), `unlock` and `cache` (how a permit
//! becomes a key), `plan`, `change` and `draft` (how keys change), `partition` (a key for each patient).

mod aging;
mod bodies;
mod cache;
mod change;
mod custody;
mod damage;
mod directory;
pub mod documents;
mod draft;
mod drill;
mod errors;
mod fleet;
mod follow;
mod followers;
mod genesis;
mod inventory;
mod kek_uses;
mod keks;
mod lease;
pub mod life;
mod lives;
mod lookup;
mod metering;
mod moving;
mod offline;
mod partition;
mod plan;
mod pseudonym;
mod race;
mod retire;
mod rewrap;
mod rings;
mod seal;
mod shards;
mod transfer;
mod unlock;
mod usage;
mod verify;
mod views;
mod wraps;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use self::cache::Cache;
use self::follow::Open;
use self::life::{Reason, Step, Trigger};
use self::metering::Metering;
use self::partition::{PartitionCache, Partitions};
use self::pseudonym::Pseudonyms;
use self::rings::Ring;
use self::seal::RowSealer;
use crate::clock::SharedClock;
use crate::names::{KekName, KeyVersionId, KeyringName, Tenant};
use crate::policy::{Action, Permit};
use crate::store::{MirrorState, Opened, Reader, Writer};

pub use crate::crypto::Suite;
pub use aging::{Aged, Aging, Elsewhere};
pub use cache::CacheStats;
pub use custody::Time;
pub use drill::{CanaryKey, Proof, Standing, ends_at, made_at, said_by, wrapped_by};
pub use errors::{ApplyError, UnlockError};
pub use followers::{Follower, Following};
pub use kek_uses::{KekUse, Period};
pub use keks::Keks;
pub use lease::{RevocationBound, STORE_POLL, StateLease, Unlocking};
pub use life::KeyState;
pub use lookup::{LookupChange, LookupKey, LookupKeys, LookupVerb, LookupVersion, LookupView};
pub use metering::Load;
pub use partition::{
    BATCH as PARTITION_BATCH, NewPartition, PartitionChange, PartitionName, PartitionStep, PartitionsApplied, Shredded,
    Unlock,
};
pub use retire::Retirement;
pub use rewrap::{RewrapReport, RewrapStep};
pub use transfer::{Destination, RewrapKey, SealedParts, Source, TransferError};
pub use unlock::{BindError, BoundContext, OpeningKey, SealingKey};
pub use usage::{Day, Grant, Meter, Need, Reservation, Tally, UsageLimits};
pub use views::{
    Environment, Escrow, Genesis, KeyLimits, KeyringHealth, KeyringView, Mirroring, NotAHead, Pinned, StoreHead,
    VersionView,
};

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the configuration says; must equal the store's genesis.
    pub environment: Environment,
    /// Absolute lifetime of an unwrapped key, from its unwrapping.
    pub cache_ttl: Duration,
    /// How much longer it may serve while its key-encryption key is out of reach.
    pub offline_max: Duration,
    /// How long the store's last word may be believed while it is out of reach.
    pub store_offline_max: Duration,
    /// How many data keys may be unwrapped at once, and how many keyrings are kept in memory whole.
    pub cache_keys: usize,
    /// How long a data key version seals before it is to be rotated.
    pub data_key_period: Duration,
    /// How long any data key version may seal at the very most.
    pub hard_limit: Duration,
    /// How long a version of a key-encryption key wraps before it is to be rotated.
    pub kek_period: Duration,
    /// How much it seals before it is to be rotated.
    pub usage_limits: UsageLimits,
}

/// A change to keys: data, so that an intent can name it and a restart can settle it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new keyring with its first, active version.
    Create {
        /// Its name.
        name: KeyringName,
        /// Context keys that every value must carry.
        required_context: Vec<String>,
        /// The subject's context key.
        subject_key: Option<String>,
        /// The suite of its values.
        suite: Suite,
        /// The required context key whose value names the partition.
        partition_key: Option<String>,
        /// What it asks for beyond the configuration's defaults.
        limits: KeyLimits,
    },
    /// A new active version; the one that was active only opens.
    Rotate {
        /// Which keyring.
        keyring: KeyringName,
        /// Why.
        trigger: Trigger,
        /// The version that it replaces; another one that is active means that somebody else was first.
        expect: Option<KeyVersionId>,
    },
    /// One step in the life of a version.
    Step {
        /// Which keyring.
        keyring: KeyringName,
        /// Which version.
        version: KeyVersionId,
        /// Which step.
        step: Step,
        /// Why.
        reason: Reason,
    },
    /// Of the partitions of a keyring.
    Partitions(PartitionChange),
    /// Of a look-up key of a keyring.
    Lookup(LookupChange),
    /// Other limits for a keyring.
    Configure {
        /// Which keyring.
        keyring: KeyringName,
        /// All of them.
        limits: KeyLimits,
    },
}

impl Change {
    /// The keyring that it changes.
    pub const fn keyring(&self) -> &KeyringName {
        match self {
            Self::Create { name, .. } => name,
            Self::Partitions(change) => &change.keyring,
            Self::Lookup(change) => &change.keyring,
            Self::Rotate { keyring, .. } | Self::Step { keyring, .. } | Self::Configure { keyring, .. } => keyring,
        }
    }

    /// What policy calls it, for a version that is in this state.
    pub const fn action(&self, from: KeyState) -> Action {
        match self {
            Self::Partitions(change) => change.action(),
            Self::Lookup(_) => Action::LookupRotate,
            Self::Create { .. } => Action::KeyringCreate,
            Self::Rotate { .. } => Action::KeyringRotate,
            Self::Configure { .. } => Action::KeyringConfigure,
            Self::Step { step, .. } => step.action(from),
        }
    }
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The keyring as it is now.
    pub keyring: KeyringView,
    /// The version that the change was about, where it was one; of a rotation the new one.
    pub version: Option<KeyVersionId>,
    /// The version whose state it changed, and that state before; of a rotation the one that was active.
    pub before: Option<(KeyVersionId, KeyState)>,
    /// What became of partitions, where it was about them.
    pub partitions: Option<PartitionsApplied>,
}

/// The head row over keyward's own keys; the dot keeps it apart from every keyring's name.
const SYSTEM: &str = "kw.system";
/// Keys that a listing reads at once.
const LIST_PAGE: u32 = 500;

/// What is fixed once the store has been admitted.
struct System {
    genesis: Genesis,
    rows: RowSealer,
    pseudonyms: Pseudonyms,
    partitions: Partitions,
}

/// All keyrings of a store.
pub struct Keyrings {
    inner: Arc<Inner>,
}

/// What tasks that outlive a request share with [`Keyrings`].
struct Inner {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
    /// What stands in for a shared store, and how often it had when the store was last heard.
    mirror: Option<Arc<MirrorState>>,
    mirrored: AtomicU64,
    keks: Keks,
    clock: SharedClock,
    settings: Settings,
    cache: Arc<Cache>,
    partitions: PartitionCache,
    /// How much each key is used.
    metering: Metering,
    /// How long the store's last word is believed.
    lease: StateLease,
    /// None until the store is admitted.
    open: ArcSwapOption<Open>,
    /// Why it is not.
    waiting: Mutex<String>,
    /// What was found edited since.
    damage: damage::Noted,
    /// Set once, by [`Keyrings::shut`].
    shut: AtomicBool,
    /// Where the store is, if it was moved.
    moved: moving::Moved,
    /// Set before admission, by [`Keyrings::pin`].
    pinned: OnceLock<Pinned>,
    /// Rises with every change of a document.
    documents: AtomicU64,
    /// This sidecar has followed something that it has not said yet.
    owes: AtomicBool,
    /// Admission and changes take turns.
    turn: tokio::sync::Mutex<()>,
}

impl Keyrings {
    /// Genesis on an empty store: the store key and the pseudonym key wrapped by every KEK, the genesis row. Refuses a store that has one.
    pub async fn found(
        store: Opened,
        keks: &Keks,
        clock: SharedClock,
        settings: &Settings,
    ) -> Result<Genesis, ApplyError> {
        genesis::found(store, keks, &clock, settings).await
    }

    /// Opens a founded store. Returns at once; if no KEK can be reached, [`Self::admit`] is to be tried again.
    pub fn open(store: Opened, keks: Keks, clock: SharedClock, settings: Settings) -> Arc<Self> {
        let cache = Arc::new(Cache::new(Arc::clone(&clock), settings.cache_ttl, settings.cache_keys));
        let partitions = PartitionCache::new(settings.cache_keys, settings.cache_ttl, settings.store_offline_max);
        let metering = Metering::new(settings.cache_keys, clock.wall());
        let waiting = Mutex::new(format!("waiting for the key-encryption key {}", keks.shown()));
        let inner = Inner {
            reader: store.reader(),
            mirror: store.mirror(),
            mirrored: AtomicU64::new(0),
            writer: store.into_writer(),
            keks,
            clock,
            lease: StateLease::new(settings.store_offline_max),
            metering,
            settings,
            cache,
            partitions,
            open: ArcSwapOption::empty(),
            damage: damage::Noted::default(),
            waiting,
            shut: AtomicBool::new(false),
            moved: moving::Moved::default(),
            pinned: OnceLock::new(),
            documents: AtomicU64::new(1),
            // It may use keys from its admission on, and says so.
            owes: AtomicBool::new(true),
            turn: tokio::sync::Mutex::new(()),
        };
        Arc::new(Self { inner: Arc::new(inner) })
    }

    /// Says which store the log belongs to; a later call changes nothing.
    pub fn pin(&self, pinned: Pinned) {
        let _first = self.inner.pinned.set(pinned);
    }

    /// Unwraps the system keys and verifies every row. Until it succeeds nothing unlocks.
    pub async fn admit(&self) -> Result<Genesis, ApplyError> {
        genesis::admit(&self.inner).await
    }

    /// Which keyring a version belongs to. A keyring in use is in memory, another one is read from the store; an id that
    /// no keyring has never reaches it.
    pub async fn locate(&self, version: KeyVersionId) -> Result<Option<Arc<KeyringView>>, UnlockError> {
        let open = self.inner.opened()?;
        Ok(self.inner.version(&open, version).await?.map(|(ring, _)| Arc::clone(&ring.view)))
    }

    /// The facts of a keyring, likewise.
    pub async fn find(&self, name: &KeyringName) -> Result<Option<Arc<KeyringView>>, UnlockError> {
        let open = self.inner.opened()?;
        Ok(self.inner.ring(&open, name).await?.map(|ring| Arc::clone(&ring.view)))
    }

    /// Whether keys can be used at all: not before the admission, and not after the store was refused.
    pub fn ready(&self) -> Result<(), UnlockError> {
        self.inner.opened().map(drop)
    }

    /// Learns what other sidecars changed, and confirms that the store is where this sidecar believes it to be.
    pub async fn catch_up(&self) -> Result<(), ApplyError> {
        let open = self.inner.opened_to_change()?;
        self.inner.catch_up(&open).await
    }

    /// Resolves when somebody else may have changed the store: a hint to catch up sooner.
    pub async fn hint(&self) {
        self.inner.writer.hint().await;
    }

    /// How the local mirror of a shared store fares; None where there is none.
    pub fn mirror(&self) -> Option<Mirroring> {
        let state = self.inner.mirror.as_ref()?;
        let served = state.served();
        let serves = served > self.inner.mirrored.load(Ordering::Acquire);
        Some(Mirroring { kept: state.is_kept(), serves, served, left_out: state.left_out() })
    }

    /// What was found edited in the store since the admission, of each keyring.
    pub fn damage(&self) -> Option<String> {
        self.inner.damage.told()
    }

    /// At most `limit` keyrings whose name stands after `after`, by name, for a permit to list them.
    pub async fn list(
        &self,
        permit: &Permit,
        after: Option<&KeyringName>,
        limit: usize,
    ) -> Result<Vec<Arc<KeyringView>>, UnlockError> {
        if permit.action() != Action::KeyringList {
            return Err(UnlockError::NotCovered);
        }
        let open = self.inner.opened()?;
        self.views(&open, after, limit).await
    }

    async fn views(
        &self,
        open: &Open,
        after: Option<&KeyringName>,
        limit: usize,
    ) -> Result<Vec<Arc<KeyringView>>, UnlockError> {
        let mut views = Vec::new();
        let mut from = after.map(ToString::to_string);
        while views.len() < limit {
            let page = self.inner.page_past(open, from.take(), LIST_PAGE).await?;
            let Some(last) = page.last else { break };
            from = Some(last);
            for loaded in page.loaded.iter().filter(|loaded| documents::is_keyring(&loaded.rows.head.name)) {
                views.push(Arc::clone(
                    &Ring::read(&loaded.rows, &open.system.genesis, self.inner.settings.data_key_period)?.view,
                ));
            }
        }
        views.truncate(limit);
        Ok(views)
    }

    /// The pseudonym of a subject in the current epoch (128-bit HMAC); None until admitted.
    pub fn pseudonym(&self, tenant: &Tenant, subject: &str) -> Option<[u8; 16]> {
        self.inner.opened().ok()?.system.pseudonyms.of(tenant, subject).ok()
    }

    /// Closes the keyrings for good: what they would unlock must not be used. The reason is shown in readiness.
    pub fn shut(&self, why: &str) {
        self.inner.wait(why.to_owned());
        self.inner.shut.store(true, Ordering::SeqCst);
        self.inner.open.store(None);
        self.evict_all();
    }

    /// How the keyrings are doing.
    pub fn health(&self) -> KeyringHealth {
        if self.inner.open.load().is_some() {
            return KeyringHealth::Open;
        }
        KeyringHealth::Waiting(self.inner.reason())
    }

    /// Where the chain of changes ends; None until admitted.
    pub fn head(&self) -> Option<StoreHead> {
        self.inner.opened().ok().map(|open| open.head())
    }

    /// Counters of the cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.inner.cache.stats()
    }

    /// How many unwraps the escrow answered because the primary was away.
    pub fn failovers(&self) -> u64 {
        self.inner.keks.failovers()
    }

    /// The configured KEKs that do not wrap every key, and how many keys each of them does not wrap; empty until admitted.
    /// A KEK that was configured after keys were made is one.
    pub fn missing(&self) -> Vec<(KekName, usize)> {
        let Ok(open) = self.inner.opened() else { return Vec::new() };
        let (_, without) = open.directory().totals();
        let keks = self.inner.keks.each().map(|(_, kek)| kek.name().clone());
        keks.zip(without).filter(|(_, keys)| *keys > 0).collect()
    }

    /// Whether this KEK is the primary, has refused and has opened nothing since: then no other is asked instead.
    pub fn refused(&self, kek: &KekName) -> bool {
        kek == self.inner.keks.primary() && self.inner.keks.refused()
    }
}

impl Inner {
    /// The admitted store.
    fn opened(&self) -> Result<Arc<Open>, UnlockError> {
        self.open.load_full().ok_or_else(|| UnlockError::Unavailable(self.reason()))
    }

    /// The admitted store, for a change.
    fn opened_to_change(&self) -> Result<Arc<Open>, ApplyError> {
        self.opened().map_err(|error| ApplyError::Unavailable(error.to_string()))
    }

    /// Opens the store for everybody; not after [`Keyrings::shut`], however late an admission ends.
    fn show(&self, open: Open) {
        self.open.store(Some(Arc::new(open)));
        if self.shut.load(Ordering::SeqCst) {
            self.open.store(None);
        }
    }

    /// The log's own name; empty where no log was pinned.
    fn log_name(&self) -> String {
        self.pinned.get().map(|pinned| pinned.log.clone()).unwrap_or_default()
    }

    fn kek_names(&self) -> Vec<&KekName> {
        self.keks.each().map(|(_, kek)| kek.name()).collect()
    }

    /// Of which keyring, if that is known.
    fn note_damage(&self, of: &str, why: &str) {
        tracing::error!(why, "the store was edited");
        self.damage.note(of, why);
    }

    fn reason(&self) -> String {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why; the reason of a shutting stays.
    fn wait(&self, why: String) {
        if self.shut.load(Ordering::SeqCst) {
            return;
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

#[cfg(test)]
mod tests;
