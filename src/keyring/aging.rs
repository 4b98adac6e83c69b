//! Which keyrings may soon have to be rotated? Candidates by what memory knows, read whole from the store only then;
//! whether one is due is decided by whoever asks. Constant work for all the others.

use std::collections::BTreeSet;

use super::follow::Open;
use super::life::{Reason, Trigger};
use super::rings::Ring;
use super::{ApplyError, Inner, KeyState, Keyrings, SYSTEM, Tally, UnlockError, UsageLimits};
use crate::clock::Wall;
use crate::names::{KeyVersionId, KeyringName};

/// The active version of a keyring, as a scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aging {
    /// The keyring.
    pub keyring: KeyringName,
    /// Its active version.
    pub version: KeyVersionId,
    /// Since when it is active.
    pub activated: Wall,
    /// How long it should seal.
    pub period: std::time::Duration,
    /// What it has sealed, by all sidecars and as far as this one has heard: upper bounds. Nothing for one that this
    /// sidecar does not use; whoever uses it knows.
    pub used: Tally,
    /// How much it should seal.
    pub limits: UsageLimits,
}

/// A page of candidates, and what is to be known of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aged {
    /// By name; empty when there are no more.
    pub found: Vec<Aging>,
    /// How many keyrings there are.
    pub keyrings: u64,
    /// When the period of the first keyring ends that is no candidate.
    pub later: Option<Wall>,
}

impl Keyrings {
    /// Whether a key that this sidecar uses has come near its limits since this was last asked.
    pub fn used_up(&self) -> bool {
        self.inner.metering.used_up()
    }

    /// At most `limit` keyrings after a name whose period ends before a moment, or whose active version is used so much
    /// that its limits are near.
    pub async fn aging(&self, until: Wall, after: Option<&KeyringName>, limit: usize) -> Result<Aged, UnlockError> {
        let open = self.inner.opened()?;
        let (names, later) = self.inner.candidates(&open, until);
        let keyrings = u64::try_from(open.directory().len().saturating_sub(1)).unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for name in names.iter().filter(|name| after.is_none_or(|after| *name > after)) {
            if found.len() >= limit {
                break;
            }
            // One that was edited is not rotated; it is told of elsewhere and holds up no other.
            let loaded = match self.inner.load(&open, &name.to_string()).await {
                Err(ApplyError::Tampered(_)) => continue,
                loaded => loaded?,
            };
            if let Some(loaded) = loaded {
                let ring = Ring::read(&loaded.rows, &open.system.genesis, self.inner.settings.data_key_period)
                    .map_err(ApplyError::from)?;
                found.extend(self.inner.aging(&ring));
            }
        }
        Ok(Aged { found, keyrings, later })
    }
}

/// A keyring whose rotation has left partitions under older versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The keyring.
    pub keyring: KeyringName,
    /// Why its active version was made.
    pub trigger: Trigger,
    /// How many partitions.
    pub partitions: u64,
}

impl Keyrings {
    /// The keyrings whose partitions have not followed to the active version, by name.
    pub async fn partitions_elsewhere(&self) -> Result<Vec<Elsewhere>, UnlockError> {
        let open = self.inner.opened()?;
        let names: BTreeSet<KeyringName> =
            open.directory().lagging().iter().filter_map(|name| name.parse().ok()).collect();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let view = match self.find(&name).await {
                Err(UnlockError::Tampered) | Ok(None) => continue,
                view => view?,
            };
            let Some((view, active)) = view.as_ref().and_then(|view| Some((view, view.active()?))) else { continue };
            let older = view.versions.iter().filter(|version| version.id != active.id);
            let partitions: u64 = older.map(|version| version.partitions).sum();
            let trigger = match active.reason {
                Reason::Rotation(trigger) => trigger,
                _ => Trigger::Schedule,
            };
            if partitions > 0 {
                found.push(Elsewhere { keyring: name, trigger, partitions });
            }
        }
        Ok(found)
    }
}

impl Inner {
    /// Names of candidates, and when the next one's period ends.
    fn candidates(&self, open: &Open, until: Wall) -> (BTreeSet<KeyringName>, Option<Wall>) {
        let directory = open.directory();
        let (due, later) = directory.due(u32::try_from(until.0 / MINUTE).unwrap_or(u32::MAX));
        let mut names: BTreeSet<KeyringName> =
            due.iter().filter(|name| &***name != SYSTEM).filter_map(|name| name.parse().ok()).collect();
        for id in self.metering.used_much() {
            names.extend(directory.of_version(id).and_then(|name| name.parse().ok()));
        }
        (names, later.map(|minute| Wall(u64::from(minute).saturating_mul(MINUTE))))
    }

    fn aging(&self, ring: &Ring) -> Option<Aging> {
        let version = ring.versions.iter().find(|version| version.view.state == KeyState::Active)?;
        let used = self.metering.find(version.view.id).map(|metered| metered.total());
        Some(Aging {
            keyring: ring.view.name.clone(),
            version: version.view.id,
            activated: version.view.activated.unwrap_or(version.view.created),
            period: ring.view.limits.cryptoperiod.unwrap_or(self.settings.data_key_period),
            used: used.unwrap_or_default(),
            limits: self.usage_limits(ring),
        })
    }
}

/// In microseconds.
const MINUTE: u64 = 60_000_000;
