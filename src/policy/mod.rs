//! Who may do what? Cedar decides; a yes is a Permit, and nothing else mints one.
//! This module does no IO beyond what `load` is given as text, and never sees a key or a plaintext.
//!
//! Why the answer to equal requests is kept for a second: one evaluation over twenty policies costs more than all
//! the rest of a request. What is kept is the answer to the complete request, never to a part of it (`cache`).

mod action;
pub mod approval;
mod authority;
mod cache;
mod check;
mod documents;
mod explain;
mod grant;
pub mod json;
mod judge;
mod lint;
mod permit;
pub mod quorum;
pub mod roster;
mod schema;
pub mod separation;
mod slices;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Deadline, Mono, Wall};
use crate::crypto::{canonical, sha256};
use crate::identity::{Principal, PrincipalKind};
use crate::names::{KeyringName, PrincipalName, Purpose, RequestId};

pub use action::Action;
pub use approval::VerifiedDecision;
pub use authority::{Alone, Authority, Founding, OnUse, Spends, Standing, Sworn};
pub use check::{FileReport, Report, check};
pub use explain::{Explained, Question, Rule, proof_of};
pub use grant::GrantKind;
pub use permit::{Permit, PermitPairs};
pub use quorum::Quorum;
pub use schema::schema_text;
pub use table::{CaseFailure, TableError, TableReport, run_table, time_of};

use cache::Decisions;
use documents::Documents;
use judge::{Judge, Query};

/// Everything a decision depends on.
pub struct Ask<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// What.
    pub action: Action,
    /// On which keyring; None for actions on the sidecar itself (list, audit).
    pub keyring: Option<&'a KeyringName>,
    /// The context pairs whose keys [`Policy::context_keys`] names, sorted by key; others never reach policy.
    pub pairs: &'a [(&'a str, &'a str)],
    /// Why (opening).
    pub purpose: Option<Purpose>,
    /// The grant of this principal that is in force for the keyring and purpose; None for actions on the sidecar itself.
    pub grant: Option<GrantKind>,
    /// The request.
    pub request: &'a RequestId,
    /// When it must be answered.
    pub deadline: Deadline,
    /// UTC now, for policies that name time.
    pub now: Wall,
    /// The boot-time clock now, for the lifetime of cached decisions.
    pub mono: Mono,
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

impl DenialReason {
    /// All reasons.
    pub const ALL: &[Self] = &[Self::NoPermit, Self::Forbidden, Self::PurposeMissing, Self::EvaluationError];

    /// The closed code for records and table tests.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoPermit => "no_permit",
            Self::Forbidden => "forbidden",
            Self::PurposeMissing => "purpose_missing",
            Self::EvaluationError => "evaluation_error",
        }
    }
}

/// A validated, loaded policy set with its decision cache. Replaced whole, never edited.
pub struct Policy {
    judge: Judge,
    documents: Documents,
    digest: [u8; 32],
    context_keys: Vec<String>,
    principals: Vec<(PrincipalName, PrincipalKind)>,
    decisions: Decisions,
    epoch: AtomicU64,
    evaluations: AtomicU64,
}

/// The part's settings: the files as text, so that this module stays free of IO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `(file name, Cedar text)` of every policy file.
    pub documents: Vec<(String, String)>,
    /// Context keys that policies may name as `context.fields.KEY`; each becomes an optional String of the schema.
    pub context_keys: Vec<String>,
    /// Every configured principal, so that a policy naming an unknown one is reported.
    pub principals: Vec<(PrincipalName, PrincipalKind)>,
}

/// Why a policy set was refused: every problem at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy set is refused: {}", problems.join("; "))]
pub struct PolicyError {
    /// `file:line: what` for people.
    pub problems: Vec<String>,
}

/// Whether this build can bring about what the action of a ceremony says.
pub fn carries_out(action: &str) -> bool {
    authority::effect_of(action).is_some()
}

impl Policy {
    /// Parses, validates strictly against the schema and slices a policy set.
    pub fn load(settings: &Settings) -> Result<Arc<Self>, PolicyError> {
        let schema = schema::build(&settings.context_keys)?;
        let documents = documents::load(settings, &schema)?;
        let judge = Judge::new(&documents, &schema, &settings.principals, &settings.context_keys)?;
        let mut context_keys = settings.context_keys.clone();
        context_keys.sort_unstable();
        let digest = digest(settings, &context_keys).ok_or_else(PolicyError::too_large)?;
        Ok(Arc::new(Self {
            judge,
            documents,
            digest,
            context_keys,
            principals: settings.principals.clone(),
            decisions: Decisions::default(),
            epoch: AtomicU64::new(0),
            evaluations: AtomicU64::new(0),
        }))
    }

    /// SHA-256 over the canonical set; stands in every record.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The context keys that policy looks at, sorted: items are grouped by their values.
    pub fn context_keys(&self) -> &[String] {
        &self.context_keys
    }

    /// Decides. Pure but for the cache; a cached and an uncached decision are equal.
    pub fn decide(&self, ask: &Ask<'_>) -> Result<Permit, Denial> {
        let query = Query::of(ask);
        let key = if self.judge.looks_at_time(&query) { None } else { cache::key(&query, self.epoch()) };
        let answer = match key.and_then(|key| self.decisions.find(&key, ask.mono)) {
            Some(kept) => kept,
            None => {
                let fresh = self.evaluate(&query);
                if let Some(key) = key {
                    self.decisions.keep(key, fresh, ask.mono);
                }
                fresh
            }
        };
        mint(answer, ask)
    }

    /// Whether who is refused now may be permitted the same at another time, or by another proof.
    pub fn may_change(&self, ask: &Ask<'_>) -> bool {
        self.judge.may_change(&Query::of(ask))
    }

    /// The grants under which this principal may hear different answers: only no grant where no policy looks at it.
    pub fn grants(&self, ask: &Ask<'_>) -> &'static [Option<GrantKind>] {
        let all = &[None, Some(GrantKind::Grant), Some(GrantKind::BreakGlass)];
        if self.judge.looks_at_grant(&Query::of(ask)) { all } else { &[None] }
    }

    /// Decides without looking at the cache or filling it.
    pub fn decide_afresh(&self, ask: &Ask<'_>) -> Result<Permit, Denial> {
        mint(self.evaluate(&Query::of(ask)), ask)
    }

    /// The authority for changes before the first custodian exists: needs a Permit for the same control action.
    pub fn founding(&self, permit: Permit) -> Result<Authority, Denial> {
        if permit.action().changes_keys() || permit.action() == Action::CustodyFound {
            Ok(Authority::Founding(Founding::mint(permit)))
        } else {
            Err(Denial { reason: DenialReason::NoPermit })
        }
    }

    /// The authority of one person where custodians are: needs a Permit for the same control action, and reaches only as
    /// far as the keyring lets one person go.
    pub fn alone(&self, permit: Permit) -> Result<Authority, Denial> {
        if permit.action().changes_keys() {
            Ok(Authority::Alone(Alone::mint(permit)))
        } else {
            Err(Denial { reason: DenialReason::NoPermit })
        }
    }

    /// The authority of a quorum for what its proposal asks for, which is spent with its first use. `executor` is whoever
    /// has it carried out, under a Permit to do so.
    pub fn sworn(&self, quorum: Quorum, executor: &Permit, spends: Spends) -> Result<Authority, Denial> {
        let action = authority::effect_of(quorum.action());
        match action {
            Some(action) if executor.action() == Action::CeremonyExecute && spends.ceremony == quorum.ceremony() => {
                let (by, until) = (executor.principal().clone(), executor.deadline());
                Ok(Authority::Quorum(Sworn::mint(quorum, action, by, spends, until)))
            }
            _ => Err(Denial { reason: DenialReason::NoPermit }),
        }
    }

    /// The authority to make the keys of partitions that sealing needs. It rests on the permission to seal, which the
    /// request goes on to use: the permit is looked at and not spent.
    pub fn on_use(&self, permit: &Permit) -> Result<Authority, Denial> {
        match permit.keyring() {
            Some(keyring) if permit.action() == Action::Seal => {
                Ok(Authority::OnUse(OnUse::mint(keyring.clone(), permit.principal().clone(), permit.deadline())))
            }
            _ => Err(Denial { reason: DenialReason::NoPermit }),
        }
    }

    /// The authority for a job that the configuration in force foresees. Rotating and rewrapping take nothing away from
    /// anybody; every other action needs somebody who asks.
    pub fn standing(
        &self,
        action: Action,
        keyring: Option<&KeyringName>,
        deadline: Deadline,
    ) -> Result<Authority, Denial> {
        let named = matches!(action.resource(), action::Resource::Keyring) == keyring.is_some();
        if action.foreseen() && named {
            Ok(Authority::Standing(Standing::mint(action, keyring.cloned(), deadline)))
        } else {
            Err(Denial { reason: DenialReason::NoPermit })
        }
    }

    /// Ends the life of every kept decision: to be called when a role, grant, lock or key state changes.
    pub fn advance_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// How many requests Cedar has evaluated since this set was loaded; the others were answered from the cache.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.load(Ordering::Relaxed)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn evaluate(&self, query: &Query<'_>) -> Result<(), DenialReason> {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        self.judge.decide(query)
    }
}

impl PolicyError {
    fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }

    fn too_large() -> Self {
        Self::one("a policy file is larger than 4 GiB or its name than 64 KiB".to_owned())
    }
}

fn mint(answer: Result<(), DenialReason>, ask: &Ask<'_>) -> Result<Permit, Denial> {
    answer.map_err(|reason| Denial { reason })?;
    let pairs = ask.pairs.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
    let keyring = ask.keyring.cloned();
    let principal = ask.principal.name().clone();
    Ok(Permit::mint(principal, ask.action, keyring, ask.purpose, pairs, ask.request.clone(), ask.deadline))
}

/// Hashed in two levels, because the canonical form holds 64 pairs and a set may have more files.
fn digest(settings: &Settings, context_keys: &[String]) -> Option<[u8; 32]> {
    let mut files: Vec<_> = settings.documents.iter().collect();
    files.sort_unstable();
    let mut of_files = Vec::with_capacity(files.len() * 32);
    for (name, text) in files {
        let pair = (name.as_bytes(), text.as_bytes());
        of_files.extend_from_slice(&sha256(&[&canonical::encode("keyward/v1/policy-file", &[], [pair])?]));
    }
    let keys = context_keys.iter().map(|key| (b"context_key".as_slice(), key.as_bytes()));
    let pairs = std::iter::once((b"files".as_slice(), of_files.as_slice())).chain(keys);
    Some(sha256(&[&canonical::encode("keyward/v1/policy-set", &[], pairs)?]))
}

#[cfg(test)]
mod tests;
