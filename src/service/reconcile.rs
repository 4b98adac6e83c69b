//! What became of a change that has an intent but no outcome, because we stopped between? Asked once at start.

use crate::audit::{Actor, AppendError, Dangling, Event, FACTS, Group, Outcome, Record, Source};
use crate::clock::Deadline;

use super::Service;

impl Service {
    /// Closes every open intent with what the keyrings show, and gives back those that nobody can tell of yet: a commit
    /// may outlive its process in the database. Idempotent: a crash here leaves intents open again.
    pub async fn reconcile(&self, open: Vec<Dangling>) -> Vec<Dangling> {
        if open.is_empty() {
            return open;
        }
        if let Err(error) = self.keyrings.settled().await {
            tracing::warn!(%error, intents = open.len(), "what became of open intents is not known yet");
            return open;
        }
        let mut left = Vec::new();
        for intent in open {
            if let Err(why) = self.close(&intent).await {
                tracing::warn!(intent = intent.index, %why, "an open intent could not be closed yet");
                left.push(intent);
            }
        }
        left
    }

    async fn close(&self, intent: &Dangling) -> Result<(), Unclosed> {
        let record = self.settled(intent).await.ok_or(Unclosed::Unknown)?;
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME));
        self.log.append(record, (), by).await?.into_outcome();
        Ok(())
    }

    /// The outcome of an intent; None while the keyrings cannot tell, and then it stays open.
    async fn settled(&self, intent: &Dangling) -> Option<Record> {
        let policy = self.is_in_force(intent);
        // What people decide about a keyring rests in documents: the keyring is named, and not changed.
        let (found, keys) = match intent.keyring.as_ref().filter(|_| !is_of_documents(&intent.event)) {
            None if policy.is_some() => (None, None),
            None => (None, self.keyrings.settle_keys(intent.index).await.ok()?),
            Some(name) => (self.keyrings.settle(name, intent.index).await.ok()?, None),
        };
        let mut facts = told(intent);
        facts.extend(keys.filter(|keys| *keys > 0).map(|keys| ("rewrapped", keys.to_string())));
        let event = Event::ALL.iter().copied().find(|event| event.name() == intent.event);
        let version = match (event, &found) {
            (Some(Event::KeyCreated), Some(view)) => view.versions.first().map(|version| version.id),
            _ => fact(intent, "key_version").and_then(|version| version.parse().ok()),
        };
        let groups = intent.keyring.iter().map(|keyring| Group {
            keyring: keyring.clone(),
            version,
            done: u32::from(found.is_some() || (keys.is_some() && is_of_documents(&intent.event))),
            failed: Vec::new(),
        });
        Some(Record {
            event: event.unwrap_or(Event::KeyCreated),
            outcome: if found.is_some() || keys.is_some() || policy == Some(true) {
                Outcome::Done
            } else {
                Outcome::Failed
            },
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
            facts,
        })
    }
}

/// Why an intent stays open.
#[derive(Debug, thiserror::Error)]
enum Unclosed {
    #[error("the keyrings cannot tell")]
    Unknown,
    #[error("the log did not take its outcome: {0}")]
    Unrecorded(#[from] AppendError),
}

/// Whether what such an intent announced is a change of documents alone.
fn is_of_documents(event: &str) -> bool {
    ["backup.", "ceremony.", "custodian.", "custody.", "grant.", "lock.", "restore.", "settings."]
        .iter()
        .any(|of| event.starts_with(of))
}

fn fact<'a>(intent: &'a Dangling, name: &str) -> Option<&'a str> {
    intent.facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// What the intent said, said again: whoever reads the outcome alone knows what it was about.
fn told(intent: &Dangling) -> Vec<(&'static str, String)> {
    FACTS.iter().filter_map(|name| Some((*name, fact(intent, name)?.to_owned()))).collect()
}
