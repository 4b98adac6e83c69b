//! What becomes of one call to the KEK on behalf of everybody who waits for a key? It flies in a task of its own, lands
//! in the cache, and tells its waiters. A refusal that overtook it wins: this module never caches what was refused.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::slot::{Slot, Unwrapped};
use super::{Cache, UnlockError, number};
use crate::names::{KekName, KeyVersionId};

/// None while it flies.
pub(super) type Landing = Option<Result<Arc<Slot>, FlightError>>;

/// Why a flight failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::keyring) enum FlightError {
    /// The deadline of whoever started it passed: another waiter may have more time.
    Deadline,
    /// The KEK refused: everything it wrapped goes.
    Denied(KekName, UnlockError),
    /// Anything else.
    Failed(UnlockError),
}

/// One call to the KEK on behalf of everybody who waits for the key.
pub(super) struct Flight {
    pub(super) cache: Arc<Cache>,
    pub(super) id: KeyVersionId,
    pub(super) landing: watch::Sender<Landing>,
    /// How many refusals there had been when it took off.
    pub(super) refusals: u64,
    /// The key's state has changed since.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl Flight {
    pub(super) async fn fly(self, unwrap: impl Future<Output = Result<Unwrapped, FlightError>>) {
        self.cache.counts.unwraps.fetch_add(1, Ordering::Relaxed);
        let landed = unwrap.await.and_then(|unwrapped| self.land(unwrapped));
        if let Err(error) = &landed {
            self.cache.counts.failures.fetch_add(1, Ordering::Relaxed);
            match error {
                FlightError::Denied(kek, _) => self.cache.evict(kek),
                // Whoever wrapped it says that it no longer opens: what is left of the key serves no longer either.
                FlightError::Failed(UnlockError::Tampered) => self.cache.forget(self.id),
                FlightError::Failed(_) | FlightError::Deadline => {}
            }
        }
        // Off the board first: whoever asks after a failure starts a new flight instead of reading the old error.
        self.cache.lock().remove(&number(self.id));
        self.landing.send_replace(Some(landed));
    }

    fn land(&self, unwrapped: Unwrapped) -> Result<Arc<Slot>, FlightError> {
        let slot = Arc::new(Slot::new(self.id, unwrapped, self.cache.ttl));
        let _flights = self.cache.lock();
        if self.cache.refusals.load(Ordering::Acquire) != self.refusals {
            let why = "the key-encryption key refused while this key was being unwrapped";
            return Err(FlightError::Failed(UnlockError::Unavailable(why.to_owned())));
        }
        if self.cancelled.load(Ordering::Acquire) {
            let why = "the state of this key was changed while it was being unwrapped";
            return Err(FlightError::Failed(UnlockError::Unavailable(why.to_owned())));
        }
        if slot.expires() <= self.cache.clock.mono() {
            let why = "the unwrapping took longer than a key may live";
            return Err(FlightError::Failed(UnlockError::Unavailable(why.to_owned())));
        }
        self.cache.insert(self.id, &slot);
        Ok(slot)
    }
}

impl Drop for Flight {
    /// A flight that panicked or whose runtime is going away must not block the key for ever.
    fn drop(&mut self) {
        let mut flights = self.cache.lock();
        if self.landing.borrow().is_none() {
            flights.remove(&number(self.id));
        }
    }
}
