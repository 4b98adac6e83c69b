//! Why did an event not happen? Each reason with a closed code for records and a hint for whoever must act.

use crate::clock::Wall;
use crate::names::PrincipalName;
use crate::policy::approval::{ApprovalError, Word};
use crate::policy::separation::Role;

use super::super::proposal::ProposalError;

/// Why not. The Display is the hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The proposal is not one that this store's rules would make.
    #[error("{0}: draft it anew")]
    Proposal(ProposalError),
    /// The signed decision is not believed.
    #[error("{0}")]
    Decision(ApprovalError),
    /// Signed about another ceremony.
    #[error("the decision is about another ceremony than {ceremony}: sign the text that belongs to this one")]
    WrongCeremony {
        /// This one.
        ceremony: String,
    },
    /// Signed about another proposal.
    #[error("the decision is about another proposal than {digest}: compare the words aloud, then sign again")]
    DigestMismatch {
        /// Of this one.
        digest: String,
    },
    /// Another word is wanted here.
    #[error("the decision says {said}; here it must say {wanted}")]
    WrongWord {
        /// What it says.
        said: Word,
        /// What it must say.
        wanted: &'static str,
    },
    /// Made for another store or environment.
    #[error("the proposal is for another store or environment: draft it on this one")]
    ForeignStore,
    /// Not the initiator's to do.
    #[error("only {initiator}, who proposes it, signs this")]
    NotTheInitiator {
        /// Whose.
        initiator: PrincipalName,
    },
    /// No role that proposes.
    #[error("proposing this needs the role {}", roles.iter().map(|role| role.code()).collect::<Vec<_>>().join(" or "))]
    MayNotPropose {
        /// Any of these.
        roles: &'static [Role],
    },
    /// The initiator judges the own proposal.
    #[error("the initiator neither approves nor denies: others do (the initiator may withdraw)")]
    InitiatorApproves,
    /// The person is the matter.
    #[error("it concerns this person, who neither approves nor denies it: others do")]
    Concerned,
    /// No custodian.
    #[error("only custodians approve and deny: the separation of duties says who is one")]
    NotACustodian,
    /// A key in a file, where it must lie in a token.
    #[error("at this tier only keys in tokens count, touched and with a PIN or fingerprint: sign with such a key")]
    HardwareKeyNeeded,
    /// For another reason the approval would not count.
    #[error("the approval does not count: this person {why}")]
    DoesNotCount {
        /// Why.
        why: &'static str,
    },
    /// This very decision, or the same person with the same key.
    #[error("this approval is there already: nothing more is needed from this person")]
    Replayed,
    /// The same person with another key.
    #[error("this person has approved already, with another key: people are counted, not keys")]
    SecondKey,
    /// More decisions than a document holds.
    #[error("there are too many decisions about this proposal: propose it anew")]
    TooManyDecisions,
    /// Somebody said no.
    #[error("it was denied: whoever still wants it proposes it anew")]
    AlreadyDenied,
    /// The initiator took it back.
    #[error("it was withdrawn: whoever still wants it proposes it anew")]
    Withdrawn,
    /// Too late.
    #[error("it has expired: propose it anew")]
    Expired,
    /// What it rests on has changed.
    #[error("what it rests on has changed since it was proposed ({by}): propose it anew, approvals do not carry over")]
    Superseded {
        /// What.
        by: String,
    },
    /// Once is all.
    #[error("it was carried out, or is being carried out: a proposal is good for one time")]
    Spent,
    /// Carrying it out failed.
    #[error("carrying it out failed: see the minutes, then propose what is still to be done")]
    Failed,
    /// Carrying it out was given up.
    #[error("carrying it out was given up: propose it anew")]
    Aborted,
    /// Not enough people agree.
    #[error("it is not ready: {}", missing.join("; "))]
    NotReady {
        /// What is missing.
        missing: Vec<String>,
    },
    /// Somebody may still say no.
    #[error(
        "it cools off until {} and for {counted_left} more seconds of certain time: deny it until then",
        until.rfc3339_millis()
    )]
    CoolingOff {
        /// By the wall clock.
        until: Wall,
        /// By the counted time.
        counted_left: u64,
    },
    /// Too early.
    #[error("it is not to be carried out before {}", from.rfc3339_millis())]
    NotYet {
        /// From when on.
        from: Wall,
    },
    /// Nobody knows what time it is.
    #[error("the clock is not synchronised, and nothing of this tier happens while that is so: repair it first")]
    ClockUnsynchronised,
    /// Too few custodians.
    #[error("custodians beyond the largest quorum: {margin}; nothing of tier 3 happens below 1: {enrol} comes first")]
    Margin {
        /// How many.
        margin: i64,
        /// The way back.
        enrol: &'static str,
    },
    /// A change of the separation of duties needs the new one too.
    #[error("the new separation of duties with the digest {digest} is not at hand, and it must agree as well")]
    SeparationMissing {
        /// Its digest.
        digest: String,
    },
    /// It has not begun.
    #[error("it is not being carried out: start it first")]
    NotExecuting,
}

impl Rejection {
    /// The closed code for records and answers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Proposal(_) => "bad_proposal",
            Self::Decision(error) => decision_code(error),
            Self::WrongCeremony { .. } => "wrong_ceremony",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::WrongWord { .. } => "wrong_word",
            Self::ForeignStore => "foreign_store",
            Self::NotTheInitiator { .. } => "not_the_initiator",
            Self::MayNotPropose { .. } => "may_not_propose",
            Self::InitiatorApproves => "initiator_approves",
            Self::Concerned => "concerned",
            Self::NotACustodian => "not_a_custodian",
            Self::HardwareKeyNeeded => "hardware_key_needed",
            Self::DoesNotCount { .. } => "does_not_count",
            Self::Replayed => "approval_replayed",
            Self::SecondKey => "second_key_of_one_person",
            Self::TooManyDecisions => "too_many_decisions",
            Self::AlreadyDenied => "already_denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Superseded { .. } => "superseded",
            Self::Spent => "spent",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::NotReady { .. } => "not_ready",
            Self::CoolingOff { .. } => "cooling_off",
            Self::NotYet { .. } => "not_yet",
            Self::ClockUnsynchronised => "clock_unsynchronised",
            Self::Margin { .. } => "margin",
            Self::SeparationMissing { .. } => "separation_missing",
            Self::NotExecuting => "not_executing",
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        self.to_string()
    }
}

const fn decision_code(error: &ApprovalError) -> &'static str {
    match error {
        ApprovalError::Malformed(_) => "malformed_decision",
        ApprovalError::Key(crate::identity::sshsig::SshError::Namespace { .. }) => "foreign_namespace",
        ApprovalError::Key(_) => "bad_signature",
        ApprovalError::UnknownKey { .. } => "unknown_key",
        ApprovalError::WrongPerson { .. } => "wrong_person",
        ApprovalError::SharedKey { .. } => "shared_key",
        ApprovalError::Revoked { .. } => "revoked_key",
        ApprovalError::NotActive { .. } => "not_active",
        ApprovalError::Expired => "approval_expired",
        ApprovalError::ExpiresTooLate => "approval_too_long",
        ApprovalError::TouchMissing => "touch_missing",
        ApprovalError::CounterNotRisen { .. } => "counter_replayed",
    }
}
