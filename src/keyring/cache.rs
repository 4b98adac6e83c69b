//! Which data keys are unwrapped right now? A bounded map with an absolute lifetime, one unwrap a key at a time.
//!
//! The hit path loads one pointer and looks into an immutable map: no lock, no await. Everything that changes the map
//! copies it under a lock, which is paid beside a KEK call that is a thousand times dearer. This module never extends
//! the life of a key: the boot-time clock ends it, whoever still asks.

use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::UnlockError;
use super::directory::{IdHasher, number};
use crate::clock::{Deadline, Mono, SharedClock};
use crate::crypto::MessageKey;
use crate::names::{KekName, KeyVersionId};

/// How finely the last use of a slot is noted: a hit writes to shared memory only when the note is older.
const USE_GRAIN: Duration = Duration::from_secs(1);
const GRAIN_NANOS: u64 = USE_GRAIN.as_secs() * 1_000_000_000;

/// Counters for metrics, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Keys in the cache now, expired ones included until they are swept.
    pub keys: usize,
    /// Unlocks answered from the cache.
    pub hits: u64,
    /// Unlocks that had to wait for the KEK.
    pub misses: u64,
    /// Calls to the KEK.
    pub unwraps: u64,
    /// Calls to the KEK that failed.
    pub failures: u64,
    /// Keys dropped because their lifetime ended.
    pub expired: u64,
    /// Keys dropped to make room.
    pub displaced: u64,
    /// Keys dropped because their KEK refused.
    pub denied: u64,
}

/// An unwrapped key. Dropping the last reference wipes it.
pub(super) struct Slot {
    key: MessageKey,
    /// Who gave it.
    kek: KekName,
    /// Who was away when it was given, and would have given it.
    instead_of: Option<KekName>,
    expires: Mono,
    used: AtomicU64,
}

impl Slot {
    pub(super) const fn key(&self) -> &MessageKey {
        &self.key
    }
}

/// What a call to the KEK gave.
pub(super) struct Unwrapped {
    pub key: MessageKey,
    pub kek: KekName,
    pub instead_of: Option<KekName>,
    /// Before the call that gave it.
    pub asked: Mono,
}

/// Why a flight failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FlightError {
    /// The deadline of whoever started it passed: another waiter may have more time.
    Deadline,
    /// The KEK refused: everything it wrapped goes.
    Denied(KekName, UnlockError),
    /// Anything else.
    Failed(UnlockError),
}

type Slots = HashMap<u64, Arc<Slot>, BuildHasherDefault<IdHasher>>;
type Landing = Option<Result<Arc<Slot>, FlightError>>;

/// Whose deadline a flight has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Other,
}

/// The cache of one store's data keys.
pub(super) struct Cache {
    slots: ArcSwap<Slots>,
    /// Taken by everything but a hit; never across an await.
    flights: Mutex<HashMap<u64, watch::Receiver<Landing>, BuildHasherDefault<IdHasher>>>,
    /// How often a KEK has refused: a key unwrapped before a refusal is not cached after it.
    refusals: AtomicU64,
    clock: SharedClock,
    ttl: Duration,
    limit: usize,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    unwraps: AtomicU64,
    failures: AtomicU64,
    expired: AtomicU64,
    displaced: AtomicU64,
    denied: AtomicU64,
}

impl Cache {
    pub(super) fn new(clock: SharedClock, ttl: Duration, limit: usize) -> Self {
        Self {
            slots: ArcSwap::default(),
            flights: Mutex::default(),
            refusals: AtomicU64::new(0),
            clock,
            ttl,
            // A cache of none would unwrap for every request and never answer the second waiter.
            limit: limit.max(1),
            counts: Counts::default(),
        }
    }

    /// A live key.
    #[inline]
    pub(super) fn hit(&self, id: KeyVersionId, now: Mono) -> Option<Arc<Slot>> {
        let slots = self.slots.load();
        let slot = slots.get(&number(id)).filter(|slot| slot.expires > now)?;
        if now.0.saturating_sub(slot.used.load(Ordering::Relaxed)) > GRAIN_NANOS {
            slot.used.store(now.0, Ordering::Relaxed);
        }
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(slot))
    }

    /// A live key, or the landing of the one flight that fetches it. `unwrap` runs in a task of its own, so a caller
    /// that goes away leaves it flying for the others.
    pub(super) async fn fetch<F>(
        self: &Arc<Self>,
        id: KeyVersionId,
        deadline: Deadline,
        unwrap: impl Fn() -> F,
    ) -> Result<Arc<Slot>, UnlockError>
    where
        F: Future<Output = Result<Unwrapped, FlightError>> + Send + 'static,
    {
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        loop {
            let now = self.clock.mono();
            if deadline.left(now).is_none() {
                return Err(late());
            }
            let (mut flight, whose) = match self.board(id, now, &unwrap) {
                Ok(slot) => return Ok(slot),
                Err(boarded) => boarded,
            };
            let landing = tokio::select! {
                biased;
                landed = flight.wait_for(Option::is_some) => landed.ok().and_then(|landing| landing.clone()),
                () = self.clock.sleep_until(deadline.0) => return Err(late()),
            };
            match landing {
                Some(Ok(slot)) => return Ok(slot),
                Some(Err(FlightError::Denied(_, error) | FlightError::Failed(error))) => return Err(error),
                Some(Err(FlightError::Deadline)) if whose == Whose::Own => return Err(late()),
                Some(Err(FlightError::Deadline)) => {}
                None => return Err(UnlockError::Unavailable("the unwrapping ended without an answer".to_owned())),
            }
        }
    }

    /// Joins the flight for this key, or starts it.
    fn board<F>(
        self: &Arc<Self>,
        id: KeyVersionId,
        now: Mono,
        unwrap: &impl Fn() -> F,
    ) -> Result<Arc<Slot>, (watch::Receiver<Landing>, Whose)>
    where
        F: Future<Output = Result<Unwrapped, FlightError>> + Send + 'static,
    {
        let mut flights = self.lock();
        // A flight may have landed between the miss and the lock.
        if let Some(slot) = self.slots.load().get(&number(id)).filter(|slot| slot.expires > now) {
            return Ok(Arc::clone(slot));
        }
        if let Some(flight) = flights.get(&number(id)) {
            return Err((flight.clone(), Whose::Other));
        }
        let (landing, flight) = watch::channel(None);
        flights.insert(number(id), flight.clone());
        drop(flights);
        let flight_of =
            Flight { cache: Arc::clone(self), id, landing, refusals: self.refusals.load(Ordering::Acquire) };
        tokio::spawn(flight_of.fly(unwrap()));
        Err((flight, Whose::Own))
    }

    /// Drops every key that the KEK gave, or would have given had it not been away, at once; requests that hold one finish.
    pub(super) fn evict(&self, kek: &KekName) {
        let _flights = self.lock();
        self.refusals.fetch_add(1, Ordering::AcqRel);
        self.retain(&self.counts.denied, |slot| slot.kek != *kek && slot.instead_of.as_ref() != Some(kek));
    }

    /// Drops one key at once, and what is being unwrapped of it: its state does not allow it any more.
    pub(super) fn evict_version(&self, id: KeyVersionId) {
        let flights = self.lock();
        if !self.slots.load().contains_key(&number(id)) && !flights.contains_key(&number(id)) {
            return;
        }
        self.refusals.fetch_add(1, Ordering::AcqRel);
        let mut slots = Slots::clone(&self.slots.load());
        slots.remove(&number(id));
        self.slots.store(Arc::new(slots));
    }

    /// Drops the keys whose lifetime has ended.
    pub(super) fn sweep(&self) {
        let now = self.clock.mono();
        let _flights = self.lock();
        self.retain(&self.counts.expired, |slot| slot.expires > now);
    }

    pub(super) fn stats(&self) -> CacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { hits, misses, unwraps, failures, expired, displaced, denied } = &self.counts;
        CacheStats {
            keys: self.slots.load().len(),
            hits: count(hits),
            misses: count(misses),
            unwraps: count(unwraps),
            failures: count(failures),
            expired: count(expired),
            displaced: count(displaced),
            denied: count(denied),
        }
    }

    /// The lock is held by the caller.
    fn retain(&self, counter: &AtomicU64, keep: impl Fn(&Slot) -> bool) {
        let slots = self.slots.load_full();
        let kept: Slots =
            slots.iter().filter(|(_, slot)| keep(slot)).map(|(id, slot)| (*id, Arc::clone(slot))).collect();
        let dropped = slots.len().saturating_sub(kept.len());
        if dropped > 0 {
            counter.fetch_add(u64::try_from(dropped).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.slots.store(Arc::new(kept));
        }
    }

    /// The lock is held by the caller.
    fn insert(&self, id: KeyVersionId, slot: &Arc<Slot>) {
        let now = self.clock.mono();
        self.retain(&self.counts.expired, |slot| slot.expires > now);
        let mut slots = Slots::clone(&self.slots.load());
        while slots.len() >= self.limit && !slots.contains_key(&number(id)) {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed)).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            slots.remove(&oldest);
            self.counts.displaced.fetch_add(1, Ordering::Relaxed);
        }
        slots.insert(number(id), Arc::clone(slot));
        self.slots.store(Arc::new(slots));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, watch::Receiver<Landing>, BuildHasherDefault<IdHasher>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call to the KEK on behalf of everybody who waits for the key.
struct Flight {
    cache: Arc<Cache>,
    id: KeyVersionId,
    landing: watch::Sender<Landing>,
    refusals: u64,
}

impl Flight {
    async fn fly(self, unwrap: impl Future<Output = Result<Unwrapped, FlightError>>) {
        self.cache.counts.unwraps.fetch_add(1, Ordering::Relaxed);
        let landed = unwrap.await.and_then(|unwrapped| self.land(unwrapped));
        if let Err(error) = &landed {
            self.cache.counts.failures.fetch_add(1, Ordering::Relaxed);
            if let FlightError::Denied(kek, _) = error {
                self.cache.evict(kek);
            }
        }
        // Off the board first: whoever asks after a failure starts a new flight instead of reading the old error.
        self.cache.lock().remove(&number(self.id));
        self.landing.send_replace(Some(landed));
    }

    fn land(&self, Unwrapped { key, kek, instead_of, asked }: Unwrapped) -> Result<Arc<Slot>, FlightError> {
        // The lifetime counts from before the call: the KEK's yes is never younger than that.
        let expires = asked.plus(self.cache.ttl);
        let slot = Arc::new(Slot { key, kek, instead_of, expires, used: AtomicU64::new(asked.0) });
        let _flights = self.cache.lock();
        if self.cache.refusals.load(Ordering::Acquire) != self.refusals {
            let why = "the key-encryption key refused while this key was being unwrapped";
            return Err(FlightError::Failed(UnlockError::Unavailable(why.to_owned())));
        }
        if expires <= self.cache.clock.mono() {
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

fn late() -> UnlockError {
    UnlockError::Unavailable("the key-encryption key did not answer before the request's deadline".to_owned())
}
