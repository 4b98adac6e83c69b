//! What do custodians need to know of the keyrings? Whether they decide already, what one person may still do, and the time
//! that their waits are counted by.

use super::partition::PartitionStep;
use super::{Change, Keyrings, UnlockError, documents, life};
use crate::clock::Wall;

/// The time, as far as this sidecar may believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// UTC, never earlier than the newest change.
    pub wall: Wall,
    /// Microseconds that the fleet has counted: no clock that steps shortens them.
    pub counted: u64,
    /// Whether the wall clock has gone as fast as the boot-time clock.
    pub steady: bool,
}

impl Change {
    /// Whether one authorised person may do it where custodians are: it suspends, it takes back a destruction, it carries
    /// out what was decided and has waited, or it moves what is there without taking anything away.
    pub const fn is_safe(&self) -> bool {
        match self {
            Self::Step { step, .. } => {
                matches!(step, life::Step::Suspend | life::Step::CancelDestroy | life::Step::Destroy)
            }
            Self::Partitions(change) => matches!(change.step, PartitionStep::Rewrap(_)),
            Self::Create { .. } | Self::Rotate { .. } | Self::Lookup(_) | Self::Configure { .. } => false,
        }
    }
}

impl Keyrings {
    /// Whether custodians are there, so that one person changes no keys any more; None until admitted.
    pub fn in_custody(&self) -> Option<bool> {
        self.inner.opened().ok().map(|open| open.in_custody())
    }

    /// How many keyrings there are.
    pub fn count(&self) -> Result<usize, UnlockError> {
        let open = self.inner.opened()?;
        Ok(open.directory().names().filter(|name| documents::is_keyring(name)).count())
    }

    /// The time by which waits of custodians are counted; None until admitted.
    pub fn time(&self) -> Option<Time> {
        let now = self.inner.now(&*self.inner.opened().ok()?);
        let steady = now.certainty == life::Certainty::Steady;
        Some(Time { wall: now.wall, counted: now.counted.0, steady })
    }
}
