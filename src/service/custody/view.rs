//! What is told of custody? Nothing of it is secret from whoever may read ceremonies: people, keys' fingerprints, texts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::ceremony::machine::Recorded;
use crate::ceremony::words;
use crate::clock::Wall;
use crate::policy::approval::Decision;
use crate::policy::roster::{Member, Roster};
use crate::policy::separation::Separation;

/// An answer about custody.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum CustodyAnswer {
    /// How custody stands.
    Custody(Box<CustodyView>),
    /// The first roster as it would be.
    Draft(DraftView),
    /// A proposal as it would be.
    Proposal(ProposalView),
    /// One ceremony.
    Ceremony(Box<CeremonyView>),
    /// Ceremonies, newest first.
    Ceremonies {
        /// Without their proposals' texts.
        ceremonies: Vec<CeremonyView>,
    },
    /// Grants, newest first.
    Grants {
        /// Those in force and those that ended.
        grants: Vec<GrantView>,
    },
    /// Locks, by what they are of.
    Locks {
        /// Those in force and those that were lifted.
        locks: Vec<LockView>,
    },
    /// A document as it is, minutes or rosters.
    Text(Value),
}

/// How custody stands.
#[derive(Debug, Serialize)]
pub struct CustodyView {
    pub founded: bool,
    pub environment: &'static str,
    pub store: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roster: Option<RosterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsView>,
    pub duties: Vec<DutyView>,
    pub problems: Vec<String>,
}

/// Guarded settings: what is approved, and what this sidecar runs with.
#[derive(Debug, Serialize)]
pub struct SettingsView {
    pub approved: BTreeMap<String, String>,
    pub approved_digest: String,
    pub running: BTreeMap<String, String>,
    pub running_digest: String,
}

/// A rotation that somebody's leaving asks for.
#[derive(Debug, Clone, Serialize)]
pub struct DutyView {
    pub keyring: String,
    pub because: String,
    pub since: String,
    pub due: String,
    pub overdue: bool,
    pub propose: String,
}

/// Who signs.
#[derive(Debug, Serialize)]
pub struct RosterView {
    pub digest: String,
    pub words: String,
    pub generation: u64,
    pub members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
pub struct MemberView {
    pub person: String,
    pub roles: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub line: String,
    pub since: String,
    pub recertify_by: String,
    pub active: bool,
    pub keys: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
pub struct KeyView {
    pub fingerprint: String,
    pub algorithm: &'static str,
    pub hardware: bool,
    pub enrolled: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

/// A roster that waits for its signatures.
#[derive(Debug, Serialize)]
pub struct DraftView {
    pub roster: String,
    pub digest: String,
    pub words: String,
    pub keyrings: usize,
}

/// A proposal that waits for its initiator's signature.
#[derive(Debug, Serialize)]
pub struct ProposalView {
    pub proposal: String,
    pub digest: String,
    pub words: String,
    pub effect: String,
    pub ceremony: String,
    pub not_after: u64,
    pub namespace: &'static str,
}

/// A ceremony as it stands.
#[derive(Debug, Serialize)]
pub struct CeremonyView {
    pub id: String,
    pub state: &'static str,
    pub open: bool,
    pub action: &'static str,
    pub tier: &'static str,
    pub effect: String,
    pub digest: String,
    pub words: String,
    pub initiator: String,
    pub reason: String,
    pub ticket: String,
    pub created: String,
    pub not_after: u64,
    pub namespace: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_off_until: Option<String>,
    pub approvals: ApprovalsView,
    pub missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    pub decisions: Vec<DecisionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ApprovalsView {
    pub needed: u32,
    pub have: u32,
    pub groups: u32,
    pub lines: u32,
}

#[derive(Debug, Serialize)]
pub struct DecisionView {
    pub word: &'static str,
    pub person: String,
    pub reason: String,
    pub at: String,
    pub text: String,
    pub signature: String,
}

/// A grant as it stands.
#[derive(Debug, Serialize)]
pub struct GrantView {
    pub id: String,
    pub kind: &'static str,
    pub principal: String,
    pub keyring: String,
    pub purpose: String,
    pub from: String,
    pub not_after: String,
    pub in_force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
}

/// A lock as it stands.
#[derive(Debug, Serialize)]
pub struct LockView {
    pub lock: String,
    pub level: &'static str,
    pub by: String,
    pub reason: String,
    pub since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_by: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ReviewView {
    pub due: String,
    pub overdue: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

impl DraftView {
    pub(super) fn of_roster(roster: &Roster, keyrings: usize) -> Self {
        let digest = roster.digest();
        Self { roster: roster.canonical(), digest: hex::encode(digest), words: words::encode(&digest), keyrings }
    }
}

impl RosterView {
    pub(super) fn of(roster: &Roster, separation: &Separation) -> Self {
        let digest = roster.digest();
        Self {
            digest: hex::encode(digest),
            words: words::encode(&digest),
            generation: roster.generation,
            members: roster.members.iter().map(|member| MemberView::of(member, separation)).collect(),
        }
    }
}

impl MemberView {
    fn of(member: &Member, separation: &Separation) -> Self {
        let person = separation.person(&member.person);
        Self {
            person: member.person.to_string(),
            roles: person.iter().flat_map(|person| person.roles.iter().map(|role| role.code())).collect(),
            group: person.and_then(|person| person.group.as_ref()).map(ToString::to_string),
            line: separation.line(&member.person).to_string(),
            since: time(member.since),
            recertify_by: time(member.recertify_by),
            active: member.is_active(),
            keys: member
                .credentials
                .iter()
                .map(|held| KeyView {
                    fingerprint: held.key.fingerprint(),
                    algorithm: held.key.algorithm(),
                    hardware: held.key.is_in_token(),
                    enrolled: time(held.enrolled),
                    revoked: held.revoked.as_ref().map(|revoked| time(revoked.at)),
                })
                .collect(),
        }
    }
}

impl DecisionView {
    pub(super) fn of(recorded: &Recorded) -> Option<Self> {
        let decision = Decision::parse(&recorded.text).ok()?;
        Some(Self {
            word: decision.word.code(),
            person: decision.person.to_string(),
            reason: decision.reason,
            at: time(Wall(recorded.at)),
            text: recorded.text.clone(),
            signature: recorded.signature.clone(),
        })
    }
}

/// RFC 3339.
pub(super) fn time(at: Wall) -> String {
    at.rfc3339_millis()
}
