//! What serves while a key-encryption key is out of reach? Cached keys, for a while past their time to live.
//!
//! Only *out of reach* counts: a KEK that answers is asked, one that refuses ends the life of what it gave, and one of
//! which nothing is known is waited for. This module never makes a key live longer than its slot says.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Slot;
use super::rings::{Ring, Version};
use super::{Inner, Keyrings, UnlockError, Unlocking};
use crate::clock::{Deadline, Mono};
use crate::names::KekName;

/// How long a renewal beside the requests may take: longer than the slowest token needs to be given up on.
const RENEWAL: Duration = Duration::from_secs(20);

/// A key to be unwrapped, and how long it may outlive its time while nobody can be asked.
#[derive(Clone)]
pub(super) struct Wanted {
    pub version: Arc<Version>,
    pub offline_max: Duration,
}

impl Keyrings {
    /// Wipes the keys whose lifetime has ended, and those that outlived it in an outage that is over; a job calls it, so
    /// that an idle sidecar keeps nothing.
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// How unlocking is doing; None until admitted.
    pub fn unlocking(&self) -> Option<Unlocking> {
        self.ready().ok().map(|()| self.inner.unlocking())
    }

    /// How long the store's last word may still be believed; None when it may not, or before the admission.
    pub fn state_lease(&self) -> Option<Duration> {
        self.inner.lease.left(self.inner.clock.mono())
    }

    /// Whether the store has not been heard for a while.
    pub fn store_is_silent(&self) -> bool {
        self.inner.lease.is_silent(self.inner.clock.mono())
    }

    /// Wipes every cached data key: something may have been refused that nobody heard.
    pub fn evict_all(&self) {
        self.inner.cache.evict_all();
        self.inner.partitions.evict_all();
    }

    /// A KEK that was away or refused opens again, as a canary showed: its next outage is a new one.
    pub fn recovered(&self, kek: &KekName) {
        self.inner.keks.note_recovery(kek);
        // What outlived its time meanwhile is fetched anew or not used again.
        self.inner.sweep();
    }

    /// A KEK refused, a canary say: wipes every cached data key that it gave. keyward's own keys stay, since the
    /// refusals that follow still need pseudonyms in the log; neither of them opens a value.
    pub fn evict(&self, kek: &KekName) {
        self.inner.keks.note_refusal(kek);
        self.inner.cache.evict(kek);
        self.inner.partitions.evict_all();
    }
}

impl Inner {
    /// A key past its time to live serves while nobody who gave it can be reached. Where that is not known to be so, the
    /// KEK is asked first; one that does not answer at all leaves time to find out that it is out of reach.
    #[cold]
    pub(super) async fn bridge(
        self: &Arc<Self>,
        wanted: &Wanted,
        slot: Arc<Slot>,
        deadline: Deadline,
        now: Mono,
    ) -> Result<Arc<Slot>, UnlockError> {
        if !self.keks.any_answers() && self.serves(&slot, now, wanted.offline_max) {
            if slot.asks_again(now) {
                self.renew(wanted, now);
            }
            return Ok(self.cache.serve_offline(slot));
        }
        let half = Deadline(now.plus(deadline.left(now).unwrap_or_default() / 2));
        for until in [half, deadline] {
            let failed = match self.fetch(wanted, until, deadline).await {
                Ok(slot) => return Ok(slot),
                Err(error) => error,
            };
            let now = self.clock.mono();
            // Only what is still there: a refusal that was met meanwhile has dropped it.
            let left = self.cache.old(wanted.version.view.id);
            if let Some(slot) = left.filter(|slot| self.serves(slot, now, wanted.offline_max)) {
                return Ok(self.cache.serve_offline(slot));
            }
            if until.left(now).is_some() || deadline.left(now).is_none() {
                return Err(failed);
            }
        }
        Err(UnlockError::Unavailable("the request's deadline has passed".to_owned()))
    }

    /// Drops the keys whose time is over, and looks at the clocks.
    pub(super) fn sweep(&self) {
        self.tick();
        self.cache.sweep(|slot, now| self.serves(slot, now, self.settings.offline_max));
        self.partitions.sweep(self.clock.mono(), |parent| self.cache.old(parent).is_some());
    }

    /// How unlocking is doing.
    pub(super) fn unlocking(&self) -> Unlocking {
        let primary = self.keks.primary();
        if !self.keks.away(primary) {
            return if self.keks.answers(primary) { Unlocking::Healthy } else { Unlocking::Refused };
        }
        if self.keks.any_answers() {
            return Unlocking::Degraded(None);
        }
        let end = self.cache.ends(|slot| slot.givers().all(|kek| self.keks.away(kek)));
        end.map_or(Unlocking::Expired, |end| Unlocking::Degraded(Some(end)))
    }

    /// Whether a key may serve past its time to live: it was refused by nobody, and nobody who gave it can be asked.
    fn serves(&self, slot: &Slot, now: Mono, offline_max: Duration) -> bool {
        now < slot.ends(offline_max) && slot.givers().all(|kek| self.keks.away(kek))
    }

    pub(super) async fn fetch(
        self: &Arc<Self>,
        wanted: &Wanted,
        until: Deadline,
        deadline: Deadline,
    ) -> Result<Arc<Slot>, UnlockError> {
        let unwrap = || Arc::clone(self).unwrap(wanted.clone(), deadline);
        self.cache.fetch(wanted.version.view.id, until, unwrap).await
    }

    pub(super) fn renew(self: &Arc<Self>, wanted: &Wanted, now: Mono) {
        let unwrap = || Arc::clone(self).unwrap(wanted.clone(), Deadline(now.plus(RENEWAL)));
        self.cache.renew(wanted.version.view.id, unwrap);
    }

    /// A version of a keyring, by the keyring's own limit where that is stricter than the configuration's.
    pub(super) fn wanted(&self, ring: &Ring, version: &Arc<Version>) -> Wanted {
        let most = self.settings.offline_max;
        let offline_max = ring.view.limits.offline_max.map_or(most, |own| own.min(most));
        Wanted { version: Arc::clone(version), offline_max }
    }
}
