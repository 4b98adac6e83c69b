//! What does each control verb do? Keyring changes and reads under a Permit or an Authority.
//! This module never decides who may.

use crate::crypto::Suite;
use crate::names::KeyringName;

/// A request to make a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKeyring {
    /// Its name.
    pub name: KeyringName,
    /// Context keys that every value must carry.
    pub required_context: Vec<String>,
    /// The context key that names the patient; must be one of the required ones.
    pub subject_key: Option<String>,
    /// The suite of its values.
    pub suite: Suite,
}
