//! What time is it for a wait that must not be cut short? Wall time can be wrong, and a boot-time clock begins anew with
//! each boot, so a wait is over only when both the wall clock and the counted time say so.
//!
//! Counted time is the time in which at least one sidecar of the fleet ran: each one adds to the highest count that it
//! has seen what its boot-time clock says has passed since it saw it, and writes the sum into its own sealed row. The
//! fleet's count is the highest of all rows. It is never more than the time that really passed, whatever the wall clocks
//! do; time in which no sidecar ran is missing from it, which makes a wait longer and never shorter.

use std::time::Duration;

use crate::clock::{Mono, Steady, Wall};

/// Microseconds of counted time since the store was founded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted(pub u64);

/// Whether the wall clock can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It goes on evenly, and does not stand behind what is recorded.
    Steady,
    /// It stepped lately, or stands behind what is recorded (see `clock::Steady`).
    Stepped,
}

/// The time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// UTC, as far as it is believed.
    pub wall: Wall,
    /// The fleet's counted time.
    pub counted: Counted,
    /// What `wall` is worth.
    pub certainty: Certainty,
}

/// Tells [`Now`] for one process.
#[derive(Debug, Clone)]
pub struct Timekeeper {
    steady: Steady,
    /// The highest count seen, and when it was seen.
    seen: (Counted, Mono),
}

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
    pub fn begin(wall: Wall, mono: Mono, recorded: Wall, fleet: Counted) -> Self {
        Self { steady: Steady::new(wall, mono, Some(recorded)), seen: (fleet, mono) }
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
    pub fn now(&mut self, wall: Wall, mono: Mono) -> Now {
        let reading = self.steady.read(wall, mono);
        let certainty = if reading.trusted { Certainty::Steady } else { Certainty::Stepped };
        Now { wall: reading.wall, counted: self.counted(mono), certainty }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
