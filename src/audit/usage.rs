//! How much of its disk budget does the log use, and who may use more (LOG-25)?

use std::sync::atomic::{AtomicU64, Ordering};

use super::event::Share;

/// From this part of the budget on, health warns.
const WARN_PERCENT: u64 = 75;

/// The bytes of the log's directory against its budget.
#[derive(Debug)]
pub(super) struct Usage {
    used: AtomicU64,
    budget: u64,
}

impl Usage {
    pub(super) const fn new(used: u64, budget: u64) -> Self {
        Self { used: AtomicU64::new(used), budget }
    }

    /// Whether a record of this kind may still be written behind `bytes` others.
    pub(super) fn has_room(&self, share: Share, bytes: usize) -> bool {
        self.used().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)) <= share.of(self.budget)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) const fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn warns(&self) -> bool {
        self.used() >= self.budget / 100 * WARN_PERCENT
    }
}
