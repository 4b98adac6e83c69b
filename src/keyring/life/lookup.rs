//! Which versions of a look-up key live, and what is each for? Values that were made with a version are found by that
//! version alone, so a rotation retires nothing: the newest version is current and writes, the one before matches on
//! until whoever has moved the values retires it. Two live at most, and the newest is never taken away in passing.
//!
//! The states and edges are those of every key ([`Life`]); what is said here is what versions of one name owe each other.

use super::{By, Cause, Facts, Forbidden, KeyState, Life, Now, Reason, Step, Trigger};
use crate::policy::Action;

/// Live versions of one look-up key at once: what was written before a rotation and what is written after it.
pub const MOST_LIVE: usize = 2;

/// What a live version of a look-up key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes and matches.
    Current,
    /// Matches what it wrote, until it is retired.
    Previous,
}

impl Role {
    /// What a version is for, by its number, the newest one's and its state. Only the newest writes, also while it may
    /// not: an older one that took its place would make values that the newest does not find.
    pub fn of(number: u32, newest: u32, state: KeyState) -> Option<Self> {
        match (state, number == newest) {
            (KeyState::Active, true) => Some(Self::Current),
            (KeyState::Active, false) => Some(Self::Previous),
            _ => None,
        }
    }

    /// The word in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

/// The next version of a look-up key and its number; the others stay as they are.
pub fn rotate_lookup(
    versions: &[(u32, &Life)],
    trigger: Trigger,
    now: Now,
    by: By,
    ceremony: Option<String>,
) -> Result<(u32, Life), Forbidden> {
    room(versions)?;
    let number = newest(versions).saturating_add(1);
    Ok((number, Life::begun(now, &Cause { reason: Reason::Rotation(trigger), by, ceremony })))
}

/// The life of one version after a step, or why there is none.
pub fn step_lookup(
    (number, life): (u32, &Life),
    others: &[(u32, &Life)],
    step: Step,
    facts: &Facts,
    now: Now,
    cause: &Cause,
) -> Result<Life, Forbidden> {
    let next = life.step(step, &Facts { other_active: None, ..*facts }, now, cause)?;
    match step {
        Step::Activate | Step::Resume => {
            room(others)?;
            // The newest keeps its place while it is suspended: two older ones must not both be the previous one.
            let live = |(other, life): &&(u32, &Life)| *other < newest(others) && life.state() == KeyState::Active;
            if let Some((oldest, _)) = others.iter().find(live).filter(|_| number < newest(others)) {
                return Err(Forbidden::TwoLive { oldest: *oldest });
            }
        }
        Step::Deactivate if number > newest(others) => return Err(Forbidden::Newest { number }),
        _ => {}
    }
    Ok(next)
}

/// The action that policy must permit for a step. Unlike a data key a retired version is good for nothing any more, so
/// that retiring a suspended one is no way back.
pub const fn lookup_action(step: Step, from: KeyState) -> Action {
    match step {
        Step::Deactivate => Action::KeyDeactivate,
        _ => step.action(from),
    }
}

/// Whether one more may live.
fn room(versions: &[(u32, &Life)]) -> Result<(), Forbidden> {
    let live = || versions.iter().filter(|(_, life)| life.state() == KeyState::Active).map(|(number, _)| *number);
    match live().min() {
        Some(oldest) if live().count() >= MOST_LIVE => Err(Forbidden::TwoLive { oldest }),
        _ => Ok(()),
    }
}

fn newest(versions: &[(u32, &Life)]) -> u32 {
    versions.iter().map(|(number, _)| *number).max().unwrap_or(0)
}
