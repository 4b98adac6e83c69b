//! What do the sidecars of a store tell each other? Each writes one sealed row of its own: the time that it has counted.
//! A row that an editor put back to an older one makes waits longer, never shorter: the highest count of all rows counts.

use std::sync::{Mutex, PoisonError};

use super::bodies::{self, ChangeBody, SCHEMA, SidecarBody};
use super::follow::Open;
use super::life::{Counted, Now, Timekeeper};
use super::seal::{self, Row, RowSealer};
use super::verify::Damage;
use super::{ApplyError, Inner, Keyrings, StoreHead};
use crate::clock::Wall;
use crate::store::{SidecarId, SidecarRow, StoreError, Tag, Write};

/// What this process knows of time.
pub(super) struct Time(Mutex<Timekeeper>);

impl Keyrings {
    /// Writes what this sidecar has counted, and learns what the others have; a job calls it. Nothing to do before the
    /// admission, and for keyrings without a log, whose sidecar has no name.
    pub async fn report_in(&self) -> Result<(), ApplyError> {
        let Ok(open) = self.inner.opened() else { return Ok(()) };
        self.inner.report_in(&open).await
    }
}

impl Inner {
    /// Begins to count, from what the fleet has counted. No wall clock may stand before the newest change.
    pub(super) async fn begin_time(&self, rows: &RowSealer, head: StoreHead) -> Result<Time, ApplyError> {
        let newest = self.reader.changes(head.changes.saturating_sub(1), 1).await?.pop();
        let newest = newest.filter(|link| seal::digest(link).is_ok_and(|digest| digest == head.digest));
        let body = newest.and_then(|link| bodies::decode::<ChangeBody>(&link.body).ok());
        let recorded = Wall(body.map_or(0, |body| body.at));
        let fleet = self.fleet(rows).await?.into_iter().map(|(_, counted)| counted).max().unwrap_or_default();
        let keeper = Timekeeper::begin(self.clock.wall(), self.clock.mono(), recorded, fleet);
        Ok(Time(Mutex::new(keeper)))
    }

    /// The time, as far as this process knows.
    pub(super) fn now(&self, open: &Open) -> Now {
        open.time.keeper().now(self.clock.wall(), self.clock.mono())
    }

    /// The time, with what the others have counted.
    pub(super) async fn fleet_now(&self, open: &Open) -> Result<Now, ApplyError> {
        for (_, counted) in self.fleet(&open.system.rows).await? {
            open.time.keeper().observe(counted, self.clock.mono());
        }
        Ok(self.now(open))
    }

    async fn report_in(&self, open: &Open) -> Result<(), ApplyError> {
        let Some(id) = self.sidecar() else { return Ok(()) };
        let counted = self.fleet_now(open).await?.counted;
        let rows = self.fleet(&open.system.rows).await?;
        let generation = rows.iter().find(|(row, _)| row.id == id).map_or(0, |(row, _)| row.generation);
        let generation = generation.saturating_add(1);
        let body = SidecarBody { counted: counted.0, schema: SCHEMA };
        let unwritten = |_| ApplyError::Unavailable("a row could not be sealed".to_owned());
        let body = bodies::encode(&body).ok_or(()).map_err(unwritten)?;
        let mut row = SidecarRow { id, generation, body, tag: Tag([0; 32]) };
        row.tag = open.system.rows.tag(Row::Sidecar(&row)).map_err(|_| unwritten(()))?;
        match self.writer.commit(vec![Write::Sidecar(row)]).await {
            // Nobody else writes this row; a restart that overtook an old process may have, and will again.
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn fleet(&self, rows: &RowSealer) -> Result<Vec<(SidecarRow, Counted)>, ApplyError> {
        let mut fleet = Vec::new();
        for row in self.writer.sidecars().await? {
            let what = || format!("the row of sidecar {}", hex::encode(row.id.0));
            rows.verify(Row::Sidecar(&row)).map_err(|_| Damage::of(what(), "its seal does not verify"))?;
            let body: SidecarBody = bodies::decode(&row.body).map_err(|why| Damage::unreadable(what(), why))?;
            fleet.push((row, Counted(body.counted)));
        }
        Ok(fleet)
    }

    /// The volume id, the last part of the log's name.
    pub(super) fn sidecar(&self) -> Option<SidecarId> {
        let log = self.log_name();
        let mut id = SidecarId([0; 16]);
        hex::decode_to_slice(log.rsplit('/').next()?, &mut id.0).ok()?;
        Some(id)
    }
}

impl Time {
    fn keeper(&self) -> std::sync::MutexGuard<'_, Timekeeper> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
