//! How long does one unwrapped key live? Its time counts from before the call that gave it, on the boot-time clock, and
//! nothing but another yes of a key-encryption key makes it longer.
//!
//! Three moments in the life of a slot: from its renewal point on, a use of it starts a renewal beside the request; at
//! the end of its time to live it serves only while whoever gave it cannot be reached; after `offline_max` more it
//! serves nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Mono;
use crate::crypto::{MacKey, MessageKey};
use crate::keyring::directory::number;
use crate::keyring::metering::Metered;
use crate::names::{KekName, KeyVersionId};

/// How finely the last use of a slot is noted: a hit writes to shared memory only when the note is older.
const USE_GRAIN: Duration = Duration::from_secs(1);
const GRAIN_NANOS: u64 = USE_GRAIN.as_secs() * 1_000_000_000;
/// Renewals begin when this much of the time to live is over, in thousandths, and are spread over the span after it, so
/// that keys that were unwrapped together do not end together.
const RENEW_FROM: u128 = 600;
const RENEW_SPAN: u128 = 300;
/// Between two tries to renew one key, as a part of its time to live; never less than a second.
const RETRY_PART: u32 = 20;
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// An unwrapped key. Dropping the last reference wipes it.
pub(in crate::keyring) struct Slot {
    key: MessageKey,
    /// Of a look-up key.
    lookup: Option<MacKey>,
    /// Who gave it.
    pub(super) kek: KekName,
    /// Who was away when it was given, and would have given it.
    pub(super) instead_of: Option<KekName>,
    /// Before the call that gave it: the KEK's yes is never younger than that.
    asked: Mono,
    ttl: Duration,
    /// As it was configured when the key was unwrapped.
    offline_max: Duration,
    /// Until then a hit looks at nothing else: the next renewal, or the end of the time to live.
    calm: AtomicU64,
    /// When the KEK may be asked again for a key whose time to live is over.
    retry: AtomicU64,
    used: AtomicU64,
    /// Where its use is counted, once that is known.
    metered: OnceLock<Arc<Metered>>,
    /// When an opening may be noted again.
    noted: AtomicU64,
}

/// What a call to the KEK gave.
pub(in crate::keyring) struct Unwrapped {
    pub key: MessageKey,
    /// Of a look-up key.
    pub lookup: Option<MacKey>,
    pub kek: KekName,
    pub instead_of: Option<KekName>,
    /// Before the call that gave it.
    pub asked: Mono,
    /// How long past its time to live the key may serve while its KEK cannot be reached.
    pub offline_max: Duration,
}

impl Slot {
    pub(super) fn new(id: KeyVersionId, unwrapped: Unwrapped, ttl: Duration) -> Self {
        let Unwrapped { key, lookup, kek, instead_of, asked, offline_max } = unwrapped;
        let calm = AtomicU64::new(asked.plus(renewal(id, ttl)).0);
        let (retry, used, noted) = (AtomicU64::new(0), AtomicU64::new(asked.0), AtomicU64::new(0));
        let metered = OnceLock::new();
        Self { key, lookup, kek, instead_of, asked, ttl, offline_max, calm, retry, used, metered, noted }
    }

    pub(in crate::keyring) const fn key(&self) -> &MessageKey {
        &self.key
    }

    pub(in crate::keyring) const fn lookup(&self) -> Option<&MacKey> {
        self.lookup.as_ref()
    }

    /// Those who must all be out of reach for the key to serve past its time to live: who gave it, and who would have.
    pub(in crate::keyring) fn givers(&self) -> impl Iterator<Item = &KekName> {
        std::iter::once(&self.kek).chain(&self.instead_of)
    }

    /// The end of its time to live.
    pub(super) fn expires(&self) -> Mono {
        self.asked.plus(self.ttl)
    }

    /// When it serves nobody any more, whatever is out of reach. A limit that was lowered since counts at once.
    pub(in crate::keyring) fn ends(&self, offline_max: Duration) -> Mono {
        self.expires().plus(offline_max.min(self.offline_max))
    }

    /// The same by the limit that it was unwrapped under.
    pub(super) fn ends_at_the_latest(&self) -> Mono {
        self.expires().plus(self.offline_max)
    }

    /// Whether nothing is to be done but to use it.
    #[inline]
    pub(super) fn is_calm(&self, now: Mono) -> bool {
        now.0 < self.calm.load(Ordering::Relaxed)
    }

    /// Whether the caller is the one who renews it; the others hear no until it is time for another try.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        let next = self.expires().min(now.plus(self.pause()));
        claim(&self.calm, now, next)
    }

    /// Whether the caller is the one who asks again for a key that is past its time to live.
    pub(in crate::keyring) fn asks_again(&self, now: Mono) -> bool {
        claim(&self.retry, now, now.plus(self.pause()))
    }

    /// Where its use is counted; None until somebody has looked it up.
    #[inline]
    pub(in crate::keyring) fn metered(&self) -> Option<&Arc<Metered>> {
        self.metered.get()
    }

    /// Keeps what was looked up, for as long as the slot lives.
    pub(in crate::keyring) fn keep(&self, metered: Arc<Metered>) -> &Arc<Metered> {
        self.metered.get_or_init(|| metered)
    }

    /// Whether the caller is the one who notes an opening.
    pub(in crate::keyring) fn notes(&self, now: Mono) -> bool {
        claim(&self.noted, now, now.plus(SHORTEST_RETRY))
    }

    fn pause(&self) -> Duration {
        (self.ttl / RETRY_PART).max(SHORTEST_RETRY)
    }

    #[inline]
    pub(super) fn touch(&self, now: Mono) {
        if now.0.saturating_sub(self.used.load(Ordering::Relaxed)) > GRAIN_NANOS {
            self.used.store(now.0, Ordering::Relaxed);
        }
    }

    pub(super) fn last_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Moves a point of time that has come into the future, for one of those who see that it has.
fn claim(point: &AtomicU64, now: Mono, next: Mono) -> bool {
    let seen = point.load(Ordering::Relaxed);
    seen <= now.0 && point.compare_exchange(seen, next.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// When a key is renewed, from its unwrapping. Ids are random, so they spread the keys; no two sidecars unwrap at once.
fn renewal(id: KeyVersionId, ttl: Duration) -> Duration {
    let part = RENEW_FROM.saturating_add(u128::from(number(id)) % RENEW_SPAN);
    Duration::from_nanos(u64::try_from(ttl.as_nanos().saturating_mul(part) / 1_000).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_are_spread_and_lie_before_the_end() {
        let ttl = Duration::from_secs(300);
        let at: Vec<Duration> = (0..10_000u64)
            .map(|seed| {
                let digest = crate::crypto::sha256(&[&seed.to_be_bytes()]);
                renewal(KeyVersionId(*digest.first_chunk().unwrap()), ttl)
            })
            .collect();
        assert!(at.iter().all(|at| *at >= Duration::from_secs(180) && *at < Duration::from_secs(270)));
        for second in 180..270 {
            let within = at.iter().filter(|at| at.as_secs() == second).count();
            assert!((50..200).contains(&within), "{within} of 10,000 keys are renewed in second {second}");
        }
    }

    #[test]
    fn one_of_many_claims_a_point_of_time() {
        let point = AtomicU64::new(5);
        assert!(!claim(&point, Mono(4), Mono(9)));
        assert!(claim(&point, Mono(5), Mono(9)));
        assert!(!claim(&point, Mono(8), Mono(12)));
        assert!(claim(&point, Mono(9), Mono(12)));
    }
}
