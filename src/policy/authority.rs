//! The Authority that changes to keys need. A leaf file: only `policy` can build one.

use super::{Action, Permit};
use crate::clock::Deadline;
use crate::names::KeyringName;

/// What allows a change to keys. Quorums join it when ceremonies exist.
#[must_use]
#[derive(Debug)]
pub enum Authority {
    /// Before the first custodian is enrolled.
    Founding(Founding),
}

impl Authority {
    /// Whether it is for this action on this keyring.
    pub fn covers(&self, action: Action, keyring: &KeyringName) -> bool {
        let Self::Founding(founding) = self;
        founding.permit.action() == action && founding.permit.keyring() == Some(keyring)
    }

    /// Until when the change must be done.
    pub const fn deadline(&self) -> Deadline {
        let Self::Founding(founding) = self;
        founding.permit.deadline()
    }
}

/// The authority of the founding time; recorded as such.
#[derive(Debug)]
pub struct Founding {
    permit: Permit,
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
