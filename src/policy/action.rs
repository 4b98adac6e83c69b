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
    /// Open what a suspended version sealed, or one that waits to be destroyed.
    OpenSuspended,
    /// Open what a compromised version sealed.
    OpenCompromised,
    /// Move sealed values to the active version; no plaintext leaves.
    Rewrap,
    /// Make a keyring.
    KeyringCreate,
    /// Give a keyring a new active version.
    KeyringRotate,
    /// Change the limits of a keyring.
    KeyringConfigure,
    /// Give a look-up key its first version or its next.
    LookupRotate,
    /// Suspend a key version.
    KeySuspend,
    /// Let a suspended key version be used again.
    KeyResume,
    /// Let a key version only open from now on.
    KeyDeactivate,
    /// Mark a key version as compromised.
    KeyCompromise,
    /// Schedule, cancel and carry out the destruction of a key version.
    KeyDestroy,
    /// Wrap keys under another version of a key-encryption key, and retire the old one.
    KeysRewrap,
    /// Shred a partition of a keyring.
    PartitionShred,
    /// Read the inventory of all keys.
    InventoryRead,
    /// List keyrings.
    KeyringList,
    /// Show one keyring.
    KeyringShow,
    /// Read the audit log (tail).
    AuditRead,
    /// Ask the log about a subject.
    AuditLookup,
    /// Propose a ceremony.
    CeremonyPropose,
    /// Approve, deny, withdraw or review: the signature says who.
    CeremonyDecide,
    /// Carry out what enough people have approved.
    CeremonyExecute,
    /// Read ceremonies, their minutes, the roster and the grants.
    CeremonyRead,
    /// Put the first roster of custodians in force.
    CustodyFound,
    /// Revoke a custodian's key, at once.
    CustodianRevoke,
    /// End a grant before its time.
    GrantEnd,
    /// Stop a principal, a keyring or the sidecar, at once.
    LockEngage,
    /// Lift such a lock while there are no custodians, who decide it together.
    LockRelease,
    /// Put the policy files of the directory in force.
    PolicyReload,
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Keyring,
    Sidecar,
}

impl Action {
    /// All actions.
    pub const ALL: &[Self] = &[
        Self::Seal,
        Self::Open,
        Self::OpenSuspended,
        Self::OpenCompromised,
        Self::Rewrap,
        Self::KeyringCreate,
        Self::KeyringRotate,
        Self::KeyringConfigure,
        Self::LookupRotate,
        Self::KeySuspend,
        Self::KeyResume,
        Self::KeyDeactivate,
        Self::KeyCompromise,
        Self::KeyDestroy,
        Self::KeysRewrap,
        Self::PartitionShred,
        Self::InventoryRead,
        Self::KeyringList,
        Self::KeyringShow,
        Self::AuditRead,
        Self::AuditLookup,
        Self::CeremonyPropose,
        Self::CeremonyDecide,
        Self::CeremonyExecute,
        Self::CeremonyRead,
        Self::CustodyFound,
        Self::CustodianRevoke,
        Self::GrantEnd,
        Self::LockEngage,
        Self::LockRelease,
        Self::PolicyReload,
    ];

    /// The name in Cedar policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::OpenSuspended => "openSuspended",
            Self::OpenCompromised => "openCompromised",
            Self::Rewrap => "rewrap",
            Self::KeyringCreate => "keyringCreate",
            Self::KeyringRotate => "keyringRotate",
            Self::KeyringConfigure => "keyringConfigure",
            Self::LookupRotate => "lookupRotate",
            Self::KeySuspend => "keySuspend",
            Self::KeyResume => "keyResume",
            Self::KeyDeactivate => "keyDeactivate",
            Self::KeyCompromise => "keyCompromise",
            Self::KeyDestroy => "keyDestroy",
            Self::KeysRewrap => "keysRewrap",
            Self::PartitionShred => "partitionShred",
            Self::InventoryRead => "inventoryRead",
            Self::KeyringList => "keyringList",
            Self::KeyringShow => "keyringShow",
            Self::AuditRead => "auditRead",
            Self::AuditLookup => "auditLookup",
            Self::CeremonyPropose => "ceremonyPropose",
            Self::CeremonyDecide => "ceremonyDecide",
            Self::CeremonyExecute => "ceremonyExecute",
            Self::CeremonyRead => "ceremonyRead",
            Self::CustodyFound => "custodyFound",
            Self::CustodianRevoke => "custodianRevoke",
            Self::GrantEnd => "grantEnd",
            Self::LockEngage => "lockEngage",
            Self::LockRelease => "lockRelease",
            Self::PolicyReload => "policyReload",
        }
    }

    pub(super) const fn resource(self) -> Resource {
        match self {
            Self::Seal
            | Self::Open
            | Self::OpenSuspended
            | Self::OpenCompromised
            | Self::Rewrap
            | Self::KeyringCreate
            | Self::KeyringRotate
            | Self::KeyringConfigure
            | Self::LookupRotate
            | Self::KeySuspend
            | Self::KeyResume
            | Self::KeyDeactivate
            | Self::KeyCompromise
            | Self::KeyDestroy
            | Self::PartitionShred
            | Self::KeyringShow => Resource::Keyring,
            Self::KeysRewrap
            | Self::KeyringList
            | Self::InventoryRead
            | Self::AuditRead
            | Self::AuditLookup
            | Self::CeremonyPropose
            | Self::CeremonyDecide
            | Self::CeremonyExecute
            | Self::CeremonyRead
            | Self::CustodyFound
            | Self::CustodianRevoke
            | Self::GrantEnd
            | Self::LockEngage
            | Self::LockRelease
            | Self::PolicyReload => Resource::Sidecar,
        }
    }

    /// Whether it is done to a keyring; otherwise to the sidecar itself.
    pub const fn on_keyring(self) -> bool {
        matches!(self.resource(), Resource::Keyring)
    }

    /// Whether it changes keys, and so needs an Authority.
    pub const fn changes_keys(self) -> bool {
        match self {
            Self::KeyringCreate
            | Self::KeyringRotate
            | Self::KeyringConfigure
            | Self::LookupRotate
            | Self::KeySuspend
            | Self::KeyResume
            | Self::KeyDeactivate
            | Self::KeyCompromise
            | Self::KeyDestroy
            | Self::KeysRewrap
            | Self::PartitionShred => true,
            Self::Seal
            | Self::Open
            | Self::OpenSuspended
            | Self::OpenCompromised
            | Self::Rewrap
            | Self::KeyringList
            | Self::KeyringShow
            | Self::InventoryRead
            | Self::AuditRead
            | Self::AuditLookup
            | Self::CeremonyPropose
            | Self::CeremonyDecide
            | Self::CeremonyExecute
            | Self::CeremonyRead
            | Self::CustodyFound
            | Self::CustodianRevoke
            | Self::GrantEnd
            | Self::LockEngage
            | Self::LockRelease
            | Self::PolicyReload => false,
        }
    }

    /// Whether plaintext comes out of it: then it needs a purpose.
    pub const fn opens(self) -> bool {
        matches!(self, Self::Open | Self::OpenSuspended | Self::OpenCompromised)
    }

    /// The rule that it is an exception to. An exception needs both, and only a `permit` that names it: one for every
    /// action was not written with it in mind.
    pub(super) const fn excepts(self) -> Option<Self> {
        match self {
            Self::OpenSuspended | Self::OpenCompromised => Some(Self::Open),
            _ => None,
        }
    }

    /// Whether keyward may do it without a person, where the configuration that is in force foresees it.
    pub(super) const fn foreseen(self) -> bool {
        matches!(self, Self::KeyringRotate | Self::KeysRewrap)
    }
}

impl FromStr for Action {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|action| action.name() == text).ok_or(NameError::of("the action"))
    }
}
