//! Which data keys are unwrapped right now? A bounded map with an absolute lifetime, one unwrap a key at a time.
//!
//! The hit path loads one pointer and looks into an immutable map: no lock, no await. Whoever changes the map copies a
//! small part of it under a lock. This module never extends the life of a key: the boot-time clock ends it, whoever still
//! asks. Whether a key may serve past its time to live because its KEK is out of reach is not decided here but in
//! `unlock`, which knows the KEKs.

mod flight;
mod slot;

use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::UnlockError;
use super::directory::{IdHasher, number};
use super::shards::Shards;
use crate::clock::{Deadline, Mono, SharedClock};
use crate::names::{KekName, KeyVersionId};

pub(super) use flight::FlightError;
use flight::{Flight, Landing};
pub(super) use slot::{Slot, Unwrapped};

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
    /// Calls to the KEK that renewed a key before its time was over.
    pub renewals: u64,
    /// Unlocks past a key's time to live, while its KEK was out of reach.
    pub offline: u64,
}

/// What the cache has for a key.
pub(super) enum Look {
    /// A live key.
    Fresh(Arc<Slot>),
    /// A live key that whoever found it renews.
    Due(Arc<Slot>),
    /// A key past its time to live.
    Old(Arc<Slot>),
}

type Flights = HashMap<u64, watch::Receiver<Landing>, BuildHasherDefault<IdHasher>>;

/// Whose deadline a flight has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Other,
}

/// The cache of one store's data keys.
pub(super) struct Cache {
    slots: Shards<Arc<Slot>>,
    /// Taken by everything but a hit; never across an await.
    flights: Mutex<Flights>,
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
    renewals: AtomicU64,
    offline: AtomicU64,
}

impl Cache {
    pub(super) fn new(clock: SharedClock, ttl: Duration, limit: usize) -> Self {
        // A cache of none would unwrap for every request and never answer the second waiter.
        let limit = limit.max(1);
        Self {
            slots: Shards::with_room(limit),
            flights: Mutex::default(),
            refusals: AtomicU64::new(0),
            clock,
            ttl,
            limit,
            counts: Counts::default(),
        }
    }

    /// What there is of a key.
    #[inline]
    pub(super) fn look(&self, id: KeyVersionId, now: Mono) -> Option<Look> {
        self.slots.read(number(id), |slot| {
            slot.touch(now);
            if slot.is_calm(now) {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                return Look::Fresh(Arc::clone(slot));
            }
            self.look_closer(slot, now)
        })
    }

    #[cold]
    fn look_closer(&self, slot: &Arc<Slot>, now: Mono) -> Look {
        if slot.expires() <= now {
            return Look::Old(Arc::clone(slot));
        }
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        if slot.is_due(now) { Look::Due(Arc::clone(slot)) } else { Look::Fresh(Arc::clone(slot)) }
    }

    /// What is left of a key past its time to live, if it was not dropped.
    pub(super) fn old(&self, id: KeyVersionId) -> Option<Arc<Slot>> {
        self.slots.get(number(id))
    }

    /// Notes that a key serves past its time to live.
    pub(super) fn serve_offline(&self, slot: Arc<Slot>) -> Arc<Slot> {
        self.counts.offline.fetch_add(1, Ordering::Relaxed);
        slot
    }

    /// Fetches a key anew beside those who use it; not if it is being fetched already.
    pub(super) fn renew<F>(self: &Arc<Self>, id: KeyVersionId, unwrap: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Unwrapped, FlightError>> + Send + 'static,
    {
        let mut flights = self.lock();
        if !flights.contains_key(&number(id)) {
            self.counts.renewals.fetch_add(1, Ordering::Relaxed);
            self.take_off(&mut flights, id, unwrap());
        }
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
        if let Some(slot) = self.slots.get(number(id)).filter(|slot| slot.expires() > now) {
            return Ok(slot);
        }
        if let Some(flight) = flights.get(&number(id)) {
            return Err((flight.clone(), Whose::Other));
        }
        Err((self.take_off(&mut flights, id, unwrap()), Whose::Own))
    }

    fn take_off(
        self: &Arc<Self>,
        flights: &mut Flights,
        id: KeyVersionId,
        unwrap: impl Future<Output = Result<Unwrapped, FlightError>> + Send + 'static,
    ) -> watch::Receiver<Landing> {
        let (landing, flight) = watch::channel(None);
        flights.insert(number(id), flight.clone());
        let refusals = self.refusals.load(Ordering::Acquire);
        tokio::spawn(Flight { cache: Arc::clone(self), id, landing, refusals }.fly(unwrap));
        flight
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
        if !self.slots.contains(number(id)) && !flights.contains_key(&number(id)) {
            return;
        }
        self.refusals.fetch_add(1, Ordering::AcqRel);
        self.slots.remove(number(id));
    }

    /// Drops every key at once.
    pub(super) fn evict_all(&self) {
        let _flights = self.lock();
        self.refusals.fetch_add(1, Ordering::AcqRel);
        self.retain(&self.counts.denied, |_| false);
    }

    /// Drops the keys whose time to live has ended, but for those that still serve.
    pub(super) fn sweep(&self, serves: impl Fn(&Slot, Mono) -> bool) {
        let now = self.clock.mono();
        let _flights = self.lock();
        self.retain(&self.counts.expired, |slot| slot.expires() > now || serves(slot, now));
    }

    /// When the last of the keys that would serve through an outage ends; None when there is none.
    pub(super) fn ends(&self, through: impl Fn(&Slot) -> bool) -> Option<Mono> {
        let mut last: Option<Mono> = None;
        self.slots.each(|slot| {
            if through(slot) {
                last = last.max(Some(slot.ends_at_the_latest()));
            }
        });
        last.filter(|end| *end > self.clock.mono())
    }

    pub(super) fn stats(&self) -> CacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { hits, misses, unwraps, failures, expired, displaced, denied, renewals, offline } = &self.counts;
        CacheStats {
            keys: self.slots.len(),
            hits: count(hits),
            misses: count(misses),
            unwraps: count(unwraps),
            failures: count(failures),
            expired: count(expired),
            displaced: count(displaced),
            denied: count(denied),
            renewals: count(renewals),
            offline: count(offline),
        }
    }

    /// The lock is held by the caller.
    fn retain(&self, counter: &AtomicU64, keep: impl Fn(&Slot) -> bool) {
        let dropped = self.slots.retain(|slot| keep(slot));
        counter.fetch_add(u64::try_from(dropped).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Drops one key.
    fn forget(&self, id: KeyVersionId) {
        let _flights = self.lock();
        if self.slots.remove(number(id)).is_some() {
            self.counts.denied.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The lock is held by the caller.
    fn insert(&self, id: KeyVersionId, slot: &Arc<Slot>) {
        if self.slots.len() >= self.limit && !self.slots.contains(number(id)) {
            self.make_room();
        }
        self.slots.put(number(id), Arc::clone(slot));
    }

    /// A key whose time is over goes first, then whoever was used longest ago.
    fn make_room(&self) {
        let now = self.clock.mono();
        let over = |slot: &Arc<Slot>| slot.ends_at_the_latest() <= now;
        while self.slots.len() >= self.limit {
            let Some(idle) = self.slots.idlest(|slot| if over(slot) { 0 } else { slot.last_used() }) else { break };
            let counter = if self.slots.remove(idle).as_ref().is_some_and(over) {
                &self.counts.expired
            } else {
                &self.counts.displaced
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn late() -> UnlockError {
    UnlockError::Unavailable("the key-encryption key did not answer before the request's deadline".to_owned())
}
