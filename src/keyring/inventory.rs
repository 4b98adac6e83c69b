//! Which keys are there, and how much was each used? For reports: by name, page by page, without key material.

use std::sync::Arc;

use super::bodies::{self, UsageBody};
use super::follow::Open;
use super::seal::Row;
use super::verify::Damage;
use super::{Action, ApplyError, Inner, KeyringView, Keyrings, Permit, UnlockError};
use crate::clock::Wall;
use crate::names::{KeyVersionId, KeyringName};

/// What all sidecars counted of one key version: upper bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Values sealed.
    pub messages: u64,
    /// Bytes of plaintext sealed.
    pub bytes: u64,
    /// The end of the last day on which one was opened; None if none ever was.
    pub opened: Option<Wall>,
}

impl Keyrings {
    /// At most `limit` keyrings whose name stands after `after`, with what was counted of their versions.
    pub async fn inventory(
        &self,
        permit: &Permit,
        after: Option<&KeyringName>,
        limit: usize,
    ) -> Result<Vec<(Arc<KeyringView>, Vec<Used>)>, UnlockError> {
        if permit.action() != Action::InventoryRead {
            return Err(UnlockError::NotCovered);
        }
        let open = self.inner.opened()?;
        let mut counted = Vec::new();
        for view in self.views(&open, after, limit).await? {
            let mut used = Vec::with_capacity(view.versions.len());
            for version in &view.versions {
                used.push(self.inner.used(&open, version.id).await?);
            }
            counted.push((view, used));
        }
        Ok(counted)
    }
}

impl Inner {
    /// What all sidecars counted of a key.
    pub(super) async fn used(&self, open: &Open, id: KeyVersionId) -> Result<Used, ApplyError> {
        let mut used = Used::default();
        for row in self.writer.usage(Some(id)).await? {
            let what = || format!("what sidecar {} counted of key {id}", hex::encode(row.sidecar.0));
            open.system.rows.verify(Row::Usage(&row)).map_err(|_| Damage::of(what(), "its seal does not verify"))?;
            let body: UsageBody = bodies::decode(&row.body).map_err(|why| Damage::unreadable(what(), why))?;
            used.messages = used.messages.saturating_add(body.messages);
            used.bytes = used.bytes.saturating_add(body.bytes);
            used.opened = used.opened.max(end_of(body.opened));
        }
        Ok(used)
    }
}

/// What was opened in the last second of a day counts in full.
fn end_of(day: u32) -> Option<Wall> {
    (day > 0).then(|| Wall(u64::from(day).saturating_add(1).saturating_mul(DAY)))
}

/// In microseconds.
const DAY: u64 = 86_400_000_000;
