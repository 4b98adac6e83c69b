//! What will the record of a request say? Gathered on the way, turned into a record in one function.

use std::collections::BTreeMap;

use crate::audit::{Actor, Event, Group, Outcome, Record, Source};
use crate::identity::{Credentials, IdentityError, Principal};
use crate::keyring::KeyringView;
use crate::names::{KeyVersionId, KeyringName, Purpose, RequestId};
use crate::policy::DenialReason;

use super::{Answer, Call, Code, ItemError, Operation, Surface};

/// The account of one request. Holds no plaintext, no context value, no sealed value.
pub(super) struct Account {
    pub(super) surface: Surface,
    pub(super) policy: Option<[u8; 32]>,
    pub(super) purpose: Option<Purpose>,
    pub(super) subjects: Vec<[u8; 16]>,
    pub(super) items_digest: Option<[u8; 32]>,
    pub(super) intent: Option<u64>,
    /// Whether an intent was recorded: then nothing may keep the outcome out of the log.
    pub(super) intended: bool,
    pub(super) denial: Option<DenialReason>,
    pub(super) facts: Vec<(&'static str, String)>,
    event: Event,
    actor: Actor,
    request: RequestId,
    groups: BTreeMap<(KeyringName, Option<KeyVersionId>), Counts>,
    orphans: BTreeMap<&'static str, u32>,
}

#[derive(Default)]
struct Counts {
    done: u32,
    failed: BTreeMap<&'static str, u32>,
}

impl Account {
    pub(super) fn of(call: &Call) -> Self {
        Self {
            surface: call.surface,
            policy: None,
            purpose: None,
            subjects: Vec::new(),
            items_digest: None,
            intent: None,
            intended: false,
            denial: None,
            facts: Vec::new(),
            event: call.operation.as_ref().map_or(Event::DataDenied, event_of),
            actor: Actor::Unknown,
            request: call.request.clone(),
            groups: BTreeMap::new(),
            orphans: BTreeMap::new(),
        }
    }

    /// Notes who was recognised or why nobody was, and what else the connection says: notes, which prove nothing.
    pub(super) fn known(&mut self, credentials: &Credentials, principal: Result<&Principal, &IdentityError>) {
        match principal {
            Ok(principal) => {
                let (name, kind) = (principal.name().clone(), principal.kind());
                self.actor = Actor::Principal { name, kind, proof: principal.proof().clone() };
            }
            Err(error) => self.facts.extend(error.code().map(|code| ("identity_error", code.to_owned()))),
        }
        match credentials {
            Credentials::Peer { gid, exe, .. } => {
                self.facts.push(("caller_gid", gid.to_string()));
                self.facts.extend(exe.as_ref().map(|exe| ("caller_exe", exe.to_string())));
            }
            // Who is nobody by their token, or somebody by it, came with a certificate all the same.
            Credentials::Certificate { svid, bearer } if bearer.is_some() || principal.is_err() => {
                let id = svid.id().as_str();
                self.facts.push(("caller_spiffe", id.get(..MOST_FACT).unwrap_or(id).to_owned()));
            }
            _ => {}
        }
    }

    /// Counts one item of a keyring.
    pub(super) fn item(&mut self, keyring: &KeyringName, version: Option<KeyVersionId>, failed: Option<ItemError>) {
        let counts = self.groups.entry((keyring.clone(), version)).or_default();
        match failed {
            None => counts.done = counts.done.saturating_add(1),
            Some(error) => bump(&mut counts.failed, reason_of(error)),
        }
    }

    /// Counts one item that belongs to no keyring.
    pub(super) fn orphan(&mut self, error: ItemError) {
        bump(&mut self.orphans, reason_of(error));
    }

    /// Names the keyring of a request without items.
    pub(super) fn keyring(&mut self, keyring: &KeyringName) {
        self.groups.entry((keyring.clone(), None)).or_default();
    }

    /// Names the key version of a request without items.
    pub(super) fn version(&mut self, keyring: &KeyringName, version: KeyVersionId) {
        self.groups.entry((keyring.clone(), Some(version))).or_default();
    }

    /// Says more exactly what happens than the operation does.
    pub(super) const fn happens(&mut self, event: Event) {
        self.event = event;
    }

    /// Counts the one key version, or the keyring, that was changed.
    pub(super) fn changed(&mut self, keyring: &KeyringName, version: Option<KeyVersionId>) {
        self.groups.clear();
        self.item(keyring, version, None);
    }

    /// Names the versions of a keyring that was made.
    pub(super) fn versions(&mut self, view: &KeyringView) {
        self.groups.clear();
        for version in &view.versions {
            self.item(&view.name, Some(version.id), None);
        }
    }

    pub(super) fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// The reason if the whole request came to nothing; such requests share a budget per actor and reason.
    pub(super) fn refusal_reason(&self, answer: &Answer) -> Option<&'static str> {
        match answer {
            Answer::Refused(refusal) => Some(refusal.code.as_str()),
            Answer::Sealed(items) if items.iter().all(Result::is_err) => self.first_reason(),
            Answer::Opened(items) if items.iter().all(Result::is_err) => self.first_reason(),
            Answer::ValuesRewrapped(items) if items.iter().all(Result::is_err) => self.first_reason(),
            Answer::Sealed(_)
            | Answer::Opened(_)
            | Answer::ValuesRewrapped(_)
            | Answer::Keyrings { .. }
            | Answer::Keyring(_)
            | Answer::Shredded(_)
            | Answer::PartitionsRewrapped { .. }
            | Answer::Inventory { .. }
            | Answer::Stepped(..)
            | Answer::Following(_)
            | Answer::Custody(_)
            | Answer::Keks { .. }
            | Answer::Wraps(_)
            | Answer::Rewrapped(_)
            | Answer::PolicyLoaded(_)
            | Answer::Records { .. } => None,
        }
    }

    /// The reason under which a refusal may be counted instead of recorded one by one. Failures are recorded always, and
    /// so is whatever an intent announced.
    pub(super) fn countable(&self, answer: &Answer) -> Option<&'static str> {
        let reason = self.refusal_reason(answer)?;
        let refused = match outcome_of(answer, true) {
            Outcome::Refused | Outcome::Denied => true,
            Outcome::Failed => !matches!(answer, Answer::Refused(_)),
            Outcome::Done | Outcome::Intent => false,
        };
        (refused && !self.intended).then_some(reason)
    }

    fn first_reason(&self) -> Option<&'static str> {
        let of_groups = self.groups.values().flat_map(|counts| counts.failed.keys());
        of_groups.chain(self.orphans.keys()).next().copied()
    }

    /// The one place where an outcome becomes a record.
    pub(super) fn into_record(self, answer: &Answer) -> Record {
        let reason = match (self.denial, self.refusal_reason(answer)) {
            (Some(denial), Some("denied")) => Some(denial_reason(denial)),
            (_, reason) => reason,
        };
        let outcome = outcome_of(answer, reason.is_some());
        let event = match outcome {
            Outcome::Denied | Outcome::Refused => Event::DataDenied,
            Outcome::Done | Outcome::Failed | Outcome::Intent => self.event,
        };
        Record {
            event,
            outcome,
            reason,
            actor: self.actor,
            source: source_of(self.surface),
            request: Some(self.request),
            purpose: self.purpose,
            groups: told(self.groups),
            orphans: self.orphans.into_iter().collect(),
            subjects: self.subjects,
            items_digest: self.items_digest,
            policy: self.policy,
            intent: self.intent,
            facts: self.facts,
        }
    }
}

/// LOG-10.
const MOST_FACT: usize = 256;

/// A record of the sidecar itself.
pub(super) fn own(event: Event, facts: Vec<(&'static str, String)>, policy: [u8; 32]) -> Record {
    Record {
        event,
        outcome: Outcome::Done,
        reason: None,
        actor: Actor::Sidecar,
        source: Source::Internal,
        request: None,
        purpose: None,
        groups: Vec::new(),
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: Some(policy),
        intent: None,
        facts,
    }
}

fn bump(counts: &mut BTreeMap<&'static str, u32>, reason: &'static str) {
    let count = counts.entry(reason).or_default();
    *count = count.saturating_add(1);
}

/// A keyring that was only named needs no group beside one that counts its items.
fn told(groups: BTreeMap<(KeyringName, Option<KeyVersionId>), Counts>) -> Vec<Group> {
    let counted: Vec<KeyringName> =
        groups.keys().filter(|(_, version)| version.is_some()).map(|(keyring, _)| keyring.clone()).collect();
    let says = |((keyring, version), counts): &((KeyringName, Option<KeyVersionId>), Counts)| {
        version.is_some() || counts.done > 0 || !counts.failed.is_empty() || !counted.contains(keyring)
    };
    groups.into_iter().filter(says).map(group_of).collect()
}

fn group_of(((keyring, version), counts): ((KeyringName, Option<KeyVersionId>), Counts)) -> Group {
    Group { keyring, version, done: counts.done, failed: counts.failed.into_iter().collect() }
}

fn event_of(operation: &Operation) -> Event {
    match operation {
        Operation::Seal(_) => Event::DataSealed,
        Operation::Open(_) => Event::DataOpened,
        Operation::Rewrap(_) => Event::DataRewrapped,
        Operation::CreateKeyring(_) => Event::KeyCreated,
        Operation::ShredPartition(_) => Event::PartitionShredded,
        Operation::RewrapPartitions { .. } => Event::KeyRewrapped,
        Operation::ListKeyrings { .. } | Operation::ShowKeyring(_) => Event::KeyringRead,
        Operation::Rotate(_) => Event::KeyRotated,
        Operation::Configure(_) => Event::KeyringConfigured,
        Operation::Step(step) => super::change::event_of(step.step),
        Operation::Lookup(asked) => super::lookups::event_of(asked.verb),
        Operation::ReadInventory { .. }
        | Operation::ReadWraps
        | Operation::ReadKeks
        | Operation::ReadFollowing { .. } => Event::KeyringRead,
        Operation::RewrapKeys { .. } => Event::KeyRewrapped,
        Operation::RetireKek { .. } => Event::KekRetired,
        Operation::ReloadPolicy => Event::PolicyLoaded,
        Operation::ReadAudit { .. } => Event::AuditRead,
        Operation::LookUpSubject { .. } => Event::AuditLookedUp,
        Operation::Custody(verb) => super::custody::event_of(verb),
    }
}

pub(super) const fn source_of(surface: Surface) -> Source {
    match surface {
        Surface::DataSocket => Source::DataSocket,
        Surface::DataTcp => Source::DataTcp,
        Surface::DataTls => Source::DataTls,
        Surface::Control => Source::ControlSocket,
        Surface::ControlTls => Source::ControlTls,
    }
}

/// A request that came to nothing was denied, refused or failed; one with any item done was done.
fn outcome_of(answer: &Answer, nothing_done: bool) -> Outcome {
    match answer {
        Answer::Refused(refusal) => match refusal.code {
            Code::Denied | Code::Unauthenticated | Code::PurposeMissing | Code::Locked => Outcome::Denied,
            Code::Unavailable
            | Code::KeyDamaged
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::KeyState
            | Code::InUse
            | Code::NotDue
            | Code::Conflict
            | Code::CeremonyRequired
            | Code::PolicyRefused
            | Code::NoSuchKey
            | Code::KeyringExists => Outcome::Failed,
            _ => Outcome::Refused,
        },
        _ if nothing_done => Outcome::Failed,
        _ => Outcome::Done,
    }
}

/// The log knows more than the caller: every item error has a reason of its own.
pub(super) const fn reason_of(error: ItemError) -> &'static str {
    match error {
        ItemError::MalformedItem => "malformed_item",
        ItemError::MalformedValue => "malformed_value",
        ItemError::InvalidContext => "invalid_context",
        ItemError::ContextMissing => "context_missing",
        ItemError::ContextConflict => "context_conflict",
        ItemError::Denied => "denied",
        ItemError::CannotOpen => "cannot_open",
        ItemError::KeyState(_) | ItemError::Spent | ItemError::Shredded => "key_state",
        ItemError::Locked => "locked",
        ItemError::KeyDamaged => "key_damaged",
        ItemError::Unavailable => "unavailable",
        ItemError::NotText => "not_text",
    }
}

const fn denial_reason(denial: DenialReason) -> &'static str {
    match denial {
        DenialReason::NoPermit => "no_permit",
        DenialReason::Forbidden => "forbidden",
        DenialReason::PurposeMissing => "purpose_missing",
        DenialReason::EvaluationError => "evaluation_error",
    }
}
