//! How much has a key version sealed, and when was it last opened with? Tally where it happens, and never under.
//!
//! A sidecar writes what it is *going* to count into its row of the store before it counts it: a block of messages and
//! bytes, and the days through which openings are covered. A crash loses the unused rest of a block, so that the stored
//! number is at least what happened; after a restart counting goes on from there. Blocks grow with the traffic, so that a
//! busy key writes once in many minutes, and shrink before a limit. The totals of a key are the sums over all sidecars.
//!
//! This module decides what is to be written and when; it never writes, and never reads a clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Mono, Wall};

/// Days since 1970 in UTC; 0 is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment.
    pub fn of(at: Wall) -> Self {
        Self(u32::try_from(at.0 / 86_400_000_000).unwrap_or(u32::MAX))
    }

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What a row of the store says, and the sum of several: upper bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Values sealed.
    pub messages: u64,
    /// Bytes of plaintext sealed.
    pub bytes: u64,
    /// The last day on which a value may have been opened; at most two days after the last on which one was.
    pub opened: Day,
}

impl Tally {
    /// What several sidecars counted of one key.
    pub fn sum(rows: impl IntoIterator<Item = Self>) -> Self {
        rows.into_iter().fold(Self::default(), |sum, row| Self {
            messages: sum.messages.saturating_add(row.messages),
            bytes: sum.bytes.saturating_add(row.bytes),
            opened: sum.opened.max(row.opened),
        })
    }
}

/// When a keyring is to be rotated for its use: see `jobs::schedule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLimits {
    /// Values sealed by one version, by all sidecars.
    pub messages: u64,
    /// Bytes of plaintext sealed by one version, by all sidecars.
    pub bytes: u64,
}

/// Whether something may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Grant {
    /// It is covered.
    Given,
    /// It is covered, and the next reservation is to be written beside it. One caller hears this for each reservation.
    TopUp,
    /// It is not: a reservation must be written first, then ask again.
    Needs,
}

/// What a reservation is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To seal this much; zeros after [`Grant::TopUp`].
    Seal {
        /// Values.
        messages: u64,
        /// Bytes of plaintext.
        bytes: u64,
    },
    /// To open on this day.
    Open(Day),
}

/// The row to write: absolute numbers, so that writing it twice counts nothing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The row's next generation.
    pub generation: u64,
    /// Its contents.
    pub row: Tally,
}

/// Counts one key version in one sidecar. Shared by all tasks; reservations are drawn and written by one at a time.
#[derive(Debug)]
pub struct Meter {
    messages: Counter,
    bytes: Counter,
    /// Through which day openings are covered by the durable row.
    opened: AtomicU32,
    /// The day of the top-up that somebody was told to write.
    topped_up: AtomicU32,
    book: Mutex<Book>,
}

/// One of the two counts.
#[derive(Debug)]
struct Counter {
    used: AtomicU64,
    /// What the durable row covers.
    covered: AtomicU64,
    /// Beyond this the next reservation is drawn; the end of the count once somebody was told to.
    low: AtomicU64,
}

/// What only the writer looks at.
#[derive(Debug)]
struct Book {
    generation: u64,
    messages: Block,
    bytes: Block,
}

/// The size of the next block, by how long the last one lasted.
#[derive(Debug)]
struct Block {
    size: u64,
    least: u64,
    most: u64,
    drawn: Option<Mono>,
}

impl Meter {
    /// Goes on from this sidecar's row, or begins. What the row covers counts as used: it may have been.
    pub fn new(stored: Option<(u64, Tally)>) -> Self {
        let (generation, row) = stored.unwrap_or_default();
        Self {
            messages: Counter::at(row.messages),
            bytes: Counter::at(row.bytes),
            opened: AtomicU32::new(row.opened.0),
            topped_up: AtomicU32::new(0),
            book: Mutex::new(Book {
                generation,
                messages: Block::between(LEAST_MESSAGES, MOST_MESSAGES),
                bytes: Block::between(LEAST_BYTES, MOST_BYTES),
            }),
        }
    }

    /// Counts what is about to be sealed, unless the durable row does not cover it yet.
    #[inline]
    pub fn seal(&self, messages: u64, bytes: u64) -> Grant {
        let sealed = self.messages.take(messages);
        let weighed = self.bytes.take(bytes);
        if sealed == Grant::Needs || weighed == Grant::Needs {
            // What was taken was never used; others may be refused by it meanwhile and ask again.
            self.messages.put_back(messages);
            self.bytes.put_back(bytes);
            return Grant::Needs;
        }
        if sealed == Grant::TopUp || weighed == Grant::TopUp { Grant::TopUp } else { Grant::Given }
    }

    /// Whether an opening on this day is covered. A clock that was set back changes nothing.
    #[inline]
    pub fn open(&self, day: Day) -> Grant {
        let covered = self.opened.load(Ordering::Acquire);
        if covered > day.0 {
            return Grant::Given;
        }
        if covered < day.0 {
            return Grant::Needs;
        }
        // Today is covered and tomorrow is not.
        if self.topped_up.swap(day.0, Ordering::Relaxed) == day.0 { Grant::Given } else { Grant::TopUp }
    }

    /// The next row: room for what is needed, and more than that.
    pub fn draw(&self, need: Need, limits: UsageLimits, now: Mono) -> Reservation {
        let mut book = self.book();
        let mut row = Tally {
            messages: self.messages.covered.load(Ordering::Acquire),
            bytes: self.bytes.covered.load(Ordering::Acquire),
            opened: Day(self.opened.load(Ordering::Acquire)),
        };
        match need {
            Need::Seal { messages, bytes } => {
                row.messages = self.messages.next(messages, &mut book.messages, limits.messages, now);
                row.bytes = self.bytes.next(bytes, &mut book.bytes, limits.bytes, now);
            }
            Need::Open(day) => row.opened = row.opened.max(day.next()),
        }
        Reservation { generation: book.generation.saturating_add(1), row }
    }

    /// The row is durable: what it covers may be used.
    pub fn written(&self, Reservation { generation, row }: &Reservation) {
        let mut book = self.book();
        book.generation = book.generation.max(*generation);
        self.messages.cover(row.messages);
        self.bytes.cover(row.bytes);
        self.opened.fetch_max(row.opened.0, Ordering::Release);
    }

    /// The write failed, or it is not known whether it is there. Nothing more is covered.
    pub fn failed(&self) {
        let _book = self.book();
        self.messages.ask_again();
        self.bytes.ask_again();
        self.topped_up.store(0, Ordering::Relaxed);
    }

    /// The row was found further on than it was left: a write is there after all, or somebody has the same name. All
    /// that it covers beyond what was known counts as used; what was left of the last block here still is.
    pub fn rebase(&self, generation: u64, row: Tally) {
        let mut book = self.book();
        book.generation = book.generation.max(generation);
        self.messages.shift(row.messages);
        self.bytes.shift(row.bytes);
        self.opened.fetch_max(row.opened.0, Ordering::Release);
    }

    /// The generation of the row, as it was left.
    pub fn generation(&self) -> u64 {
        self.book().generation
    }

    /// Whether this is covered already.
    pub fn covers(&self, need: Need) -> bool {
        match need {
            Need::Seal { messages: 0, bytes: 0 } => false,
            Need::Seal { messages, bytes } => self.messages.ahead() >= messages && self.bytes.ahead() >= bytes,
            Need::Open(day) => self.opened.load(Ordering::Acquire) > day.0,
        }
    }

    /// What has been used here, the lost rests of earlier runs included.
    pub fn used(&self) -> Tally {
        Tally {
            messages: self.messages.used.load(Ordering::Relaxed),
            bytes: self.bytes.used.load(Ordering::Relaxed),
            opened: Day(self.opened.load(Ordering::Acquire)),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    const fn at(used: u64) -> Self {
        Self { used: AtomicU64::new(used), covered: AtomicU64::new(used), low: AtomicU64::new(u64::MAX) }
    }

    /// Takes before it looks, so that what all callers together were given is never more than what is covered.
    #[inline]
    fn take(&self, amount: u64) -> Grant {
        let after = self.used.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        if after > self.covered.load(Ordering::Acquire) {
            return Grant::Needs;
        }
        let low = self.low.load(Ordering::Relaxed);
        if after <= low { Grant::Given } else { self.claim(low) }
    }

    #[cold]
    fn claim(&self, low: u64) -> Grant {
        let mine = self.low.compare_exchange(low, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine { Grant::TopUp } else { Grant::Given }
    }

    fn put_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    /// What the row is to say. The same again while less than half of the last block is used and nothing is asked for.
    fn next(&self, amount: u64, block: &mut Block, limit: u64, now: Mono) -> u64 {
        let (used, covered) = (self.used.load(Ordering::Relaxed), self.covered.load(Ordering::Acquire));
        let ahead = covered.saturating_sub(used);
        if ahead > block.size / 2 && ahead >= amount {
            return covered;
        }
        let size = block.draw(limit.saturating_sub(used), now);
        used.saturating_add(amount).saturating_add(size).max(covered)
    }

    fn cover(&self, covered: u64) {
        let before = self.covered.fetch_max(covered, Ordering::AcqRel);
        if covered > before {
            let used = self.used.load(Ordering::Relaxed);
            self.low.store(covered.saturating_sub(covered.saturating_sub(used) / 2), Ordering::Relaxed);
        }
    }

    /// Counts as used what the row covers beyond what was known, before it covers it.
    fn shift(&self, covered: u64) {
        let more = covered.saturating_sub(self.covered.load(Ordering::Acquire));
        self.used.fetch_add(more, Ordering::AcqRel);
        self.covered.fetch_max(covered, Ordering::AcqRel);
        self.ask_again();
    }

    fn ahead(&self) -> u64 {
        self.covered.load(Ordering::Acquire).saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Somebody else is to be told to draw.
    fn ask_again(&self) {
        let covered = self.covered.load(Ordering::Acquire);
        let used = self.used.load(Ordering::Relaxed);
        self.low.store(used.min(covered), Ordering::Relaxed);
    }
}

impl Block {
    const fn between(least: u64, most: u64) -> Self {
        Self { size: least, least, most, drawn: None }
    }

    /// A block that lasted shorter than it should is followed by a larger one. Before a limit blocks shrink, so that what
    /// restarts lose does not bring it forward by much; beyond it they have nothing more to bring forward.
    fn draw(&mut self, left: u64, now: Mono) -> u64 {
        let lasted = self.drawn.replace(now).map(|drawn| now.since(drawn));
        self.size = match lasted {
            Some(lasted) if lasted < LASTS => self.size.saturating_mul(GROWTH).min(self.most),
            Some(lasted) if lasted > LASTS * 8 => (self.size / GROWTH).max(self.least),
            _ => self.size,
        };
        if left == 0 { self.least } else { self.size.min(left / PART_OF_THE_REST).max(1) }
    }
}

/// A block should last this long: several times as long as the store may be away before nothing unlocks anyway, so that a
/// half of it, which is what is left when the next is drawn, outlasts that.
const LASTS: Duration = Duration::from_secs(1_200);
const GROWTH: u64 = 4;
const PART_OF_THE_REST: u64 = 16;
/// What a restart loses of an idle key, and what the busiest key is worth in one write: at 20,000 messages a second the
/// largest block lasts half an hour.
const LEAST_MESSAGES: u64 = 1 << 10;
const MOST_MESSAGES: u64 = 1 << 25;
const LEAST_BYTES: u64 = 1 << 20;
const MOST_BYTES: u64 = 1 << 37;

#[cfg(test)]
mod tests;
