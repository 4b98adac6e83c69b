//! May keys still be used although we cannot ask whether they may? Two leases end that: the one of the key-encryption key
//! (a property of each cached key, see `cache::slot`) and the one of the store's state, here.
//!
//! This module only compares points of the boot-time clock: no wall clock, however it steps, makes a lease longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Settings, UnlockError};
use crate::clock::Mono;

/// How often a store of this machine is asked for its head; a shared one has a setting.
pub const STORE_POLL: Duration = Duration::from_secs(2);

/// Several looks at the store, at their longest.
const SILENT: Duration = Duration::from_secs(10);

/// How long what was last read of the store may be believed. A state that a peer changes after that (suspended,
/// compromised, destroyed) could not be seen here, so nothing unlocks until the store has been heard again.
#[derive(Debug)]
pub struct StateLease {
    /// The end, in nanoseconds of the boot-time clock; 0 until the first confirmation.
    ends: AtomicU64,
    offline_max: Duration,
}

impl StateLease {
    /// A lease that has not begun.
    pub const fn new(offline_max: Duration) -> Self {
        Self { ends: AtomicU64::new(0), offline_max }
    }

    /// The store has said what its head is. `asked` is before the question: the answer is never younger than that.
    pub fn confirm(&self, asked: Mono) {
        self.ends.fetch_max(asked.plus(self.offline_max).0, Ordering::Release);
    }

    /// How long it still lasts; None when it has ended or not begun.
    pub fn left(&self, now: Mono) -> Option<Duration> {
        let ends = Mono(self.ends.load(Ordering::Acquire));
        (ends > now).then(|| ends.since(now))
    }

    /// Whether the store has not been heard for so long that it cannot be by chance.
    pub fn is_silent(&self, now: Mono) -> bool {
        let ends = self.ends.load(Ordering::Acquire);
        ends != 0 && self.left(now).is_none_or(|left| self.offline_max.saturating_sub(left) > SILENT)
    }

    /// Nothing unlocks without it.
    #[inline]
    pub fn check(&self, now: Mono) -> Result<(), UnlockError> {
        if self.ends.load(Ordering::Acquire) > now.0 { Ok(()) } else { Err(self.ended(now)) }
    }

    #[cold]
    fn ended(&self, now: Mono) -> UnlockError {
        let ends = self.ends.load(Ordering::Acquire);
        UnlockError::Unavailable(match now.since(Mono(ends)) {
            _ if ends == 0 => "the store has not been heard yet".to_owned(),
            over => {
                let silent = over.saturating_add(self.offline_max).as_secs();
                let allowed = self.offline_max.as_secs();
                format!(
                    "the store has not been heard for {silent} s, and its last word may be believed for {allowed} s"
                )
            }
        })
    }
}

/// The longest time until a revocation bites, by who says it and whether we can hear it.
///
/// *A refusal by a key-encryption key that we cannot hear.* A key serves only until `asked + ttl + offline_max`, where
/// `asked` precedes a call in which that KEK opened that very wrap. If it was disabled at `t`, no such call began after
/// `t` was over, so `asked <= t` and no request unlocks the key at or after `t + ttl + offline_max`. A canary does not
/// make this longer: it proves one version of a KEK, not each wrap. A refusal that we do hear drops the keys at once.
///
/// *A change of state by a peer.* Whoever can reach the store looks at it every `poll`; whoever cannot has confirmed
/// its head at `asked <= t` for the last time, and the lease that this began ends at `asked + store_offline_max`.
///
/// *Work in hand.* A key that was unlocked before its end serves its request to the request's deadline, at most `drain`
/// later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationBound {
    /// A KEK refuses, and we cannot hear it.
    pub unheard_refusal: Duration,
    /// A KEK refuses, it can be reached, and nothing but the next renewal of the key asks it.
    pub refusal: Duration,
    /// A peer changes a state, and the store is out of reach from then on.
    pub unheard_state: Duration,
    /// A peer changes a state, and the store can be reached.
    pub state: Duration,
}

impl RevocationBound {
    /// Derived from the settings: see the type. A keyring's own `offline_max` is never longer than the settings'.
    /// `poll` is how often the store is asked, `drain` the longest that a request may take.
    pub fn of(settings: &Settings, poll: Duration, drain: Duration) -> Self {
        let Settings { cache_ttl: ttl, offline_max, store_offline_max, .. } = *settings;
        Self {
            unheard_refusal: ttl.saturating_add(offline_max).saturating_add(drain),
            refusal: ttl.saturating_add(drain),
            unheard_state: store_offline_max.saturating_add(drain),
            state: poll.min(store_offline_max).saturating_add(drain),
        }
    }

    /// The longest of them.
    pub fn worst(&self) -> Duration {
        let Self { unheard_refusal, refusal, unheard_state, state } = *self;
        unheard_refusal.max(refusal).max(unheard_state).max(state)
    }
}

/// How unlocking is doing, for readiness, metrics and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlocking {
    /// The primary key-encryption key answers.
    Healthy,
    /// It is out of reach. The escrow opens in its stead (None), or cached keys serve, the last of them until then.
    Degraded(Option<Mono>),
    /// It is out of reach, and nothing serves in its stead.
    Expired,
    /// It refuses, or refused before it went out of reach: nothing serves in its stead.
    Refused,
}

impl Unlocking {
    /// The word in metrics and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }

    /// How long the cached keys serve at most, while they alone do.
    pub fn left(self, now: Mono) -> Option<Duration> {
        match self {
            Self::Degraded(Some(end)) => Some(end.since(now)),
            Self::Healthy | Self::Degraded(None) | Self::Expired | Self::Refused => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, Wall};
    use crate::keyring::{Environment, UsageLimits};

    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn nothing_unlocks_before_the_first_confirmation() {
        let lease = StateLease::new(MAX);
        assert_eq!(lease.left(Mono(0)), None);
        assert!(
            matches!(lease.check(Mono(5)), Err(UnlockError::Unavailable(why)) if why.contains("not been heard yet"))
        );
    }

    #[test]
    fn a_lease_ends_on_the_boot_time_clock_whatever_the_wall_clock_does() {
        let clock = ManualClock::at(Wall(1_780_315_200_000_000));
        let lease = StateLease::new(MAX);
        lease.confirm(clock.mono());
        let year = 365 * 86_400 * 1_000_000;
        for wall in [clock.wall().0 + year, clock.wall().0 - year] {
            clock.step_wall(Wall(wall));
            assert_eq!((lease.left(clock.mono()), lease.check(clock.mono())), (Some(MAX), Ok(())));
        }
        clock.advance(MAX - Duration::from_nanos(1));
        assert_eq!(lease.check(clock.mono()), Ok(()));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(lease.left(clock.mono()), None);
        clock.advance(Duration::from_secs(20));
        let told = lease.check(clock.mono()).unwrap_err().to_string();
        assert!(told.contains("not been heard for 320 s") && told.contains("believed for 300 s"), "{told}");
        lease.confirm(clock.mono());
        assert_eq!(lease.check(clock.mono()), Ok(()));
    }

    #[test]
    fn an_answer_to_an_older_question_takes_nothing_away() {
        let lease = StateLease::new(MAX);
        lease.confirm(Mono(2_000));
        lease.confirm(Mono(1_000));
        assert_eq!(lease.left(Mono(2_000)), Some(MAX));
    }

    #[test]
    fn the_bound_is_the_sum_of_what_can_pass_unheard() {
        let s = Duration::from_secs;
        let settings = |ttl, offline, store| Settings {
            data_key_period: Duration::from_secs(90 * 86_400),
            hard_limit: Duration::from_secs(730 * 86_400),
            kek_period: Duration::from_secs(365 * 86_400),
            environment: Environment::Production,
            cache_ttl: s(ttl),
            offline_max: s(offline),
            store_offline_max: s(store),
            cache_keys: 1,
            usage_limits: UsageLimits { messages: 1, bytes: 1 },
        };
        let bound = RevocationBound::of(&settings(300, 900, 300), STORE_POLL, s(10));
        assert_eq!((bound.unheard_refusal, bound.refusal), (s(1_210), s(310)));
        assert_eq!((bound.unheard_state, bound.state), (s(310), s(12)));
        assert_eq!(bound.worst(), s(1_210));
        assert_eq!(
            RevocationBound::of(&settings(1, 0, 1), STORE_POLL, s(0)).state,
            s(1),
            "the lease ends before the poll"
        );
    }
}
