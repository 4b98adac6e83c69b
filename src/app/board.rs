//! What does readiness show? The parts' own words, read each second into the health board.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use crate::audit::{self, Log};
use crate::clock::SharedClock;
use crate::kek::{BreakerState, Kek, KekHealth, KekStatus, Recoveries};
use crate::keyring::{KekUse, KeyringHealth, Keyrings, Period, Unlocking};
use crate::secret;
use crate::server::health::{Board, Part, State};
use crate::telemetry::Metrics;

use super::standing::{One, Standing};
use super::upkeep::Upkeep;

/// Readiness is never older than this.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Watched {
    pub(super) board: Arc<Board>,
    pub(super) keks: Standing,
    pub(super) keyrings: Arc<Keyrings>,
    pub(super) log: Log,
    /// What is said of a log that records.
    pub(super) recording: &'static str,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
}

impl Watched {
    pub(super) fn of(upkeep: &Upkeep<'_>, keks: Standing, keyrings: &Arc<Keyrings>) -> Self {
        let Upkeep { config, log, clock, metrics, board } = *upkeep;
        let recording = if config.witness.is_some() { "recording" } else { "recording, unwitnessed" };
        let (keyrings, log, clock) = (keyrings.clone(), log.clone(), clock.clone());
        Self { board: board.clone(), keks, keyrings, log, recording, clock, metrics: metrics.clone() }
    }
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
        for part in self.kek_parts().iter().chain(&[self.keyring_part(), self.log_part()]) {
            self.board.post(part);
        }
        self.gauges();
        for one in self.keks.iter() {
            self.kek_gauges(one);
        }
        self.cryptoperiods();
        if let Some(mirror) = self.keyrings.mirror() {
            self.metrics.lives.mirror_serves.set(i64::from(mirror.serves));
            self.metrics.lives.mirror_kept.set(i64::from(mirror.kept));
            raise(&self.metrics.lives.mirror_served, mirror.served);
        }
        raise(&self.keks.primary.metrics.failovers, self.keyrings.failovers());
    }

    fn kek_parts(&self) -> Vec<Part> {
        let about: Vec<(&One, KekStatus)> = self.keks.wrapping().map(|one| (one, one.kek.status())).collect();
        let unlocking = self.keyrings.unlocking();
        let left = unlocking.and_then(|unlocking| unlocking.left(self.clock.mono()));
        let reached = about.iter().any(|(_, status)| status.health == KekHealth::Reachable);
        about
            .into_iter()
            .enumerate()
            .map(|(at, (one, status))| {
                let refused = self.keyrings.refused(one.kek.name());
                let (state, word) = match status.health {
                    KekHealth::Denied if at == 0 => (State::Failing, "refuses: see the audit log"),
                    _ if refused => (State::Failing, "refused, and no other is asked until it opens again"),
                    KekHealth::Reachable => (State::Ok, "reachable"),
                    KekHealth::Denied => (State::Degraded, "refuses: see the audit log; no key can be made"),
                    KekHealth::Unreachable if reached && at == 0 => {
                        (State::Degraded, "unreachable: the escrow opens, no key can be made")
                    }
                    KekHealth::Unreachable if reached => (State::Degraded, "unreachable: no key can be made"),
                    KekHealth::Unreachable if left.is_some() => {
                        (State::Degraded, "unreachable: cached keys serve until they expire")
                    }
                    KekHealth::Unreachable => (State::Failing, "unreachable, and no key is cached: nothing opens"),
                };
                let left = left.filter(|_| status.health == KekHealth::Unreachable && !refused);
                let last = left.map_or(String::new(), |left| format!(", the last in {} s", left.as_secs()));
                let old = self.overdue(one);
                let state = if old.is_some() && matches!(state, State::Ok) { State::Degraded } else { state };
                let text = format!("{word}{last}{}; {}", old.unwrap_or_default(), self.details(one, &status));
                part(&format!("kek {}", one.kek.name()), state, &text)
            })
            .chain(self.keks.retiring.iter().map(|one| self.retiring_part(one)))
            .collect()
    }

    /// What is to be said of a version that wraps for longer than it should.
    fn overdue(&self, one: &One) -> Option<String> {
        let old = self
            .keyrings
            .kek_uses()
            .into_iter()
            .find(|known| known.kek == *one.kek.name() && known.wraps && known.period == Period::Over)?;
        Some(format!(", but its cryptoperiod ended: version {} is to be rotated (docs/rotation.md)", old.version))
    }

    /// Nothing waits for it but what is not rewrapped yet.
    fn retiring_part(&self, one: &One) -> Part {
        let status = one.kek.status();
        let (state, word) = match status.health {
            KekHealth::Reachable => (State::Ok, "reachable, retiring"),
            KekHealth::Denied => (State::Degraded, "retiring, and refuses: what it alone has wrapped does not open"),
            KekHealth::Unreachable => {
                (State::Degraded, "retiring, and unreachable: what it alone has wrapped does not open")
            }
        };
        part(&format!("kek {}", one.kek.name()), state, &format!("{word}; {}", self.details(one, &status)))
    }

    /// The facts behind the word, for a person at three in the morning.
    fn details(&self, one: &One, status: &KekStatus) -> String {
        let version = one.kek.current_version().map_or("no version known yet".to_owned(), |it| format!("version {it}"));
        let canary = match status.last_canary {
            Some(at) => {
                let ago = self.clock.wall().0.saturating_sub(at.0) / 1_000_000;
                format!("canary opened {ago} s ago")
            }
            None => "no canary opened yet".to_owned(),
        };
        let breaker = match status.breaker {
            BreakerState::Closed => "closed".to_owned(),
            BreakerState::Open { until } => {
                format!("open for {} ms", until.since(self.clock.mono()).as_millis())
            }
            BreakerState::HalfOpen => "half open".to_owned(),
        };
        let Recoveries { sessions, logins, workers } = status.recoveries;
        format!(
            "{version}; {canary}; breaker {breaker}; {} of {} sessions in use; renewed {sessions} sessions, {logins} logins, {workers} workers",
            status.sessions_in_use, status.sessions
        )
    }

    fn keyring_part(&self) -> Part {
        if let (KeyringHealth::Open, Some(damage)) = (self.keyrings.health(), self.keyrings.damage()) {
            return part("keyrings", State::Degraded, &format!("the store was edited: {damage}"));
        }
        match (self.keyrings.health(), self.keyrings.missing().first()) {
            (KeyringHealth::Open, _) if self.keyrings.store_is_silent() => self.silent_part(),
            (KeyringHealth::Open, _) if self.metrics.lives.hard_limit_past.get() > 0 => {
                let spent = self.metrics.lives.hard_limit_past.get();
                let text =
                    format!("open; {spent} keyrings seal no more: their active versions are past the hard limit");
                part("keyrings", State::Degraded, &text)
            }
            (KeyringHealth::Open, None) => part("keyrings", State::Ok, "open"),
            (KeyringHealth::Open, Some((kek, keys))) => {
                let text = format!("open; {keys} keys have no wrap by {kek}, which cannot stand in for them");
                part("keyrings", State::Degraded, &text)
            }
            (KeyringHealth::Waiting(why), _) => part("keyrings", State::Failing, &why),
        }
    }

    fn silent_part(&self) -> Part {
        match self.keyrings.state_lease() {
            Some(left) => {
                let mirror = match self.keyrings.mirror() {
                    Some(mirror) if mirror.serves => "; keyrings come from the local mirror",
                    Some(mirror) if !mirror.kept => "; there is no local mirror any more",
                    _ => "",
                };
                let left = left.as_secs();
                let text = format!("open; the store is out of reach, and is believed for {left} s more{mirror}");
                part("keyrings", State::Degraded, &text)
            }
            None => part("keyrings", State::Failing, "the store is out of reach for too long: nothing unlocks"),
        }
    }

    fn log_part(&self) -> Part {
        let health = self.log.health();
        match (health.state, health.nearly_full) {
            (audit::State::Closed(why), _) => part("audit", State::Failing, &why),
            (audit::State::Open, true) => part("audit", State::Degraded, "three quarters of the disk budget are used"),
            (audit::State::Open, false) => part("audit", State::Ok, self.recording),
        }
    }

    fn kek_gauges(&self, One { kek, metrics }: &One) {
        let status = kek.status();
        metrics.reachable.set(i64::from(status.health == KekHealth::Reachable));
        metrics.last_canary.set(status.last_canary.map_or(0, |at| signed(at.0 / 1_000_000)));
        let state = match status.breaker {
            BreakerState::Closed => 0,
            BreakerState::Open { .. } => 1,
            BreakerState::HalfOpen => 2,
        };
        for (at, gauge) in metrics.breaker.iter().enumerate() {
            gauge.set(i64::from(at == state));
        }
        metrics.version.set(i64::from(kek.current_version().unwrap_or_default()));
        metrics.sessions.set(i64::from(status.sessions));
        metrics.sessions_in_use.set(i64::from(status.sessions_in_use));
        raise(&metrics.renewed_sessions, status.recoveries.sessions);
        raise(&metrics.logins, status.recoveries.logins);
        raise(&metrics.workers, status.recoveries.workers);
        let missing = self.keyrings.missing().into_iter().find(|(name, _)| name == kek.name());
        metrics.missing.set(missing.map_or(0, |(_, keys)| signed(keys as u64)));
    }

    /// Of each version of a key-encryption key that is not retired.
    fn cryptoperiods(&self) {
        let (lives, uses) = (&self.metrics.lives, self.keyrings.kek_uses());
        let now = self.clock.wall().0;
        let left = |expires: u64| if expires >= now { seconds(expires - now) } else { -seconds(now - expires) };
        lives.show_periods(uses.iter().map(|one| (one.kek.as_str(), one.version, left(one.expires.0))));
        for one in self.keks.wrapping() {
            let is = |period: &[Period]| {
                let of = |known: &&KekUse| known.kek == *one.kek.name() && known.wraps;
                uses.iter().filter(of).any(|known| period.contains(&known.period))
            };
            lives.show_kek(one.kek.name().as_str(), is(&[Period::Due, Period::Over]), is(&[Period::Over]));
        }
    }

    fn gauges(&self) {
        let (metrics, health, cache) = (&self.metrics, self.log.health(), self.keyrings.cache_stats());
        metrics.audit_records.set(signed(health.records));
        metrics.audit_bytes.set(signed(health.used));
        metrics.key_cache_keys.set(signed(cache.keys as u64));
        metrics.key_cache_partitions.set(signed(self.keyrings.cached_partitions() as u64));
        raise(&metrics.key_cache_hits, cache.hits);
        raise(&metrics.key_cache_misses, cache.misses);
        raise(&metrics.lifetimes.renewals, cache.renewals);
        raise(&metrics.lifetimes.offline, cache.offline);
        let unlocking = self.keyrings.unlocking();
        let left = unlocking.and_then(|unlocking| unlocking.left(self.clock.mono()));
        metrics.lifetimes.offline_expiry.set(left.map_or(0.0, |left| left.as_secs_f64()));
        let lease = self.keyrings.state_lease();
        metrics.lifetimes.state_lease.set(lease.map_or(0.0, |left| left.as_secs_f64()));
        metrics.lifetimes.show_state(unlocking.map_or("", Unlocking::name));
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

/// Microseconds as seconds; a gauge is a float, and no period is so long that it would lose seconds.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

/// Brings a counter up to a total that a part keeps itself.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
