//! What does a rotation do to the versions of a keyring? A new one becomes active; the one that was active deactivates,
//! and one that is suspended or compromised stays as it is, since a rotation clears nobody of suspicion.

use super::{By, Cause, Facts, Forbidden, KeyState, Life, Now, Reason, Step, Trigger};
use crate::names::KeyVersionId;

/// The lives that a rotation changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The one that was active, after it.
    pub retired: Option<(KeyVersionId, Life)>,
    /// The new one.
    pub fresh: Life,
}

/// The active version.
pub fn active<'a>(mut versions: impl Iterator<Item = (KeyVersionId, &'a Life)>) -> Option<(KeyVersionId, &'a Life)> {
    versions.find(|(_, life)| life.state() == KeyState::Active)
}

/// A new active version. Always possible: after an incident it is what is needed most.
pub fn rotate(
    active: Option<(KeyVersionId, &Life)>,
    trigger: Trigger,
    now: Now,
    by: By,
    ceremony: Option<String>,
) -> Result<Rotation, Forbidden> {
    let cause = Cause { reason: Reason::Rotation(trigger), by, ceremony };
    let facts = Facts::default();
    let retired = match active {
        Some((id, life)) => Some((id, life.step(Step::Deactivate, &facts, now, &cause)?)),
        None => None,
    };
    Ok(Rotation { retired, fresh: Life::begun(now, &cause) })
}
