//! What time is it for a wait that must not be cut short? Wall time can be wrong, and a boot-time clock begins anew with
//! each boot, so a wait is over only when both the wall clock and the counted time say so.
//!
//! Counted time is the time in which at least one sidecar of the fleet ran: each one adds to the highest count that it
//! has seen what its boot-time clock says has passed since it saw it, and writes the sum into its own sealed row. The
//! fleet's count is the highest of all rows. It is never more than the time that really passed, whatever the wall clocks
//! do; time in which no sidecar ran is missing from it, which makes a wait longer and never shorter.

use std::time::Duration;

use crate::clock::{Mono, Wall};

/// Microseconds of counted time since the store was founded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted(pub u64);

/// Whether the wall clock can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It has gone on evenly since this process started, and does not stand behind what is recorded.
    Steady,
    /// It stepped, or stands behind what is recorded.
    Stepped,
}

/// The time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// UTC, as it stands.
    pub wall: Wall,
    /// The fleet's counted time.
    pub counted: Counted,
    /// What `wall` is worth.
    pub certainty: Certainty,
}

/// Tells [`Now`] for one process.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    /// Where both clocks stood at the start.
    start: (Wall, Mono),
    /// The newest time that the log or the store knew at the start.
    recorded: Wall,
    /// The highest count seen, and when it was seen.
    seen: (Counted, Mono),
}

/// What a clock may be corrected by without a person having to look: more than a leap second or a slow start of NTP,
/// less than anything that matters to a wait of days.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

impl Counted {
    /// So much later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// How long until another reading; zero if it has passed.
    pub const fn until(self, other: Self) -> Duration {
        Duration::from_micros(other.0.saturating_sub(self.0))
    }
}

impl Timekeeper {
    /// At the start of the process: the clocks, the newest time that is recorded anywhere, the fleet's count.
    pub const fn begin(wall: Wall, mono: Mono, recorded: Wall, fleet: Counted) -> Self {
        Self { start: (wall, mono), recorded, seen: (fleet, mono) }
    }

    /// Takes note of a count that another sidecar has written.
    pub fn observe(&mut self, fleet: Counted, mono: Mono) {
        if fleet > self.counted(mono) {
            self.seen = (fleet, mono);
        }
    }

    /// The count now: what this sidecar's row should say.
    pub fn counted(&self, mono: Mono) -> Counted {
        let (counted, at) = self.seen;
        counted.plus(mono.since(at))
    }

    /// The time of a step.
    pub fn now(&self, wall: Wall, mono: Mono) -> Now {
        Now { wall, counted: self.counted(mono), certainty: self.certainty(wall, mono) }
    }

    fn certainty(&self, wall: Wall, mono: Mono) -> Certainty {
        let (started, booted) = self.start;
        let even = started.0.saturating_add(micros(mono.since(booted)));
        let steady = even.abs_diff(wall.0) <= micros(TOLERANCE);
        let behind = wall.0.saturating_add(micros(TOLERANCE)) < self.recorded.0;
        if steady && !behind { Certainty::Steady } else { Certainty::Stepped }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
