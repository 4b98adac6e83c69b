//! What does readiness show? The parts' own words, read each second into the health board.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use crate::audit::{self, Log};
use crate::clock::SharedClock;
use crate::kek::{Kek, KekHealth};
use crate::keyring::{KeyringHealth, Keyrings};
use crate::secret;
use crate::server::health::{Board, Part, State};
use crate::telemetry::Metrics;

/// Readiness is never older than this.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Watched {
    pub(super) board: Arc<Board>,
    pub(super) kek: Arc<dyn Kek>,
    pub(super) keyrings: Arc<Keyrings>,
    pub(super) log: Log,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
}

/// Refreshes the board for ever.
pub(super) async fn refresh(watched: Watched) {
    loop {
        watched.look();
        watched.clock.sleep_until(watched.clock.mono().plus(EVERY)).await;
    }
}

impl Watched {
    pub(super) fn look(&self) {
        for part in [self.kek_part(), self.keyring_part(), self.log_part()] {
            self.board.post(&part);
        }
        self.gauges();
    }

    /// A KEK that is away degrades: cached keys still open until their lifetime ends.
    fn kek_part(&self) -> Part {
        let (state, text) = match self.kek.health() {
            KekHealth::Reachable => (State::Ok, "reachable"),
            KekHealth::Unreachable => (State::Degraded, "unreachable: cached keys serve until they expire"),
            KekHealth::Denied => (State::Failing, "refuses: see the audit log"),
        };
        part("kek", state, text)
    }

    fn keyring_part(&self) -> Part {
        match self.keyrings.health() {
            KeyringHealth::Open => part("keyrings", State::Ok, "open"),
            KeyringHealth::Waiting(why) => part("keyrings", State::Failing, &why),
        }
    }

    fn log_part(&self) -> Part {
        let health = self.log.health();
        match (health.state, health.nearly_full) {
            (audit::State::Closed(why), _) => part("audit", State::Failing, &why),
            (audit::State::Open, true) => part("audit", State::Degraded, "three quarters of the disk budget are used"),
            (audit::State::Open, false) => part("audit", State::Ok, "recording, unwitnessed"),
        }
    }

    fn gauges(&self) {
        let (metrics, health, cache) = (&self.metrics, self.log.health(), self.keyrings.cache_stats());
        metrics.audit_records.set(signed(health.records));
        metrics.audit_bytes.set(signed(health.used));
        metrics.key_cache_keys.set(signed(cache.keys as u64));
        raise(&metrics.key_cache_hits, cache.hits);
        raise(&metrics.key_cache_misses, cache.misses);
        if let Ok(usage) = secret::usage() {
            metrics.locked_slots.set(signed(usage.slots as u64));
            metrics.locked_slots_used.set(signed(usage.used as u64));
            metrics.memory_locked.set(i64::from(usage.locked));
        }
    }
}

fn part(name: &str, state: State, text: &str) -> Part {
    Part { name: name.to_owned(), state, text: text.to_owned() }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Brings a counter up to a total that a part keeps itself.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
