//! Do enough people agree? Signed decisions are counted here, and what is enough is a Quorum. A leaf file: nothing else can
//! build one, and this module never looks at what the Quorum is then used for.

use crate::clock::{Deadline, Wall};
use crate::names::{KeyringName, PrincipalName};

use super::approval::VerifiedDecision;
use super::roster::Roster;
use super::separation::{Role, Separation, Tier};

/// What is decided about.
pub struct Matter<'a> {
    /// The id of the ceremony.
    pub ceremony: &'a str,
    /// The digest of its proposal.
    pub digest: [u8; 32],
    /// How much is at stake.
    pub tier: Tier,
    /// The action's name.
    pub action: &'a str,
    /// The keyring, where there is one.
    pub keyring: Option<KeyringName>,
    /// Who proposes.
    pub initiator: &'a PrincipalName,
    /// The people whom it concerns: they neither approve nor deny it.
    pub concerns: &'a [PrincipalName],
    /// Of a development store, where keys outside of tokens count.
    pub rehearsal: bool,
}

/// How a count went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallied {
    /// People who approve and count.
    pub have: u32,
    /// How many there must be.
    pub needed: u32,
    /// Groups that they are of.
    pub groups: u32,
    /// Reporting lines that they are of.
    pub lines: u32,
    /// What is missing, in words; nothing where the quorum is met.
    pub missing: Vec<String>,
    /// Who approved and does not count, and why.
    pub left_out: Vec<(PrincipalName, &'static str)>,
}

impl Tallied {
    /// Whether nothing is missing.
    pub fn is_met(&self) -> bool {
        self.missing.is_empty()
    }
}

/// The agreement of enough people to one proposal. Not Clone, not Default: one count, one quorum, one deed.
#[must_use]
#[derive(Debug)]
pub struct Quorum {
    ceremony: String,
    digest: [u8; 32],
    tier: Tier,
    action: String,
    keyring: Option<KeyringName>,
    initiator: PrincipalName,
    people: Vec<PrincipalName>,
    rehearsal: bool,
    deadline: Deadline,
}

impl Quorum {
    /// The ceremony that it is of.
    pub fn ceremony(&self) -> &str {
        &self.ceremony
    }

    /// The proposal that it is bound to.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How much was at stake.
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// The action of the ceremony.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// On which keyring.
    pub const fn keyring(&self) -> Option<&KeyringName> {
        self.keyring.as_ref()
    }

    /// Who proposed it.
    pub const fn initiator(&self) -> &PrincipalName {
        &self.initiator
    }

    /// Who approved it, the initiator not among them.
    pub fn people(&self) -> &[PrincipalName] {
        &self.people
    }

    /// Whether it is good in a development store only.
    pub const fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// Until when the deed must be done.
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// Who may propose at a tier: whoever holds one of these roles.
pub fn proposers(tier: Tier, action: &str) -> &'static [Role] {
    match (tier, action) {
        (Tier::BreakGlass, _) => &[Role::Responder],
        (_, "settings.change") => &[Role::KeyAdministrator, Role::PolicyOfficer],
        _ => &[Role::KeyAdministrator],
    }
}

/// Counts, and never mints. `decisions` are all of the ceremony's that were verified as of now: the initiator's `propose` is
/// one of them and must be there; a `deny` of somebody who may approve, or the initiator's `withdraw`, stops it.
pub fn tally(
    _separation: &Separation,
    _roster: &Roster,
    _matter: &Matter<'_>,
    _decisions: &[VerifiedDecision],
    _now: Wall,
) -> Tallied {
    Tallied { have: 0, needed: 0, groups: 0, lines: 0, missing: vec!["unfinished".to_owned()], left_out: Vec::new() }
}

/// Counts as [`tally`], and mints where nothing is missing.
pub fn count(
    separation: &Separation,
    roster: &Roster,
    matter: &Matter<'_>,
    decisions: &[VerifiedDecision],
    now: Wall,
    deadline: Deadline,
) -> Result<Quorum, Tallied> {
    let tallied = tally(separation, roster, matter, decisions, now);
    if tallied.is_met() {
        return Ok(Quorum {
            ceremony: matter.ceremony.to_owned(),
            digest: matter.digest,
            tier: matter.tier,
            action: matter.action.to_owned(),
            keyring: matter.keyring.clone(),
            initiator: matter.initiator.clone(),
            people: Vec::new(),
            rehearsal: matter.rehearsal,
            deadline,
        });
    }
    Err(tallied)
}

/// A change of the separation file needs the quorum of the old one and of the new one.
pub fn count_change(
    (old, new): (&Separation, &Separation),
    roster: &Roster,
    matter: &Matter<'_>,
    decisions: &[VerifiedDecision],
    now: Wall,
    deadline: Deadline,
) -> Result<Quorum, Tallied> {
    let tallied = tally(new, roster, matter, decisions, now);
    if tallied.is_met() { count(old, roster, matter, decisions, now, deadline) } else { Err(tallied) }
}

/// Whether a review of a broken glass counts: by a reviewer who neither broke it nor approved that.
pub fn check_review(
    _separation: &Separation,
    _roster: &Roster,
    _matter: &Matter<'_>,
    _approvers: &[PrincipalName],
    _review: &VerifiedDecision,
) -> Result<(), &'static str> {
    Err("unfinished")
}
