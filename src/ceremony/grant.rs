//! For how long may somebody do what policy alone would not allow? Grants and broken glasses, as documents. They end by
//! themselves, at the earlier of two clocks; this module never prolongs one and never decides who may have it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::canonical::{self, Malformed, SCHEMA, named, unreadable};
use super::machine::{Ceremony, Ended};
use crate::clock::Wall;
use crate::names::{KeyringName, PrincipalName, Purpose};
use crate::policy::approval::{self, ApprovalError, Decision, Desk, Word};
use crate::policy::quorum::{Matter, check_review};
use crate::policy::separation::{Separation, Tier};

/// What kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Foreseen and approved.
    Grant,
    /// An emergency, reviewed afterwards.
    BreakGlass,
}

/// An access for a limited time (CER-16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    schema: u64,
    /// The ceremony that gave it, which also names it.
    pub ceremony: String,
    /// The digest of its proposal, hexadecimal.
    pub digest: String,
    /// What kind it is.
    pub kind: Kind,
    /// Who has it.
    #[serde(with = "named")]
    pub principal: PrincipalName,
    /// For which keyring.
    #[serde(with = "named")]
    pub keyring: KeyringName,
    /// For which purpose.
    #[serde(with = "named")]
    pub purpose: Purpose,
    /// Why: a code.
    pub reason: String,
    /// The number of a ticket, or nothing.
    pub ticket: String,
    /// Who proposed it; of a broken glass, who broke it.
    #[serde(with = "named")]
    pub initiator: PrincipalName,
    /// Since when, UTC in microseconds.
    pub since: u64,
    /// Until when, UTC in microseconds.
    pub not_after: u64,
    /// Who reviews it by when; a broken glass has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// What ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EarlyEnd>,
    /// Whether it is of a production store.
    pub environment: String,
}

/// The review of a broken glass (CER-17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// By when, UTC in microseconds.
    pub due: u64,
    /// What was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Reviewed>,
}

/// A review that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewed {
    /// When, UTC in microseconds.
    pub at: u64,
    /// By whom.
    #[serde(with = "named")]
    pub by: PrincipalName,
    /// The verdict: the reason code of the decision.
    pub verdict: String,
    /// What was signed.
    pub text: String,
    /// The armoured signature.
    pub signature: String,
}

/// The end of a grant before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyEnd {
    /// When, UTC in microseconds.
    pub at: u64,
    /// By whom.
    #[serde(with = "named")]
    pub by: PrincipalName,
    /// Why: a code.
    pub why: String,
}

/// Why a grant is not given, ended or reviewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The ceremony gives nothing, or was not carried out.
    #[error("no grant comes of this ceremony: it is of another action, or was not carried out")]
    NotGiven,
    /// It has ended before.
    #[error("the grant has ended already")]
    Ended,
    /// It is not reviewed.
    #[error("only a broken glass is reviewed")]
    NoReview,
    /// It was reviewed before.
    #[error("it was reviewed already: a review is good for one time")]
    Reviewed,
    /// The signed review is not believed.
    #[error("{0}")]
    Decision(ApprovalError),
    /// The review does not count.
    #[error("the review does not count: this person {0}")]
    DoesNotCount(&'static str),
}

impl GrantError {
    /// The closed code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotGiven => "not_given",
            Self::Ended => "grant_ended",
            Self::NoReview => "no_review",
            Self::Reviewed => "already_reviewed",
            Self::Decision(error) => error.code(),
            Self::DoesNotCount(_) => "review_does_not_count",
        }
    }
}

impl Grant {
    /// What a ceremony that is being carried out, or was, gives.
    pub fn of(ceremony: &Ceremony, separation: &Separation) -> Result<Self, GrantError> {
        let proposal = ceremony.proposal();
        let executing = ceremony.executing().ok_or(GrantError::NotGiven)?;
        if ceremony.end().is_some_and(|end| end.kind != Ended::Executed) {
            return Err(GrantError::NotGiven);
        }
        let (kind, purpose) = match proposal.action {
            Action::GrantGive | Action::GrantExtend => (Kind::Grant, value(proposal, "purpose")?),
            Action::BreakGlassOpen => (Kind::BreakGlass, Purpose::BreakGlass),
            _ => return Err(GrantError::NotGiven),
        };
        let minutes: u64 = value(proposal, "minutes")?;
        let review_within = micros(separation.break_glass().review_within);
        let broken = kind == Kind::BreakGlass;
        Ok(Self {
            schema: SCHEMA,
            ceremony: proposal.ceremony.to_string(),
            digest: hex::encode(ceremony.digest()),
            kind,
            principal: value(proposal, "principal")?,
            keyring: value(proposal, "keyring")?,
            purpose,
            reason: value(proposal, "reason")?,
            ticket: proposal.parameters.get("ticket").unwrap_or(&proposal.ticket).clone(),
            initiator: proposal.initiator.clone(),
            since: executing.at,
            not_after: executing.at.saturating_add(minutes.saturating_mul(60_000_000)),
            review: broken.then(|| Review { due: executing.at.saturating_add(review_within), done: None }),
            ended: None,
            environment: proposal.environment.clone(),
        })
    }

    /// Reads the body of a document.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        let grant: Self = canonical::read(body, MOST_BYTES)?;
        let life = grant.not_after.checked_sub(grant.since).filter(|life| *life <= LONGEST);
        let reviewed = (grant.kind == Kind::BreakGlass) == grant.review.is_some();
        if life.is_some() && reviewed {
            Ok(grant)
        } else {
            Err(unreadable("its times or its review do not fit its kind"))
        }
    }

    /// The body of its document.
    pub fn body(&self) -> String {
        canonical::write(self)
    }

    /// How long it lives. Whoever holds it in memory measures that by the boot-time clock.
    pub const fn lifetime(&self) -> Duration {
        Duration::from_micros(self.not_after.saturating_sub(self.since))
    }

    /// Whether it is in force: neither the wall clock nor the time that it has lived by a clock that never jumps is over.
    /// Uncertain time prolongs nothing, and a broken glass ends where nobody could follow how long it has lived.
    pub fn in_force(&self, now: Wall, lived: Lived) -> bool {
        let by_life = match lived {
            Lived::For(lived) => lived < self.lifetime(),
            Lived::Unknown { clock_synchronised } => clock_synchronised || self.kind == Kind::Grant,
        };
        // Before it began the clock was set back.
        let by_wall = (self.since..self.not_after).contains(&now.0);
        self.ended.is_none() && by_life && by_wall
    }

    /// Ends it before its time.
    pub fn end(&self, by: PrincipalName, why: &str, now: Wall) -> Result<Self, GrantError> {
        if self.ended.is_some() || now.0 >= self.not_after {
            return Err(GrantError::Ended);
        }
        let ended = Some(EarlyEnd { at: now.0.max(self.since), by, why: why.to_owned() });
        Ok(Self { ended, ..self.clone() })
    }

    /// Whether somebody still has to review it.
    pub fn needs_review(&self) -> bool {
        self.review.as_ref().is_some_and(|review| review.done.is_none())
    }

    /// Whether that should have happened by now.
    pub fn is_overdue(&self, now: Wall) -> bool {
        self.needs_review() && self.review.as_ref().is_some_and(|review| now.0 >= review.due)
    }

    /// Takes the signed review of another person; the reason code of the decision is the verdict.
    pub fn review(&self, text: &str, signature: &str, desk: &Desk<'_>, now: Wall) -> Result<Self, GrantError> {
        let due = self.review.as_ref().ok_or(GrantError::NoReview)?;
        if due.done.is_some() {
            return Err(GrantError::Reviewed);
        }
        let verified = approval::verify(desk, text, signature, now).map_err(GrantError::Decision)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(&self.digest, &mut digest).map_err(|_| GrantError::NotGiven)?;
        // Whoever got access does not judge it either.
        if *verified.person() == self.principal {
            return Err(GrantError::DoesNotCount("had the access, and somebody else reviews that"));
        }
        let matter = Matter {
            ceremony: &self.ceremony,
            digest,
            tier: Tier::BreakGlass,
            action: Action::BreakGlassOpen.name(),
            keyring: Some(self.keyring.clone()),
            initiator: &self.initiator,
            concerns: std::slice::from_ref(&self.principal),
            rehearsal: desk.roster.is_rehearsal(),
        };
        check_review(desk.separation, desk.roster, &matter, &verified, now).map_err(GrantError::DoesNotCount)?;
        let Decision { reason, person, word: Word::Review, .. } = verified.decision() else {
            return Err(GrantError::DoesNotCount("decided something else"));
        };
        let done = Some(Reviewed {
            at: now.0.max(self.since),
            by: person.clone(),
            verdict: reason.clone(),
            text: text.to_owned(),
            signature: signature.to_owned(),
        });
        Ok(Self { review: Some(Review { due: due.due, done }), ..self.clone() })
    }
}

/// How long a grant has lived by a clock that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lived {
    /// So long.
    For(Duration),
    /// It was read after a restart: the boot-time clock says nothing about it.
    Unknown {
        /// Whether the wall clock is certain.
        clock_synchronised: bool,
    },
}

fn value<T: std::str::FromStr>(proposal: &super::Proposal, name: &str) -> Result<T, GrantError> {
    proposal.parameters.get(name).and_then(|value| value.parse().ok()).ok_or(GrantError::NotGiven)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Larger than any: two signatures and names.
const MOST_BYTES: usize = 64 * 1024;
/// 24 hours, in microseconds.
const LONGEST: u64 = 24 * 3_600 * 1_000_000;
