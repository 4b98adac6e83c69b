//! Where is the use of keys counted, and when is it written down? One meter a key version in use, one sealed row a key
//! and sidecar. What a meter asks for is written here; nothing is sealed that no row covers.
//!
//! An opening is not held up by its count: it is noted beside the request, within a second, and whoever stops in between
//! loses the note of one day. The audit log has that opening, since its record is durable before the answer.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::bodies::UsedBody;
use super::cache::Slot;
use super::directory::{IdHasher, number};
use super::follow::Open;
use super::rings::{Ring, Version};
use super::seal::Row;
use super::usage::{Day, Grant, Meter, Need, Tally, UsageLimits};
use super::{ApplyError, Inner, Keyrings, UnlockError, bodies};
use crate::clock::Wall;
use crate::names::KeyVersionId;
use crate::store::{SidecarId, StoreError, Tag, UsageRow, Write};

/// How much is about to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Values.
    pub messages: u64,
    /// Bytes of plaintext.
    pub bytes: u64,
}

/// One key version's meter, and what else is known of its use.
#[derive(Debug)]
pub(super) struct Metered {
    id: KeyVersionId,
    pub meter: Meter,
    /// What the other sidecars' rows said when they were last read.
    others: Mutex<Tally>,
    /// As the keyring had them when the meter was last written.
    limits: Mutex<UsageLimits>,
    /// Somebody was told that it is nearly used up.
    told: AtomicBool,
    /// Rows are written by one at a time.
    turn: tokio::sync::Mutex<()>,
}

/// All meters.
pub(super) struct Metering {
    meters: Mutex<Meters>,
    /// The time to go by, in microseconds, as of the last look at the clocks.
    believed: AtomicU64,
    /// How many meters are kept beyond those of cached keys.
    room: usize,
}

type Meters = HashMap<u64, Arc<Metered>, BuildHasherDefault<IdHasher>>;

impl bodies::Numbered for UsageBody {
    fn schema(&self) -> u32 {
        self.schema
    }
}

/// Of a usage row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageBody {
    bytes: u64,
    messages: u64,
    opened: u32,
    schema: u32,
}

impl Metered {
    /// By all sidecars, at least what happened, as far as it was heard.
    pub fn total(&self) -> Tally {
        Tally::sum([self.meter.used(), *lock(&self.others)])
    }

    /// Whether so many hundredths of a limit are used.
    fn is_used(&self, hundredths: u64) -> bool {
        let (total, limits) = (self.total(), *lock(&self.limits));
        // As the scheduler reckons it, or one that is told of a small limit would find nothing due, and be told once.
        let part = |limit: u64| {
            let part = u128::from(limit).saturating_mul(u128::from(hundredths)) / 100;
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        total.messages >= part(limits.messages) || total.bytes >= part(limits.bytes)
    }
}

impl Metering {
    pub fn new(cached: usize, wall: Wall) -> Self {
        let room = cached.saturating_mul(4).max(LEAST_ROOM);
        Self { meters: Mutex::default(), believed: AtomicU64::new(wall.0), room }
    }

    /// Notes the time to go by, so that uses need not look at the clocks.
    pub fn tick(&self, believed: Wall) {
        self.believed.store(believed.0, Ordering::Relaxed);
    }

    /// The time to go by, some seconds old.
    pub fn believed(&self) -> Wall {
        Wall(self.believed.load(Ordering::Relaxed))
    }

    /// The meter of a key, if it is in use.
    pub fn find(&self, id: KeyVersionId) -> Option<Arc<Metered>> {
        lock(&self.meters).get(&number(id)).map(Arc::clone)
    }

    /// The keys that have come to half of their limits.
    pub fn used_much(&self) -> Vec<KeyVersionId> {
        lock(&self.meters).values().filter(|metered| metered.is_used(50)).map(|metered| metered.id).collect()
    }

    /// Whether a key is nearly used up that was not when this was last asked.
    pub fn used_up(&self) -> bool {
        let news = |metered: &&Arc<Metered>| metered.is_used(90) && !metered.told.swap(true, Ordering::Relaxed);
        lock(&self.meters).values().filter(news).count() > 0
    }

    fn keep(&self, metered: Metered) -> Arc<Metered> {
        let mut meters = lock(&self.meters);
        if meters.len() >= self.room {
            // What no cached key holds is read again when it is needed; the rest of its block is lost.
            meters.retain(|_, metered| Arc::strong_count(metered) > 1);
        }
        Arc::clone(meters.entry(number(metered.id)).or_insert_with(|| Arc::new(metered)))
    }
}

impl Keyrings {
    /// What all sidecars counted of a key version: upper bounds.
    pub async fn usage(&self, version: KeyVersionId) -> Result<Tally, UnlockError> {
        self.inner.usage(version).await
    }
}

impl Inner {
    /// Counts what is about to be sealed. Where the row does not cover it, a row that does is written first.
    #[inline]
    pub(super) async fn count(
        self: &Arc<Self>,
        slot: &Slot,
        (ring, id): (&Ring, KeyVersionId),
        load: Load,
    ) -> Result<(), UnlockError> {
        // Whatever seals is counted: no way to seal leads past the hard limit.
        ring.version(id).map_or(Ok(()), |version| self.may_seal(version))?;
        match slot.metered().map(|metered| metered.meter.seal(load.messages, load.bytes)) {
            Some(Grant::Given) => Ok(()),
            granted => self.count_anew(slot, (ring, id), load, granted).await,
        }
    }

    /// Whether a version is young enough to seal: past the hard limit none is, whatever became of its rotation.
    #[inline]
    pub(super) fn may_seal(&self, version: &Version) -> Result<(), UnlockError> {
        let since = version.view.activated.unwrap_or(version.view.created);
        let age = self.metering.believed().0.saturating_sub(since.0);
        if u128::from(age) < self.settings.hard_limit.as_micros() { Ok(()) } else { Err(UnlockError::Spent) }
    }

    /// Looks at the clocks for all that does not look itself.
    pub(super) fn tick(&self) {
        let believed = self.opened().map_or_else(|_| self.clock.wall(), |open| self.now(&open).wall);
        self.metering.tick(believed);
    }

    #[cold]
    async fn count_anew(
        self: &Arc<Self>,
        slot: &Slot,
        (ring, id): (&Ring, KeyVersionId),
        load: Load,
        mut granted: Option<Grant>,
    ) -> Result<(), UnlockError> {
        let limits = self.usage_limits(ring);
        let metered = match slot.metered() {
            Some(metered) => metered,
            None => slot.keep(self.metered(id).await?),
        };
        for _ in 0..ATTEMPTS {
            let now = granted.take().unwrap_or_else(|| metered.meter.seal(load.messages, load.bytes));
            let Load { messages, bytes } = load;
            match now {
                Grant::Given => return Ok(()),
                Grant::TopUp => {
                    let more = Need::Seal { messages: 0, bytes: 0 };
                    let _beside = tokio::spawn(Arc::clone(self).reserve(Arc::clone(metered), more, limits));
                    return Ok(());
                }
                Grant::Needs => {
                    let need = Need::Seal { messages, bytes };
                    // In a task of its own: a request that goes away does not leave a write behind it half known.
                    let written = tokio::spawn(Arc::clone(self).reserve(Arc::clone(metered), need, limits)).await;
                    written.unwrap_or_else(|_| Err(unwritten("the write was cut off")))?;
                }
            }
        }
        Err(unwritten("others use up each reservation"))
    }

    /// Notes that a key opens today, beside the request.
    #[inline]
    pub(super) fn note_opening(self: &Arc<Self>, slot: &Arc<Slot>, (ring, id): (&Ring, KeyVersionId)) {
        let today = Day::of(self.metering.believed());
        if slot.metered().is_none_or(|metered| metered.meter.open(today) != Grant::Given)
            && slot.notes(self.clock.mono())
        {
            self.note_beside(slot, (ring, id), today);
        }
    }

    #[cold]
    fn note_beside(self: &Arc<Self>, slot: &Arc<Slot>, (ring, id): (&Ring, KeyVersionId), today: Day) {
        let (inner, slot, limits) = (Arc::clone(self), Arc::clone(slot), self.usage_limits(ring));
        let _beside = tokio::spawn(async move {
            let metered = match slot.metered() {
                Some(metered) => Ok(metered),
                None => inner.metered(id).await.map(|metered| slot.keep(metered)),
            };
            let noted = match metered {
                Ok(metered) => Arc::clone(&inner).reserve(Arc::clone(metered), Need::Open(today), limits).await,
                Err(error) => Err(error),
            };
            if let Err(error) = noted {
                tracing::warn!(%error, key = %id, "the day of an opening could not be noted yet");
            }
        });
    }

    /// The limits of a version of this keyring.
    pub(super) fn usage_limits(&self, ring: &Ring) -> UsageLimits {
        let UsageLimits { messages, bytes } = self.settings.usage_limits;
        let own = &ring.view.limits;
        UsageLimits { messages: own.messages.unwrap_or(messages), bytes: own.bytes.unwrap_or(bytes) }
    }

    async fn metered(&self, id: KeyVersionId) -> Result<Arc<Metered>, UnlockError> {
        if let Some(metered) = self.metering.find(id) {
            return Ok(metered);
        }
        let open = self.opened()?;
        let (own, others) = self.usage_rows(&open, id).await?;
        let (turn, others) = (tokio::sync::Mutex::new(()), Mutex::new(others));
        let (limits, told) = (Mutex::new(self.settings.usage_limits), AtomicBool::new(false));
        Ok(self.metering.keep(Metered { id, meter: Meter::new(own), others, limits, told, turn }))
    }

    /// Writes the row that covers what is needed.
    async fn reserve(
        self: Arc<Self>,
        metered: Arc<Metered>,
        need: Need,
        limits: UsageLimits,
    ) -> Result<(), UnlockError> {
        let _turn = metered.turn.lock().await;
        *lock(&metered.limits) = limits;
        if metered.meter.covers(need) {
            return Ok(());
        }
        let written = self.write_row(&metered, need, limits).await;
        if written.is_err() {
            metered.meter.failed();
        }
        written
    }

    async fn write_row(&self, metered: &Metered, need: Need, limits: UsageLimits) -> Result<(), UnlockError> {
        let open = self.opened()?;
        for _ in 0..ATTEMPTS {
            let (own, others) = self.usage_rows(&open, metered.id).await?;
            self.compare_counts(metered.id, others, *lock(&metered.others))?;
            *lock(&metered.others) = others;
            let (generation, row) = own.unwrap_or_default();
            match generation.cmp(&metered.meter.generation()) {
                std::cmp::Ordering::Less => {
                    let why = format!("the count of key {} has become older", metered.id);
                    self.note_damage(&metered.id.to_string(), &why);
                    return Err(UnlockError::Tampered);
                }
                std::cmp::Ordering::Greater => metered.meter.rebase(generation, row),
                std::cmp::Ordering::Equal => {}
            }
            let drawn = metered.meter.draw(need, limits, self.clock.mono());
            let row = self.usage_row(&open, metered.id, drawn.generation, drawn.row)?;
            match self.writer.commit(vec![Write::Usage(row)]).await {
                Ok(()) => {
                    metered.meter.written(&drawn);
                    return Ok(());
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(unwritten(&error.to_string())),
            }
        }
        Err(unwritten("somebody else keeps changing it"))
    }

    /// This sidecar's row of a key, and the sum of the others'.
    async fn usage_rows(&self, open: &Open, id: KeyVersionId) -> Result<(Option<(u64, Tally)>, Tally), UnlockError> {
        let rows = self.writer.usage(Some(id)).await.map_err(|error| UnlockError::from(ApplyError::from(error)))?;
        let (mut own, mut others) = (None, Tally::default());
        for row in &rows {
            let told = self.believe_usage(open, row)?;
            if row.sidecar == self.sidecar().unwrap_or(ALONE) {
                own = Some((row.generation, told));
            } else {
                others = Tally::sum([others, told]);
            }
        }
        Ok((own, others))
    }

    fn believe_usage(&self, open: &Open, row: &UsageRow) -> Result<Tally, UnlockError> {
        let edited = |what: &str| {
            self.note_damage(&row.key.to_string(), &format!("the count of key {}: {what}", row.key));
            UnlockError::Tampered
        };
        open.system.rows.verify(Row::Usage(row)).map_err(|_| edited("its seal does not verify"))?;
        let body: UsageBody = bodies::decode(&row.body).map_err(|_| edited("it is not readable"))?;
        Ok(Tally { messages: body.messages, bytes: body.bytes, opened: Day(body.opened) })
    }

    fn usage_row(&self, open: &Open, key: KeyVersionId, generation: u64, row: Tally) -> Result<UsageRow, UnlockError> {
        let Tally { messages, bytes, opened } = row;
        let body = UsageBody { bytes, messages, opened: opened.0, schema: bodies::SCHEMA };
        let body = bodies::encode(&body).ok_or_else(|| unwritten("it is no text"))?;
        let mut row = UsageRow { key, sidecar: self.sidecar().unwrap_or(ALONE), generation, body, tag: Tag([0; 32]) };
        row.tag = open.system.rows.tag(Row::Usage(&row)).map_err(|_| unwritten("it cannot be sealed"))?;
        Ok(row)
    }

    /// What all sidecars counted of a key: upper bounds.
    pub(super) async fn usage(&self, id: KeyVersionId) -> Result<Tally, UnlockError> {
        let open = self.opened()?;
        let known = self.metering.find(id).map(|metered| *lock(&metered.others));
        let (own, others) = self.usage_rows(&open, id).await?;
        self.compare_counts(id, others, known.unwrap_or_default())?;
        Ok(Tally::sum([own.map(|(_, own)| own).unwrap_or_default(), others]))
    }

    /// What was counted once is never less: a row that is missing, or older than it was, is an edit.
    pub(super) fn compare_counts(&self, id: KeyVersionId, now: Tally, before: Tally) -> Result<(), UnlockError> {
        if now.messages >= before.messages && now.bytes >= before.bytes && now.opened >= before.opened {
            return Ok(());
        }
        let why = format!("the counts of key {id}: a row has been deleted, or an older one was put back");
        self.note_damage(&id.to_string(), &why);
        Err(UnlockError::Tampered)
    }
}

/// As a head has it.
pub(super) const fn body(used: Tally) -> UsedBody {
    let Tally { messages, bytes, opened } = used;
    UsedBody { bytes, messages, opened: opened.0 }
}

/// As it is counted with.
pub(super) const fn tally(used: UsedBody) -> Tally {
    let UsedBody { bytes, messages, opened } = used;
    Tally { messages, bytes, opened: Day(opened) }
}

/// A log with another kind of name has no volume: then there is only one sidecar.
const ALONE: SidecarId = SidecarId([0; 16]);

fn unwritten(why: &str) -> UnlockError {
    UnlockError::Unavailable(format!("the use of the key cannot be counted: {why}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ATTEMPTS: usize = 8;
const LEAST_ROOM: usize = 4_096;
