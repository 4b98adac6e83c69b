//! Do enough people agree? Signed decisions are counted here, and what is enough is a Quorum. A leaf file: nothing else can
//! build one, and this module never looks at what the Quorum is then used for.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Deadline, Wall};
use crate::names::{KeyringName, PrincipalName};

use super::approval::{Decision, VerifiedDecision, Word};
use super::roster::{Credential, Roster};
use super::separation::{Role, Separation, Tier, TierRule};

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
    fn mint(matter: &Matter<'_>, people: BTreeSet<PrincipalName>, deadline: Deadline) -> Self {
        Self {
            ceremony: matter.ceremony.to_owned(),
            digest: matter.digest,
            tier: matter.tier,
            action: matter.action.to_owned(),
            keyring: matter.keyring.clone(),
            initiator: matter.initiator.clone(),
            people: people.into_iter().collect(),
            rehearsal: matter.rehearsal,
            deadline,
        }
    }

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

/// Counts, and never mints. `decisions` are all of the ceremony's, verified as of now: the initiator's `propose` is one of
/// them and must be there; a `deny` of somebody who may approve, or the initiator's `withdraw`, stops it.
pub fn tally(
    separation: &Separation,
    roster: &Roster,
    matter: &Matter<'_>,
    decisions: &[VerifiedDecision],
    now: Wall,
) -> Tallied {
    Count { separation, roster, matter, rule: separation.rule(matter.tier), now }.tally(decisions).0
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
    let count = Count { separation, roster, matter, rule: separation.rule(matter.tier), now };
    match count.tally(decisions) {
        (tallied, people) if tallied.is_met() => Ok(Quorum::mint(matter, people, deadline)),
        (tallied, _) => Err(tallied),
    }
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

/// Whether the review of a broken glass counts: a reviewer's, who is not the one who broke it. `matter` is that of the
/// break-glass.
pub fn check_review(
    separation: &Separation,
    roster: &Roster,
    matter: &Matter<'_>,
    review: &VerifiedDecision,
    now: Wall,
) -> Result<(), &'static str> {
    let count = Count { separation, roster, matter, rule: separation.rule(matter.tier), now };
    count.in_force(review, Word::Review)?;
    if !separation.has(review.person(), Role::Reviewer) {
        return Err("is not a reviewer");
    }
    if review.person() == matter.initiator {
        return Err("broke the glass, and somebody else reviews that");
    }
    count.key_counts(review)
}

/// One counting.
struct Count<'a> {
    separation: &'a Separation,
    roster: &'a Roster,
    matter: &'a Matter<'a>,
    rule: TierRule,
    now: Wall,
}

impl Count<'_> {
    fn tally(&self, decisions: &[VerifiedDecision]) -> (Tallied, BTreeSet<PrincipalName>) {
        let (mut people, mut left_out) = (BTreeSet::new(), BTreeMap::new());
        for approval in decisions.iter().filter(|decision| decision.decision().word == Word::Approve) {
            match self.counts(approval) {
                Ok(()) => drop(people.insert(approval.person().clone())),
                Err(why) => drop(left_out.insert(approval.person().clone(), why)),
            }
        }
        // A second key of somebody who counts with the first changes nothing.
        left_out.retain(|person, _| !people.contains(person));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut tallied = Tallied {
            have: number(people.len()),
            needed: self.rule.approvals,
            groups: number(self.separation.count_groups(&people)),
            lines: number(self.separation.count_lines(&people)),
            missing: Vec::new(),
            left_out: left_out.into_iter().collect(),
        };
        tallied.missing = self.missing(&tallied, decisions);
        (tallied, people)
    }

    fn missing(&self, tallied: &Tallied, decisions: &[VerifiedDecision]) -> Vec<String> {
        let mut missing: Vec<_> = decisions.iter().filter_map(|decision| self.stopped_by(decision)).collect();
        if self.matter.rehearsal != self.roster.is_rehearsal() {
            missing.push(format!("the roster is of a store in {} and the ceremony is not", self.roster.environment));
        }
        missing.extend(self.not_proposed(decisions));
        let TierRule { approvals, groups, lines, .. } = self.rule;
        if tallied.have < approvals {
            let more = approvals - tallied.have;
            let custodians = if more == 1 { "custodian" } else { "custodians" };
            missing.push(format!("{more} more {custodians} must approve: {approvals} are needed"));
        }
        if approvals > 0 && tallied.groups < groups {
            let have = tallied.groups;
            missing.push(format!(
                "a custodian of another group must approve: {groups} groups are needed, and it is {have}"
            ));
        }
        if approvals > 0 && tallied.lines < lines {
            let have = tallied.lines;
            missing.push(format!(
                "a custodian of another reporting line must approve, neither above nor below the others: {lines} are needed, \
                 and it is {have}"
            ));
        }
        missing
    }

    /// Why an approval does not count.
    fn counts(&self, approval: &VerifiedDecision) -> Result<(), &'static str> {
        let credential = self.in_force(approval, Word::Approve)?;
        let person = approval.person();
        if person == self.matter.initiator {
            return Err("proposed it, and the initiator does not approve");
        }
        self.may_judge(person)?;
        // Of a key enrolled in the future the clock was set back: it is too young as well.
        let age = self.now.0.checked_sub(credential.enrolled.0);
        if self.matter.tier == Tier::Three && age.is_none_or(|age| age < PROBATION) {
            return Err("signed with a key that is enrolled for less than 24 hours, too young for tier 3");
        }
        self.key_counts(approval)
    }

    fn may_judge(&self, person: &PrincipalName) -> Result<(), &'static str> {
        if !self.separation.has(person, Role::Custodian) {
            return Err("is not a custodian");
        }
        if self.matter.concerns.contains(person) {
            return Err("is concerned by it");
        }
        Ok(())
    }

    /// Whether it is a decision of this kind about this proposal, by a key that is still the person's.
    fn in_force(&self, decision: &VerifiedDecision, word: Word) -> Result<&Credential, &'static str> {
        let Decision { ceremony, digest, word: said, person, reason: _, expires_s } = decision.decision();
        if ceremony != self.matter.ceremony || *digest != self.matter.digest {
            return Err("decided about another proposal");
        }
        if *said != word {
            return Err("decided something else");
        }
        if expires_s.saturating_mul(1_000_000) <= self.now.0 {
            return Err("signed a decision that has expired");
        }
        self.credential(person, decision.key_fingerprint())
    }

    fn credential(&self, person: &PrincipalName, fingerprint: &str) -> Result<&Credential, &'static str> {
        let member = self.roster.member(person).ok_or("is not on the roster")?;
        let held = member.credentials.iter().find(|held| held.key.fingerprint() == fingerprint);
        match held {
            None => Err("signed with a key that is not on the roster"),
            Some(held) if held.revoked.is_some() => Err("signed with a key that was revoked"),
            Some(held) => Ok(held),
        }
    }

    /// Whether the tier takes a key of this kind from this person.
    fn key_counts(&self, decision: &VerifiedDecision) -> Result<(), &'static str> {
        let excepted = self.matter.rehearsal || self.separation.software_keys_count_for(decision.person());
        if !self.rule.hardware || excepted || decision.hardware() {
            return Ok(());
        }
        Err("signed without a token that saw a touch and a PIN or fingerprint")
    }

    /// What is missing of the proposal itself: the initiator's signature is the first of those that a deed needs.
    fn not_proposed(&self, decisions: &[VerifiedDecision]) -> Option<String> {
        let initiator = self.matter.initiator;
        let roles = proposers(self.matter.tier, self.matter.action);
        if !roles.iter().any(|role| self.separation.has(initiator, *role)) {
            let roles: Vec<_> = roles.iter().map(|role| role.code()).collect();
            return Some(format!("{initiator} may not propose this: that needs the role {}", roles.join(" or ")));
        }
        let proposals = decisions.iter().filter(|d| d.decision().word == Word::Propose && d.person() == initiator);
        let mut why = "has not signed the proposal";
        for proposal in proposals {
            match self.in_force(proposal, Word::Propose).and_then(|_| self.key_counts(proposal)) {
                Ok(()) => return None,
                Err(reason) => why = reason,
            }
        }
        Some(format!("{initiator} must propose it: {initiator} {why}"))
    }

    /// Who stopped it. Neither age nor kind of the key matters here: stopping is easier than going on, and a stop does not
    /// expire.
    fn stopped_by(&self, decision: &VerifiedDecision) -> Option<String> {
        let Decision { ceremony, digest, word, person, .. } = decision.decision();
        let ours = ceremony == self.matter.ceremony && *digest == self.matter.digest;
        if !ours || self.credential(person, decision.key_fingerprint()).is_err() {
            return None;
        }
        match word {
            Word::Deny if person != self.matter.initiator && self.may_judge(person).is_ok() => {
                Some(format!("{person} denied it: it needs a new proposal"))
            }
            Word::Withdraw if person == self.matter.initiator => {
                Some(format!("{person} withdrew it: it needs a new proposal"))
            }
            _ => None,
        }
    }
}

/// In microseconds.
const PROBATION: u64 = 24 * 3_600 * 1_000_000;
