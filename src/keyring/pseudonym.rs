//! Who is this subject in the log? A keyed digest: equal for equal subjects of a tenant and epoch, and unlinkable otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::crypto::{CryptoError, DataKey, MacKey, canonical};
use crate::names::Tenant;
use crate::secret::SecretBytes;

/// Tenants whose subkeys are kept; beyond it a subkey is derived at each use. Each one takes a slot of locked memory.
const KEPT: usize = 64;

const TENANTS: &str = "keyward/v1/pseudonym-tenant";
const SUBJECTS: &str = "keyward/v1/pseudonym";

/// The pseudonym key of one epoch and the subkeys derived from it.
pub(super) struct Pseudonyms {
    base: MacKey,
    epoch: u32,
    tenants: ArcSwap<HashMap<Tenant, Arc<MacKey>>>,
}

impl Pseudonyms {
    pub(super) fn new(key: &DataKey, epoch: u32) -> Result<Self, CryptoError> {
        Ok(Self { base: MacKey::derive(key, TENANTS)?, epoch, tenants: ArcSwap::default() })
    }

    /// HMAC-SHA-256 under the tenant's subkey, cut to 128 bits.
    pub(super) fn of(&self, tenant: &Tenant, subject: &str) -> Result<[u8; 16], CryptoError> {
        let input = canonical::encode(SUBJECTS, &[], [(&b"subject"[..], subject.as_bytes())]).ok_or(CryptoError)?;
        let tag = self.subkey(tenant)?.tag(&[&input]);
        tag.first_chunk().copied().ok_or(CryptoError)
    }

    fn subkey(&self, tenant: &Tenant) -> Result<Arc<MacKey>, CryptoError> {
        if let Some(kept) = self.tenants.load().get(tenant) {
            return Ok(Arc::clone(kept));
        }
        let made = Arc::new(self.derive(tenant)?);
        // Two callers may derive the same subkey at once; either copy serves.
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            if tenants.len() < KEPT {
                tenants.insert(tenant.clone(), Arc::clone(&made));
            }
            tenants
        });
        Ok(made)
    }

    fn derive(&self, tenant: &Tenant) -> Result<MacKey, CryptoError> {
        let epoch = self.epoch.to_be_bytes();
        let pairs = [(&b"epoch"[..], &epoch[..]), (b"tenant", tenant.as_str().as_bytes())];
        let tag = self.base.tag(&[&canonical::encode(TENANTS, &[], pairs).ok_or(CryptoError)?]);
        MacKey::derive(&DataKey::from_secret(&SecretBytes::new(tag.to_vec()))?, SUBJECTS)
    }
}
