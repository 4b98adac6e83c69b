//! What may anybody who is permitted know about keys? Facts without key material.

use std::time::Duration;

use super::bodies::Limits;
use super::life::{By, KeyState, Reason};
use super::lookup::LookupView;
use crate::clock::Wall;
use crate::crypto::Suite;
use crate::names::{KeyVersionId, KeyringName, StoreId};

/// Development or production: written at genesis, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Software keys and plain TCP are possible; every key is marked.
    Development,
    /// Only hardware or a KMS; weak settings refuse to start.
    Production,
}

impl Environment {
    /// The name in rows and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Development, Self::Production].into_iter().find(|environment| environment.name() == name)
    }
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
    /// The context key whose value names the partition; None where the keyring has none.
    pub partition_key: Option<String>,
    /// What it asks for beyond the configuration's defaults.
    pub limits: KeyLimits,
    /// The suite of new values.
    pub suite: Suite,
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
    /// Look-up keys, by name.
    pub lookups: Vec<LookupView>,
    /// When it was made.
    pub created: Wall,
    /// The row generation.
    pub generation: u64,
}

impl KeyringView {
    /// The version that seals.
    pub fn active(&self) -> Option<&VersionView> {
        self.versions.iter().find(|version| version.state == KeyState::Active)
    }

    /// When a scheduled rotation replaces its active version, by the calendar alone.
    pub fn next_rotation(&self) -> Option<Wall> {
        let active = self.active()?;
        let (end, since) = (active.expires?, active.activated?);
        let period = Duration::from_micros(end.0.saturating_sub(since.0));
        let early = u64::try_from(super::life::early(&self.name.to_string(), period).as_micros()).unwrap_or(u64::MAX);
        Some(Wall(end.0.saturating_sub(early)))
    }

    /// When its active version is to be replaced at the latest.
    pub fn rotation_due(&self) -> Option<Wall> {
        self.active().and_then(|version| version.expires)
    }
}

/// Whether the escrow wraps the keys of a keyring beside the primary, where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escrow {
    /// It does: the loss of the primary loses no value.
    #[default]
    Yes,
    /// It does not: nobody but the primary can ever open a value, and its loss loses them all.
    No,
}

impl Escrow {
    /// The word in requests, answers and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
        }
    }

    /// Reads the word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Yes, Self::No].into_iter().find(|escrow| escrow.name() == word)
    }
}

/// Limits of one keyring; None means the configuration's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// How long a version seals.
    pub cryptoperiod: Option<Duration>,
    /// How many values a version seals.
    pub messages: Option<u64>,
    /// How many plaintext bytes a version seals.
    pub bytes: Option<u64>,
    /// How long a cached key serves while its KEK is unreachable, after the end of its lifetime.
    pub offline_max: Option<Duration>,
    /// Whether the escrow wraps its keys: yes by default. In a change None leaves it as it is.
    pub escrow: Option<Escrow>,
}

impl KeyLimits {
    /// Whether the escrow wraps its keys.
    pub fn escrow(&self) -> Escrow {
        self.escrow.unwrap_or_default()
    }

    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            cryptoperiod: limits.cryptoperiod_days.map(|days| DAY.saturating_mul(days)),
            messages: limits.messages,
            bytes: limits.bytes,
            offline_max: limits.offline_max_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            escrow: (limits.escrow() == Escrow::No).then_some(Escrow::No),
        }
    }

    pub(super) fn body(&self) -> Limits {
        let whole = |time: Duration, unit: u64| u32::try_from(time.as_secs() / unit).unwrap_or(u32::MAX);
        Limits {
            bytes: self.bytes,
            cryptoperiod_days: self.cryptoperiod.map(|period| whole(period, DAY.as_secs())),
            escrow: (self.escrow() == Escrow::No).then_some(false),
            messages: self.messages,
            offline_max_seconds: self.offline_max.map(|time| whole(time, 1)),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One key version, without its wraps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionView {
    /// The id that stands in sealed values.
    pub id: KeyVersionId,
    /// Its state.
    pub state: KeyState,
    /// When it was made.
    pub created: Wall,
    /// When it last became active; None if it never was.
    pub activated: Option<Wall>,
    /// When it came into its state.
    pub since: Wall,
    /// Why.
    pub reason: Reason,
    /// Who brought it there.
    pub by: By,
    /// When its cryptoperiod ends; None unless it is active.
    pub expires: Option<Wall>,
    /// When it is to be destroyed, if that was decided.
    pub destroy_at: Option<Wall>,
    /// The suite it seals and opens, fixed when it was made; none of a look-up key.
    pub suite: Option<Suite>,
    /// `NAME vN` of the KEKs that wrap it.
    pub keks: Vec<String>,
    /// How many live partitions it wraps.
    pub partitions: u64,
}

impl VersionView {
    /// The state that it is treated as: suspended while it waits to be destroyed.
    pub const fn acting(&self) -> KeyState {
        self.state.acting(self.destroy_at.is_some())
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

/// Where the store's chain of changes ends: goes into heartbeats, so that an older database is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreHead {
    /// How many changes there are.
    pub changes: u64,
    /// Digest of the last one.
    pub digest: [u8; 32],
}

/// `N:DIGEST`, as it stands in records.
impl std::fmt::Display for StoreHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.changes, hex::encode(self.digest))
    }
}

impl std::str::FromStr for StoreHead {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (changes, digest) = text.split_once(':').ok_or(NotAHead)?;
        let mut head = Self { changes: changes.parse().map_err(|_| NotAHead)?, digest: [0; 32] };
        hex::decode_to_slice(digest, &mut head.digest).map_err(|_| NotAHead)?;
        Ok(head)
    }
}

/// The text is no head of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the head of a store")]
pub struct NotAHead;

/// What the log says of its store: any other store is refused before a key of it unlocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The store's id, in hexadecimal.
    pub store: String,
    /// The check value of the store key, in hexadecimal.
    pub store_key_check: String,
    /// The newest head that a record names.
    pub head: Option<StoreHead>,
    /// Heads that a restore gave up.
    pub abandoned: Vec<StoreHead>,
    /// The log's own name: intents of other logs are not ours.
    pub log: String,
}

impl Pinned {
    /// Why a store is not the one that was pinned, or is older than its newest known head. One that has more changes
    /// than the log knows of is right: a crash may fall between a change and its record.
    pub(super) fn objection(&self, genesis: &Genesis, head: StoreHead) -> Option<String> {
        if genesis.store.to_string() != self.store || hex::encode(genesis.store_key_check) != self.store_key_check {
            return Some("this is not the store that the audit log belongs to".to_owned());
        }
        let known = self.head?;
        (head.changes < known.changes).then(|| {
            format!(
                "the store is older than the audit log knows it: it ends at change {}, the log has seen {}; put back the \
                 newest copy of the store, or, if what is missing is lost for good, declare it: {DECLARE}",
                head.changes, known.changes
            )
        })
    }
}

impl Pinned {
    /// Why a store whose chain passes through this change is another one than the log knows: an abandoned state, say, that
    /// somebody put back after a restore.
    pub(super) fn other_history(&self, passed: StoreHead) -> Option<String> {
        if self.abandoned.contains(&passed) {
            return Some(format!(
                "a restore abandoned this store at change {}, as store.rebased in the audit log says; put back the newest \
                 copy of the restored one",
                passed.changes
            ));
        }
        let known = self.head.filter(|known| known.changes == passed.changes && known.digest != passed.digest)?;
        Some(format!(
            "change {} is not the one that the audit log knows: this store went another way; put back the newest copy of \
             the store that the log belongs to, or, if that is lost for good, declare this one: {DECLARE}",
            known.changes
        ))
    }
}

/// How a store that was set back, and stays so, comes into force.
pub(super) const DECLARE: &str = "keyward restore --store-only --in-place";

/// What stands in for a shared store that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirroring {
    /// Whether it is written to.
    pub kept: bool,
    /// Whether it has answered since the store was last heard.
    pub serves: bool,
    /// How often it has answered altogether.
    pub served: u64,
    /// Keyrings that were not kept for want of room.
    pub left_out: u64,
}

/// How the keyrings are doing, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringHealth {
    /// The store key is unwrapped and every row verified.
    Open,
    /// Not yet: the KEK is not reachable, say; the text says what to do. Everything answers `unavailable`.
    Waiting(String),
}
