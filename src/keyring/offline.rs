//! What serves while a key-encryption key is out of reach? Cached keys, for a while past their time to live.
//!
//! Only *out of reach* counts: a KEK that answers is asked, one that refuses ends the life of what it gave, and one of
//! which nothing is known is waited for. This module never makes a key live longer than its slot says.

use std::sync::Arc;
use std::time::Duration;

use super::cache::Slot;
use super::rings::Version;
use super::{Inner, UnlockError, Unlocking};
use crate::clock::{Deadline, Mono};

/// How long a renewal beside the requests may take: longer than the slowest token needs to be given up on.
const RENEWAL: Duration = Duration::from_secs(20);

impl Inner {
    /// A key past its time to live serves while nobody who gave it can be reached. Where that is not known to be so, the
    /// KEK is asked first; one that does not answer at all leaves time to find out that it is out of reach.
    #[cold]
    pub(super) async fn bridge(
        self: &Arc<Self>,
        version: &Arc<Version>,
        slot: Arc<Slot>,
        deadline: Deadline,
        now: Mono,
    ) -> Result<Arc<Slot>, UnlockError> {
        if !self.keks.any_answers() && self.serves(&slot, now, self.settings.offline_max) {
            if slot.asks_again(now) {
                self.renew(version, now);
            }
            return Ok(self.cache.serve_offline(slot));
        }
        let half = Deadline(now.plus(deadline.left(now).unwrap_or_default() / 2));
        for until in [half, deadline] {
            let failed = match self.fetch(version, until, deadline).await {
                Ok(slot) => return Ok(slot),
                Err(error) => error,
            };
            let now = self.clock.mono();
            // Only what is still there: a refusal that was met meanwhile has dropped it.
            let left = self.cache.old(version.view.id);
            if let Some(slot) = left.filter(|slot| self.serves(slot, now, self.settings.offline_max)) {
                return Ok(self.cache.serve_offline(slot));
            }
            if until.left(now).is_some() || deadline.left(now).is_none() {
                return Err(failed);
            }
        }
        Err(UnlockError::Unavailable("the request's deadline has passed".to_owned()))
    }

    /// Drops the keys whose time is over.
    pub(super) fn sweep(&self) {
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
        version: &Arc<Version>,
        until: Deadline,
        deadline: Deadline,
    ) -> Result<Arc<Slot>, UnlockError> {
        let unwrap = || Arc::clone(self).unwrap(Arc::clone(version), deadline);
        self.cache.fetch(version.view.id, until, unwrap).await
    }

    pub(super) fn renew(self: &Arc<Self>, version: &Arc<Version>, now: Mono) {
        let unwrap = || Arc::clone(self).unwrap(Arc::clone(version), Deadline(now.plus(RENEWAL)));
        self.cache.renew(version.view.id, unwrap);
    }
}
