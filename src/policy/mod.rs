//! Who may do what? Cedar decides; a yes is a Permit, and nothing else mints one.
//! This module does no IO beyond what `load` is given as text, and never sees a key or a plaintext.

mod authority;
mod permit;

use std::sync::Arc;

use crate::clock::{Deadline, Wall};
use crate::identity::Principal;
use crate::names::{KeyringName, Purpose, RequestId};

pub use authority::{Authority, Founding};
pub use permit::{Permit, PermitPairs};

/// Every action that policy knows; a closed list, named in the Cedar schema and in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

/// Everything a decision depends on.
pub struct Ask<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// What.
    pub action: Action,
    /// On which keyring; None for actions on the sidecar itself (list, audit).
    pub keyring: Option<&'a KeyringName>,
    /// The context pairs whose keys [`Policy::context_keys`] names, sorted; others never reach policy.
    pub pairs: &'a [(&'a str, &'a str)],
    /// Why (opening).
    pub purpose: Option<Purpose>,
    /// The request.
    pub request: &'a RequestId,
    /// When it must be answered.
    pub deadline: Deadline,
    /// UTC now.
    pub now: Wall,
}

/// A no, with its reason for the record; the caller hears only `denied` (or that a purpose is missing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
}

/// Why policy said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// No policy permits it.
    NoPermit,
    /// A `forbid` policy matched.
    Forbidden,
    /// Opening without a purpose of use.
    PurposeMissing,
    /// A policy failed to evaluate: counts as no.
    EvaluationError,
}

/// A validated, loaded policy set with its decision cache. Replaced whole, never edited.
pub struct Policy {}

/// The part's settings: the files as text, so that this module stays free of IO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `(file name, Cedar text)` of every policy file.
    pub documents: Vec<(String, String)>,
    /// Context keys that policies may name as `context.fields.KEY`; each becomes an optional String of the schema.
    pub context_keys: Vec<String>,
    /// Every configured principal, so that a policy naming an unknown one is reported.
    pub principals: Vec<(crate::names::PrincipalName, crate::identity::PrincipalKind)>,
}

/// Why a policy set was refused: every problem at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy set is refused: {}", problems.join("; "))]
pub struct PolicyError {
    /// `file:line: what` for people.
    pub problems: Vec<String>,
}

impl Policy {
    /// Parses, validates strictly against the schema and slices a policy set.
    pub fn load(_settings: &Settings) -> Result<Arc<Self>, PolicyError> {
        todo!()
    }

    /// SHA-256 over the canonical set; stands in every record.
    pub fn digest(&self) -> [u8; 32] {
        todo!()
    }

    /// The context keys that policy looks at, sorted: items are grouped by their values.
    pub fn context_keys(&self) -> &[String] {
        todo!()
    }

    /// Decides. Pure but for the cache; a cached and an uncached decision are equal.
    pub fn decide(&self, _ask: &Ask<'_>) -> Result<Permit, Denial> {
        todo!()
    }

    /// The authority for changes before the first custodian exists: needs a Permit for the same control action.
    pub fn founding(&self, _permit: Permit) -> Result<Authority, Denial> {
        todo!()
    }
}
