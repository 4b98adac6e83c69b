//! `seal`: plaintext fields become sealed values under the active version of a keyring.

use crate::names::{Context, KeyringName};
use crate::secret::SecretBytes;

use super::ItemError;

/// A request to seal; items that the wire format already refused keep their place.
pub struct Seal {
    /// The keyring to seal under.
    pub keyring: KeyringName,
    /// The items in the caller's order.
    pub items: Vec<Result<SealItem, ItemError>>,
}

/// One plaintext with its complete context (the request's shared pairs merged in).
pub struct SealItem {
    /// Where the value will live.
    pub context: Context,
    /// The plaintext.
    pub plaintext: SecretBytes,
}
