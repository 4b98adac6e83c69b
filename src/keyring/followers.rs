//! Who may still go by what is over? Every sidecar says in its sealed row up to which change it has followed the store and
//! for how long it believes a store that it cannot reach. What one says is never more than it has done: keys have left
//! its memory before its row says that it followed.
//!
//! One that has not said so by now may be away. It heard the store for the last time before the change was committed, so
//! its lease ends no later than the change's time and the lease together, and a margin for the commit and the clocks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bodies::{self, ChangeBody};
use super::fleet::Sidecar;
use super::follow::Open;
use super::seal::Row;
use super::verify::Damage;
use super::{ApplyError, Inner, Keyrings};
use crate::clock::Wall;

/// Between the time that a change bears and its commit, and between two hosts' clocks.
const MARGIN: Duration = Duration::from_secs(30);

/// Another sidecar that has not said yet that it followed a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Its name: the volume id of its log.
    pub sidecar: String,
    /// The newest change that it has followed, as far as it said.
    pub followed: u64,
    /// When it last wrote its row, by its own clock; None if it never said.
    pub heard: Option<Wall>,
    /// Until when it may go on by what it knew, if it cannot reach the store.
    pub until: Wall,
}

/// How far a change has come in the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Following {
    /// The change.
    pub change: u64,
    /// How many other sidecars there are, or were.
    pub others: u64,
    /// Those that have not followed it and whose lease is not over, by name.
    pub behind: Vec<Follower>,
}

/// The kinds of changes that take something away from whoever has a key in memory.
const REVOKING: [&str; 6] =
    ["key.compromised", "key.destroy_scheduled", "key.destroyed", "key.suspended", "kek.retired", "partition.shredded"];

impl Keyrings {
    /// Which other sidecars have not said that they followed a change; the newest one if none is named.
    pub async fn following(&self, change: Option<u64>) -> Result<Following, ApplyError> {
        let open = self.inner.opened_to_change()?;
        let newest = open.head().changes;
        let change = change.unwrap_or(newest);
        if change == 0 || change > newest {
            return Err(ApplyError::Invalid(format!("there is no change {change}: the store has {newest}")));
        }
        self.inner.following(&open, change).await
    }

    /// Says that this sidecar has followed a change that takes something away, unless it has said so; a job calls it.
    pub async fn acknowledge(&self) -> Result<(), ApplyError> {
        if self.inner.opened().is_err() || !self.inner.owes.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let said = self.report_in().await;
        if said.is_err() {
            self.inner.owes.store(true, Ordering::Release);
        }
        said
    }
}

impl Inner {
    /// Whoever may use keys is one of the fleet: says so before it does, and follows what was changed before it had. A store
    /// that takes no row now gets it later; to keep the values shut for it would help nobody.
    pub(super) async fn join_fleet(&self, open: &Open) -> Result<(), ApplyError> {
        match self.report_in(open).await {
            Ok(()) => self.owes.store(false, Ordering::Release),
            Err(error) => tracing::warn!(%error, "the fleet does not know of this sidecar yet"),
        }
        self.catch_up(open).await
    }

    /// A change was followed or made here.
    pub(super) fn followed(&self, body: &ChangeBody) {
        if REVOKING.contains(&body.kind.as_str()) {
            self.owes.store(true, Ordering::Release);
        }
    }

    async fn following(&self, open: &Open, change: u64) -> Result<Following, ApplyError> {
        let made = self.made_at(open, change).await?;
        let (own, now) = (self.sidecar(), self.now(open).wall);
        let fleet = self.fleet(&open.system.rows).await?;
        let others: Vec<&Sidecar> = fleet.iter().filter(|one| Some(one.row.id) != own).collect();
        let behind = others.iter().filter(|one| one.changes < change).map(|one| Follower {
            sidecar: hex::encode(one.row.id.0),
            followed: one.changes,
            heard: one.heard,
            until: after(made, one.lease.unwrap_or(self.settings.store_offline_max).saturating_add(MARGIN)),
        });
        let mut behind: Vec<Follower> = behind.filter(|one| one.until > now).collect();
        behind.sort_by(|one, other| one.sidecar.cmp(&other.sidecar));
        Ok(Following { change, others: u64::try_from(others.len()).unwrap_or(u64::MAX), behind })
    }

    async fn made_at(&self, open: &Open, change: u64) -> Result<Wall, ApplyError> {
        let name = || format!("change {change}");
        let link = self.reader.changes(change.saturating_sub(1), 1).await?.into_iter().next();
        let link = link.filter(|link| link.seq == change);
        let link = link.ok_or_else(|| Damage::of(name(), "it is gone from the chain of changes"))?;
        let sealed = open.system.rows.verify(Row::Change(&link));
        sealed.map_err(|_| Damage::of(name(), "its seal does not verify"))?;
        let body: ChangeBody = bodies::decode(&link.body).map_err(|why| Damage::unreadable(name(), why))?;
        Ok(Wall(body.at))
    }
}

fn after(at: Wall, time: Duration) -> Wall {
    Wall(at.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}
