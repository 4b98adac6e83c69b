//! The Authority that changes to keys need. A leaf file: only `policy` can build one.

use super::{Action, Permit};
use crate::clock::Deadline;
use crate::names::{KeyringName, PrincipalName};

/// What allows a change to keys. Quorums join it when ceremonies exist.
#[must_use]
#[derive(Debug)]
pub enum Authority {
    /// Before the first custodian is enrolled.
    Founding(Founding),
    /// What approved policy foresees, done without a person.
    Standing(Standing),
    /// What using a keyring brings with it.
    OnUse(OnUse),
}

/// The authority of the founding time; recorded as such.
#[derive(Debug)]
pub struct Founding {
    permit: Permit,
}

/// The authority of a job: scheduled rotation and rewrapping. It opens nothing and destroys nothing.
#[derive(Debug)]
pub struct Standing {
    action: Action,
    keyring: Option<KeyringName>,
    deadline: Deadline,
}

/// The authority of whoever may seal under a keyring: where it has partitions, sealing for a new one makes its key. It
/// changes nothing that is there.
#[derive(Debug)]
pub struct OnUse {
    keyring: KeyringName,
    principal: PrincipalName,
    deadline: Deadline,
}

impl Authority {
    /// What it allows.
    pub const fn action(&self) -> Action {
        match self {
            Self::Founding(founding) => founding.permit.action(),
            Self::Standing(standing) => standing.action,
            Self::OnUse(_) => Action::Seal,
        }
    }

    /// On which keyring; None for actions on the sidecar itself.
    pub const fn keyring(&self) -> Option<&KeyringName> {
        match self {
            Self::Founding(founding) => founding.permit.keyring(),
            Self::Standing(standing) => standing.keyring.as_ref(),
            Self::OnUse(on_use) => Some(&on_use.keyring),
        }
    }

    /// Whether it is for this action on this keyring.
    pub fn covers(&self, action: Action, keyring: &KeyringName) -> bool {
        self.action() == action && self.keyring() == Some(keyring)
    }

    /// Until when the change must be done.
    pub const fn deadline(&self) -> Deadline {
        match self {
            Self::Founding(founding) => founding.permit.deadline(),
            Self::Standing(standing) => standing.deadline,
            Self::OnUse(on_use) => on_use.deadline,
        }
    }

    /// Who acts; None is keyward itself.
    pub const fn principal(&self) -> Option<&PrincipalName> {
        match self {
            Self::Founding(founding) => Some(founding.permit.principal()),
            Self::Standing(_) => None,
            Self::OnUse(on_use) => Some(&on_use.principal),
        }
    }

    /// The closed code for records.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Founding(_) => "founding",
            Self::Standing(_) => "standing",
            Self::OnUse(_) => "on_use",
        }
    }
}

impl Founding {
    pub(super) const fn mint(permit: Permit) -> Self {
        Self { permit }
    }

    /// The permit that this authority rests on.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Standing {
    pub(super) const fn mint(action: Action, keyring: Option<KeyringName>, deadline: Deadline) -> Self {
        Self { action, keyring, deadline }
    }
}

impl OnUse {
    pub(super) const fn mint(keyring: KeyringName, principal: PrincipalName, deadline: Deadline) -> Self {
        Self { keyring, principal, deadline }
    }
}
