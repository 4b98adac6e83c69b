//! How does a change to keys happen once? Under an Authority, after a durable intent, in one transaction: the keyring is
//! read, the change is planned, keys are made, the rows are sealed and committed. Whoever was slower plans again.

use std::sync::Arc;

use super::directory::Intent;
use super::draft::{Draft, Drafted, NewKey};
use super::follow::{Loaded, Open};
use super::life::By;
use super::plan::{self, Plan};
use super::rings::Ring;
use super::verify::{self, Damage};
use super::wraps::WrapError;
use super::{Applied, ApplyError, Change, Inner, KeyringView, Keyrings, UnlockError};
use crate::audit::IntentReceipt;
use crate::clock::Deadline;
use crate::crypto;
use crate::names::{KeyVersionId, KeyringName};
use crate::policy::Authority;
use crate::store::{SealedKey, StoreError};

/// How often a change starts over because another sidecar was first. Each time somebody got through; eight in a row is
/// a fleet in a loop.
const ATTEMPTS: usize = 8;

/// A change with whoever asked for it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub change: Change,
    pub actor: String,
    pub intent: u64,
    pub deadline: Deadline,
}

impl Keyrings {
    /// Carries out a change whose intent is durable. Idempotent for one intent. A caller that goes away does not stop it.
    pub async fn apply(
        &self,
        change: &Change,
        authority: &Authority,
        intent: IntentReceipt,
    ) -> Result<Applied, ApplyError> {
        plan::covered(change, authority)?;
        plan::check(change)?;
        let deadline = authority.deadline();
        let actor = authority.principal().map_or_else(|| By::Sidecar.name().to_owned(), ToString::to_string);
        let order = Order { change: change.clone(), actor, intent: intent.index(), deadline };
        let work = carry_out(Arc::clone(&self.inner), order);
        let ended = |_| Err(ApplyError::Unsettled("the change was cut off".to_owned()));
        tokio::spawn(work).await.unwrap_or_else(ended)
    }

    /// What became of a change whose outcome is not recorded (a crash between): Some if the intent's change happened.
    /// An error, not None, until the store has been admitted. May read the whole chain of changes.
    pub async fn settle(&self, keyring: &KeyringName, intent: u64) -> Result<Option<Arc<KeyringView>>, UnlockError> {
        let open = self.inner.opened()?;
        let intent = Intent { log: self.inner.log_name(), index: intent };
        let recent = open.directory().recent(&intent).map(str::to_owned);
        let changed = match recent {
            Some(changed) => Some(changed),
            None => search(&self.inner, &open, &intent).await?,
        };
        if changed.is_none_or(|changed| changed != keyring.to_string()) {
            return Ok(None);
        }
        Ok(self.inner.ring(&open, keyring).await?.map(|ring| Arc::clone(&ring.view)))
    }
}

/// Looks for an intent's change in the whole chain.
async fn search(inner: &Inner, open: &Open, intent: &Intent) -> Result<Option<String>, ApplyError> {
    let mut after = super::StoreHead::default();
    loop {
        let links = inner.reader.changes(after.changes, verify::PAGE).await?;
        if links.is_empty() {
            return Ok(None);
        }
        for link in &links {
            let (body, end) = verify::link(link, after, &open.system.rows)?;
            after = end;
            if body.intent == Some(intent.index) && body.log.as_ref() == Some(&intent.log) {
                return Ok(body.heads.into_iter().next().map(|head| head.keyring));
            }
        }
    }
}

pub(super) async fn carry_out(inner: Arc<Inner>, order: Order) -> Result<Applied, ApplyError> {
    // Changes of this process take turns, so that each starts from the rows that the one before left. Nothing that
    // serves values waits here.
    if let Change::Partitions(change) = &order.change {
        let change = change.clone();
        return super::partition::carry_out(inner, order, change).await;
    }
    let _turn = inner.turn.lock().await;
    let name = order.change.keyring().to_string();
    let intent = Intent { log: inner.log_name(), index: order.intent };
    let mut key: Option<SealedKey> = None;
    for _ in 0..ATTEMPTS {
        let open = inner.opened().map_err(|error| ApplyError::Unavailable(error.to_string()))?;
        let loaded = inner.load(&open, &name).await?;
        if let Some(loaded) = loaded.as_ref().filter(|_| open.directory().recent(&intent) == Some(&*name)) {
            return applied(loaded, &open, None);
        }
        let now = inner.clock.wall();
        let mut plan = plan::plan(&order, loaded.as_ref(), now)?;
        if let Some(new) = plan.make.take() {
            let usable = key.take().filter(|key| !open.directory().has_version(key.row.id));
            let made = match usable {
                Some(made) => made,
                None => make_key(&inner, &open, &order, new).await?,
            };
            plan.ring.add(made.clone());
            key = Some(made);
        }
        let Plan { kind, ring, version, .. } = plan;
        let draft = Draft { kind, at: now, intent: Some(intent.clone()), rings: vec![ring], partitions: Vec::new() };
        let version = version.or_else(|| key.as_ref().map(|key| key.row.id));
        match inner.commit(&open, draft).await {
            Ok(drafted) => {
                let rows = drafted.rings.into_iter().next();
                let rows = rows.ok_or_else(|| ApplyError::Unsettled("the change touched no keyring".to_owned()))?;
                return shown(&rows, &open, version);
            }
            // Somebody else changed the store: follow, and decide again.
            Err(CommitError::Conflict) => inner.catch_up(&open).await?,
            Err(CommitError::Other(error)) => return Err(error),
        }
    }
    Err(ApplyError::Unavailable("other sidecars keep changing the store".to_owned()))
}

fn applied(loaded: &Loaded, open: &Open, version: Option<KeyVersionId>) -> Result<Applied, ApplyError> {
    shown(&loaded.rows, open, version)
}

pub(super) fn shown(
    rows: &crate::store::RingRows,
    open: &Open,
    version: Option<KeyVersionId>,
) -> Result<Applied, ApplyError> {
    let ring = Ring::read(rows, &open.system.genesis)?;
    Ok(Applied { keyring: ring.view.as_ref().clone(), version, partitions: None })
}

async fn make_key(inner: &Inner, open: &Open, order: &Order, new: plan::New) -> Result<SealedKey, ApplyError> {
    let genesis = &open.system.genesis;
    let keyring = order.change.keyring().to_string();
    let new = NewKey {
        store: genesis.store,
        environment: genesis.environment,
        id: fresh_id(|id| open.directory().has_version(id))?,
        owner: keyring.clone(),
        purpose: new.purpose,
        keyring,
        created: inner.clock.wall(),
        suite: new.suite,
        epoch: None,
        name: new.name,
        state: new.state,
        moved: Some(new.moved),
    };
    // The unwrapped key ends here: the first request unwraps it like any later one.
    let (_key, sealed) = new.make(&inner.keks, order.deadline).await?;
    Ok(sealed)
}

/// Why a draft was not committed.
pub(super) enum CommitError {
    /// Somebody else changed the store first.
    Conflict,
    Other(ApplyError),
}

impl Inner {
    /// Seals a draft behind the chain as it is known, commits it, and from then on everybody sees it. The caller has
    /// the turn.
    pub(super) async fn commit(&self, open: &Open, draft: Draft) -> Result<Drafted, CommitError> {
        let failed = |error: ApplyError| CommitError::Other(error);
        let drafted = draft.seal(&open.system.rows, open.head());
        let mut drafted = drafted.map_err(|error| failed(ApplyError::Unavailable(error.to_string())))?;
        match self.writer.commit(std::mem::take(&mut drafted.writes)).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return Err(CommitError::Conflict),
            Err(error) => return Err(failed(error.into())),
        }
        // The rows are durable; what could not be shown now is read from the chain by the next look.
        open.advance(&drafted.change, drafted.end, &drafted.rings, self).map_err(|damage| failed(damage.into()))?;
        self.evict_unusable(&drafted.rings);
        Ok(drafted)
    }
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

impl From<Damage> for UnlockError {
    fn from(damage: Damage) -> Self {
        ApplyError::from(damage).into()
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
