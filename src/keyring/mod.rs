//! Which keys are there, in what state, and how does a Permit become a key in hand?
//! This module never sees a request: it takes a Permit or an Authority. It alone names the store's Writer and Kek::unwrap.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::IntentReceipt;
use crate::clock::{SharedClock, Wall};
use crate::crypto::{CryptoError, NONCE_BYTES, Suite};
use crate::kek::Kek;
use crate::names::{Context, KeyVersionId, KeyringName, StoreId, Tenant};
use crate::policy::{Authority, Permit};
use crate::secret::SecretBytes;

/// Development or production: written at genesis, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Software keys and plain TCP are possible; every key is marked.
    Development,
    /// Only hardware or a KMS; weak settings refuse to start.
    Production,
}

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the configuration says; must equal the store's genesis.
    pub environment: Environment,
    /// Absolute lifetime of an unwrapped key, from its unwrapping.
    pub cache_ttl: Duration,
    /// How many data keys may be unwrapped at once.
    pub cache_keys: usize,
}

/// States of a key version (NIST SP 800-57 part 1). The spine makes Active ones; the rest is fixed for the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Made, not yet used.
    PreActive,
    /// Seals and opens.
    Active,
    /// Neither, for now.
    Suspended,
    /// Opens only.
    Deactivated,
    /// Opens only where policy says so.
    Compromised,
    /// Gone.
    Destroyed,
}

/// What a keyring demands, for routing and checks before authorization. No key material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringView {
    /// `tenant/name`.
    pub name: KeyringName,
    /// Context keys that every value must carry.
    pub required_context: Vec<String>,
    /// The context key whose value is the subject (the patient) in the log's pseudonyms.
    pub subject_key: Option<String>,
    /// The suite of new values.
    pub suite: Suite,
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
    /// When it was made.
    pub created: Wall,
    /// The row generation.
    pub generation: u64,
}

/// One key version, without its wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionView {
    /// The id that stands in sealed values.
    pub id: KeyVersionId,
    /// Its state.
    pub state: KeyState,
    /// When it was made.
    pub created: Wall,
    /// The suite it seals and opens, fixed when it was made.
    pub suite: Suite,
    /// `NAME vN` of the KEKs that wrap it.
    pub keks: Vec<String>,
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
    },
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The keyring as it is now.
    pub keyring: KeyringView,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The name is taken.
    #[error("the keyring {0} exists")]
    Exists(KeyringName),
    /// The authority does not cover the change.
    #[error("the authority does not cover this change")]
    NotCovered,
    /// The KEK or the store is not available.
    #[error("{0}")]
    Unavailable(String),
    /// A sealed row did not verify: the database was edited.
    #[error("a sealed row does not verify: {0}")]
    Tampered(String),
}

/// Why a key could not be unlocked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The permit does not cover the key.
    #[error("the permit does not cover this key")]
    NotCovered,
    /// No such version: after authorization this is `cannot_open`.
    #[error("no such key version")]
    Unknown,
    /// Suspended, compromised, destroyed.
    #[error("the key version is {0:?}")]
    State(KeyState),
    /// KEK unreachable, deadline passed, or the store is not open yet: retrying is right.
    #[error("{0}")]
    Unavailable(String),
    /// The wrap or its row does not verify.
    #[error("the wrapped key does not verify")]
    Tampered,
}

/// The pairs of a permit and those of an item disagree, or the merged context is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the context conflicts with the permit")]
pub struct ContextConflict;

/// A key that seals, under the permit it was unlocked with.
pub struct SealingKey {}

impl SealingKey {
    /// The version that seals.
    pub fn version(&self) -> KeyVersionId {
        todo!()
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        todo!()
    }

    /// The complete pairs to authenticate, sorted by key: the item's, the permit's and `kw.keyring`.
    pub fn bind(&self, _free: &Context) -> Result<BoundContext, ContextConflict> {
        todo!()
    }

    /// Appends `[commitment] || ciphertext || tag` to `out`.
    pub fn seal(
        &self,
        _header: &[u8; 12],
        _nonce: &[u8; NONCE_BYTES],
        _aad: &[u8],
        _plaintext: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        todo!()
    }
}

/// A key that opens, under the permit it was unlocked with.
pub struct OpeningKey {}

impl OpeningKey {
    /// The suite that this version opens; any other is refused.
    pub fn suite(&self) -> Suite {
        todo!()
    }

    /// The complete pairs to authenticate.
    pub fn bind(&self, _free: &Context) -> Result<BoundContext, ContextConflict> {
        todo!()
    }

    /// Opens `[commitment] || ciphertext || tag`.
    pub fn open(
        &self,
        _header: &[u8; 12],
        _nonce: &[u8; NONCE_BYTES],
        _aad: &[u8],
        _sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        todo!()
    }
}

/// Pairs ready for the canonical context, sorted by key bytes. May be borrowed to avoid copies: the keyring chooses.
pub struct BoundContext(Vec<(Box<str>, Box<str>)>);

impl BoundContext {
    /// The pairs as bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()))
    }
}

/// How the keyrings are doing, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringHealth {
    /// The store key is unwrapped and every row verified.
    Open,
    /// Not yet: the KEK is not reachable, say; the text says what to do. Everything answers `unavailable`.
    Waiting(String),
}

/// All keyrings of a store.
pub struct Keyrings {}

impl Keyrings {
    /// Genesis on an empty store: the store key and the pseudonym key wrapped by the KEK, the genesis row. Refuses a store that has one.
    pub async fn found(
        _store: crate::store::Opened,
        _kek: Arc<dyn Kek>,
        _clock: SharedClock,
        _settings: &Settings,
    ) -> Result<Genesis, ApplyError> {
        todo!()
    }

    /// Opens a founded store. Returns at once; if the KEK is down, [`Self::admit`] is to be tried again.
    pub fn open(
        _store: crate::store::Opened,
        _kek: Arc<dyn Kek>,
        _clock: SharedClock,
        _settings: Settings,
    ) -> Arc<Self> {
        todo!()
    }

    /// Unwraps the system keys and verifies every row. Until it succeeds nothing unlocks.
    pub async fn admit(&self) -> Result<Genesis, ApplyError> {
        todo!()
    }

    /// Which keyring a version belongs to; memory only, never the store or the KEK.
    pub fn locate(&self, _version: KeyVersionId) -> Option<Arc<KeyringView>> {
        todo!()
    }

    /// The facts of a keyring; memory only.
    pub fn find(&self, _name: &KeyringName) -> Option<Arc<KeyringView>> {
        todo!()
    }

    /// The active version of the permit's keyring, to seal with. A cache hit takes no lock and never awaits.
    pub async fn unlock_sealing(&self, _permit: &Permit) -> Result<SealingKey, UnlockError> {
        todo!()
    }

    /// A version of the permit's keyring, to open with.
    pub async fn unlock_opening(&self, _permit: &Permit, _version: KeyVersionId) -> Result<OpeningKey, UnlockError> {
        todo!()
    }

    /// Carries out a change whose intent is durable. Idempotent for one intent.
    pub async fn apply(
        &self,
        _change: &Change,
        _authority: &Authority,
        _intent: IntentReceipt,
    ) -> Result<Applied, ApplyError> {
        todo!()
    }

    /// What became of a change whose outcome is not recorded (a crash between): Some if it happened.
    pub fn settle(&self, _keyring: &KeyringName) -> Option<Arc<KeyringView>> {
        todo!()
    }

    /// All keyrings of the store, for a permit to list them.
    pub fn list(&self, _permit: &Permit) -> Result<Vec<Arc<KeyringView>>, UnlockError> {
        todo!()
    }

    /// The pseudonym of a subject in the current epoch (128-bit HMAC); None until admitted.
    pub fn pseudonym(&self, _tenant: &Tenant, _subject: &str) -> Option<[u8; 16]> {
        todo!()
    }

    /// How the keyrings are doing.
    pub fn health(&self) -> KeyringHealth {
        todo!()
    }
}

/// What the genesis row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The store.
    pub store: StoreId,
    /// Its environment.
    pub environment: Environment,
    /// When it was made.
    pub created: Wall,
    /// Check value of the store key, pinned in record 0 of the log.
    pub store_key_check: [u8; 16],
}
