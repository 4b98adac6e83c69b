//! May a version be destroyed, and when? Destroying is the one step that loses data for good if it is a mistake, so it
//! waits, can be cancelled while it waits, and looks at everything again before it is done.

use std::time::Duration;

use super::time::micros;
use super::{Cause, Certainty, Counted, Facts, Forbidden, Now};
use crate::clock::Wall;
use crate::crypto::sha256;

/// Days that a destruction waits at least: a week finds whoever works on one day of it.
pub const MIN_WAIT_DAYS: u32 = 7;
/// Days that it waits at most: what should not happen within a month is not decided today.
pub const MAX_WAIT_DAYS: u32 = 30;
/// How long nobody must have opened with a version: a monthly job has come by in that time.
pub const IDLE: Duration = Duration::from_secs(30 * 86_400);

/// The owner's statement that the values were rewrapped or are needed no longer: its digest, since a record holds no
/// free text. Whoever has the text can prove that it was this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement(pub [u8; 32]);

/// A destruction that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Not before this, by the wall clock.
    pub due: Wall,
    /// Nor before the fleet has counted so much.
    pub counted: Counted,
    /// What the owner declared.
    pub statement: Statement,
    /// When it was asked for.
    pub asked: Wall,
    /// Why and by whom.
    pub cause: Cause,
}

impl Statement {
    /// Shorter than this says nothing.
    const MIN_BYTES: usize = 10;
    /// It is a statement, not a document.
    pub const MAX_BYTES: usize = 1_024;

    /// The statement of a text; None if it is too short or too long to be one.
    pub fn of(text: &str) -> Option<Self> {
        let fits = (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&text.trim().len()) && text.len() <= Self::MAX_BYTES;
        fits.then(|| Self(sha256(&[text.as_bytes()])))
    }
}

impl Plan {
    pub(super) fn make(
        days: u32,
        statement: Statement,
        facts: &Facts,
        now: Now,
        cause: &Cause,
    ) -> Result<Self, Forbidden> {
        if !(MIN_WAIT_DAYS..=MAX_WAIT_DAYS).contains(&days) {
            return Err(Forbidden::Wait { days });
        }
        unneeded(facts, now)?;
        let wait = Duration::from_secs(u64::from(days) * 86_400);
        let due = Wall(now.wall.0.saturating_add(micros(wait)));
        Ok(Self { due, counted: now.counted.plus(wait), statement, asked: now.wall, cause: cause.clone() })
    }

    /// Whether it may be carried out. What was true when it was asked for is looked at again.
    pub(super) fn due(&self, facts: &Facts, now: Now) -> Result<(), Forbidden> {
        unneeded(facts, now)?;
        let by_wall = Duration::from_micros(self.due.0.saturating_sub(now.wall.0));
        let left = by_wall.max(now.counted.until(self.counted));
        if left.is_zero() { Ok(()) } else { Err(Forbidden::NotDue { due: self.due, left }) }
    }
}

/// Nothing names the version and nobody has used it lately, as far as the clock can be believed.
fn unneeded(facts: &Facts, now: Now) -> Result<(), Forbidden> {
    if facts.partitions > 0 || facts.keys > 0 {
        return Err(Forbidden::InUse { partitions: facts.partitions, keys: facts.keys });
    }
    if now.certainty == Certainty::Stepped {
        return Err(Forbidden::Clock);
    }
    match facts.opened.map(|opened| (opened, Wall(opened.0.saturating_add(micros(IDLE))))) {
        Some((opened, free)) if now.wall < free => Err(Forbidden::OpenedLately { opened, free }),
        _ => Ok(()),
    }
}
