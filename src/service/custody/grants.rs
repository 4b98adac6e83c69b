//! Which exceptions are in force, and who has looked at them? A grant ends by itself, by the earlier of two clocks; one
//! person ends it sooner, and somebody else reviews a broken glass.

use std::time::Duration;

use crate::audit::Event;
use crate::ceremony::grant::{Grant, GrantError, Kind, Lived};
use crate::ceremony::machine::Ceremony;
use crate::clock::{Mono, Wall};
use crate::control::custody::SignedDecision;
use crate::keyring::documents::{DocumentWrite, GRANTS, Leave};
use crate::names::{KeyringName, PrincipalName, Purpose};
use crate::policy::approval::Desk;
use crate::policy::{GrantKind, Permit};

use super::super::account::Account;
use super::super::{Code, Refusal, Service};
use super::Asked;
use super::course::{counted, decided, done};
use super::desk::Custody;
use super::execute::Deed;
use super::view::{CustodyAnswer, GrantView, ReviewView, time};

/// A grant as this process knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Of its document.
    pub generation: u64,
    pub grant: Grant,
    /// When it was read first, and how long it had lived by then; None of one that was there when this process began.
    pub since: Option<(Mono, Duration)>,
}

impl Known {
    pub(super) fn in_force(&self, now: Wall, mono: Mono, synchronised: bool) -> bool {
        let lived = match self.since {
            Some((read, lived)) => Lived::For(lived.saturating_add(mono.since(read))),
            None => Lived::Unknown { clock_synchronised: synchronised },
        };
        self.grant.in_force(now, lived)
    }
}

impl Service {
    /// The exception by which this principal may ask, if there is one, as custody was last read.
    pub(in crate::service) fn grant_of(
        &self,
        principal: &PrincipalName,
        keyring: &KeyringName,
        purpose: Option<Purpose>,
    ) -> Option<GrantKind> {
        let custody = self.custody.load();
        let custody = custody.as_ref().filter(|custody| !custody.grants.is_empty())?;
        let moment = self.keyrings.time()?;
        let synchronised = moment.steady && self.custody_settings.clock_synchronised();
        let mono = self.clock.mono();
        let fits = |known: &&Known| {
            let grant = &known.grant;
            grant.principal == *principal
                && grant.keyring == *keyring
                && purpose.is_none_or(|purpose| purpose == grant.purpose)
                && known.in_force(moment.wall, mono, synchronised)
        };
        custody.grants.iter().find(fits).map(|known| match known.grant.kind {
            Kind::Grant => GrantKind::Grant,
            Kind::BreakGlass => GrantKind::BreakGlass,
        })
    }

    /// What a ceremony that is carried out gives.
    pub(super) fn granted(&self, custody: &Custody, spent: &Ceremony) -> Result<Deed, Refusal> {
        let grant = Grant::of(spent, &custody.separation);
        let grant = grant.map_err(|error| Refusal::because(Code::CeremonyState, error.to_string()))?;
        let event = if grant.kind == Kind::BreakGlass { Event::GrantBroken } else { Event::GrantGiven };
        if event == Event::GrantBroken {
            tracing::error!(ceremony = %grant.ceremony, principal = %grant.principal, keyring = %grant.keyring, "break-glass");
        }
        let facts = vec![
            ("grant_kind", kind(&grant).to_owned()),
            ("keyring", grant.keyring.to_string()),
            ("not_after", time(Wall(grant.not_after))),
            ("person", grant.principal.to_string()),
        ];
        let write = DocumentWrite { name: name_of(&grant), expect: 0, body: grant.body() };
        Ok(Deed::new(event, vec![write], facts))
    }

    pub(super) async fn list_grants(&self) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let moment = self.keyrings.time().ok_or(Code::Unavailable)?;
        let synchronised = moment.steady && self.custody_settings.clock_synchronised();
        let mono = self.clock.mono();
        let mut grants: Vec<GrantView> = custody
            .grants
            .iter()
            .map(|known| view(&known.grant, known.in_force(moment.wall, mono, synchronised), moment.wall))
            .collect();
        grants.reverse();
        Ok(CustodyAnswer::Grants { grants })
    }

    pub(super) async fn end_grant(
        &self,
        id: &str,
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let known = find(&custody, id)?;
        asked.1.facts.push(("ceremony", id.to_owned()));
        let ended = known.grant.end(permit.principal().clone(), "ended", self.wall()?);
        let ended = ended.map_err(|error| refused(&error, asked.1))?;
        let write = DocumentWrite { name: name_of(&ended), expect: known.generation, body: ended.body() };
        let facts = facts(&ended);
        self.write_documents(vec![write], Leave::Permit(permit), (Event::GrantEnded, facts), asked).await?;
        Ok(done(id, self.list_grants().await))
    }

    pub(super) async fn review(
        &self,
        id: &str,
        signed: &SignedDecision,
        permit: &Permit,
        asked: Asked<'_, '_, '_>,
    ) -> Result<CustodyAnswer, Refusal> {
        let custody = self.custody().await?;
        let known = find(&custody, id)?;
        asked.1.facts.push(("ceremony", id.to_owned()));
        asked.1.facts.extend(decided(&signed.decision));
        let reviewed = reviewed(&custody, &known.grant, signed, self.wall()?);
        let reviewed = reviewed.map_err(|error| refused(&error, asked.1))?;
        let mut facts = facts(&reviewed);
        facts.retain(|(name, _)| *name != "person");
        facts.extend(decided(&signed.decision));
        let said = reviewed.review.as_ref().and_then(|review| review.done.as_ref());
        facts.extend(said.map(|done| ("verdict", done.verdict.clone())));
        let mut writes =
            vec![DocumentWrite { name: name_of(&reviewed), expect: known.generation, body: reviewed.body() }];
        writes.extend(counted(&custody, signed)?);
        self.write_documents(writes, Leave::Permit(permit), (Event::GrantReviewed, facts), asked).await?;
        Ok(done(id, self.list_grants().await))
    }
}

fn reviewed(custody: &Custody, grant: &Grant, signed: &SignedDecision, now: Wall) -> Result<Grant, GrantError> {
    let counter = |fingerprint: &str| custody.counter(fingerprint);
    let desk = Desk {
        roster: &custody.roster,
        separation: &custody.separation,
        namespace: custody.namespace(),
        last_counter: &counter,
    };
    grant.review(&signed.decision, &signed.signature, &desk, now)
}

fn find<'a>(custody: &'a Custody, id: &str) -> Result<&'a Known, Refusal> {
    let none = || Refusal::because(Code::NoSuchKey, "there is no such grant");
    custody.grants.iter().find(|known| known.grant.ceremony == id).ok_or_else(none)
}

fn refused(error: &GrantError, account: &mut Account) -> Refusal {
    account.facts.push(("why", error.code().to_owned()));
    let code = match error {
        GrantError::Ended | GrantError::Reviewed | GrantError::NotGiven | GrantError::NoReview => Code::CeremonyState,
        GrantError::Decision(_) | GrantError::DoesNotCount(_) => Code::NotApproved,
    };
    Refusal::because(code, format!("{error} [{}]", error.code()))
}

fn facts(grant: &Grant) -> Vec<(&'static str, String)> {
    vec![
        ("ceremony", grant.ceremony.clone()),
        ("grant_kind", kind(grant).to_owned()),
        ("keyring", grant.keyring.to_string()),
        ("person", grant.principal.to_string()),
    ]
}

pub(super) fn name_of(grant: &Grant) -> String {
    format!("{GRANTS}{}", grant.ceremony)
}

const fn kind(grant: &Grant) -> &'static str {
    match grant.kind {
        Kind::Grant => "grant",
        Kind::BreakGlass => "break-glass",
    }
}

fn view(grant: &Grant, in_force: bool, now: Wall) -> GrantView {
    GrantView {
        id: grant.ceremony.clone(),
        kind: kind(grant),
        principal: grant.principal.to_string(),
        keyring: grant.keyring.to_string(),
        purpose: grant.purpose.code().to_owned(),
        from: time(Wall(grant.since)),
        not_after: time(Wall(grant.not_after)),
        in_force,
        ended: grant.ended.as_ref().map(|ended| time(Wall(ended.at))),
        review: grant.review.as_ref().map(|review| ReviewView {
            due: time(Wall(review.due)),
            overdue: grant.is_overdue(now),
            by: review.done.as_ref().map(|done| done.by.to_string()),
            verdict: review.done.as_ref().map(|done| done.verdict.clone()),
        }),
    }
}
