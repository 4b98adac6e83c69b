//! Why is a step not possible, and what would be needed? Each text says which state the version is in or what stands in
//! the way, and then what to do: it is the detail of a refusal.

use std::fmt;
use std::time::Duration;

use super::{KeyState, MAX_WAIT_DAYS, MIN_WAIT_DAYS, Step};
use crate::clock::Wall;
use crate::names::KeyVersionId;

/// Why a step is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// The version is in a state from which this step does not start.
    State {
        /// The step.
        step: Step,
        /// Where the version is.
        state: KeyState,
        /// Where it starts from.
        from: &'static [KeyState],
    },
    /// Two versions would be active.
    OtherActive {
        /// The step.
        step: Step,
        /// The one that is.
        active: KeyVersionId,
    },
    /// One more version of a look-up key would live than may.
    TwoLive {
        /// The number of the oldest that does.
        oldest: u32,
    },
    /// The version is the newest of its look-up key: without it nothing could be written.
    Newest {
        /// Its number.
        number: u32,
    },
    /// The version is to be destroyed.
    Planned {
        /// When.
        due: Wall,
    },
    /// The version is not to be destroyed.
    NotPlanned,
    /// The wait is too short or too long.
    Wait {
        /// What was asked for.
        days: u32,
    },
    /// Something is wrapped by the version.
    InUse {
        /// Partitions.
        partitions: u64,
        /// Look-up keys and others.
        keys: u64,
    },
    /// Somebody opened with it lately.
    OpenedLately {
        /// When.
        opened: Wall,
        /// When that is long enough ago.
        free: Wall,
    },
    /// The wait is not over.
    NotDue {
        /// The date.
        due: Wall,
        /// How long it takes at least.
        left: Duration,
    },
    /// The wall clock cannot be believed.
    Clock,
}

impl std::error::Error for Forbidden {}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { step, state, from } => state_text(f, *step, *state, from),
            Self::OtherActive { step, active } => write!(
                f,
                "version {active} is active, and a keyring has one active version: {} this one when that one is not, \
                 or deactivate this one so that it opens",
                step.name()
            ),
            Self::TwoLive { oldest } => write!(
                f,
                "two versions of the look-up key live: retire version {oldest} first, once no value is left that it made"
            ),
            Self::Newest { number } => write!(
                f,
                "version {number} is the newest of the look-up key, and without it nothing could be written: rotate the \
                 look-up key and move its values first"
            ),
            Self::Planned { due } => {
                write!(f, "the version is to be destroyed on {}: cancel that first", day(*due))
            }
            Self::NotPlanned => f.write_str(
                "no destruction of this version is scheduled: schedule one, and it can be destroyed when the wait is over",
            ),
            Self::Wait { days } => {
                write!(f, "a destruction waits {MIN_WAIT_DAYS} to {MAX_WAIT_DAYS} days, not {days}")
            }
            Self::InUse { partitions, keys } => write!(
                f,
                "the version still wraps {partitions} partitions and {keys} other keys: rewrap them under the active \
                 version first"
            ),
            Self::OpenedLately { opened, free } => write!(
                f,
                "values were opened with the version on {}: rewrap them; if nothing opens with it from now on, it can \
                 be destroyed from {} on",
                day(*opened),
                day(*free)
            ),
            Self::NotDue { due, left } => write!(
                f,
                "the version is to be destroyed on {}, and {} of the wait are left (time in which no sidecar ran does \
                 not count): try again then, or cancel",
                day(*due),
                span(*left)
            ),
            Self::Clock => f.write_str(
                "the clock of this machine stepped, or stands behind what the store has recorded: set it right and try again; a \
                 step that was meant is believed after an hour",
            ),
        }
    }
}

fn state_text(f: &mut fmt::Formatter<'_>, step: Step, state: KeyState, from: &[KeyState]) -> fmt::Result {
    write!(f, "the version is {}", state.name())?;
    if state == KeyState::Destroyed {
        return f.write_str(", and that is final");
    }
    write!(f, "; to {} it, it must be {}", step.name(), one_of(from))?;
    match (step, state) {
        (Step::ScheduleDestroy { .. } | Step::Destroy | Step::CancelDestroy, KeyState::Active) => {
            f.write_str(": rotate the keyring or deactivate the version first")
        }
        (Step::ScheduleDestroy { .. } | Step::Destroy | Step::CancelDestroy, KeyState::Suspended) => {
            f.write_str(": deactivate it first, or mark it compromised")
        }
        (Step::Suspend, KeyState::Deactivated) => {
            f.write_str(": mark it compromised, and it opens only where policy says so")
        }
        _ => Ok(()),
    }
}

fn one_of(states: &[KeyState]) -> String {
    let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A date; the time of day matters to nobody who waits for days.
fn day(at: Wall) -> String {
    at.rfc3339_millis().chars().take(10).collect()
}

/// Rounded up: what is said to be left is never too little.
fn span(left: Duration) -> String {
    let minutes = left.as_secs().saturating_add(1).div_ceil(60);
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} minutes"),
        (0, hours, minutes) => format!("{hours} hours {minutes} minutes"),
        (days, hours, _) => format!("{days} days {hours} hours"),
    }
}
