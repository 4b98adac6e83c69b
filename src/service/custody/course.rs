//! How does a ceremony go on? Each decision is looked at by the pure machine of `ceremony`, with the world as it is now, and
//! what follows from it is written only if nobody else was faster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::Event;
use crate::ceremony::action::form::rules;
use crate::ceremony::machine::{Ceremony, Event as Step, Rejection, State, World};
use crate::ceremony::proposal::{Preconditions, Proposal};
use crate::control::custody::SignedDecision;
use crate::keyring::documents::{CEREMONIES, COUNTERS, Document, DocumentWrite, Leave};
use crate::policy::Permit;
use crate::policy::approval::Decision;
use crate::policy::separation::Separation;

use super::super::account::Account;
use super::super::data::unavailable;
use super::super::{Code, Refusal, Service};
use super::Asked;
use super::desk::{Custody, broken};
use super::propose::facts_of;
use super::view::{ApprovalsView, CeremonyView, CustodyAnswer, DecisionView, time};

/// What the machine is shown of the world, beside custody itself.
pub(super) struct Around {
    now: Preconditions,
    time: crate::keyring::Time,
    synchronised: bool,
    /// The separation of duties that the proposal would bring.
    next: Option<Arc<Separation>>,
}

impl Around {
    pub(super) fn world<'a>(&'a self, custody: &'a Custody, counter: &'a dyn Fn(&str) -> Option<u32>) -> World<'a> {
        World {
            now: self.time.wall,
            counted: self.time.counted,
            clock_synchronised: self.synchronised,
            separation: &custody.separation,
            next_separation: self.next.as_deref(),
            roster: &custody.roster,
            policy: &self.now.policy,
            settings: &self.now.settings,
            targets: &self.now.targets,
            margin: custody.separation.margin(&custody.roster),
            last_counter: counter,
        }
    }
}

impl Service {
    /// The world as a ceremony about this keyring sees it.
    pub(super) async fn around(&self, custody: &Custody, ceremony: &Ceremony) -> Result<Around, Refusal> {
        self.around_proposal(custody, ceremony.proposal()).await
    }

    pub(super) async fn around_proposal(&self, custody: &Custody, proposal: &Proposal) -> Result<Around, Refusal> {
        let time = self.keyrings.time().ok_or(Code::Unavailable)?;
        let synchronised = time.steady && self.custody_settings.clock_synchronised();
        let now = self.preconditions(custody, proposal.action, &proposal.parameters).await?;
        let next = proposal.parameters.get("rules").and_then(|text| rules(text));
        Ok(Around { now, time, synchronised, next })
    }

    /// A ceremony with the generation of its document.
    pub(super) async fn ceremony(&self, id: &str) -> Result<(u64, Ceremony), Refusal> {
        let name = format!("{CEREMONIES}{id}");
        let document = self.keyrings.document(&name).await.map_err(|error| unavailable(&error))?;
        let none = || Refusal::because(Code::NoSuchKey, "there is no such ceremony");
        let document = document.ok_or_else(none)?;
        let ceremony = Ceremony::parse(&document.body).map_err(|error| broken(&name, &error))?;
        Ok((document.generation, ceremony))
    }

    pub(super) async fn decide(
        &self,
        id: &str,
        signed: &SignedDecision,
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let (generation, ceremony) = self.ceremony(id).await?;
        let around = self.around(&custody, &ceremony).await?;
        let counter = |fingerprint: &str| custody.counter(fingerprint);
        // Also a decision that is not believed is recorded with what it is about, and with whom its text names.
        asked.1.facts.push(("ceremony", id.to_owned()));
        asked.1.facts.extend(decided(&signed.decision));
        let step = Step::Decide { text: &signed.decision, signature: &signed.signature };
        let after = ceremony.step(step, &around.world(&custody, &counter));
        let after = after.map_err(|rejection| rejected(&rejection, asked.1))?;
        let mut facts = facts_of(ceremony.proposal());
        facts.retain(|(name, _)| *name != "person");
        facts.extend(decided(&signed.decision));
        let mut writes =
            vec![DocumentWrite { name: format!("{CEREMONIES}{id}"), expect: generation, body: after.body() }];
        writes.extend(counted(&custody, signed)?);
        self.write_documents(writes, Leave::Permit(permit), (Event::CeremonyDecided, facts), asked).await?;
        Ok(done(id, self.look_at(id).await))
    }

    pub(super) async fn look_at(&self, id: &str) -> Result<CustodyAnswer, Refusal> {
        let (_, ceremony) = self.ceremony(id).await?;
        let mut view = self.view_of(&ceremony).await?;
        view.proposal = Some(ceremony.proposal().canonical());
        Ok(CustodyAnswer::Ceremony(Box::new(view)))
    }

    pub(super) async fn list_ceremonies(&self, all: bool) -> Result<CustodyAnswer, Refusal> {
        let mut ceremonies = Vec::new();
        for document in self.keyrings.documents(CEREMONIES).await.map_err(|error| unavailable(&error))? {
            let Some(ceremony) = readable(&document) else { continue };
            let view = self.view_of(&ceremony).await?;
            if all || view.open {
                ceremonies.push(view);
            }
        }
        // Ids begin with the time.
        ceremonies.reverse();
        Ok(CustodyAnswer::Ceremonies { ceremonies })
    }

    pub(super) async fn view_of(&self, ceremony: &Ceremony) -> Result<CeremonyView, Refusal> {
        let custody = self.custody().await?;
        let around = self.around(&custody, ceremony).await?;
        let counter = |fingerprint: &str| custody.counter(fingerprint);
        let world = around.world(&custody, &counter);
        let (state, tallied, proposal) = (ceremony.state(&world), ceremony.tally(&world), ceremony.proposal());
        Ok(CeremonyView {
            id: proposal.ceremony.to_string(),
            state: state.code(),
            open: state.is_open(),
            action: proposal.action.name(),
            tier: proposal.tier.code(),
            effect: proposal.effect.clone(),
            digest: hex::encode(ceremony.digest()),
            words: proposal.words(),
            initiator: proposal.initiator.to_string(),
            reason: proposal.reason.clone(),
            ticket: proposal.ticket.clone(),
            created: time(crate::clock::Wall(ceremony.opened().wall)),
            not_after: proposal.not_after,
            namespace: proposal.namespace(),
            cool_off_until: ceremony.cool_off_until().filter(|_| state == State::CoolingOff).map(time),
            approvals: ApprovalsView {
                needed: tallied.needed,
                have: tallied.have,
                groups: tallied.groups,
                lines: tallied.lines,
            },
            missing: if state.is_open() { tallied.missing } else { Vec::new() },
            proposal: None,
            decisions: ceremony.decisions().iter().filter_map(DecisionView::of).collect(),
            ended: ceremony.end().map(|end| time(crate::clock::Wall(end.at))),
        })
    }
}

/// What the machine said no to, for the caller and for the record.
pub(super) fn rejected(rejection: &Rejection, account: &mut Account) -> Refusal {
    account.facts.push(("why", rejection.code().to_owned()));
    let detail = format!("{} [{}]", rejection.hint(), rejection.code());
    Refusal::because(code_of(rejection), detail)
}

const fn code_of(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::Proposal(_) => Code::MalformedRequest,
        Rejection::AlreadyDenied
        | Rejection::Withdrawn
        | Rejection::Expired
        | Rejection::Superseded { .. }
        | Rejection::Spent
        | Rejection::Failed
        | Rejection::Aborted
        | Rejection::NotReady { .. }
        | Rejection::NotExecuting
        | Rejection::SeparationMissing { .. }
        | Rejection::TooManyDecisions => Code::CeremonyState,
        Rejection::CoolingOff { .. } | Rejection::NotYet { .. } | Rejection::ClockUnsynchronised => Code::NotDue,
        Rejection::Margin { .. } => Code::Separation,
        _ => Code::NotApproved,
    }
}

/// A ceremony of a document. One that cannot be read is traced, and holds up no other.
pub(super) fn readable(document: &Document) -> Option<Ceremony> {
    Ceremony::parse(&document.body)
        .inspect_err(|error| tracing::error!(name = document.name, %error, "unreadable"))
        .ok()
}

/// The answer to what was done: what cannot be shown just now was done all the same, and is recorded so.
pub(super) fn done(id: &str, shown: Result<CustodyAnswer, Refusal>) -> CustodyAnswer {
    shown.unwrap_or_else(|_| CustodyAnswer::Text(serde_json::json!({ "done": true, "id": id })))
}

/// Who decided what, as the signed text says it.
pub(super) fn decided(text: &str) -> Vec<(&'static str, String)> {
    let Ok(decision) = Decision::parse(text) else { return Vec::new() };
    vec![("decision", decision.word.code().to_owned()), ("person", decision.person.to_string())]
}

/// The counters with that of a token's signature, written with the decision that it made: no signature that was kept
/// back, and no copy of the token, counts later.
pub(super) fn counted(custody: &Custody, signed: &SignedDecision) -> Result<Option<DocumentWrite>, Refusal> {
    let signature = crate::identity::sshsig::SshSignature::parse(&signed.signature);
    let seen = signature.ok().and_then(|signature| {
        let counter = signature.claimed_counter().filter(|counter| *counter > 0)?;
        Some((signature.key().fingerprint(), counter))
    });
    let Some((fingerprint, counter)) = seen else { return Ok(None) };
    let mut counters: BTreeMap<String, u32> = custody.counters.clone();
    counters.insert(fingerprint, counter);
    let body = serde_json::to_string(&counters).map_err(|_| Refusal::from(Code::Internal))?;
    Ok(Some(DocumentWrite { name: COUNTERS.to_owned(), expect: custody.counters_generation, body }))
}
