//! Which copies of a store did custodians answer for? That backups may be made for a time, and that a store which was put
//! back is the one in force, as documents (CER-23, CER-24). This module never decides who may say so.

use serde::{Deserialize, Serialize};

use super::canonical::{self, Malformed, SCHEMA, digest, named, unreadable};
use super::proposal::CeremonyId;
use crate::clock::Wall;

/// Backups may be made until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupLeave {
    schema: u64,
    /// The ceremony that gave it.
    #[serde(with = "named")]
    pub ceremony: CeremonyId,
    /// What custodians call the place that they go to.
    pub place: String,
    /// UTC in microseconds.
    pub until: u64,
}

impl BackupLeave {
    /// For so many days from now on.
    pub fn of(ceremony: CeremonyId, place: &str, days: u32, now: Wall) -> Self {
        let until = now.0.saturating_add(u64::from(days).saturating_mul(DAY));
        Self { schema: SCHEMA, ceremony, place: place.to_owned(), until }
    }

    /// Reads the body of its document.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        canonical::read(body, MOST_BYTES)
    }

    /// The body of its document.
    pub fn body(&self) -> String {
        canonical::write(self)
    }

    /// Whether it still holds.
    pub const fn holds(&self, now: Wall) -> bool {
        now.0 < self.until
    }
}

/// A store that was put back is the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreLeave {
    schema: u64,
    /// The ceremony that gave it.
    #[serde(with = "named")]
    pub ceremony: CeremonyId,
    /// The digest of what it was put back from.
    #[serde(with = "digest")]
    pub backup: [u8; 32],
    /// Where its chain ended then, `N:DIGEST`: a sidecar of the fleet that declared the same store in place knows it by this.
    pub head: String,
    /// When, UTC in microseconds.
    pub at: u64,
}

impl RestoreLeave {
    /// From now on.
    pub const fn of(ceremony: CeremonyId, backup: [u8; 32], head: String, now: Wall) -> Self {
        Self { schema: SCHEMA, ceremony, backup, head, at: now.0 }
    }

    /// Reads the body of its document.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        let leave: Self = canonical::read(body, MOST_BYTES)?;
        let whole = leave
            .head
            .split_once(':')
            .is_some_and(|(changes, digest)| changes.parse::<u64>().is_ok() && digest.len() == 64);
        if whole { Ok(leave) } else { Err(unreadable("its head is none")) }
    }

    /// The body of its document.
    pub fn body(&self) -> String {
        canonical::write(self)
    }
}

/// Each takes a few hundred.
const MOST_BYTES: usize = 4_096;

/// In microseconds.
const DAY: u64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> CeremonyId {
        CeremonyId::new(Wall(7_000_000), [1; 10])
    }

    #[test]
    fn cer_23_backups_are_allowed_until_the_last_day_is_over_and_no_longer() {
        let leave = BackupLeave::of(id(), "vault-7", 2, Wall(5));
        assert!(leave.holds(Wall(2 * DAY + 4)));
        assert!(!leave.holds(Wall(2 * DAY + 5)));
        assert_eq!(BackupLeave::parse(&leave.body()), Ok(leave));
    }

    #[test]
    fn cer_24_what_is_not_written_as_such_documents_are_approves_nothing() {
        let leave = RestoreLeave::of(id(), [7; 32], format!("3:{}", "ab".repeat(32)), Wall(5));
        assert_eq!(RestoreLeave::parse(&leave.body()), Ok(leave.clone()));
        let other = RestoreLeave { head: "3".to_owned(), ..leave.clone() };
        assert!(RestoreLeave::parse(&other.body()).is_err());
        for (from, to) in [("\"schema\":1", "\"schema\":2"), ("\"at\":5", "\"at\":5,\"by\":1"), (":", ": ")] {
            assert!(RestoreLeave::parse(&leave.body().replacen(from, to, 1)).is_err(), "{from}");
        }
        assert!(BackupLeave::parse(&leave.body()).is_err());
    }
}
