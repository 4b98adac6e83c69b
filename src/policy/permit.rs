//! The Permit: proof that policy allowed one action on one keyring for one request. A leaf file: only `policy` can build one.

use crate::clock::Deadline;
use crate::names::{KeyringName, PrincipalName, Purpose, RequestId};

use super::Action;

/// The policy-relevant context pairs that a permit pins: a key used under it binds them into every value.
pub type PermitPairs = Vec<(Box<str>, Box<str>)>;

/// Permission for one action. Not Clone, not Default: one decision, one permit.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    principal: PrincipalName,
    action: Action,
    keyring: Option<KeyringName>,
    purpose: Option<Purpose>,
    pairs: PermitPairs,
    request: RequestId,
    deadline: Deadline,
}

impl Permit {
    pub(super) const fn mint(
        principal: PrincipalName,
        action: Action,
        keyring: Option<KeyringName>,
        purpose: Option<Purpose>,
        pairs: PermitPairs,
        request: RequestId,
        deadline: Deadline,
    ) -> Self {
        Self { principal, action, keyring, purpose, pairs, request, deadline }
    }

    /// Who is permitted.
    pub const fn principal(&self) -> &PrincipalName {
        &self.principal
    }

    /// What is permitted.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// On which keyring.
    pub const fn keyring(&self) -> Option<&KeyringName> {
        self.keyring.as_ref()
    }

    /// For which purpose.
    pub const fn purpose(&self) -> Option<Purpose> {
        self.purpose
    }

    /// The context pairs that the decision relied on.
    pub fn pairs(&self) -> &[(Box<str>, Box<str>)] {
        &self.pairs
    }

    /// For which request.
    pub const fn request(&self) -> &RequestId {
        &self.request
    }

    /// Until when.
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }
}
