//! What is known of the key right now? Written by the keeper, read by anybody, without a call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Wall;
use crate::kek::{KekFacts, KekHealth};

use super::api::KeyInfo;

/// The latest knowledge.
#[derive(Debug)]
pub(super) struct Board(Mutex<Known>);

#[derive(Debug)]
struct Known {
    health: Option<KekHealth>,
    facts: KekFacts,
    admitted: bool,
    min_decryption_version: u32,
    /// The newest that the server told; 0 before it told any.
    latest_version: u32,
    recorded_version: u32,
    canary: Option<Wall>,
    logins: u64,
}

/// What an admission changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first one.
    Admitted,
    /// It was away or refused.
    Recovered,
    /// Nothing.
    None,
}

impl Board {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let facts = KekFacts { kind: "transit", ..KekFacts::default() };
        let (health, canary) = (None, None);
        Self(Mutex::new(Known {
            health,
            facts,
            admitted: false,
            min_decryption_version: 0,
            latest_version: 0,
            recorded_version: 0,
            canary,
            logins: 0,
        }))
    }

    /// The KEK was reached and proven.
    pub(super) fn admit(&self, facts: KekFacts, info: &KeyInfo) -> News {
        let mut known = self.known();
        let news = match (known.admitted, known.health) {
            (false, _) => News::Admitted,
            (true, Some(KekHealth::Reachable)) => News::None,
            (true, _) => News::Recovered,
        };
        known.facts = facts;
        known.admitted = true;
        known.min_decryption_version = info.min_decryption_version;
        known.latest_version = known.latest_version.max(info.latest_version);
        if news == News::Admitted {
            known.recorded_version = info.latest_version;
        }
        known.health = Some(KekHealth::Reachable);
        news
    }

    /// A call failed; whether that is news.
    pub(super) fn worsen(&self, health: KekHealth) -> bool {
        self.known().health.replace(health) != Some(health)
    }

    /// A canary opened.
    pub(super) fn canary_opened(&self, at: Wall) {
        self.known().canary = Some(at);
    }

    /// A login succeeded.
    pub(super) fn logged_in(&self) {
        self.known().logins += 1;
    }

    /// When a canary last opened, and how many logins there were.
    pub(super) fn counts(&self) -> (Option<Wall>, u64) {
        let known = self.known();
        (known.canary, known.logins)
    }

    /// Whether the KEK was ever proven.
    pub(super) fn is_admitted(&self) -> bool {
        self.known().admitted
    }

    /// The lowest version that opened at the last admission.
    pub(super) fn min_decryption_version(&self) -> u32 {
        self.known().min_decryption_version
    }

    /// The server wrapped by this version.
    pub(super) fn saw_version(&self, version: u32) {
        let mut known = self.known();
        known.latest_version = known.latest_version.max(version);
    }

    /// The server tells of the key; whether a version is the newest that no record names yet.
    pub(super) fn saw_key(&self, facts: KekFacts, info: &KeyInfo) -> bool {
        let mut known = self.known();
        let news = known.admitted && info.latest_version > known.recorded_version;
        if news {
            known.facts = facts;
            known.recorded_version = info.latest_version;
        }
        known.latest_version = known.latest_version.max(info.latest_version);
        news
    }

    /// The version of new wraps.
    pub(super) fn latest_version(&self) -> Option<u32> {
        Some(self.known().latest_version).filter(|version| *version > 0)
    }

    pub(super) fn health(&self) -> KekHealth {
        self.known().health.unwrap_or(KekHealth::Unreachable)
    }

    pub(super) fn facts(&self) -> KekFacts {
        self.known().facts.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
