//! What exactly is proposed? The one text that people sign the digest of. It is written once and never edited; this module
//! refuses a proposal whose words for people are not those of its parameters.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::action::{Action, Parameters, form};
use super::canonical::{self, Malformed, SCHEMA, digest, named, unreadable};
use super::words;
use crate::clock::Wall;
use crate::crypto::sha256;
use crate::names::{KeyringName, PrincipalName, StoreId};
use crate::policy::approval;
use crate::policy::json;
use crate::policy::separation::{Separation, Tier};

/// A ceremony: a ULID, so that ids sort by the time at which they were made (CER-3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CeremonyId(String);

/// What was true when a proposal was written, and must still be when it is carried out (CER-14).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preconditions {
    /// The digest of the roster.
    pub roster: String,
    /// The digest of the separation of duties.
    pub separation: String,
    /// The digest of the policies.
    pub policy: String,
    /// The digest of the guarded settings; empty where there are none.
    pub settings: String,
    /// Digests of what is changed, by name.
    pub targets: BTreeMap<String, String>,
}

/// The audit log when a proposal was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The name of the log.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
    /// The root over them.
    #[serde(with = "digest")]
    pub root: [u8; 32],
}

/// What a proposal is made of; the rest follows from it and from the separation of duties.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id.
    pub ceremony: CeremonyId,
    /// What is to be done.
    pub action: Action,
    /// With what.
    pub parameters: Parameters,
    /// Why: a code.
    pub reason: String,
    /// The number of a ticket, or nothing.
    pub ticket: String,
    /// Who proposes it.
    pub initiator: PrincipalName,
    /// The store that it is for.
    pub store: StoreId,
    /// Whether that is a production store.
    pub production: bool,
    /// The newest change of the store.
    pub store_head: String,
    /// The log.
    pub log: LogHead,
    /// What must still be true.
    pub preconditions: Preconditions,
    /// Random bytes.
    pub nonce: [u8; 16],
    /// From when on.
    pub now: Wall,
}

/// A proposal. Fields are public: it is a claim until people have signed its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    schema: u64,
    /// Its id.
    #[serde(with = "named")]
    pub ceremony: CeremonyId,
    /// What is to be done.
    #[serde(with = "named")]
    pub action: Action,
    /// With what.
    pub parameters: Parameters,
    /// What that means, in words.
    pub effect: String,
    /// Why: a code.
    pub reason: String,
    /// The number of a ticket, or nothing.
    pub ticket: String,
    /// Who proposes it.
    #[serde(with = "named")]
    pub initiator: PrincipalName,
    /// The store that it is for.
    pub store: String,
    /// `production` or `development`.
    pub environment: String,
    /// The newest change of the store when it was written.
    pub store_head: String,
    /// The log when it was written.
    pub log: LogHead,
    /// What must still be true.
    #[serde(flatten)]
    pub preconditions: Preconditions,
    /// How much is at stake.
    #[serde(with = "named")]
    pub tier: Tier,
    /// People beside the initiator.
    pub approvals: u32,
    /// Groups that they are of.
    pub groups: u32,
    /// Reporting lines that they are of.
    pub lines: u32,
    /// Seconds that it waits after the quorum was met.
    pub cool_off: u64,
    /// From when on, in seconds since 1970.
    pub not_before: u64,
    /// Until when, in seconds since 1970.
    pub not_after: u64,
    /// Random, so that no two proposals have one digest.
    pub nonce: String,
}

/// Why there is no such proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// Not a text that this version writes.
    #[error("not a proposal: {0}")]
    Malformed(#[from] Malformed),
    /// A parameter is wrong: whoever proposes corrects it.
    #[error("{0}")]
    Parameters(String),
    /// Another field is wrong.
    #[error("the field {field} of the proposal must be {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        what: String,
    },
}

impl Proposal {
    /// Writes a proposal under the rules of a separation of duties.
    pub fn draft(draft: Draft, separation: &Separation) -> Result<Self, ProposalError> {
        let tier = draft.action.tier();
        let rule = separation.rule(tier);
        let not_before = draft.now.0 / 1_000_000;
        let proposal = Self {
            schema: SCHEMA,
            ceremony: draft.ceremony,
            action: draft.action,
            effect: draft.action.effect(&draft.parameters),
            parameters: draft.parameters,
            reason: draft.reason,
            ticket: draft.ticket,
            initiator: draft.initiator,
            store: draft.store.to_string(),
            environment: environment(draft.production).to_owned(),
            store_head: draft.store_head,
            log: draft.log,
            preconditions: draft.preconditions,
            tier,
            approvals: rule.approvals,
            groups: rule.groups,
            lines: rule.lines,
            cool_off: rule.cool_off.as_secs(),
            not_before,
            not_after: not_before.saturating_add(rule.expires.as_secs()),
            nonce: hex::encode(draft.nonce),
        };
        proposal.check()?;
        proposal.check_rule(separation)?;
        Ok(proposal)
    }

    /// Reads the canonical text and nothing else (CER-1, CER-2).
    pub fn parse(text: &str) -> Result<Self, ProposalError> {
        if !json::printable(text) {
            return Err(unreadable("it holds something other than printable ASCII").into());
        }
        let proposal: Self = canonical::read(text, MOST_BYTES)?;
        proposal.check()?;
        Ok(proposal)
    }

    /// Its one text.
    pub fn canonical(&self) -> String {
        canonical::write(self)
    }

    /// What people sign: SHA-256("keyward/proposal/v1" 00 || text) (CER-6).
    pub fn digest(&self) -> [u8; 32] {
        sha256(&[b"keyward/proposal/v1\0", self.canonical().as_bytes()])
    }

    /// The digest as people read it aloud.
    pub fn words(&self) -> String {
        words::encode(&self.digest())
    }

    /// The people whom it concerns.
    pub fn concerns(&self) -> Vec<PrincipalName> {
        self.action.concerns(&self.parameters)
    }

    /// The keyring that it is about.
    pub fn keyring(&self) -> Option<KeyringName> {
        self.action.keyring(&self.parameters)
    }

    /// Whether it is for a production store.
    pub fn is_production(&self) -> bool {
        self.environment == environment(true)
    }

    /// The namespace that its decisions are signed for.
    pub fn namespace(&self) -> &'static str {
        approval::namespace(self.is_production())
    }

    /// What a proposal must be in itself (CER-4, CER-5, CER-7).
    fn check(&self) -> Result<(), ProposalError> {
        self.action.check(&self.parameters).map_err(ProposalError::Parameters)?;
        must(self.effect == self.action.effect(&self.parameters), "effect", "what its parameters say")?;
        must(self.tier == self.action.tier(), "tier", "that of its action")?;
        must(form::is_code(&self.reason), "reason", "a code of at most 64 of a-z, 0-9, _ and -")?;
        let ticket = self.ticket.is_empty() || form::is_label(&self.ticket);
        must(ticket, "ticket", "empty, or 1 to 128 letters, digits or any of . _ / # : -")?;
        must(form::is_hex(&self.store, 32), "store", "the id of a store")?;
        let known = [environment(true), environment(false)].contains(&self.environment.as_str());
        must(known, "environment", "production or development")?;
        must(form::is_hex(&self.nonce, 32), "nonce", "32 hexadecimal digits")?;
        must(self.not_before < self.not_after, "not_after", "later than not_before")?;
        must(self.not_after < YEAR_9999, "not_after", "before the year 9999")?;
        must(short(&self.store_head) && short(&self.log.origin), "store_head", "at most 255 bytes, as log.origin")?;
        self.preconditions.check()?;
        // What a proposal cannot say, nobody could read back.
        let text = self.canonical();
        must(
            text.len() <= MOST_BYTES && json::printable(&text),
            "parameters",
            "printable ASCII and 32 KiB with all else",
        )
    }

    /// That it asks for what the separation of duties asks for, no more and no less (CER-7).
    pub fn check_rule(&self, separation: &Separation) -> Result<(), ProposalError> {
        let rule = separation.rule(self.tier);
        must(self.approvals == rule.approvals, "approvals", &rule.approvals.to_string())?;
        must(self.groups == rule.groups, "groups", &rule.groups.to_string())?;
        must(self.lines == rule.lines, "lines", &rule.lines.to_string())?;
        must(self.cool_off == rule.cool_off.as_secs(), "cool_off", &rule.cool_off.as_secs().to_string())?;
        let life = self.not_after.saturating_sub(self.not_before);
        must(
            life <= rule.expires.as_secs(),
            "not_after",
            &format!("{} s after not_before at most", rule.expires.as_secs()),
        )?;
        if self.action == Action::BreakGlassOpen {
            let most = separation.break_glass().use_for.as_secs() / 60;
            let minutes = self.parameters.get("minutes").and_then(|minutes| minutes.parse::<u64>().ok());
            must(minutes.is_some_and(|minutes| minutes <= most), "parameters", &format!("for {most} minutes at most"))?;
        }
        Ok(())
    }
}

impl Preconditions {
    fn check(&self) -> Result<(), ProposalError> {
        let digests = [("roster", &self.roster), ("separation", &self.separation), ("policy", &self.policy)];
        for (field, digest) in digests {
            must(form::is_hex(digest, 64), field, "a SHA-256 (64 hexadecimal digits)")?;
        }
        let settings = self.settings.is_empty() || form::is_hex(&self.settings, 64);
        must(settings, "settings", "empty or a SHA-256 (64 hexadecimal digits)")?;
        let named = self.targets.iter().all(|(name, digest)| form::is_label(name) && form::is_hex(digest, 64));
        must(named, "targets", "names with SHA-256 digests")
    }
}

impl CeremonyId {
    /// An id of this time and ten random bytes.
    pub fn new(now: Wall, random: [u8; 10]) -> Self {
        // 48 bits of milliseconds: until the year 10889.
        let millis = u128::from(now.0 / 1_000) & ((1 << 48) - 1);
        let low = random.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        let number = (millis << 80) | low;
        let digit = |place: u32| {
            let digit = usize::try_from((number >> (5 * place)) & 31).unwrap_or(0);
            CROCKFORD.chars().nth(digit).unwrap_or('0')
        };
        Self((0..26).rev().map(digit).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CeremonyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a ceremony: 26 of 0-9 and A-Z without I, L, O and U")]
pub struct NotAnId;

impl FromStr for CeremonyId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        // 26 digits hold 130 bits; an id has 128.
        let first = text.chars().next().is_some_and(|first| first <= '7');
        let fine = text.len() == 26 && first && text.chars().all(|digit| CROCKFORD.contains(digit));
        if fine { Ok(Self(text.to_owned())) } else { Err(NotAnId) }
    }
}

/// The word for an environment in documents.
pub(super) const fn environment(production: bool) -> &'static str {
    if production { "production" } else { "development" }
}

fn must(is: bool, field: &'static str, what: &str) -> Result<(), ProposalError> {
    if is { Ok(()) } else { Err(ProposalError::Field { field, what: what.to_owned() }) }
}

fn short(text: &str) -> bool {
    text.len() <= 255
}

/// Room for every parameter, and far more than any has.
pub const MOST_BYTES: usize = 32 * 1024;
const CROCKFORD: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 9999-01-01 in seconds: later times have more digits in decisions.
const YEAR_9999: u64 = 253_370_764_800;
