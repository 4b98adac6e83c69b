//! What keyward does to keys without being asked, because approved configuration foresees it. The same steps as for a
//! person: authority, intent, change, outcome; the sidecar is the actor.

use std::time::Duration;

use crate::audit::{Actor, Event, Group, Outcome, Record, Source};
use crate::clock::Deadline;
use crate::keyring::life::Trigger;
use crate::keyring::{ApplyError, Change, KeyState};
use crate::names::{KeyVersionId, KeyringName};
use crate::policy::Action;

use super::Service;

/// How long a rotation may take, its key-encryption keys included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why something foreseen did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Policy does not allow it to keyward.
    #[error("policy does not foresee it")]
    NotForeseen,
    /// The log takes no record: nothing was changed.
    #[error("the audit log does not take a record: {0}")]
    Unrecorded(String),
    /// Not now.
    #[error(transparent)]
    NotApplied(#[from] ApplyError),
}

impl Service {
    /// Gives a keyring a new active version. Nothing to do if the version that was due is not the active one any more:
    /// another sidecar was first.
    pub async fn rotate_foreseen(
        &self,
        keyring: &KeyringName,
        due: KeyVersionId,
        trigger: Trigger,
    ) -> Result<(), NotDone> {
        let found = self.keyrings.find(keyring).await.map_err(|error| ApplyError::Unavailable(error.to_string()))?;
        let active =
            |id| move |version: &crate::keyring::VersionView| version.id == id && version.state == KeyState::Active;
        if !found.is_some_and(|view| view.versions.iter().any(active(due))) {
            return Ok(());
        }
        let deadline = Deadline(self.clock.mono().plus(PATIENCE));
        let authority = self.policy.load().standing(Action::KeyringRotate, Some(keyring), deadline);
        let authority = authority.map_err(|_| NotDone::NotForeseen)?;
        let facts = vec![("authority", authority.code().to_owned()), ("trigger", trigger.code().to_owned())];
        let intent = self.rotation(keyring, None, Outcome::Intent, facts.clone());
        let receipt = self.log.intent(intent, self.append_deadline(deadline)).await;
        let receipt = receipt.map_err(|error| NotDone::Unrecorded(error.to_string()))?;
        let index = receipt.index();
        let change = Change::Rotate { keyring: keyring.clone(), trigger, expect: Some(due) };
        let applied = self.keyrings.apply(&change, &authority, receipt).await;
        let (version, outcome) = match &applied {
            Ok(applied) => (applied.version, Outcome::Done),
            // Nobody knows yet whether it happened: the intent stays open for the restart.
            Err(ApplyError::Unsettled(_)) => return applied.map(drop).map_err(NotDone::from),
            Err(_) => (None, Outcome::Failed),
        };
        let mut facts = facts;
        facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
        let mut record = self.rotation(keyring, version, outcome, facts);
        record.intent = Some(index);
        record.reason = applied.as_ref().err().map(reason);
        let recorded = self.log.append(record, (), self.append_deadline(deadline)).await;
        recorded.map_err(|error| NotDone::Unrecorded(error.to_string()))?.into_outcome();
        match applied {
            Ok(_) | Err(ApplyError::Superseded(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn rotation(
        &self,
        keyring: &KeyringName,
        version: Option<KeyVersionId>,
        outcome: Outcome,
        facts: Vec<(&'static str, String)>,
    ) -> Record {
        let done = u32::from(outcome == Outcome::Done);
        Record {
            event: Event::KeyRotated,
            outcome,
            reason: None,
            actor: Actor::Sidecar,
            source: Source::Internal,
            request: None,
            purpose: None,
            groups: vec![Group { keyring: keyring.clone(), version, done, failed: Vec::new() }],
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: Some(self.policy.load().digest()),
            intent: None,
            facts,
        }
    }
}

const fn reason(error: &ApplyError) -> &'static str {
    match error {
        ApplyError::Superseded(_) | ApplyError::Forbidden(_) | ApplyError::Exists(_) => "key_state",
        ApplyError::NotCovered | ApplyError::Refused(_) => "denied",
        ApplyError::Tampered(_) => "key_damaged",
        ApplyError::Invalid(_)
        | ApplyError::Unknown(_)
        | ApplyError::Unavailable(_)
        | ApplyError::Unsettled(_)
        | ApplyError::Founded
        | ApplyError::NotFounded => "unavailable",
    }
}
