//! Which keyring is to be rotated, when and why? Decided from facts, a believed time and settings alone.
//!
//! Twenty sidecars and a thousand keyrings must not wake at once: a keyring comes due before the end of its period by an
//! amount that its name determines, each sidecar begins a little later than that by an amount of its own, and none
//! rotates more than a few keyrings a minute, whatever the clock says. A time that jumped decides nothing for an hour
//! (see `clock::Steady`); use does, since counters need no clock.

mod agenda;

use std::time::Duration;

pub use agenda::{Page, Summary, run};

use crate::clock::{Mono, Reading, Wall};
use crate::keyring::life::{EARLIEST, Trigger, early, hash, mixed, part_of};
use crate::keyring::{Tally, UsageLimits};
use crate::names::KeyVersionId;

/// `[rotation]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a data key version seals.
    pub data_key: Duration,
    /// How long a version of a key-encryption key wraps. Nobody rotates it but its token's owner.
    pub kek: Duration,
    /// How long any version may seal at the very most, whatever a keyring asks for.
    pub hard_limit: Duration,
    /// Values that one version may seal.
    pub messages: u64,
    /// Bytes of plaintext that one version may seal.
    pub bytes: u64,
    /// How often the agenda is looked at.
    pub check: Duration,
    /// Whether this sidecar rotates by itself; what is due shows in any case.
    pub enabled: bool,
}

/// What is known of a keyring's active version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which version it is.
    pub version: KeyVersionId,
    /// Since when it seals or wraps.
    pub activated: Wall,
    /// How long it should, by its own settings or the configuration's.
    pub period: Duration,
    /// What it has sealed, by all sidecars: an upper bound.
    pub used: Tally,
    /// How much it should seal.
    pub limits: UsageLimits,
}

/// How a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// When the schedule next asks for a rotation; in the past while one is due. Use may ask for it sooner.
    pub next: Wall,
    /// Why it is to be rotated now.
    pub due: Option<Trigger>,
    /// It should have been: its period has ended, or its limit is reached.
    pub overdue: bool,
    /// It is older than any version may be.
    pub past_hard_limit: bool,
    /// It begins in the future: a clock is wrong now or was when it was made. Its age is not known, so it is not due:
    /// were it due, a clock that was set back a year would have every keyring rotated.
    pub unborn: bool,
}

impl Settings {
    /// How a version of this keyring or key-encryption key stands at this moment.
    pub fn decide(&self, name: &str, facts: &Facts, now: Reading) -> Decision {
        let Facts { version: _, activated, period, used, limits } = *facts;
        let period = period.min(self.hard_limit);
        let unborn = activated.0 > now.wall.0.saturating_add(micros(FUTURE));
        let end = plus(activated, period);
        let next = Wall(end.0.saturating_sub(micros(early(name, period))));
        let passed = |point: Wall| now.trusted && now.wall >= point;
        let full =
            |percent| used.messages >= share(limits.messages, percent) || used.bytes >= share(limits.bytes, percent);
        let due = match (full(DUE_PERCENT), passed(next)) {
            (true, _) => Some(Trigger::Usage),
            (false, true) => Some(Trigger::Schedule),
            (false, false) => None,
        };
        let past_hard_limit = passed(plus(activated, self.hard_limit));
        Decision { next, due, overdue: full(100) || passed(end), past_hard_limit, unborn }
    }
}

/// How long after a keyring comes due this sidecar begins: the first one of a fleet is usually done before the second
/// looks. `sidecar` is any number of its own.
pub fn offset(sidecar: u64, name: &str, check: Duration) -> Duration {
    let most = check.saturating_mul(SPREAD_CHECKS);
    part_of(most, mixed(hash(name.as_bytes()) ^ mixed(sidecar)))
}

/// How many rotations are begun: a bucket that fills slowly, so that no clock and no change of settings starts a storm.
#[derive(Debug)]
pub struct Pace {
    left: u32,
    since: Mono,
}

impl Pace {
    /// A full bucket.
    pub const fn new(now: Mono) -> Self {
        Self { left: A_MINUTE, since: now }
    }

    /// Whether one more may begin now.
    pub fn take(&mut self, now: Mono) -> bool {
        if now.since(self.since) >= MINUTE {
            *self = Self::new(now);
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

/// Part of a limit, rounded down; 0 only for a limit of 0, which is reached at once.
fn share(limit: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(limit).saturating_mul(u128::from(percent)) / 100).unwrap_or(u64::MAX)
}

fn plus(at: Wall, while_: Duration) -> Wall {
    Wall(at.0.saturating_add(micros(while_)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The rest of a limit is for what is sealed until the rotation is through.
const DUE_PERCENT: u64 = 90;
/// Clocks of a fleet differ by less than this.
const FUTURE: Duration = Duration::from_secs(3_600);
const SPREAD_CHECKS: u32 = 10;
/// Rotations a minute and sidecar: 100,000 keyrings take a week, which the last tenth of 90 days is longer than.
const A_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
