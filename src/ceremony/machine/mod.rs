//! In which state is a ceremony, and what may happen next? Ceremony, event and world in; the ceremony after it or a typed
//! [`Rejection`] out. Nothing is believed because it was believed before: every signature is verified again, every digest
//! compared again, whenever it matters. This module never carries anything out.

mod body;
mod rejection;
mod state;

use std::collections::BTreeMap;

use crate::clock::{Deadline, Wall};
use crate::names::PrincipalName;
use crate::policy::Quorum;
use crate::policy::approval::{self, Decision, Desk, VerifiedDecision, Word};
use crate::policy::quorum::{self, Tallied};
use crate::policy::roster::Roster;
use crate::policy::separation::{Role, Separation, Tier};

use super::action::Action;
use super::canonical::Malformed;
use super::proposal::Proposal;

pub use body::{End, Ended, Executing, Moment, Recorded};
pub use rejection::Rejection;
pub use state::State;

/// A proposal with what people decided about it and what became of it (CER-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceremony {
    proposal: Proposal,
    digest: [u8; 32],
    opened: Moment,
    decisions: Vec<Recorded>,
    met: Option<Moment>,
    executing: Option<Executing>,
    end: Option<End>,
}

/// What happens to a ceremony.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A person approves, denies or withdraws.
    Decide {
        /// What was signed.
        text: &'a str,
        /// The armoured signature.
        signature: &'a str,
    },
    /// Time passed or the world changed: what is over is recorded as such.
    Observe,
    /// It is carried out from now on; only once.
    Start {
        /// By whom.
        by: PrincipalName,
        /// The record of the intent.
        intent: u64,
    },
    /// How carrying it out ended.
    Finish {
        /// How.
        outcome: Outcome,
        /// A closed code; of a deed that was done, nothing.
        why: Option<String>,
    },
}

/// How carrying out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Executed,
    /// Not, or not wholly, done: a new ceremony follows.
    Failed,
    /// Given up before anything was changed.
    Aborted,
}

/// What is true now.
pub struct World<'a> {
    /// UTC.
    pub now: Wall,
    /// Microseconds of the time that the fleet counted while its clocks were certain: a clock that is set forward shortens
    /// nothing.
    pub counted: u64,
    /// Whether the clock is certain.
    pub clock_synchronised: bool,
    /// Who may be what.
    pub separation: &'a Separation,
    /// The separation of duties that a change of it would bring.
    pub next_separation: Option<&'a Separation>,
    /// Who signs.
    pub roster: &'a Roster,
    /// The digest of the policies, hexadecimal.
    pub policy: &'a str,
    /// The digest of the guarded settings, hexadecimal; empty where there are none.
    pub settings: &'a str,
    /// The digests of what a proposal may name, hexadecimal; what is gone is not in it.
    pub targets: &'a BTreeMap<String, String>,
    /// Active custodians beyond the largest quorum.
    pub margin: i64,
    /// The last counter of a token, by the fingerprint of its key.
    pub last_counter: &'a dyn Fn(&str) -> Option<u32>,
}

impl Ceremony {
    /// Opens a ceremony by the initiator's signed decision with the word `propose` (CER-10).
    pub fn propose(proposal: Proposal, text: &str, signature: &str, world: &World<'_>) -> Result<Self, Rejection> {
        let mut ceremony = Self {
            digest: proposal.digest(),
            opened: world.moment(),
            proposal,
            decisions: Vec::new(),
            met: None,
            executing: None,
            end: None,
        };
        let decision = ceremony.verify(text, signature, world)?;
        ceremony.check_open(world)?;
        ceremony.proposal.check_rule(world.separation).map_err(Rejection::Proposal)?;
        let word = decision.decision().word;
        if word != Word::Propose {
            return Err(Rejection::WrongWord { said: word, wanted: "propose" });
        }
        if decision.person() != &ceremony.proposal.initiator {
            return Err(Rejection::NotTheInitiator { initiator: ceremony.proposal.initiator });
        }
        let roles = quorum::proposers(ceremony.proposal.tier, ceremony.proposal.action.name());
        if !roles.iter().any(|role| world.separation.has(decision.person(), *role)) {
            return Err(Rejection::MayNotPropose { roles });
        }
        ceremony.check_key(&decision, world)?;
        ceremony.record(word, (text, signature), world)?;
        Ok(ceremony)
    }

    /// What follows from an event.
    pub fn step(&self, event: Event<'_>, world: &World<'_>) -> Result<Self, Rejection> {
        match event {
            Event::Decide { text, signature } => self.decide(text, signature, world),
            Event::Observe => Ok(self.observe(world)),
            Event::Start { by, intent } => self.start(by, intent, world),
            Event::Finish { outcome, why } => self.finish(outcome, why, world),
        }
    }

    /// Counts the approvals again. Where carrying out has begun, as of then: with every key that is still the person's.
    pub fn tally(&self, world: &World<'_>) -> Tallied {
        self.tally_of(&self.decisions, world)
    }

    /// The authority for the deed: of a ceremony that is being carried out, every signature verified and counted again.
    pub fn quorum(&self, world: &World<'_>, deadline: Deadline) -> Result<Quorum, Rejection> {
        if self.end.is_some() || self.executing.is_none() {
            return Err(self.closed().unwrap_or(Rejection::NotExecuting));
        }
        let decisions = self.verified(&self.decisions, world);
        let (concerns, at) = (self.proposal.concerns(), self.counting_at(world));
        let matter = self.matter(&concerns);
        let counted = match self.next(world)? {
            Some(next) => {
                let both = (world.separation, next);
                quorum::count_change(both, world.roster, &matter, &decisions, at, deadline)
            }
            None => quorum::count(world.separation, world.roster, &matter, &decisions, at, deadline),
        };
        counted.map_err(|tallied| Rejection::NotReady { missing: tallied.missing })
    }

    fn decide(&self, text: &str, signature: &str, world: &World<'_>) -> Result<Self, Rejection> {
        self.closed().map_or(Ok(()), Err)?;
        if self.executing.is_some() {
            return Err(Rejection::Spent);
        }
        let decision = self.verify(text, signature, world)?;
        self.check_open(world)?;
        let mut after = self.clone();
        let (word, said) = (decision.decision().word, (text, signature));
        match word {
            Word::Approve => {
                self.check_approval(&decision, world)?;
                after.record(word, said, world)?;
                after.check_counted(&decision, world)?;
            }
            Word::Deny => {
                self.check_judge(decision.person(), world)?;
                after.record(word, said, world)?;
                after.stop(Ended::Denied, Some(decision.person()), &decision.decision().reason, world);
            }
            Word::Withdraw if *decision.person() == self.proposal.initiator => {
                after.record(word, said, world)?;
                after.stop(Ended::Withdrawn, Some(decision.person()), &decision.decision().reason, world);
            }
            Word::Withdraw => {
                return Err(Rejection::NotTheInitiator { initiator: self.proposal.initiator.clone() });
            }
            said @ (Word::Propose | Word::Review) => {
                return Err(Rejection::WrongWord { said, wanted: "approve, deny or withdraw" });
            }
        }
        Ok(after)
    }

    fn observe(&self, world: &World<'_>) -> Self {
        let mut after = self.clone();
        if self.end.is_none() && self.executing.is_none() {
            match self.check_open(world) {
                Err(Rejection::Expired) => after.stop(Ended::Expired, None, "", world),
                Err(Rejection::Superseded { by }) => after.stop(Ended::Superseded, None, &by, world),
                _ => {}
            }
        }
        after
    }

    /// Everything is looked at again (CER-14); then it is spent (CER-15).
    fn start(&self, by: PrincipalName, intent: u64, world: &World<'_>) -> Result<Self, Rejection> {
        self.closed().map_or(Ok(()), Err)?;
        if self.executing.is_some() {
            return Err(Rejection::Spent);
        }
        self.check_open(world)?;
        self.next(world)?;
        self.check_ready(world)?;
        let mut after = self.clone();
        after.executing = Some(Executing { at: self.now(world).0, by, intent });
        Ok(after)
    }

    fn finish(&self, outcome: Outcome, why: Option<String>, world: &World<'_>) -> Result<Self, Rejection> {
        self.closed().map_or(Ok(()), Err)?;
        let executing = self.executing.as_ref().ok_or(Rejection::NotExecuting)?;
        let kind = match outcome {
            Outcome::Executed => Ended::Executed,
            Outcome::Failed => Ended::Failed,
            Outcome::Aborted => Ended::Aborted,
        };
        let mut after = self.clone();
        after.stop(kind, Some(&executing.by), why.as_deref().unwrap_or_default(), world);
        Ok(after)
    }

    /// The signature, by a key that is still this person's, of a decision about this very proposal (CER-8, CER-9).
    fn verify(&self, text: &str, signature: &str, world: &World<'_>) -> Result<VerifiedDecision, Rejection> {
        let decision = Decision::parse(text).map_err(Rejection::Decision)?;
        if decision.ceremony != self.proposal.ceremony.as_str() {
            return Err(Rejection::WrongCeremony { ceremony: self.proposal.ceremony.to_string() });
        }
        if decision.digest != self.digest {
            return Err(Rejection::DigestMismatch { digest: hex::encode(self.digest) });
        }
        let known = self.decisions.iter().any(|known| known.text == text && known.signature == signature);
        if known {
            return Err(Rejection::Replayed);
        }
        let desk = self.desk(world, world.last_counter);
        approval::verify(&desk, text, signature, self.now(world)).map_err(Rejection::Decision)
    }

    fn desk<'a>(&self, world: &World<'a>, last_counter: &'a dyn Fn(&str) -> Option<u32>) -> Desk<'a> {
        Desk { roster: world.roster, separation: world.separation, namespace: self.proposal.namespace(), last_counter }
    }

    /// Those of the decisions that are still believed. A counter rose when its decision was taken; it is not asked again.
    fn verified(&self, decisions: &[Recorded], world: &World<'_>) -> Vec<VerifiedDecision> {
        let desk = self.desk(world, &|_| None);
        let at = self.counting_at(world);
        let verify = |one: &Recorded| approval::verify(&desk, &one.text, &one.signature, at).ok();
        decisions.iter().filter_map(verify).collect()
    }

    fn tally_of(&self, decisions: &[Recorded], world: &World<'_>) -> Tallied {
        let decisions = self.verified(decisions, world);
        let (concerns, at) = (self.proposal.concerns(), self.counting_at(world));
        let matter = self.matter(&concerns);
        let mut tallied = quorum::tally(world.separation, world.roster, &matter, &decisions, at);
        match self.next(world) {
            Ok(None) => {}
            Ok(Some(next)) => {
                let by_next = quorum::tally(next, world.roster, &matter, &decisions, at);
                tallied.needed = tallied.needed.max(by_next.needed);
                tallied.have = tallied.have.min(by_next.have);
                let asked =
                    by_next.missing.into_iter().map(|missing| format!("by the new separation of duties: {missing}"));
                tallied.missing.extend(asked);
            }
            Err(why) => tallied.missing.push(why.to_string()),
        }
        tallied
    }

    fn matter<'a>(&'a self, concerns: &'a [PrincipalName]) -> quorum::Matter<'a> {
        quorum::Matter {
            ceremony: self.proposal.ceremony.as_str(),
            digest: self.digest,
            tier: self.proposal.tier,
            action: self.proposal.action.name(),
            keyring: self.proposal.keyring(),
            initiator: &self.proposal.initiator,
            concerns,
            rehearsal: !self.proposal.is_production(),
        }
    }

    /// The separation of duties that the proposal would bring, which must agree as well.
    fn next<'a>(&self, world: &World<'a>) -> Result<Option<&'a Separation>, Rejection> {
        let wanted = match self.proposal.action {
            Action::SettingsChange => self.proposal.parameters.get("separation"),
            _ => None,
        };
        let Some(wanted) = wanted else { return Ok(None) };
        let next = world.next_separation.filter(|next| hex::encode(next.digest()) == *wanted);
        next.map(Some).ok_or_else(|| Rejection::SeparationMissing { digest: wanted.clone() })
    }

    fn check_approval(&self, decision: &VerifiedDecision, world: &World<'_>) -> Result<(), Rejection> {
        self.check_judge(decision.person(), world)?;
        self.check_key(decision, world)?;
        let earlier = self.verified(&self.decisions, world);
        let mut earlier = earlier.iter().filter(|known| known.decision().word == Word::Approve);
        match earlier.find(|known| known.person() == decision.person()) {
            None => Ok(()),
            Some(same) if same.key_fingerprint() == decision.key_fingerprint() => Err(Rejection::Replayed),
            Some(_) => Err(Rejection::SecondKey),
        }
    }

    /// Whether the person may approve or deny at all.
    fn check_judge(&self, person: &PrincipalName, world: &World<'_>) -> Result<(), Rejection> {
        if *person == self.proposal.initiator {
            return Err(Rejection::InitiatorApproves);
        }
        if !world.separation.has(person, Role::Custodian) {
            return Err(Rejection::NotACustodian);
        }
        if self.proposal.concerns().contains(person) { Err(Rejection::Concerned) } else { Ok(()) }
    }

    fn check_key(&self, decision: &VerifiedDecision, world: &World<'_>) -> Result<(), Rejection> {
        let wanted = world.separation.rule(self.proposal.tier).hardware && self.proposal.is_production();
        let excepted = world.separation.software_keys_count_for(decision.person());
        if !wanted || excepted || decision.hardware() { Ok(()) } else { Err(Rejection::HardwareKeyNeeded) }
    }

    /// An approval that would not count is refused, so that nobody believes to have approved.
    fn check_counted(&self, decision: &VerifiedDecision, world: &World<'_>) -> Result<(), Rejection> {
        let tallied = self.tally(world);
        let left_out = tallied.left_out.iter().find(|(person, _)| person == decision.person());
        left_out.map_or(Ok(()), |(_, why)| Err(Rejection::DoesNotCount { why }))
    }

    /// Keeps a decision, and marks the time at which the quorum was met: anew, if it had come to lack somebody (CER-12).
    fn record(&mut self, word: Word, (text, signature): (&str, &str), world: &World<'_>) -> Result<(), Rejection> {
        let had = !self.decisions.is_empty() && self.tally(world).is_met();
        let at = self.now(world).0;
        self.decisions.push(Recorded { text: text.to_owned(), signature: signature.to_owned(), at });
        // Approvals leave room for whoever ends it.
        let (most, bytes) = match word {
            Word::Deny | Word::Withdraw => (body::MOST_DECISIONS, body::MOST_BYTES - body::RESERVE),
            Word::Approve | Word::Propose | Word::Review => {
                (body::MOST_DECISIONS - 1, body::MOST_BYTES - body::RESERVE - body::LAST_WORD)
            }
        };
        if self.decisions.len() > most || self.body().len() > bytes {
            return Err(Rejection::TooManyDecisions);
        }
        if !(had && self.met.is_some()) {
            self.met = self.tally(world).is_met().then_some(Moment { wall: at, counted: world.counted });
        }
        Ok(())
    }

    fn stop(&mut self, kind: Ended, by: Option<&PrincipalName>, why: &str, world: &World<'_>) {
        let why = (!why.is_empty() && why != "-").then(|| why.to_owned());
        self.end = Some(End { kind, at: self.now(world).0, by: by.cloned(), why });
    }

    /// Time never runs backwards in a ceremony: no mark is set before an earlier one.
    fn now(&self, world: &World<'_>) -> Wall {
        let marks = [self.decisions.last().map(|last| last.at), self.executing.as_ref().map(|executing| executing.at)];
        Wall(marks.into_iter().flatten().fold(world.now.0.max(self.opened.wall), u64::max))
    }

    /// Approvals need to last until carrying out begins, not until it ends: it may be resumed days later.
    fn counting_at(&self, world: &World<'_>) -> Wall {
        self.executing.as_ref().map_or_else(|| self.now(world), |executing| Wall(executing.at))
    }
}

impl Ceremony {
    /// Reads the body of a document.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        body::parse(body)
    }

    /// The body of its document.
    pub fn body(&self) -> String {
        body::write(self)
    }

    /// What is proposed.
    pub const fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// What people sign.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// When it was opened.
    pub const fn opened(&self) -> Moment {
        self.opened
    }

    /// What people decided, in order.
    pub fn decisions(&self) -> &[Recorded] {
        &self.decisions
    }

    /// When the quorum was met.
    pub const fn met(&self) -> Option<Moment> {
        self.met
    }

    /// Who carries it out, and since when.
    pub const fn executing(&self) -> Option<&Executing> {
        self.executing.as_ref()
    }

    /// The same with this end, for whoever cannot see again what ended it.
    pub(in crate::ceremony) fn ended(self, end: End) -> Self {
        Self { end: Some(end), ..self }
    }

    /// What became of it.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}

impl World<'_> {
    const fn moment(&self) -> Moment {
        Moment { wall: self.now.0, counted: self.counted }
    }
}

/// Whether time must be certain for it.
const fn needs_certainty(tier: Tier) -> bool {
    !matches!(tier, Tier::One)
}
