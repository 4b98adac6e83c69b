//! What is authenticated with a value and not stored in it: its header and the place it belongs to (ENV-20 to ENV-25).

use super::Header;
use crate::crypto::{KeyClass, canonical};

/// The whole canonical context, in bytes (ENV-21).
pub const MAX_AAD_BYTES: usize = 8 * 1024;
/// The pair that keyward sets in every context (ENV-22): `tenant/name` of the keyring.
pub const KEYRING_KEY: &str = "kw.keyring";
/// In a value of a document (ENV-25): the root resource, then each contained level.
pub const RESOURCE_KEY: &str = "resource";
/// In a value of a document (ENV-25): the element's path from that resource.
pub const PATH_KEY: &str = "path";

/// Why pairs are no context. The first two are mistakes of the program, not of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AadError {
    /// Keys are not in strictly ascending order of their bytes, so one may be given twice.
    #[error("the context is not sorted or names a key twice")]
    Unsorted,
    /// The keyring is not among the pairs.
    #[error("the context does not name the keyring")]
    NoKeyring,
    /// A key is empty.
    #[error("a context key is empty")]
    EmptyKey,
    /// More than 64 pairs, or more than [`MAX_AAD_BYTES`].
    #[error("the context is larger than 64 pairs or {MAX_AAD_BYTES} bytes")]
    TooLarge,
}

/// The canonical context, which is given again to open and never stored (ENV-23), under the label `keyward/aad/v1` (ENV-20). The pairs are checked, not sorted: they come from a
/// type that is sorted by contract.
pub fn aad<'a>(header: &Header, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Vec<u8>, AadError> {
    let mut checks = Checks::default();
    let pairs = pairs.into_iter().inspect(|(key, value)| checks.see(key, value));
    let encoded = canonical::encode(LABEL, &header.encode(), pairs.take(canonical::MAX_PAIRS.saturating_add(1)));
    checks.verdict(header.class())?;
    encoded.filter(|aad| aad.len() <= MAX_AAD_BYTES).ok_or(AadError::TooLarge)
}

const LABEL: &str = "keyward/aad/v1";

/// What one pass over the pairs shows.
#[derive(Default)]
struct Checks<'a> {
    last: Option<&'a [u8]>,
    unsorted: bool,
    empty_key: bool,
    keyring: bool,
}

impl<'a> Checks<'a> {
    fn see(&mut self, key: &'a [u8], value: &[u8]) {
        self.unsorted |= self.last.is_some_and(|last| last >= key);
        self.empty_key |= key.is_empty();
        self.keyring |= key == KEYRING_KEY.as_bytes() && !value.is_empty();
        self.last = Some(key);
    }

    fn verdict(&self, class: KeyClass) -> Result<(), AadError> {
        if self.unsorted {
            return Err(AadError::Unsorted);
        }
        if self.empty_key {
            return Err(AadError::EmptyKey);
        }
        // ENV-22: keyward's own values (the store, the log) belong to no keyring.
        if !self.keyring && class != KeyClass::System {
            return Err(AadError::NoKeyring);
        }
        Ok(())
    }
}
