//! How does a ceremony rest in the store? The body of its document, read as strictly as it is written (CER-11).

use serde::{Deserialize, Serialize};

use super::{Ceremony, State};
use crate::ceremony::canonical::{self, Malformed, SCHEMA, named, unreadable};
use crate::ceremony::proposal::Proposal;
use crate::names::PrincipalName;
use crate::policy::approval::Decision;

/// A point in time by both clocks, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// UTC since 1970.
    pub wall: u64,
    /// The time that the fleet counted while its clocks were certain.
    pub counted: u64,
}

/// A decision that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// What was signed.
    pub text: String,
    /// The armoured signature.
    pub signature: String,
    /// When it was taken, UTC in microseconds.
    pub at: u64,
}

/// That carrying out has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executing {
    /// When, UTC in microseconds.
    pub at: u64,
    /// By whom.
    #[serde(with = "named")]
    pub by: PrincipalName,
    /// The record of the intent.
    pub intent: u64,
}

/// What became of a ceremony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How it ended.
    pub kind: Ended,
    /// When, UTC in microseconds.
    pub at: u64,
    /// By whom; None where time or the world ended it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "by")]
    pub by: Option<PrincipalName>,
    /// Why: a code, or what had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How a ceremony ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Carried out.
    Executed,
    /// Not, or not wholly.
    Failed,
    /// Given up before anything changed.
    Aborted,
    /// Taken back.
    Withdrawn,
    /// Somebody said no.
    Denied,
    /// Too late.
    Expired,
    /// What it rested on changed.
    Superseded,
}

impl Ended {
    /// The state that it is.
    pub const fn state(self) -> State {
        match self {
            Self::Executed => State::Executed,
            Self::Failed => State::Failed,
            Self::Aborted => State::Aborted,
            Self::Withdrawn => State::Withdrawn,
            Self::Denied => State::Denied,
            Self::Expired => State::Expired,
            Self::Superseded => State::Superseded,
        }
    }

    /// Whether it comes after carrying out began.
    pub const fn follows_execution(self) -> bool {
        matches!(self, Self::Executed | Self::Failed | Self::Aborted)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    schema: u64,
    proposal: String,
    opened: Moment,
    decisions: Vec<Recorded>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    met: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executing: Option<Executing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

pub(super) fn write(ceremony: &Ceremony) -> String {
    let Ceremony { proposal, digest: _, opened, decisions, met, executing, end } = ceremony;
    canonical::write(&Body {
        schema: SCHEMA,
        proposal: proposal.canonical(),
        opened: *opened,
        decisions: decisions.clone(),
        met: *met,
        executing: executing.clone(),
        end: end.clone(),
    })
}

pub(super) fn parse(text: &str) -> Result<Ceremony, Malformed> {
    let Body { schema: _, proposal, opened, decisions, met, executing, end } = canonical::read(text, MOST_BYTES)?;
    let proposal = Proposal::parse(&proposal).map_err(unreadable)?;
    let ceremony = Ceremony { digest: proposal.digest(), proposal, opened, decisions, met, executing, end };
    match disorder(&ceremony) {
        Some(why) => Err(unreadable(why)),
        None => Ok(ceremony),
    }
}

/// What cannot have happened in this order (CER-11).
pub(in crate::ceremony) fn disorder(ceremony: &Ceremony) -> Option<&'static str> {
    let Ceremony { proposal, digest, opened, decisions, met, executing, end } = ceremony;
    if decisions.is_empty() || decisions.len() > MOST_DECISIONS {
        return Some("it has no decision, or more than fit");
    }
    let about = |one: &Recorded| {
        let decision = Decision::parse(&one.text);
        decision.is_ok_and(|said| said.ceremony == proposal.ceremony.as_str() && said.digest == *digest)
    };
    if !decisions.iter().all(about) {
        return Some("a decision is about another proposal");
    }
    if met.is_none() && executing.is_some() {
        return Some("it was carried out without a quorum");
    }
    let begun = executing.is_some();
    if end.as_ref().is_some_and(|end| end.kind.follows_execution() != begun) {
        return Some("its end does not follow from what was before");
    }
    let mut times = vec![opened.wall];
    times.extend(decisions.iter().map(|one| one.at));
    times.extend(executing.as_ref().map(|executing| executing.at));
    times.extend(end.as_ref().map(|end| end.at));
    if !times.is_sorted() {
        return Some("its times run backwards");
    }
    let met_at = met.map(|met| met.wall);
    let taken = |wall: u64| decisions.iter().any(|one| one.at == wall);
    if met_at.is_some_and(|wall| !taken(wall)) {
        return Some("its quorum was met when nobody decided");
    }
    None
}

mod by {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::names::PrincipalName;

    pub(super) fn serialize<S: Serializer>(by: &Option<PrincipalName>, to: S) -> Result<S::Ok, S::Error> {
        match by {
            Some(by) => to.collect_str(by),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PrincipalName>, D::Error> {
        let name = String::deserialize(from)?;
        name.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

/// More people than any quorum has, and every one of them twice.
pub(super) const MOST_DECISIONS: usize = 64;
/// A proposal and decisions by RSA keys of 8,192 bits; a document of the store holds as much.
pub(in crate::ceremony) const MOST_BYTES: usize = 256 * 1024;
/// CER-26: for a denial or a withdrawal, which nobody can crowd out.
pub(super) const LAST_WORD: usize = 8 * 1024;
/// For the marks that follow the last decision.
pub(super) const RESERVE: usize = 4 * 1024;
