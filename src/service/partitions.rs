//! What does the service do with partitions? New ones are made before a sealing, one is shredded for good on request, and
//! wraps follow a rotated data key. A shredding is durable, and its certificate says what it does not reach.

use std::sync::PoisonError;
use std::time::Duration;

use crate::audit::{Event, Group, Outcome, Record};
use crate::clock::{Deadline, Wall};
use crate::keyring::{
    Applied, ApplyError, Change, Following, NewPartition, PARTITION_BATCH, PartitionChange, PartitionName, PartitionStep,
    PartitionsApplied, RevocationBound, Shredded,
};
use crate::names::{KeyringName, StoreId};
use crate::policy::{Action, Authority, Permit};

use super::account::{Account, source_of};
use super::change::{alone, change_refused};
use super::data::{refused, unavailable};
use super::life::{Reason, Trigger};
use super::maker::Wanted;
use super::{Answer, Asker, Code, Refusal, Service};

/// A request to shred a partition.
pub struct ShredPartition {
    /// Which keyring.
    pub keyring: KeyringName,
    /// The value of its partition key: a patient, say. Stands in no record and in no row.
    pub value: String,
    /// Why.
    pub reason: Reason,
    /// For how long backups of the store are kept, if whoever asks says so.
    pub backup_retention: Option<Duration>,
}

/// What a shredding did, and what it does not reach.
pub struct Certificate {
    /// Which store.
    pub store: StoreId,
    /// Which keyring.
    pub keyring: KeyringName,
    /// The tombstone.
    pub shredded: Shredded,
    /// How long a sidecar that can reach the store may still hold the key, from the shredding.
    pub heard: Duration,
    /// How long one that cannot.
    pub unheard: Duration,
    /// For how long backups are kept.
    pub backup_retention: Option<Duration>,
    /// Who has not followed it, when the certificate was made; None where that is not known.
    pub following: Option<Following>,
}

impl Certificate {
    /// What the key's destruction leaves readable or recoverable.
    pub const SURVIVES: &[&str] = &[
        "deterministic values, blind index values and tokens of this subject: they are made with look-up keys, delete them",
        "plaintext that was opened before, wherever it was put",
        "copies of the wrapped key in backups of the store and in its replicas' archives, until these age out",
        "residue of the wrapped key on the storage medium, below what the database overwrites",
    ];

    /// When it counts for every sidecar that can reach the store.
    pub fn heard_by(&self) -> Wall {
        after(self.shredded.at, self.heard)
    }

    /// When it counts for every sidecar.
    pub fn unheard_until(&self) -> Wall {
        after(self.shredded.at, self.unheard)
    }

    /// When the last backup that holds the wrapped key is gone; None if nobody said for how long they are kept.
    pub fn backups_until(&self) -> Option<Wall> {
        self.backup_retention.map(|kept| after(self.shredded.at, kept))
    }
}

fn after(at: Wall, time: Duration) -> Wall {
    Wall(at.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
}

impl Service {
    /// Makes the partitions that a sealing needs. What could not be made is missing when it is unlocked, and fails alone.
    pub(super) async fn make_partitions(
        &self,
        needs: Vec<(&Permit, Vec<NewPartition>)>,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<(), Refusal> {
        let new: usize = needs.iter().map(|(_, names)| names.len()).sum();
        if new == 0 {
            return Ok(());
        }
        let new = u64::try_from(new).unwrap_or(u64::MAX);
        if !self.maker.allow(asker.principal.name(), new, self.clock.mono()) {
            let why = "too many new partitions within a minute: is the partition key the patient?";
            return Err(Refusal::because(Code::RateLimited, why));
        }
        account.facts.push(("partitions", new.to_string()));
        let mut making = tokio::task::JoinSet::new();
        for (permit, names) in needs {
            let Some(keyring) = permit.keyring() else { continue };
            let names: Vec<_> = names.into_iter().map(NewPartition::name).collect();
            for names in names.chunks(PARTITION_BATCH) {
                let authority = self.policy.load().on_use(permit).map_err(|denial| refused(&denial, account))?;
                let by = (account.actor(), source_of(account.surface));
                let wanted = Wanted::new((keyring.clone(), names.to_vec()), authority, by, account.policy);
                let maker = std::sync::Arc::clone(&self.maker);
                making.spawn(async move { maker.make(wanted).await });
            }
        }
        while making.join_next().await.is_some() {}
        Ok(())
    }

    pub(super) async fn shred_partition(
        &self,
        shred: ShredPartition,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let ShredPartition { keyring, value, reason, backup_retention } = shred;
        account.keyring(&keyring);
        // Policy first: what a keyring has is for whoever may shred in it to hear.
        let authority = self.authority(Action::PartitionShred, Some(&keyring), asker, account)?;
        *asker.sworn.lock().unwrap_or_else(PoisonError::into_inner) = Some(authority);
        let found = self.keyrings.find(&keyring).await.map_err(|error| unavailable(&error))?.ok_or(Code::Denied)?;
        if found.subject_key.is_some() && found.subject_key == found.partition_key {
            account.subjects.extend(self.keyrings.pseudonym(keyring.tenant(), &value));
        }
        let name = self.keyrings.partition_name(&keyring, &value).map_err(|error| unavailable(&error))?;
        drop(value);
        self.shred_named(keyring, (name, backup_retention), reason, asker, account).await
    }

    /// Shreds a partition by its name in the store.
    pub(super) async fn shred_named(
        &self,
        keyring: KeyringName,
        (name, backup_retention): (PartitionName, Option<Duration>),
        reason: Reason,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        let authority = self.authority(Action::PartitionShred, Some(&keyring), asker, account)?;
        account.facts.push(("partition", hex::encode(name.0)));
        account.facts.push(("key_reason", reason.code().to_owned()));
        let step = PartitionStep::Shred { name, reason: reason.code().to_owned() };
        let applied =
            self.change_partitions(&keyring, step, &authority, Event::PartitionShredded, asker, account).await?;
        let shredded = applied.partitions.and_then(|partitions| partitions.shredded).ok_or(Code::Internal)?;
        let store = self.keyrings.store().ok_or(Code::Unavailable)?;
        let RevocationBound { state, unheard_state, .. } = self.revocation;
        let (heard, unheard) = (state, unheard_state);
        let following = self.followed(asker.deadline, account).await;
        let certificate = Certificate { store, keyring, shredded, heard, unheard, backup_retention, following };
        Ok(Answer::Shredded(Box::new(certificate)))
    }

    /// Moves one page of partitions to the active version; whoever wants all of them asks until none remain.
    pub(super) async fn rewrap_partitions(
        &self,
        keyring: KeyringName,
        trigger: Trigger,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Answer, Refusal> {
        account.keyring(&keyring);
        account.facts.push(("trigger", trigger.code().to_owned()));
        let authority = self.authority(Action::KeyringRotate, Some(&keyring), asker, account)?;
        self.keyrings.find(&keyring).await.map_err(|error| unavailable(&error))?.ok_or(Code::Denied)?;
        let step = PartitionStep::Rewrap(PARTITION_BATCH);
        let applied = self.change_partitions(&keyring, step, &authority, Event::KeyRewrapped, asker, account).await?;
        let PartitionsApplied { done, remaining, damaged, shredded: _ } = applied.partitions.ok_or(Code::Internal)?;
        account.facts.push(("rewrapped", done.to_string()));
        account.facts.push(("remaining", remaining.to_string()));
        if damaged > 0 {
            account.facts.push(("failed", damaged.to_string()));
        }
        Ok(Answer::PartitionsRewrapped { done, remaining, damaged })
    }

    /// Intent, change; the outcome is the record of the request. If we stop after the intent, the restart settles it.
    async fn change_partitions(
        &self,
        keyring: &KeyringName,
        step: PartitionStep,
        authority: &Authority,
        event: Event,
        asker: &Asker<'_>,
        account: &mut Account,
    ) -> Result<Applied, Refusal> {
        let change = Change::Partitions(PartitionChange { keyring: keyring.clone(), step });
        alone(authority, &change)?;
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(asker.deadline);
        let mut facts = account.facts.clone();
        facts.push(("authority", authority.code().to_owned()));
        let record = Record {
            event,
            outcome: Outcome::Intent,
            reason: None,
            actor: account.actor(),
            source: super::account::source_of(account.surface),
            request: Some(asker.request.clone()),
            purpose: None,
            groups: vec![Group { keyring: keyring.clone(), version: None, done: 0, failed: Vec::new() }],
            orphans: Vec::new(),
            subjects: account.subjects.clone(),
            items_digest: None,
            policy: account.policy,
            intent: None,
            facts,
        };
        let unrecorded = |error| {
            tracing::error!(%error, "the audit log did not take an intent");
            Refusal::because(Code::Unavailable, super::NO_RECORD)
        };
        let intent = match asker.intent() {
            Some(intent) => intent,
            None => self.log.intent(record, by).await.map_err(unrecorded)?,
        };
        account.intent = Some(intent.index());
        account.intended = true;
        let applied = self.keyrings.apply(&change, authority, intent).await;
        if matches!(applied, Err(ApplyError::Unsettled(_))) {
            account.intent = None;
        }
        let applied = applied.map_err(change_refused)?;
        account.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        Ok(applied)
    }
}
