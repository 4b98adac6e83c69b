//! How does a ceremony begin? keyward writes the proposal, from what is asked and from what is true now; its initiator
//! signs it, and only then it is there.

use crate::audit::Event;
use crate::ceremony::action::Action as Deed;
use crate::ceremony::machine::Ceremony;
use crate::ceremony::proposal::{CeremonyId, Draft, LogHead, Proposal};
use crate::control::custody::{DraftProposal, Effect, SignedDecision, effect};
use crate::keyring::KeyState;
use crate::keyring::documents::{CEREMONIES, DocumentWrite, Leave};
use crate::keyring::life::Step;
use crate::policy::Permit;

use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::Asked;
use super::course::{counted, done, rejected};
use super::desk::Custody;
use super::view::{CustodyAnswer, ProposalView};

impl Service {
    /// The proposal that this would be. Nothing is kept of it.
    pub(super) async fn draft(&self, draft: DraftProposal) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let malformed = |why: String| Refusal::because(Code::MalformedRequest, why);
        let DraftProposal { action, parameters, reason, ticket, initiator } = draft;
        let deed: Deed = action.parse().map_err(|error| malformed(format!("{error}")))?;
        deed.check(&parameters).map_err(malformed)?;
        // What this keyward cannot carry out it does not let people sign.
        let asked = effect(deed.name(), &parameters).map_err(malformed)?;
        self.feasible(&custody, &asked).await?;
        let preconditions = self.preconditions(&custody, deed, &parameters).await?;
        let draft = Draft {
            ceremony: CeremonyId::new(self.wall()?, self.random()?),
            action: deed,
            parameters,
            reason,
            ticket,
            initiator: initiator.parse().map_err(|error| malformed(format!("{error}")))?,
            store: self.keyrings.store().ok_or(Code::Unavailable)?,
            production: !custody.rehearsal,
            store_head: self.keyrings.head().map(|head| head.to_string()).unwrap_or_default(),
            log: self.log_head()?,
            preconditions,
            nonce: self.random()?,
            now: self.wall()?,
        };
        let proposal = Proposal::draft(draft, &custody.separation).map_err(|error| malformed(error.to_string()))?;
        let digest = proposal.digest();
        Ok(CustodyAnswer::Proposal(ProposalView {
            proposal: proposal.canonical(),
            digest: hex::encode(digest),
            words: proposal.words(),
            effect: proposal.effect.clone(),
            ceremony: proposal.ceremony.to_string(),
            not_after: proposal.not_after,
            namespace: proposal.namespace(),
        }))
    }

    /// Keeps a proposal that its initiator signed.
    pub(super) async fn propose(
        &self,
        text: &str,
        signed: &SignedDecision,
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let malformed = |why: String| Refusal::because(Code::MalformedRequest, why);
        let proposal = Proposal::parse(text).map_err(|error| malformed(error.to_string()))?;
        self.check_fresh(&proposal, &custody).await?;
        let id = proposal.ceremony.to_string();
        let facts = facts_of(&proposal);
        let around = self.around_proposal(&custody, &proposal).await?;
        let counter = |fingerprint: &str| custody.counter(fingerprint);
        let ceremony =
            Ceremony::propose(proposal, &signed.decision, &signed.signature, &around.world(&custody, &counter));
        // A proposal that is not kept is recorded with what it was about.
        asked.1.facts.extend(facts.iter().filter(|(name, _)| *name != "keyring").cloned());
        let ceremony = ceremony.map_err(|rejection| rejected(&rejection, asked.1))?;
        let mut writes = vec![DocumentWrite { name: format!("{CEREMONIES}{id}"), expect: 0, body: ceremony.body() }];
        writes.extend(counted(&custody, signed)?);
        self.write_documents(writes, Leave::Permit(permit), (Event::CeremonyProposed, facts), asked).await?;
        Ok(done(&id, self.look_at(&id).await))
    }

    /// Whether a proposal that comes back is one that would be drafted now.
    async fn check_fresh(&self, proposal: &Proposal, custody: &Custody) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::because(Code::NotApproved, format!("{why}: draft it again")));
        let now = self.wall()?.0 / 1_000_000;
        if self.keyrings.store().map(|store| store.to_string()).as_deref() != Some(&proposal.store) {
            return refuse("it is for another store");
        }
        if proposal.is_production() == custody.rehearsal {
            return refuse("it is for another environment");
        }
        if proposal.not_before > now.saturating_add(SKEW) || proposal.not_after <= now {
            return refuse("its time is over, or has not come");
        }
        proposal.check_rule(&custody.separation).or_else(|error| refuse(&error.to_string()))?;
        let asked = effect(proposal.action.name(), &proposal.parameters)
            .map_err(|why| Refusal::because(Code::MalformedRequest, why))?;
        self.feasible(custody, &asked).await?;
        let current = self.preconditions(custody, proposal.action, &proposal.parameters).await?;
        if current == proposal.preconditions { Ok(()) } else { refuse("what it rests on has changed since") }
    }

    /// What could not be carried out as things are nobody is asked to sign.
    pub(super) async fn feasible(&self, custody: &Custody, effect: &Effect) -> Result<(), Refusal> {
        match effect {
            Effect::Enrol { person, keys, acknowledgement } => {
                self.enrolled(custody, "draft", person, keys, *acknowledgement).map(drop)
            }
            Effect::LogKey(origin) => self.is_our_log(origin),
            Effect::Settings(settings) => super::settings::deed(settings, custody, "draft").map(drop),
            Effect::Step(step) if matches!(step.step, Step::Deactivate | Step::ScheduleDestroy { .. }) => {
                let view = self.keyrings.find(&step.keyring).await.map_err(|error| unavailable(&error))?;
                // A version of a look-up key that is deactivated is gone: other words, and another tier.
                if view.as_ref().is_some_and(|view| view.lookup_of(step.version).is_some()) {
                    let why = "the version is of a look-up key, which only lookup.retire ends";
                    return Err(Refusal::because(Code::MalformedRequest, why));
                }
                let suspended = view.as_ref().is_some_and(|view| {
                    view.versions.iter().any(|one| one.id == step.version && one.state == KeyState::Suspended)
                });
                // It would open again, and that is decided at the tier of resuming.
                let why =
                    "the version is suspended, and deactivating would let it open again: propose key.resume first";
                if suspended && step.step == Step::Deactivate {
                    Err(Refusal::because(Code::KeyState, why))
                } else {
                    Ok(())
                }
            }
            Effect::Unlock(what) => {
                let none = || Refusal::because(Code::NoSuchKey, format!("{what} is not locked"));
                self.locks_now().await?.digest(what).map(drop).ok_or_else(none)
            }
            Effect::Restore(backup) => self.awaited(custody, backup).map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        crate::keyring::documents::random(&mut bytes)
            .map_err(|_| Refusal::because(Code::Unavailable, "no randomness"))?;
        Ok(bytes)
    }

    pub(super) fn log_head(&self) -> Result<LogHead, Refusal> {
        let head = self.log.head();
        Ok(LogHead { origin: self.log.verifier_key().origin().as_str().to_owned(), size: head.size, root: head.root })
    }
}

/// A drafted proposal begins a moment before it is handed in; clocks of one machine differ by nothing.
const SKEW: u64 = 60;

/// What records say of a proposal.
pub(super) fn facts_of(proposal: &Proposal) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("action", proposal.action.name().to_owned()),
        ("ceremony", proposal.ceremony.to_string()),
        ("person", proposal.initiator.to_string()),
        ("proposal", hex::encode(proposal.digest())),
        ("tier", proposal.tier.code().to_owned()),
    ];
    if !proposal.ticket.is_empty() {
        facts.push(("ticket", proposal.ticket.clone()));
    }
    if let Some(keyring) = proposal.keyring() {
        facts.push(("keyring", keyring.to_string()));
    }
    facts
}
