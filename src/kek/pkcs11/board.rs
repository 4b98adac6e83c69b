//! What is known of the token right now? Written by the keeper, read by anybody, without a call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Wall;
use crate::kek::{KekFacts, KekHealth};

use super::attributes::KeyAttributes;

/// The latest knowledge.
#[derive(Debug)]
pub(super) struct Board(Mutex<Known>);

#[derive(Debug)]
struct Known {
    health: Option<KekHealth>,
    facts: KekFacts,
    attributes: Option<KeyAttributes>,
    worker: Option<u32>,
    counts: Counts,
    stuck: bool,
}

/// Counters and times for health and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// When a canary last opened.
    pub(super) canary: Option<Wall>,
    /// Sessions in which a call runs.
    pub(super) busy: u32,
    /// Sessions that were dropped and opened anew.
    pub(super) sessions_renewed: u64,
    /// Workers that were started, each with its login.
    pub(super) workers_started: u64,
}

impl Board {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let facts = KekFacts { kind: "pkcs11", ..KekFacts::default() };
        Self(Mutex::new(Known {
            health: None,
            facts,
            attributes: None,
            worker: None,
            counts: Counts::default(),
            stuck: false,
        }))
    }

    /// The KEK was reached and proven.
    pub(super) fn admit(&self, facts: KekFacts, attributes: KeyAttributes) {
        let mut known = self.known();
        known.facts = facts;
        known.attributes = Some(attributes);
        known.health = Some(KekHealth::Reachable);
        known.stuck = false;
    }

    /// A call failed; whether that is news: another state, or the same one that now ends only when somebody acts.
    pub(super) fn worsen(&self, health: KekHealth, stuck: bool) -> bool {
        let mut known = self.known();
        let news = known.health.replace(health) != Some(health) || (stuck && !known.stuck);
        known.stuck |= stuck;
        news
    }

    /// Which process is the worker.
    pub(super) fn worker_is(&self, process: Option<u32>) {
        self.known().worker = process;
    }

    /// Changes the counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.known().counts);
    }

    pub(super) fn counts(&self) -> Counts {
        self.known().counts
    }

    pub(super) fn worker(&self) -> Option<u32> {
        self.known().worker
    }

    pub(super) fn health(&self) -> KekHealth {
        self.known().health.unwrap_or(KekHealth::Unreachable)
    }

    pub(super) fn facts(&self) -> KekFacts {
        self.known().facts.clone()
    }

    pub(super) fn attributes(&self) -> Option<KeyAttributes> {
        self.known().attributes.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
