//! How is what was decided carried out? Everything is looked at again and every signature verified again; what comes of it
//! is a quorum, which is spent in the same transaction as the effect. If we stop before the commit nothing has happened and
//! the ceremony is still ready; after it, both have.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::audit::Event;
use crate::ceremony::machine::{Ceremony, Event as Step, Outcome};
use crate::clock::Deadline;
use crate::control::custody::{Effect, effect};
use crate::identity::sshsig::SshKey;
use crate::keyring::PartitionName;
use crate::keyring::documents::{CEREMONIES, DocumentWrite, Leave, kek_name, roster_name};
use crate::names::{KeyVersionId, KeyringName, PrincipalName};
use crate::policy::approval;
use crate::policy::roster::{Credential, Member, Revocation, Roster};
use crate::policy::separation::Tier;
use crate::policy::{Permit, Quorum, Spends};

use super::super::account::Account;
use super::super::change::event_of;
use super::super::data::refused;
use super::super::{Answer, Asker, Code, Refusal, Service};
use super::Asked;
use super::course::{done, rejected};
use super::desk::Custody;
use super::found::{check, recertify_by};
use super::locks::Locks;
use super::propose::facts_of;
use super::revoke::{next, without};

/// What an effect is, as documents say it.
pub(super) struct Deed {
    pub(super) event: Event,
    pub(super) writes: Vec<DocumentWrite>,
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Service {
    pub(super) async fn execute(
        &self,
        id: &str,
        permit: Permit,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let custody = self.custody().await?;
        let (generation, ceremony) = self.ceremony(id).await?;
        let facts = facts_of(ceremony.proposal());
        account.facts.extend(facts.iter().filter(|(name, _)| *name != "keyring").cloned());
        let proposal = ceremony.proposal();
        let effect = effect(proposal.action.name(), &proposal.parameters);
        let effect = effect.map_err(|why| Refusal::because(Code::MalformedRequest, why))?;
        if let Some(why) = self.held_against(&effect, &custody) {
            return Err(Refusal::because(Code::Unavailable, why.to_string()));
        }
        // Whether it may begin at all: what may not is refused before anything is recorded as intended.
        let (quorum, _) = self.decided_upon(&custody, &ceremony, 0, asker, account).await?;
        self.feasible(&custody, &effect).await?;
        let people: Vec<&str> = quorum.people().iter().map(PrincipalName::as_str).collect();
        account.facts.push(("people", named(&people)));
        let facts = account.facts.clone();
        let (event, of) = about(&effect);
        let intent = self.intend_documents(event, &facts, of, (asker, account)).await?;
        account.happens(event);
        self.cosigned(ceremony.proposal().tier, intent.index(), asker.deadline).await?;
        let (quorum, spent) = self.decided_upon(&custody, &ceremony, intent.index(), asker, account).await?;
        let (name, body) = (format!("{CEREMONIES}{id}"), spent.body());
        let spends = Spends { ceremony: id.to_owned(), name, generation, body, rests_on: custody.rests_on() };
        let authority =
            self.policy.load().sworn(quorum, &permit, spends).map_err(|denial| refused(&denial, account))?;
        let Asker { principal, request, deadline, policy, .. } = asker;
        let (sworn, intent) = (Mutex::new(Some(authority)), Mutex::new(Some(intent)));
        let asker = Asker { principal, request, deadline: *deadline, policy, sworn, intent };
        let locks = self.locks_now().await?;
        match self.deed(&effect, (&custody, &locks), &spent)? {
            Some(deed) => self.document(deed, (&asker, account)).await?,
            None if matches!(effect, Effect::LogKey(_)) => self.rotate_log_key(&asker, account).await?,
            None => drop(self.carry_out(effect, &asker, account).await?),
        }
        let shown = self.look_at(id).await;
        Ok(Answer::Custody(Box::new(done(id, shown))))
    }

    /// What destroys or weakens happens, where that is asked for, only after somebody outside knows that it is about to.
    async fn cosigned(&self, tier: Tier, intent: u64, deadline: Deadline) -> Result<(), Refusal> {
        let Some(witnessing) = self.custody_settings.witnessing.as_ref().filter(|one| one.required) else {
            return Ok(());
        };
        if tier != Tier::Three {
            return Ok(());
        }
        let by = Deadline(self.clock.mono().plus(COSIGNED)).min(deadline);
        if witnessing.cosigned.reaches(intent, by, &self.clock).await {
            return Ok(());
        }
        let why = "no quorum of witnesses has cosigned in time that this is about to happen; nothing was done, and the \
                   ceremony is still ready: see `witness` in readiness, and execute it again";
        Err(Refusal::because(Code::Unavailable, why))
    }

    async fn document(&self, deed: Deed, asked: Asked<'_, '_, '_>) -> Result<(), Refusal> {
        let sworn = asked.0.sworn.lock().unwrap_or_else(PoisonError::into_inner).take();
        let authority = sworn.ok_or(Code::Internal)?;
        asked.1.facts.push(("authority", authority.code().to_owned()));
        let leave = Leave::Authority(&authority);
        self.write_documents(deed.writes, leave, (deed.event, deed.facts), asked).await.map(drop)
    }

    /// The quorum, if there is one now, and the ceremony as it will be once it is spent.
    async fn decided_upon(
        &self,
        custody: &Custody,
        ceremony: &Ceremony,
        intent: u64,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<(Quorum, Ceremony), Refusal> {
        let around = self.around(custody, ceremony).await?;
        let counter = |fingerprint: &str| custody.counter(fingerprint);
        let world = around.world(custody, &counter);
        let by = asker.principal.name().clone();
        let start = Step::Start { by, intent };
        let begun = ceremony.step(start, &world).map_err(|why| rejected(&why, account))?;
        let quorum = begun.quorum(&world, asker.deadline).map_err(|why| rejected(&why, account))?;
        let finish = Step::Finish { outcome: Outcome::Executed, why: None };
        let spent = begun.step(finish, &world).map_err(|why| rejected(&why, account))?;
        Ok((quorum, spent))
    }

    /// The same verbs as before there were custodians, under the quorum's authority.
    async fn carry_out(&self, effect: Effect, asker: &Asker<'_>, account: &mut Account) -> Result<Answer, Refusal> {
        match effect {
            Effect::Create(create) => self.create_keyring(create, asker, account).await,
            Effect::Rotate(rotate) => self.rotate(rotate, asker, account).await,
            Effect::Configure(configure) => self.configure(configure, asker, account).await,
            Effect::Step(step) => self.step(step, asker, account).await,
            Effect::Lookup(lookup) => self.lookup(lookup, asker, account).await,
            Effect::Shred { keyring, partition, backup_retention, reason } => {
                account.keyring(&keyring);
                self.shred_named(keyring, (PartitionName(partition), backup_retention), reason, asker, account).await
            }
            Effect::RetireKek { kek, version, reason } => self.retire_kek((kek, version), reason, asker, account).await,
            Effect::AdmitKek { .. }
            | Effect::Enrol { .. }
            | Effect::Remove { .. }
            | Effect::Recertify(_)
            | Effect::Settings(_)
            | Effect::Unlock(_)
            | Effect::LogKey(_)
            | Effect::Backup { .. }
            | Effect::Restore(_)
            | Effect::Grant { .. } => Err(Code::Internal.into()),
        }
    }

    /// What documents say of an effect; None of one that changes keys.
    fn deed(
        &self,
        effect: &Effect,
        (custody, locks): (&Custody, &Locks),
        ceremony: &Ceremony,
    ) -> Result<Option<Deed>, Refusal> {
        let id = ceremony.proposal().ceremony.to_string();
        Ok(Some(match effect {
            Effect::AdmitKek { kek, version } => {
                let body = format!("{{\"ceremony\":\"{id}\",\"schema\":1}}");
                let write = DocumentWrite { name: kek_name(kek, *version), expect: 0, body };
                let facts = vec![("kek", kek.to_string()), ("kek_key_version", version.to_string())];
                Deed { event: Event::KekApproved, writes: vec![write], facts }
            }
            Effect::Enrol { person, keys, acknowledgement } => {
                let next = self.enrolled(custody, &id, person, keys, *acknowledgement)?;
                roster_deed(Event::CustodianEnrolled, person, &next)
            }
            Effect::Remove { person, reason } => {
                let by = ceremony.proposal().initiator.clone();
                let revocation = Revocation { at: self.wall()?, reason: reason.clone(), by };
                let none = || Refusal::because(Code::NoSuchKey, format!("{person} has no key that still counts"));
                let next = without(&custody.roster, person, None, &revocation).ok_or_else(none)?;
                let next = Roster { made_by: id, ..next };
                check(custody.separation.check_way_back(&next))?;
                roster_deed(Event::CustodianRemoved, person, &next)
            }
            Effect::Recertify(person) => {
                let mut next = next(&custody.roster, &id);
                let until = recertify_by(&custody.separation, self.wall()?);
                let none = || Refusal::because(Code::NoSuchKey, format!("{person} is not on the roster"));
                let member = next.members.iter_mut().find(|member| member.person == *person).ok_or_else(none)?;
                member.recertify_by = until;
                roster_deed(Event::CustodianRecertified, person, &next)
            }
            Effect::Settings(settings) => super::settings::deed(settings, custody, &id)?,
            Effect::Unlock(what) => {
                let by = &ceremony.proposal().initiator;
                self.lifted(locks, what, (by, Some(id)))?
            }
            Effect::Backup { place, days } => self.backups_allowed(custody, (place, *days), ceremony)?,
            Effect::Restore(backup) => self.put_back(custody, backup, ceremony)?,
            Effect::Grant { .. } => self.granted(custody, ceremony)?,
            _ => return Ok(None),
        }))
    }

    /// The roster with a person, or with further keys of one.
    pub(super) fn enrolled(
        &self,
        custody: &Custody,
        id: &str,
        person: &PrincipalName,
        keys: &[(String, String)],
        acknowledgement: [u8; 32],
    ) -> Result<Roster, Refusal> {
        let now = self.wall()?;
        // Nobody becomes two people by somebody else's name: whoever holds the key says so with it.
        let accepted = approval::enrolment(&custody.roster.store, person, &acknowledgement);
        let read = |(line, proof): &(String, String)| {
            let wrong = |error| Refusal::because(Code::MalformedRequest, format!("a key of {person}: {error}"));
            let key = SshKey::parse(line).map_err(wrong)?;
            let unproven = |error| {
                let why = format!("the proof of {person} for {}: {error}", key.fingerprint());
                Refusal::because(Code::NotApproved, why)
            };
            approval::verify_enrolment(&key, proof, &accepted, custody.namespace()).map_err(unproven)?;
            Ok(Credential { key, enrolled: now, revoked: None })
        };
        let credentials = keys.iter().map(read).collect::<Result<Vec<_>, Refusal>>()?;
        let mut next = next(&custody.roster, id);
        let recertify_by = recertify_by(&custody.separation, now);
        match next.members.iter_mut().find(|member| member.person == *person) {
            Some(member) => {
                member.credentials.extend(credentials);
                (member.acknowledgement, member.recertify_by) = (acknowledgement, recertify_by);
            }
            None => {
                let person = person.clone();
                next.members.push(Member { person, since: now, recertify_by, acknowledgement, credentials });
            }
        }
        next.members.sort_by(|one, other| one.person.cmp(&other.person));
        check(custody.separation.check_roster(&next))?;
        Ok(next)
    }
}

/// People by name, as many as a fact holds.
fn named(people: &[&str]) -> String {
    let mut text = people.join(",");
    text.truncate(MOST_FACT);
    text
}

/// How long what waits for witnesses waits, if the caller does.
const COSIGNED: Duration = Duration::from_secs(10);

/// Bytes of a fact; names are ASCII.
const MOST_FACT: usize = 256;

/// Under which event an effect is recorded, and of which keyring.
fn about(effect: &Effect) -> (Event, Option<(KeyringName, Option<KeyVersionId>)>) {
    let of = |keyring: &KeyringName| Some((keyring.clone(), None));
    match effect {
        Effect::Create(create) => (Event::KeyCreated, of(&create.name)),
        Effect::Rotate(rotate) => (Event::KeyRotated, of(&rotate.keyring)),
        Effect::Configure(configure) => (Event::KeyringConfigured, of(&configure.keyring)),
        Effect::Step(step) => (event_of(step.step), Some((step.keyring.clone(), Some(step.version)))),
        Effect::Lookup(lookup) => (super::super::lookups::event_of(lookup.verb), of(&lookup.keyring)),
        Effect::Shred { keyring, .. } => (Event::PartitionShredded, of(keyring)),
        Effect::AdmitKek { .. } => (Event::KekApproved, None),
        Effect::RetireKek { .. } => (Event::KekRetired, None),
        Effect::Enrol { .. } => (Event::CustodianEnrolled, None),
        Effect::Remove { .. } => (Event::CustodianRemoved, None),
        Effect::Recertify(_) => (Event::CustodianRecertified, None),
        Effect::Settings(_) => (Event::SettingsApproved, None),
        Effect::Unlock(_) => (Event::LockReleased, None),
        Effect::LogKey(_) => (Event::LogKeyApproved, None),
        Effect::Backup { .. } => (Event::BackupApproved, None),
        Effect::Restore(_) => (Event::RestoreApproved, None),
        Effect::Grant { break_glass: true, .. } => (Event::GrantBroken, None),
        Effect::Grant { break_glass: false, .. } => (Event::GrantGiven, None),
    }
}

fn roster_deed(event: Event, person: &PrincipalName, next: &Roster) -> Deed {
    let write = DocumentWrite { name: roster_name(next.generation), expect: 0, body: next.canonical() };
    let facts = vec![("person", person.to_string()), ("roster", hex::encode(next.digest()))];
    Deed { event, writes: vec![write], facts }
}

impl Deed {
    pub(super) const fn new(event: Event, writes: Vec<DocumentWrite>, facts: Vec<(&'static str, String)>) -> Self {
        Self { event, writes, facts }
    }
}
