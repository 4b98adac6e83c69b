//! How do custodians decide together, and who keeps count? Requests about custody: each is permitted by policy, changes
//! nothing but documents, and is recorded with intent and outcome. Whether enough people agree is for `policy` and
//! `ceremony` to say; this module asks them again each time, from the signatures.

mod course;
mod desk;
mod duties;
mod execute;
mod facts;
mod found;
mod grants;
mod health;
mod locks;
mod log_key;
mod minutes;
mod propose;
mod restored;
mod revoke;
mod settings;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use crate::audit::{Cosigned, Event, Group, IntentReceipt, Outcome, Record, Restored};
use crate::ceremony::{Ceremony, Grant};
use crate::clock::{Deadline, RehearsalClock};
use crate::control::custody::CustodyVerb;
use crate::control::guarded::Guarded;
use crate::keyring::documents::{CEREMONIES, DocumentWrite, GRANTS, Leave, ROSTERS, Written};
use crate::keyring::{ApplyError, Environment};
use crate::names::{KeyVersionId, KeyringName};
use crate::policy::Action;
use crate::policy::roster::Roster;
use crate::policy::separation::Separation;

use super::account::Account;
use super::change::change_refused;
use super::{Answer, Asker, Code, Refusal, Service};

pub use desk::Custody;
pub use health::{CustodyHealth, Unfit};
pub use locks::Locks;
pub use view::CustodyAnswer;

/// What custody rests on beside the store.
#[derive(Debug, Clone)]
pub struct CustodySettings {
    /// Who is who, and how many are enough; None where no file is configured, and then nobody can found custody.
    pub separation: Option<Arc<Separation>>,
    /// A production store, or one to rehearse with.
    pub environment: Environment,
    /// A file that is there while the machine's clock is synchronised.
    pub clock_check: Option<PathBuf>,
    /// The guarded settings that this sidecar runs with.
    pub guarded: Guarded,
    /// The clock that is moved by hand, of a rehearsal.
    pub rehearsal: Option<Arc<RehearsalClock>>,
    /// The newest restore of a store with custodians that the log tells of.
    pub restored: Option<Restored>,
    /// Who cosigns the log, where somebody does.
    pub witnessing: Option<Witnessing>,
}

/// What ceremonies have to do with witnesses.
#[derive(Debug, Clone)]
pub struct Witnessing {
    /// How much they have cosigned.
    pub cosigned: Cosigned,
    /// Whether what destroys or weakens waits for them.
    pub required: bool,
}

impl CustodySettings {
    /// Whether the wall clock may be believed, as far as the machine says.
    fn clock_synchronised(&self) -> bool {
        match &self.clock_check {
            Some(file) => file.exists(),
            None => self.environment == Environment::Development,
        }
    }
}

impl Service {
    pub(super) async fn custody_verb(
        &self,
        verb: CustodyVerb,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let action = action_of(&verb);
        let permit = self.permit(action, None, asker, account)?;
        if action != Action::CeremonyRead {
            // Whoever was revoked at another sidecar, and was told so, counts at none.
            self.keyrings.catch_up().await.map_err(change_refused)?;
        }
        let answer = match verb {
            CustodyVerb::Show => self.show_custody().await,
            CustodyVerb::Roster => self.show_rosters().await,
            CustodyVerb::DraftGenesis(members) => self.draft_genesis(members).await,
            CustodyVerb::Found { roster, signatures } => {
                self.found(&roster, &signatures, permit, (asker, account)).await
            }
            CustodyVerb::Draft(draft) => self.draft(draft).await,
            CustodyVerb::Propose { proposal, signed } => {
                self.propose(&proposal, &signed, &permit, (asker, account)).await
            }
            CustodyVerb::List { all } => self.list_ceremonies(all).await,
            CustodyVerb::Look(id) => self.look_at(&id).await,
            CustodyVerb::Decide { ceremony, signed } => {
                self.decide(&ceremony, &signed, &permit, (asker, account)).await
            }
            CustodyVerb::Execute(id) => return self.execute(&id, permit, asker, account).await,
            CustodyVerb::Minutes(id) => self.minutes(&id).await,
            CustodyVerb::Revoke { person, fingerprint, reason } => {
                self.revoke((&person, fingerprint.as_deref(), &reason), &permit, (asker, account)).await
            }
            CustodyVerb::Advance(seconds) => self.advance(seconds),
            CustodyVerb::Grants => self.list_grants().await,
            CustodyVerb::EndGrant(id) => self.end_grant(&id, &permit, (asker, account)).await,
            CustodyVerb::Locks => self.list_locks().await,
            CustodyVerb::Lock { what, level, reason } => {
                self.engage(&what, (level, &reason), &permit, (asker, account)).await
            }
            CustodyVerb::Unlock(what) => self.release_lock(&what, &permit, (asker, account)).await,
            CustodyVerb::Review { ceremony, signed } => {
                self.review(&ceremony, &signed, &permit, (asker, account)).await
            }
        };
        answer.map(|answer| Answer::Custody(Box::new(answer)))
    }

    /// Moves the clock of a rehearsal forward.
    fn advance(&self, seconds: u64) -> Result<CustodyAnswer, Refusal> {
        let none = "only a rehearsal's clock is moved: [custody] clock = \"rehearsal\" in a development store";
        let clock = self.custody_settings.rehearsal.as_ref().ok_or_else(|| Refusal::because(Code::NotFound, none))?;
        if seconds > FAR {
            return Err(Refusal::because(Code::MalformedRequest, "a clock is moved by 400 days at most"));
        }
        // After the answer: whatever is under way when time passes is out of time.
        let (clock, pause) = (Arc::clone(clock), self.clock.sleep_until(self.clock.mono().plus(BREATH)));
        tokio::spawn(async move {
            pause.await;
            clock.advance(std::time::Duration::from_secs(seconds));
        });
        Ok(CustodyAnswer::Text(serde_json::json!({ "advanced_seconds": seconds })))
    }

    /// Intent, documents; the outcome is the record of the request.
    async fn write_documents(
        &self,
        writes: Vec<DocumentWrite>,
        leave: Leave<'_>,
        what: (Event, Vec<(&'static str, String)>),
        (asker, account): (&Asker<'_>, &mut Account),
    ) -> Result<Written, Refusal> {
        let (event, facts) = what;
        writes.iter().try_for_each(reads_back)?;
        let intent = match asker.intent() {
            Some(intent) => intent,
            None => self.intend_documents(event, &facts, None, (asker, account)).await?,
        };
        account.happens(event);
        // A record names nothing twice: what is written is what it is about.
        account.facts.retain(|(known, _)| !facts.iter().any(|(name, _)| name == known));
        account.facts.extend(facts);
        let written = self.keyrings.write(writes, leave, intent).await;
        if matches!(written, Err(ApplyError::Unsettled(_))) {
            account.intent = None;
        }
        let written = written.map_err(change_refused)?;
        account.facts.push(("store_head", written.head.to_string()));
        Ok(written)
    }

    async fn intend_documents(
        &self,
        event: Event,
        facts: &[(&'static str, String)],
        of: Option<(KeyringName, Option<KeyVersionId>)>,
        (asker, account): Asked<'_, '_, '_>,
    ) -> Result<IntentReceipt, Refusal> {
        let record = Record {
            event,
            outcome: Outcome::Intent,
            reason: None,
            actor: account.actor(),
            source: super::account::source_of(account.surface),
            request: Some(asker.request.clone()),
            purpose: None,
            groups: of
                .map(|(keyring, version)| Group { keyring, version, done: 0, failed: Vec::new() })
                .into_iter()
                .collect(),
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: account.policy,
            intent: None,
            facts: facts.to_vec(),
        };
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(asker.deadline);
        let intent = self.log.intent(record, by).await.map_err(|error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        })?;
        account.intent = Some(intent.index());
        account.intended = true;
        Ok(intent)
    }
}

/// What policy calls it.
const fn action_of(verb: &CustodyVerb) -> Action {
    match verb {
        CustodyVerb::Show
        | CustodyVerb::Roster
        | CustodyVerb::List { .. }
        | CustodyVerb::Look(_)
        | CustodyVerb::Minutes(_)
        | CustodyVerb::Locks
        | CustodyVerb::Grants => Action::CeremonyRead,
        CustodyVerb::DraftGenesis(_) | CustodyVerb::Found { .. } => Action::CustodyFound,
        CustodyVerb::Draft(_) | CustodyVerb::Propose { .. } => Action::CeremonyPropose,
        CustodyVerb::Decide { .. } | CustodyVerb::Review { .. } => Action::CeremonyDecide,
        CustodyVerb::Execute(_) | CustodyVerb::Advance(_) => Action::CeremonyExecute,
        CustodyVerb::Revoke { .. } => Action::CustodianRevoke,
        CustodyVerb::EndGrant(_) => Action::GrantEnd,
        CustodyVerb::Lock { .. } => Action::LockEngage,
        CustodyVerb::Unlock(_) => Action::LockRelease,
    }
}

/// What the record of a request is about, until it is known better.
pub(super) const fn event_of(verb: &CustodyVerb) -> Event {
    match verb {
        CustodyVerb::Show
        | CustodyVerb::Roster
        | CustodyVerb::DraftGenesis(_)
        | CustodyVerb::List { .. }
        | CustodyVerb::Look(_)
        | CustodyVerb::Minutes(_)
        | CustodyVerb::Draft(_)
        | CustodyVerb::Advance(_)
        | CustodyVerb::Locks
        | CustodyVerb::Grants => Event::CeremonyRead,
        CustodyVerb::Found { .. } => Event::CustodyFounded,
        CustodyVerb::Propose { .. } => Event::CeremonyProposed,
        CustodyVerb::Decide { .. } => Event::CeremonyDecided,
        CustodyVerb::Execute(_) => Event::CeremonyExecuted,
        CustodyVerb::Revoke { .. } => Event::CustodianRevoked,
        CustodyVerb::EndGrant(_) => Event::GrantEnded,
        CustodyVerb::Lock { .. } => Event::LockEngaged,
        CustodyVerb::Unlock(_) => Event::LockReleased,
        CustodyVerb::Review { .. } => Event::GrantReviewed,
    }
}

/// Long enough for an answer to leave.
const BREATH: std::time::Duration = std::time::Duration::from_millis(250);

/// In seconds.
const FAR: u64 = 400 * 86_400;

type Asked<'a, 'b, 'c> = (&'a Asker<'b>, &'c mut Account);

/// Whether a document will be read as what it is: what nobody could read later is not written.
fn reads_back(write: &DocumentWrite) -> Result<(), Refusal> {
    let wrong = match write.name.as_str() {
        name if name.starts_with(CEREMONIES) => Ceremony::parse(&write.body).err().map(|error| error.to_string()),
        name if name.starts_with(GRANTS) => Grant::parse(&write.body).err().map(|error| error.to_string()),
        name if name.starts_with(ROSTERS) => Roster::parse(&write.body).err().map(|error| error.to_string()),
        _ => None,
    };
    wrong.map_or(Ok(()), |why| {
        Err(Refusal::because(Code::MalformedRequest, format!("it could not be read back: {why}")))
    })
}

/// Why nothing can be asked of custody.
fn unfounded() -> Refusal {
    Refusal::because(
        Code::NoCustody,
        "there are no custodians yet: `keyward custody found` holds the genesis, with [custody] separation configured",
    )
}
