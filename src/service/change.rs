//! How is a key changed? One path for every verb: an authority, a durable intent, the change, its outcome. If we stop
//! after the intent, the restart finds it open and settles it.

use std::sync::{Arc, PoisonError};

use crate::audit::{Actor, Event, Group, IntentReceipt, Outcome, Record, Source};
use crate::clock::Deadline;
use crate::control;
use crate::keyring::life::{Forbidden, KeyState, Step, Trigger, lookup_action};
use crate::keyring::{
    Applied, ApplyError, Change, KeyLimits, PARTITION_BATCH, PartitionChange, PartitionStep, PartitionsApplied,
};
use crate::names::{KeyVersionId, KeyringName, RequestId};
use crate::policy::{Action, Authority};

use super::account::Account;
use super::data::{refused, unavailable};
use super::following;
use super::{Answer, Asker, Code, ConfigureKeyring, CreateKeyring, Refusal, RotateKeyring, Service, StepKey};

/// A change, as its records tell it.
pub(super) struct Asked {
    pub(super) event: Event,
    pub(super) change: Change,
    pub(super) version: Option<KeyVersionId>,
    pub(super) facts: Vec<(&'static str, String)>,
}

/// Who asks, as an intent tells it.
struct Asks<'a> {
    actor: Actor,
    source: Source,
    request: Option<&'a RequestId>,
    policy: Option<[u8; 32]>,
}

impl Service {
    pub(super) async fn create_keyring(
        &self,
        create: CreateKeyring,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.keyring(&create.name);
        let authority = self.authority(Action::KeyringCreate, Some(&create.name), asker, account)?;
        let change = control::creation(create).map_err(|detail| Refusal::because(Code::MalformedRequest, detail))?;
        let found = self.keyrings.find(change.keyring()).await;
        if found.map_err(|error| unavailable(&error))?.is_some() {
            return Err(Code::KeyringExists.into());
        }
        let facts = match &change {
            Change::Create { limits, .. } if *limits != KeyLimits::default() => vec![("limits", shown(limits))],
            _ => Vec::new(),
        };
        let asked = Asked { event: Event::KeyCreated, change, version: None, facts };
        self.change(asked, &authority, asker, account).await
    }

    pub(super) async fn rotate(
        &self,
        rotate: RotateKeyring,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let RotateKeyring { keyring, trigger, expect } = rotate;
        account.keyring(&keyring);
        let authority = self.authority(Action::KeyringRotate, Some(&keyring), asker, account)?;
        self.change(rotation(keyring, trigger, expect), &authority, asker, account).await
    }

    pub(super) async fn configure(
        &self,
        configure: ConfigureKeyring,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let ConfigureKeyring { keyring, limits } = configure;
        account.keyring(&keyring);
        let authority = self.authority(Action::KeyringConfigure, Some(&keyring), asker, account)?;
        let facts = vec![("limits", shown(&limits))];
        let change = Change::Configure { keyring, limits };
        let event = Event::KeyringConfigured;
        self.change(Asked { event, change, version: None, facts }, &authority, asker, account).await
    }

    /// One step of a key version. What policy calls it hangs on the state that the version is in now; the keyring looks
    /// at that again when the change has its turn.
    pub(super) async fn step(
        &self,
        step: StepKey,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let (keyring, version) = (step.keyring.clone(), step.version);
        account.version(&keyring, version);
        let view = self.keyrings.find(&keyring).await.map_err(|error| unavailable(&error))?;
        let found = view.as_ref().and_then(|view| view.version(version).map(|one| one.state));
        let found = found.unwrap_or(KeyState::Active);
        let of_lookup = view.is_some_and(|view| view.lookup_of(version).is_some());
        let action = if of_lookup { lookup_action(step.step, found) } else { step.step.action(found) };
        let authority = self.authority(action, Some(&keyring), asker, account)?;
        let takes_away = following::takes_away(step.step);
        let asked = stepping(step)?;
        match self.change(asked, &authority, asker, account).await? {
            Answer::Keyring(view) if takes_away => {
                Ok(Answer::Stepped(view, self.followed(asker.deadline, account).await))
            }
            answer => Ok(answer),
        }
    }

    /// A rotation that the configuration foresees, without a person: a job asks for it, and says which version it
    /// believes to be active, so that of a whole fleet one sidecar makes one. The version that is active afterwards, or
    /// why there is none; [`Code::Conflict`] means that somebody else was first.
    pub async fn rotate_unattended(
        &self,
        keyring: &KeyringName,
        expect: KeyVersionId,
        trigger: Trigger,
        deadline: Deadline,
    ) -> Result<Option<KeyVersionId>, Refusal> {
        let asked = rotation(keyring.clone(), trigger, Some(expect));
        self.unattended(asked, deadline).await.map(|applied| applied.version)
    }

    /// Moves a page of partitions to the active version likewise.
    pub async fn rewrap_partitions_unattended(
        &self,
        keyring: &KeyringName,
        trigger: Trigger,
        deadline: Deadline,
    ) -> Result<PartitionsApplied, Refusal> {
        let step = PartitionStep::Rewrap(PARTITION_BATCH);
        let change = Change::Partitions(PartitionChange { keyring: keyring.clone(), step });
        let facts = vec![("trigger", trigger.code().to_owned())];
        let asked = Asked { event: Event::KeyRewrapped, change, version: None, facts };
        self.unattended(asked, deadline).await?.partitions.ok_or(Code::Internal.into())
    }

    /// A change that the configuration foresees, with the same two records as one that somebody asks for.
    async fn unattended(&self, asked: Asked, deadline: Deadline) -> Result<Applied, Refusal> {
        let keyring = asked.change.keyring().clone();
        let policy = self.policy.load_full();
        let authority = policy.standing(Action::KeyringRotate, Some(&keyring), deadline);
        let authority = authority.map_err(|_| Refusal::from(Code::Denied))?;
        let asks =
            Asks { actor: Actor::Sidecar, source: Source::Internal, request: None, policy: Some(policy.digest()) };
        let intent = self.intend(&asked, &authority, &asks, deadline).await?;
        let index = intent.index();
        let applied = self.keyrings.apply(&asked.change, &authority, intent).await;
        let mut record = record(&asked, &authority, &asks);
        // Partitions that were edited and stay are no success, however often the job comes back to them.
        let stuck =
            matches!(&applied, Ok(Applied { partitions: Some(moved), .. }) if moved.done == 0 && moved.damaged > 0);
        record.outcome = if applied.is_ok() && !stuck { Outcome::Done } else { Outcome::Failed };
        record.intent = (!matches!(applied, Err(ApplyError::Unsettled(_)))).then_some(index);
        let version = applied.as_ref().ok().and_then(|applied| applied.version);
        if let Ok(applied) = &applied {
            record.groups = vec![Group { keyring, version, done: u32::from(!stuck), failed: Vec::new() }];
            record.facts.extend(self.facts_of(applied));
            if let Some(PartitionsApplied { done, remaining, damaged, shredded: _ }) = &applied.partitions {
                record.facts.push(("rewrapped", done.to_string()));
                record.facts.push(("remaining", remaining.to_string()));
                if *damaged > 0 {
                    record.facts.push(("failed", damaged.to_string()));
                }
            }
        }
        let applied = applied.map_err(change_refused);
        let damaged = stuck.then_some(Code::KeyDamaged);
        record.reason = applied.as_ref().err().map(|refusal| refusal.code).or(damaged).map(Code::as_str);
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME));
        let recorded = self.log.append(record, (), by).await.map_err(|error| no_record(&error))?;
        recorded.into_outcome();
        applied
    }

    /// What allows this change: the quorum in whose name it is carried out, or a Permit with as much as one person has.
    /// Before there are custodians that is everything; from then on the safe direction, and the keyring says which that is.
    pub(super) fn authority(
        &self,
        action: Action,
        keyring: Option<&KeyringName>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Authority, Refusal> {
        if let Some(sworn) = asker.sworn.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return if sworn.action() == action { Ok(sworn) } else { Err(Code::Denied.into()) };
        }
        let permit = self.permit(action, keyring, asker, account)?;
        let policy = self.policy.load();
        let authority = match self.keyrings.in_custody() {
            Some(true) => policy.alone(permit),
            Some(false) | None => policy.founding(permit),
        };
        authority.map_err(|denial| refused(&denial, account))
    }

    /// Intent, change, and what the outcome's record will say.
    pub(super) async fn change(
        &self,
        asked: Asked,
        authority: &Authority,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        alone(authority, &asked.change)?;
        let request = Some(asker.request);
        let asks = Asks {
            actor: account.actor(),
            source: super::account::source_of(account.surface),
            request,
            policy: account.policy,
        };
        let intent = match asker.intent() {
            Some(intent) => intent,
            None => self.intend(&asked, authority, &asks, asker.deadline).await?,
        };
        account.intent = Some(intent.index());
        account.intended = true;
        account.happens(asked.event);
        account.facts.push(("authority", authority.code().to_owned()));
        account.facts.extend(asked.facts);
        let applied = self.keyrings.apply(&asked.change, authority, intent).await;
        if matches!(applied, Err(ApplyError::Unsettled(_))) {
            // Nobody knows yet whether it happened: the intent stays open for the restart, this record does not close it.
            account.intent = None;
        }
        let applied = applied.map_err(change_refused)?;
        account.facts.extend(self.facts_of(&applied));
        let view = Arc::new(applied.keyring);
        match (asked.event, applied.version) {
            (Event::KeyCreated, _) => account.versions(&view),
            (_, Some(version)) => account.changed(&view.name, Some(version)),
            (_, None) => account.changed(&view.name, None),
        }
        Ok(Answer::Keyring(view))
    }

    async fn intend(
        &self,
        asked: &Asked,
        authority: &Authority,
        asks: &Asks<'_>,
        deadline: Deadline,
    ) -> Result<IntentReceipt, Refusal> {
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(deadline);
        self.log.intent(record(asked, authority, asks), by).await.map_err(|error| no_record(&error))
    }

    /// What became of the version, and where the store's chain ends now.
    fn facts_of(&self, applied: &Applied) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        let of = |id: KeyVersionId| applied.keyring.version(id);
        let lookup = applied.version.and_then(|id| applied.keyring.lookup_of(id));
        facts
            .extend(lookup.map(|(lookup, version)| ("lookup_version", format!("{} v{}", lookup.name, version.number))));
        if let Some((before, state)) = applied.before {
            if applied.version == Some(before) {
                facts.push(("from_state", state.name().to_owned()));
                facts.extend(of(before).map(|version| ("to_state", version.state.name().to_owned())));
                let due = of(before).and_then(|version| version.destroy_at);
                facts.extend(due.map(|due| ("destroy_at", due.rfc3339_millis())));
            } else {
                facts.push(("retired_version", before.to_string()));
            }
        }
        facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        facts
    }
}

/// Before anything is recorded as intended: one person does not begin what takes several.
pub(super) fn alone(authority: &Authority, change: &Change) -> Result<(), Refusal> {
    match authority {
        Authority::Alone(_) if !change.is_safe() => Err(Code::CeremonyRequired.into()),
        _ => Ok(()),
    }
}

fn rotation(keyring: KeyringName, trigger: Trigger, expect: Option<KeyVersionId>) -> Asked {
    let facts = vec![("trigger", trigger.code().to_owned())];
    let change = Change::Rotate { keyring, trigger, expect };
    Asked { event: Event::KeyRotated, change, version: None, facts }
}

fn stepping(step: StepKey) -> Result<Asked, Refusal> {
    let StepKey { keyring, version, step, reason } =
        control::stepping(step).map_err(|detail| Refusal::because(Code::MalformedRequest, detail))?;
    let event = event_of(step);
    let mut facts = vec![("key_version", version.to_string())];
    // Carrying a destruction out has the reason that the plan has.
    if !matches!(step, Step::Destroy) {
        facts.push(("key_reason", reason.code().to_owned()));
    }
    if let Step::ScheduleDestroy { statement, .. } = step {
        facts.push(("statement_digest", hex::encode(statement.0)));
    }
    let change = Change::Step { keyring, version, step, reason };
    Ok(Asked { event, change, version: Some(version), facts })
}

/// The event of a step.
pub(super) const fn event_of(step: Step) -> Event {
    match step {
        Step::Activate | Step::Resume => Event::KeyResumed,
        Step::Suspend => Event::KeySuspended,
        Step::Deactivate => Event::KeyDeactivated,
        Step::Compromise => Event::KeyCompromised,
        Step::ScheduleDestroy { .. } => Event::KeyDestroyScheduled,
        Step::CancelDestroy => Event::KeyDestroyCancelled,
        Step::Destroy => Event::KeyDestroyed,
    }
}

/// The intent; the outcome of a job begins as a copy of it.
fn record(asked: &Asked, authority: &Authority, asks: &Asks<'_>) -> Record {
    let keyring = asked.change.keyring().clone();
    let mut facts = vec![("authority", authority.code().to_owned())];
    facts.extend(asked.facts.iter().cloned());
    Record {
        event: asked.event,
        outcome: Outcome::Intent,
        reason: None,
        actor: asks.actor.clone(),
        source: asks.source,
        request: asks.request.cloned(),
        purpose: None,
        groups: vec![Group { keyring, version: asked.version, done: 0, failed: Vec::new() }],
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: asks.policy,
        intent: None,
        facts,
    }
}

fn shown(limits: &KeyLimits) -> String {
    let seconds = |name, time: Option<std::time::Duration>| Some(format!("{name}={}s", time?.as_secs()));
    let count = |name, count: Option<u64>| Some(format!("{name}={}", count?));
    let all = [
        seconds("cryptoperiod", limits.cryptoperiod),
        count("messages", limits.messages),
        count("bytes", limits.bytes),
        seconds("offline_max", limits.offline_max),
        limits.escrow.map(|escrow| format!("escrow={}", escrow.name())),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(",")
}

fn no_record(error: &crate::audit::AppendError) -> Refusal {
    tracing::error!(%error, "the audit log did not take a record of a change");
    Refusal::because(Code::Unavailable, super::NO_RECORD)
}

pub(super) fn change_refused(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Exists(_) => Code::KeyringExists.into(),
        ApplyError::NotCovered => Code::Denied.into(),
        ApplyError::NeedsQuorum => Code::CeremonyRequired.into(),
        ApplyError::Invalid(why) => Refusal::because(Code::MalformedRequest, why),
        ApplyError::Unknown(why) => Refusal::because(Code::NoSuchKey, why),
        ApplyError::Superseded(why) => Refusal::because(Code::Conflict, why),
        ApplyError::Forbidden(why) => Refusal::because(code_of(&why), why.to_string()),
        ApplyError::Tampered(why) => Refusal::because(Code::KeyDamaged, why),
        ApplyError::Unavailable(why) | ApplyError::Unsettled(why) => Refusal::because(Code::Unavailable, why),
        ApplyError::Refused(why) => Refusal::because(Code::Denied, why),
        ApplyError::Founded | ApplyError::NotFounded => Code::Internal.into(),
    }
}

const fn code_of(why: &Forbidden) -> Code {
    match why {
        Forbidden::State { .. }
        | Forbidden::OtherActive { .. }
        | Forbidden::TwoLive { .. }
        | Forbidden::Newest { .. }
        | Forbidden::Planned { .. }
        | Forbidden::NotPlanned => Code::KeyState,
        Forbidden::Wait { .. } => Code::MalformedRequest,
        Forbidden::InUse { .. } | Forbidden::OpenedLately { .. } => Code::InUse,
        Forbidden::NotDue { .. } | Forbidden::Clock => Code::NotDue,
    }
}
