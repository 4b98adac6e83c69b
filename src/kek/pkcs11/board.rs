//! What is known of the token right now? Written by the keeper, read by anybody, without a call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Mono, Wall};
use crate::kek::{BreakerState, KekFacts, KekHealth, KekStatus, Recoveries};

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
    last_canary: Option<Wall>,
    breaker: BreakerState,
    /// Workers that were logged in, the first included.
    workers: u64,
    renewed_sessions: u64,
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
            last_canary: None,
            breaker: BreakerState::Closed,
            workers: 0,
            renewed_sessions: 0,
        }))
    }

    /// The KEK was reached and proven.
    pub(super) fn admit(&self, facts: KekFacts, attributes: KeyAttributes) {
        let mut known = self.known();
        known.facts = facts;
        known.attributes = Some(attributes);
        known.health = Some(KekHealth::Reachable);
    }

    /// A call failed; whether that is news.
    pub(super) fn worsen(&self, health: KekHealth) -> bool {
        self.known().health.replace(health) != Some(health)
    }

    /// Which process is the worker.
    pub(super) fn worker_is(&self, process: Option<u32>) {
        let mut known = self.known();
        known.worker = process;
        known.workers = known.workers.saturating_add(u64::from(process.is_some()));
    }

    /// A canary opened.
    pub(super) fn canary_opened(&self, at: Wall) {
        self.known().last_canary = Some(at);
    }

    /// A session was replaced.
    pub(super) fn session_renewed(&self) {
        let mut known = self.known();
        known.renewed_sessions = known.renewed_sessions.saturating_add(1);
    }

    /// Whether calls get through.
    pub(super) fn breaker_is(&self, breaker: BreakerState) {
        self.known().breaker = breaker;
    }

    /// All that is known. The keeper serves one call at a time over one session, which the worker holds.
    pub(super) fn status(&self, now: Mono) -> KekStatus {
        let known = self.known();
        let breaker = match known.breaker {
            BreakerState::Open { until } if until <= now => BreakerState::HalfOpen,
            other => other,
        };
        let after_the_first = known.workers.saturating_sub(1);
        KekStatus {
            health: known.health.unwrap_or(KekHealth::Unreachable),
            last_canary: known.last_canary,
            breaker,
            sessions_in_use: 0,
            sessions: u32::from(known.worker.is_some()),
            recoveries: Recoveries {
                sessions: known.renewed_sessions,
                logins: after_the_first,
                workers: after_the_first,
            },
        }
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
