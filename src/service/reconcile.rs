//! What became of a change that has an intent but no outcome, because we stopped between? Asked once at start.

use crate::audit::{Actor, AppendError, Dangling, Event, Group, Outcome, Record, Source};
use crate::clock::Deadline;

use super::Service;

impl Service {
    /// Closes every open intent with what the keyrings show. Idempotent: a crash here leaves intents open again.
    pub async fn reconcile(&self, open: &[Dangling]) -> Result<usize, AppendError> {
        for intent in open {
            let Some(record) = self.settled(intent).await else { continue };
            let by = Deadline(self.clock.mono().plus(super::APPEND_TIME));
            self.log.append(record, (), by).await?.into_outcome();
        }
        Ok(open.len())
    }

    /// The outcome of an intent; None while the keyrings cannot tell, and then it stays open.
    async fn settled(&self, intent: &Dangling) -> Option<Record> {
        let found = match &intent.keyring {
            None => None,
            Some(name) => self.keyrings.settle(name, intent.index).await.ok()?,
        };
        // The log names its events from the same list.
        let event = Event::ALL.iter().copied().find(|event| event.name() == intent.event).unwrap_or(Event::KeyCreated);
        let groups = intent.keyring.iter().map(|keyring| Group {
            keyring: keyring.clone(),
            // The first version is the one that was made only where the keyring was.
            version: found
                .as_ref()
                .filter(|_| event == Event::KeyCreated)
                .and_then(|view| Some(view.versions.first()?.id)),
            done: u32::from(found.is_some()),
            failed: Vec::new(),
        });
        Some(Record {
            event,
            outcome: if found.is_some() { Outcome::Done } else { Outcome::Failed },
            reason: Some("reconciled"),
            actor: Actor::Sidecar,
            source: Source::Internal,
            request: None,
            purpose: None,
            groups: groups.collect(),
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: Some(self.policy.load().digest()),
            intent: Some(intent.index),
            facts: Vec::new(),
        })
    }
}
