//! The Authority that changes to keys need. A leaf file: only `policy` can build one.

use super::quorum::Quorum;
use super::{Action, Permit};
use crate::clock::Deadline;
use crate::names::{KeyringName, PrincipalName};

/// What allows a change to keys.
#[must_use]
#[derive(Debug)]
pub enum Authority {
    /// Before the first custodian is enrolled.
    Founding(Founding),
    /// What approved policy foresees, done without a person.
    Standing(Standing),
    /// What using a keyring brings with it.
    OnUse(OnUse),
    /// What custodians decided together.
    Quorum(Sworn),
    /// What one authorised person may do where custodians are: take away, and carry out what was decided.
    Alone(Alone),
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

/// The authority of a quorum over one proposal. It is spent with its first use, in the same transaction.
#[derive(Debug)]
pub struct Sworn {
    quorum: Quorum,
    action: Action,
    executor: PrincipalName,
    spends: Spends,
    deadline: Deadline,
}

/// The document that says that a proposal is executed, to be written with the effect: the next execution finds another
/// generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spends {
    /// The id of the ceremony.
    pub ceremony: String,
    /// The name of its document.
    pub name: String,
    /// The generation that it has.
    pub generation: u64,
    /// What it will say.
    pub body: String,
    /// Documents that it was counted by, with the generation that each had; 0 of one that was not there. Where another
    /// sidecar has changed one of them since, the count is void.
    pub rests_on: Vec<(String, u64)>,
}

/// The authority of one person in the safe direction.
#[derive(Debug)]
pub struct Alone {
    permit: Permit,
}

impl Authority {
    /// What it allows.
    pub const fn action(&self) -> Action {
        match self {
            Self::Founding(founding) => founding.permit.action(),
            Self::Standing(standing) => standing.action,
            Self::OnUse(_) => Action::Seal,
            Self::Quorum(sworn) => sworn.action,
            Self::Alone(alone) => alone.permit.action(),
        }
    }

    /// On which keyring; None for actions on the sidecar itself.
    pub const fn keyring(&self) -> Option<&KeyringName> {
        match self {
            Self::Founding(founding) => founding.permit.keyring(),
            Self::Standing(standing) => standing.keyring.as_ref(),
            Self::OnUse(on_use) => Some(&on_use.keyring),
            Self::Quorum(sworn) => sworn.quorum.keyring(),
            Self::Alone(alone) => alone.permit.keyring(),
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
            Self::Quorum(sworn) => sworn.deadline,
            Self::Alone(alone) => alone.permit.deadline(),
        }
    }

    /// Who acts; None is keyward itself.
    pub const fn principal(&self) -> Option<&PrincipalName> {
        match self {
            Self::Founding(founding) => Some(founding.permit.principal()),
            Self::Standing(_) => None,
            Self::OnUse(on_use) => Some(&on_use.principal),
            Self::Quorum(sworn) => Some(&sworn.executor),
            Self::Alone(alone) => Some(alone.permit.principal()),
        }
    }

    /// The closed code for records.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Founding(_) => "founding",
            Self::Standing(_) => "standing",
            Self::OnUse(_) => "on_use",
            Self::Quorum(_) => "quorum",
            Self::Alone(_) => "one_person",
        }
    }

    /// What is written with the first use of it; None where nothing is spent.
    pub const fn spends(&self) -> Option<&Spends> {
        match self {
            Self::Quorum(sworn) => Some(&sworn.spends),
            Self::Founding(_) | Self::Standing(_) | Self::OnUse(_) | Self::Alone(_) => None,
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

/// What policy calls the effect of a ceremony's action; None of one that this build cannot bring about.
pub(super) fn effect_of(action: &str) -> Option<Action> {
    Some(match action {
        "keyring.create" => Action::KeyringCreate,
        "keyring.rotate" | "key.activate" => Action::KeyringRotate,
        "keyring.configure" => Action::KeyringConfigure,
        "lookup.create" | "lookup.rotate" => Action::LookupRotate,
        "key.suspend" => Action::KeySuspend,
        "key.resume" => Action::KeyResume,
        "key.deactivate" | "lookup.retire" => Action::KeyDeactivate,
        "key.compromise" => Action::KeyCompromise,
        "key.destroy" => Action::KeyDestroy,
        "partition.shred" => Action::PartitionShred,
        "kek.retire" => Action::KeysRewrap,
        "kek.rotate"
        | "custodian.enrol"
        | "custodian.remove"
        | "custodian.recertify"
        | "settings.change"
        | "sidecar.unlock"
        | "log.rotate-key"
        | "escrow.change"
        | "sink.change"
        | "retention.change"
        | "grant.give"
        | "grant.extend"
        | "break-glass.open"
        | "store.backup"
        | "store.restore" => Action::CeremonyExecute,
        _ => return None,
    })
}

impl Sworn {
    pub(super) const fn mint(
        quorum: Quorum,
        action: Action,
        executor: PrincipalName,
        spends: Spends,
        deadline: Deadline,
    ) -> Self {
        Self { quorum, action, executor, spends, deadline }
    }

    /// The people and what they decided.
    pub const fn quorum(&self) -> &Quorum {
        &self.quorum
    }
}

impl Alone {
    pub(super) const fn mint(permit: Permit) -> Self {
        Self { permit }
    }
}
