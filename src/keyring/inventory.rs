//! Which keys are there, and how much was each used? For reports: by name, page by page, without key material.

use std::sync::Arc;

use super::usage::Tally;
use super::{Action, KeyringView, Keyrings, Permit, UnlockError};
use crate::names::KeyringName;

impl Keyrings {
    /// At most `limit` keyrings whose name stands after `after`, with what all sidecars counted of their versions, in
    /// their order, and then of those of their look-up keys.
    pub async fn inventory(
        &self,
        permit: &Permit,
        after: Option<&KeyringName>,
        limit: usize,
    ) -> Result<Vec<(Arc<KeyringView>, Vec<Tally>)>, UnlockError> {
        if permit.action() != Action::InventoryRead {
            return Err(UnlockError::NotCovered);
        }
        let open = self.inner.opened()?;
        let mut counted = Vec::new();
        for view in self.views(&open, after, limit).await? {
            let mut used = Vec::with_capacity(view.versions.len());
            let of_lookups = view.lookups.iter().flat_map(|lookup| &lookup.versions).map(|one| &one.version);
            for version in view.versions.iter().chain(of_lookups) {
                used.push(self.inner.usage(version.id).await?);
            }
            counted.push((view, used));
        }
        Ok(counted)
    }
}
