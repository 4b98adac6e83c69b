//! What do requests about custody say, and their answers? Texts that people sign are handed on byte for byte.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::service::{
    Code, CustodyAnswer, CustodyVerb, DraftProposal, FoundingSignature, Level, Locked, NewMember, Operation, Refusal,
    SignedDecision,
};
use crate::telemetry::Verb;

/// What a path asks of custody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustodyPath {
    /// How custody stands.
    Show,
    /// The roster in all its generations.
    Roster,
    /// What the first roster would be.
    DraftGenesis,
    /// The first roster.
    Found,
    /// Ceremonies.
    List,
    /// What a proposal would be.
    Draft,
    /// A proposal.
    Propose,
    /// One ceremony.
    Look,
    /// A decision.
    Decide,
    /// The effect.
    Execute,
    /// The minutes.
    Minutes,
    /// The end of somebody's keys.
    Revoke,
    /// A rehearsal's clock.
    Advance,
    /// Grants.
    Grants,
    /// The end of a grant.
    EndGrant,
    /// A review of a grant.
    Review,
    /// Locks.
    Locks,
    /// A lock.
    Lock,
    /// The end of a lock.
    Unlock,
}

impl CustodyPath {
    /// The method that it is asked with.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Show | Self::Roster | Self::List | Self::Look | Self::Minutes | Self::Grants | Self::Locks => "GET",
            Self::DraftGenesis
            | Self::Found
            | Self::Draft
            | Self::Propose
            | Self::Decide
            | Self::Execute
            | Self::Advance
            | Self::Revoke
            | Self::EndGrant
            | Self::Lock
            | Self::Unlock
            | Self::Review => "POST",
        }
    }

    /// What it is counted as.
    pub const fn verb(self) -> Verb {
        match self {
            Self::Show | Self::Roster | Self::List | Self::Look | Self::Minutes | Self::Grants | Self::Locks => {
                Verb::CustodyRead
            }
            Self::DraftGenesis | Self::Found => Verb::CustodyFound,
            Self::Draft | Self::Propose => Verb::CeremonyPropose,
            Self::Decide | Self::Review => Verb::CeremonyDecide,
            Self::Execute | Self::Advance => Verb::CeremonyExecute,
            Self::Revoke => Verb::CustodianRevoke,
            Self::EndGrant => Verb::GrantEnd,
            Self::Lock | Self::Unlock => Verb::Lock,
        }
    }
}

/// What a path without a body asks; None if it takes one.
pub fn custody_without_body(path: CustodyPath, name: &str, query: Option<&str>) -> Option<Result<Operation, Refusal>> {
    let name = || name.to_owned();
    let verb = match path {
        CustodyPath::List => {
            return Some(match query {
                None | Some("" | "state=open") => Ok(Operation::Custody(CustodyVerb::List { all: false })),
                Some("state=all") => Ok(Operation::Custody(CustodyVerb::List { all: true })),
                Some(_) => Err(Refusal::because(Code::MalformedRequest, "the query is state=open or state=all")),
            });
        }
        CustodyPath::Show => CustodyVerb::Show,
        CustodyPath::Roster => CustodyVerb::Roster,
        CustodyPath::Look => CustodyVerb::Look(name()),
        CustodyPath::Minutes => CustodyVerb::Minutes(name()),
        CustodyPath::Grants => CustodyVerb::Grants,
        CustodyPath::Locks => CustodyVerb::Locks,
        _ => return None,
    };
    Some(super::no_query(query).map(|()| Operation::Custody(verb)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Founders {
    members: Vec<NewMember>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Founding {
    roster: String,
    signatures: Vec<FoundingSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposing {
    proposal: String,
    decision: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoking {
    #[serde(default)]
    fingerprint: Option<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Locking {
    lock: String,
    level: Level,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unlocking {
    lock: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advancing {
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads what a path with a body asks.
pub fn parse_custody(path: CustodyPath, name: &str, body: &[u8]) -> Result<CustodyVerb, Refusal> {
    let name = name.to_owned();
    Ok(match path {
        CustodyPath::DraftGenesis => CustodyVerb::DraftGenesis(read::<Founders>(body)?.members),
        CustodyPath::Found => {
            let Founding { roster, signatures } = read(body)?;
            CustodyVerb::Found { roster, signatures }
        }
        CustodyPath::Draft => CustodyVerb::Draft(read::<DraftProposal>(body)?),
        CustodyPath::Propose => {
            let Proposing { proposal, decision, signature } = read(body)?;
            CustodyVerb::Propose { proposal, signed: SignedDecision { decision, signature } }
        }
        CustodyPath::Decide => CustodyVerb::Decide { ceremony: name, signed: read(body)? },
        CustodyPath::Review => CustodyVerb::Review { ceremony: name, signed: read(body)? },
        CustodyPath::Execute => read::<Nothing>(body).map(|Nothing {}| CustodyVerb::Execute(name))?,
        CustodyPath::Advance => CustodyVerb::Advance(read::<Advancing>(body)?.seconds),
        CustodyPath::EndGrant => read::<Nothing>(body).map(|Nothing {}| CustodyVerb::EndGrant(name))?,
        CustodyPath::Revoke => {
            let Revoking { fingerprint, reason } = read(body)?;
            let wrong = |_| Refusal::because(Code::MalformedRequest, "the path names no person");
            CustodyVerb::Revoke { person: name.parse().map_err(wrong)?, fingerprint, reason }
        }
        CustodyPath::Lock => {
            let Locking { lock, level, reason } = read(body)?;
            CustodyVerb::Lock { what: locked(&lock)?, level, reason }
        }
        CustodyPath::Unlock => CustodyVerb::Unlock(locked(&read::<Unlocking>(body)?.lock)?),
        CustodyPath::Show
        | CustodyPath::Roster
        | CustodyPath::List
        | CustodyPath::Look
        | CustodyPath::Minutes
        | CustodyPath::Locks
        | CustodyPath::Grants => return Err(Refusal::because(Code::MalformedRequest, "this route takes no body")),
    })
}

fn locked(text: &str) -> Result<Locked, Refusal> {
    let wrong = "lock is sidecar, principal/NAME or keyring/TENANT/NAME";
    Locked::parse(text).ok_or_else(|| Refusal::because(Code::MalformedRequest, wrong))
}

/// Nothing of custody is secret: an error may say where the text is wrong, in the field's name.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // The library's own words repeat what it found: only the place is told.
        let (line, column) = (error.inner().line(), error.inner().column());
        let place = format!("{}, at line {line} column {column}", error.path());
        Refusal::because(
            Code::MalformedRequest,
            format!("a field is missing, unknown, double or of another type: {place}"),
        )
    })?;
    let after = |_| Refusal::because(Code::MalformedRequest, "there is something after the object");
    reader.end().map_err(after)?;
    Ok(read)
}

/// The bytes of an answer; None never happens with these shapes.
pub fn write_custody(answer: &CustodyAnswer) -> Option<Vec<u8>> {
    serde_json::to_vec(answer).ok()
}
