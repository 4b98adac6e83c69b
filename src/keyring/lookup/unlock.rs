//! How does a Permit become the keys of a look-up? Both live versions, through the same cache and leases as data keys.

use std::sync::Arc;

use super::Lookup;
use crate::keyring::cache::Slot;
use crate::keyring::life::Role;
use crate::keyring::rings::Ring;
use crate::keyring::{Inner, KeyState, Keyrings, UnlockError};
use crate::names::{KeyVersionId, LookupName};
use crate::policy::{Action, Permit};

/// The live versions of a look-up key, under the permit that they were unlocked with.
#[must_use]
pub struct LookupKeys<'p> {
    _permit: &'p Permit,
    /// Why nothing is written, where there is none.
    current: Result<LookupKey, KeyState>,
    previous: Option<LookupKey>,
}

impl LookupKeys<'_> {
    /// The version that writes; an error where the newest is suspended or compromised, however live the one before is.
    pub fn current(&self) -> Result<&LookupKey, UnlockError> {
        self.current.as_ref().map_err(|state| UnlockError::State(*state))
    }

    /// The versions that match, the newest first; there is one at least.
    pub fn live(&self) -> impl Iterator<Item = &LookupKey> {
        self.current.as_ref().ok().into_iter().chain(&self.previous)
    }
}

/// One version of a look-up key.
pub struct LookupKey {
    number: u32,
    id: KeyVersionId,
    slot: Arc<Slot>,
}

impl LookupKey {
    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Its id.
    pub const fn id(&self) -> KeyVersionId {
        self.id
    }

    /// HMAC-SHA-256 of canonical bytes under the subkey of its use: equal for equal bytes as long as the version lives.
    pub fn tag(&self, canonical: &[u8]) -> Result<[u8; 32], UnlockError> {
        self.slot.lookup().map(|key| key.tag(&[canonical])).ok_or(UnlockError::Unknown)
    }
}

impl Keyrings {
    /// The live versions of a look-up key of the permit's keyring, for whoever may seal or open there: writing a value
    /// that is looked up and looking it up compute the same.
    pub async fn unlock_lookup<'p>(
        &self,
        permit: &'p Permit,
        name: &LookupName,
    ) -> Result<LookupKeys<'p>, UnlockError> {
        if !matches!(permit.action(), Action::Seal | Action::Open) {
            return Err(UnlockError::NotCovered);
        }
        let keyring = permit.keyring().ok_or(UnlockError::NotCovered)?;
        let open = self.inner.opened()?;
        let ring = self.inner.ring(&open, keyring).await?.ok_or(UnlockError::Unknown)?;
        let of_name: Vec<&Lookup> = ring.lookups.iter().filter(|lookup| lookup.name == *name).collect();
        let newest = of_name.last().ok_or(UnlockError::Unknown)?;
        let in_role = |wanted| {
            let role = move |lookup: &&&Lookup| {
                Role::of(lookup.number, newest.number, lookup.version.view.state) == Some(wanted)
            };
            of_name.iter().find(role).copied()
        };
        let current = match in_role(Role::Current) {
            Some(lookup) => Ok(self.inner.lookup_key(permit, &ring, lookup).await?),
            None => Err(newest.version.view.acting()),
        };
        let previous = match in_role(Role::Previous) {
            Some(lookup) => Some(self.inner.lookup_key(permit, &ring, lookup).await?),
            None => None,
        };
        match (&current, &previous) {
            (Err(state), None) => Err(UnlockError::State(*state)),
            _ => Ok(LookupKeys { _permit: permit, current, previous }),
        }
    }
}

impl Inner {
    /// From the cache or the KEK; the day of the use is noted, since a version in use is not destroyed.
    async fn lookup_key(
        self: &Arc<Self>,
        permit: &Permit,
        ring: &Ring,
        lookup: &Lookup,
    ) -> Result<LookupKey, UnlockError> {
        let Lookup { number, version, .. } = lookup;
        let slot = self.data_key(ring, version, permit.deadline()).await?;
        self.note_opening(&slot, (ring, version.view.id));
        Ok(LookupKey { number: *number, id: version.view.id, slot })
    }
}
