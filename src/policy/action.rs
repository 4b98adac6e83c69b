//! What can be asked for? The closed list of actions, the same in the Cedar schema and in records.

use std::str::FromStr;

use crate::names::NameError;

/// Every action that policy knows; a closed list, named in the Cedar schema and in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Seal values under a keyring.
    Seal,
    /// Open values of a keyring.
    Open,
    /// Make a keyring.
    KeyringCreate,
    /// List keyrings.
    KeyringList,
    /// Show one keyring.
    KeyringShow,
    /// Read the audit log (tail).
    AuditRead,
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Keyring,
    Sidecar,
}

impl Action {
    /// All actions.
    pub const ALL: &[Self] =
        &[Self::Seal, Self::Open, Self::KeyringCreate, Self::KeyringList, Self::KeyringShow, Self::AuditRead];

    /// The name in Cedar policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::KeyringCreate => "keyringCreate",
            Self::KeyringList => "keyringList",
            Self::KeyringShow => "keyringShow",
            Self::AuditRead => "auditRead",
        }
    }

    pub(super) const fn resource(self) -> Resource {
        match self {
            Self::Seal | Self::Open | Self::KeyringCreate | Self::KeyringShow => Resource::Keyring,
            Self::KeyringList | Self::AuditRead => Resource::Sidecar,
        }
    }
}

impl FromStr for Action {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|action| action.name() == text).ok_or(NameError::of("the action"))
    }
}
