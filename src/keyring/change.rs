//! How does a change to keys happen once? Under an Authority, after a durable intent, in one transaction.

use std::sync::Arc;

use super::draft::{Draft, Drafted, NewKey};
use super::snapshot::{Ring, Snapshot};
use super::wraps::WrapError;
use super::{Applied, ApplyError, Change, Inner, Keyrings, UnlockError, genesis};
use crate::audit::IntentReceipt;
use crate::clock::Deadline;
use crate::crypto;
use crate::names::{KeyVersionId, KeyringName, MAX_CALLER_PAIRS, RESERVED_PREFIX};
use crate::policy::{Action, Authority};
use crate::store::{SealedKey, StoreError};

/// How often a change starts over because another sidecar was first. Each time somebody got through; eight in a row is
/// a fleet in a loop.
const ATTEMPTS: usize = 8;

impl Keyrings {
    /// Carries out a change whose intent is durable. Idempotent for one intent. A caller that goes away does not stop it.
    pub async fn apply(
        &self,
        change: &Change,
        authority: &Authority,
        intent: IntentReceipt,
    ) -> Result<Applied, ApplyError> {
        let deadline = covered(change, authority)?;
        check(change)?;
        let work = carry_out(Arc::clone(&self.inner), change.clone(), intent.index(), deadline);
        let ended = |_| Err(ApplyError::Unsettled("the change was cut off".to_owned()));
        tokio::spawn(work).await.unwrap_or_else(ended)
    }

    /// What became of a change whose outcome is not recorded (a crash between): Some if the intent's change happened.
    /// An error, not None, until the store has been admitted.
    pub fn settle(&self, keyring: &KeyringName, intent: u64) -> Result<Option<Arc<super::KeyringView>>, UnlockError> {
        self.inner.with_snapshot(|snapshot| done(snapshot, keyring, intent).map(|ring| Arc::clone(&ring.view)))
    }
}

/// Until when the authority lasts, if it covers the change.
pub(super) fn covered(change: &Change, authority: &Authority) -> Result<Deadline, ApplyError> {
    let Change::Create { name, .. } = change;
    let covers = authority.action() == Action::KeyringCreate && authority.keyring() == Some(name);
    if covers { Ok(authority.deadline()) } else { Err(ApplyError::NotCovered) }
}

/// A keyring that no value could satisfy, or whose pseudonyms nobody could compute, is refused before it exists.
pub(super) fn check(change: &Change) -> Result<(), ApplyError> {
    let Change::Create { required_context, subject_key, .. } = change;
    let invalid = |what: &str| Err(ApplyError::Invalid(what.to_owned()));
    let mut sorted: Vec<&str> = required_context.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|two| matches!(two, [a, b] if a == b)) {
        return invalid("a required context key is given twice");
    }
    if sorted.len() > MAX_CALLER_PAIRS {
        return invalid("more context keys are required than a caller may give");
    }
    if sorted.iter().any(|key| key.is_empty() || key.len() > 255 || key.starts_with(RESERVED_PREFIX)) {
        return invalid("a required context key is empty, longer than 255 bytes or reserved");
    }
    match subject_key {
        Some(subject) if !required_context.contains(subject) => invalid("the subject's context key is not required"),
        _ => Ok(()),
    }
}

pub(super) async fn carry_out(
    inner: Arc<Inner>,
    change: Change,
    intent: u64,
    deadline: Deadline,
) -> Result<Applied, ApplyError> {
    // Changes of this process take turns, so that each starts from the rows that the one before left. Nothing that
    // serves values waits here.
    let _turn = inner.turn.lock().await;
    let Change::Create { name, .. } = &change;
    let mut key: Option<SealedKey> = None;
    for _ in 0..ATTEMPTS {
        let snapshot = inner.snapshot.load_full().ok_or_else(|| ApplyError::Unavailable(inner.reason()))?;
        if let Some(ring) = done(&snapshot, name, intent) {
            return Ok(Applied { keyring: ring.view.as_ref().clone() });
        }
        if snapshot.rings.contains_key(name) {
            return Err(ApplyError::Exists(name.clone()));
        }
        let usable = key.take().filter(|key| snapshot.version(key.row.id).is_none());
        let made = match usable {
            Some(made) => made,
            None => make_key(&inner, &snapshot, &change, deadline).await?,
        };
        let drafted = draft(&inner, &change, intent, made.clone())
            .seal(&snapshot.system.rows, snapshot.head)
            .map_err(|error| ApplyError::Unavailable(error.to_string()))?;
        match inner.writer.commit(drafted.writes()).await {
            Ok(()) => return publish(&inner, &snapshot, drafted, intent),
            // Somebody else changed the store: read and verify all of it, and decide again.
            Err(StoreError::Conflict) => genesis::reload(&inner, &snapshot).await?,
            Err(error) => return Err(error.into()),
        }
        key = Some(made);
    }
    Err(ApplyError::Unavailable("other sidecars keep changing the store".to_owned()))
}

fn done<'a>(snapshot: &'a Snapshot, name: &KeyringName, intent: u64) -> Option<&'a Arc<Ring>> {
    snapshot.intents.get(&intent).filter(|changed| *changed == name)?;
    snapshot.rings.get(name)
}

async fn make_key(
    inner: &Inner,
    snapshot: &Snapshot,
    change: &Change,
    deadline: Deadline,
) -> Result<SealedKey, ApplyError> {
    let Change::Create { name, suite, .. } = change;
    let genesis = &snapshot.system.genesis;
    let new = NewKey {
        store: genesis.store,
        environment: genesis.environment,
        id: fresh_id(|id| snapshot.version(id).is_some())?,
        owner: name.to_string(),
        purpose: "data",
        keyring: name.to_string(),
        created: inner.clock.wall(),
        suite: Some(*suite),
        epoch: None,
    };
    // The unwrapped key ends here: the first request unwraps it like any later one.
    let (_key, sealed) = new.make(&inner.keks, deadline).await?;
    Ok(sealed)
}

pub(super) fn draft(inner: &Inner, change: &Change, intent: u64, key: SealedKey) -> Draft {
    let Change::Create { name, required_context, subject_key, suite } = change;
    let at = inner.clock.wall();
    Draft {
        kind: "keyring.created",
        keyring: name.to_string(),
        generation: 1,
        created: at,
        required_context: required_context.clone(),
        subject_key: subject_key.clone(),
        suite: Some(*suite),
        at,
        intent: Some(intent),
        keys: vec![key],
    }
}

/// The rows are durable; from here on everybody sees them.
fn publish(inner: &Inner, snapshot: &Snapshot, drafted: Drafted, intent: u64) -> Result<Applied, ApplyError> {
    let keys: Vec<&SealedKey> = drafted.keys.iter().collect();
    let ring = Ring::read(&drafted.head, &keys, &snapshot.system.genesis)?;
    let keyring = ring.view.as_ref().clone();
    inner.show(snapshot.with(ring, intent, drafted.end));
    Ok(Applied { keyring })
}

/// A random id that is not taken; eight random bytes collide about never, and then the next draw is free.
pub(super) fn fresh_id(taken: impl Fn(KeyVersionId) -> bool) -> Result<KeyVersionId, ApplyError> {
    loop {
        let mut id = KeyVersionId([0; 8]);
        crypto::random(&mut id.0).map_err(|_| ApplyError::Unavailable("no randomness".to_owned()))?;
        if !taken(id) {
            return Ok(id);
        }
    }
}

impl From<WrapError> for ApplyError {
    fn from(error: WrapError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unsettled(_) => Self::Unsettled(error.to_string()),
            StoreError::Corrupt(_) => Self::Tampered(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
