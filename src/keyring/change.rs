//! How does a change to keys happen once? Under an Authority, after a durable intent, in one transaction: the keyring is
//! read, the change is planned, keys are made, the rows are sealed and committed. Whoever was slower plans again.

use std::sync::Arc;

use super::directory::Intent;
use super::documents;
use super::draft::{Draft, Drafted, NewKey, RingDraft};
use super::follow::{Loaded, Open};
use super::life::{By, Cause, Facts, KeyState, Now, Reason, Step};
use super::lookup;
use super::metering;
use super::partition::PartitionStep;
use super::plan::{self, Plan};
use super::race::{Manner, Race};
use super::rings::{Ring, wraps_of};
use super::verify::{self, Damage};
use super::wraps::WrapError;
use super::{Applied, ApplyError, Change, Escrow, Inner, KeyringView, Keyrings, StoreHead, UnlockError};
use crate::audit::IntentReceipt;
use crate::clock::{Deadline, SharedClock, Wall};
use crate::crypto;
use crate::kek::Wrap;
use crate::names::{KeyVersionId, KeyringName};
use crate::policy::{Action, Authority, Spends};
use crate::store::{RingRows, SealedKey, StoreError};

/// Partitions that are counted for a refusal.
const SOME_PARTITIONS: u32 = 1_000;

/// In microseconds.
const DAY: u64 = 86_400_000_000;

/// A change with whoever asked for it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub change: Change,
    /// What the authority is for.
    pub action: Action,
    pub actor: By,
    pub intent: u64,
    pub deadline: Deadline,
    /// What its authority is: some end when custodians are there.
    pub kind: Kind,
    /// The decision of a quorum that is spent with it.
    pub spends: Option<Spends>,
}

/// How far an authority reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As far as nobody has enrolled custodians.
    Founding,
    /// In the safe direction.
    Alone,
    /// As far as it covers.
    Other,
}

impl Kind {
    pub(super) const fn of(authority: &Authority) -> Self {
        match authority {
            Authority::Founding(_) => Self::Founding,
            Authority::Alone(_) => Self::Alone,
            Authority::Standing(_) | Authority::OnUse(_) | Authority::Quorum(_) => Self::Other,
        }
    }
}

impl Order {
    /// Whether its authority still holds: asked of the newest chain, so that a founding that is slower than the
    /// custodians' genesis changes nothing.
    pub(super) fn holds(&self, open: &Open) -> Result<(), ApplyError> {
        match self.kind {
            Kind::Founding if open.in_custody() => Err(ApplyError::NeedsQuorum),
            Kind::Alone if !open.in_custody() || !self.change.is_safe() => Err(ApplyError::NeedsQuorum),
            _ => Ok(()),
        }
    }

    /// The cause of the steps that it takes.
    pub(super) fn cause(&self, reason: Reason) -> Cause {
        let ceremony = self.spends.as_ref().map(|spends| spends.ceremony.clone());
        Cause { reason, by: self.actor.clone(), ceremony }
    }

    /// Its rounds against other sidecars.
    pub(super) const fn race<'a>(&self, clock: &'a SharedClock) -> Race<'a> {
        let yields = match &self.change {
            Change::Partitions(change) => matches!(change.step, PartitionStep::Make(_) | PartitionStep::Rewrap(_)),
            _ => false,
        };
        Race::until(clock, self.deadline, if yields { Manner::Yielding } else { Manner::Urgent })
    }
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
        let actor = authority.principal().map_or(By::Sidecar, |name| By::Principal(name.clone()));
        let action = authority.action();
        let spends = authority.spends().cloned();
        let kind = Kind::of(authority);
        let order = Order { change: change.clone(), action, actor, intent: intent.index(), deadline, kind, spends };
        let work = carry_out(Arc::clone(&self.inner), order);
        let ended = |_| Err(ApplyError::Unsettled("the change was cut off".to_owned()));
        tokio::spawn(work).await.unwrap_or_else(ended)
    }

    /// Resolves when no change that an earlier process began is under way any more: only then may it be said that one
    /// did not happen.
    pub async fn settled(&self) -> Result<(), UnlockError> {
        self.inner.opened()?;
        self.inner.writer.settled().await.map_err(|error| ApplyError::from(error).into())
    }

    /// What became of a change whose outcome is not recorded (a crash between), after [`Self::settled`]: Some if the intent's change happened.
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

impl Keyrings {
    /// The same for an intent that names no keyring: how many keys its changes wrote; None if there is no change by it.
    pub async fn settle_keys(&self, intent: u64) -> Result<Option<u64>, UnlockError> {
        let open = self.inner.opened()?;
        let intent = Intent { log: self.inner.log_name(), index: intent };
        let (mut after, mut found) = (StoreHead::default(), None);
        loop {
            let links = self.inner.reader.changes(after.changes, verify::PAGE).await.map_err(ApplyError::from)?;
            if links.is_empty() {
                return Ok(found);
            }
            for link in &links {
                let (body, end) = verify::link(link, after, &open.system.rows)?;
                after = end;
                if body.intent == Some(intent.index) && body.log.as_ref() == Some(&intent.log) {
                    let keys: usize = body.heads.iter().map(|head| head.keys.len()).sum();
                    found = Some(found.unwrap_or(0) + u64::try_from(keys).unwrap_or(u64::MAX));
                }
            }
        }
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
    let mut turn = inner.turn.lock().await;
    let name = order.change.keyring().to_string();
    let intent = Intent { log: inner.log_name(), index: order.intent };
    let mut key: Option<(SealedKey, Escrow)> = None;
    let mut race = order.race(&inner.clock);
    loop {
        let open = inner.opened_to_change()?;
        order.holds(&open)?;
        let loaded = inner.load(&open, &name).await?;
        if let Some(loaded) = loaded.as_ref().filter(|_| open.directory().recent(&intent) == Some(&*name)) {
            return inner.shown(&loaded.rows, &open, None, None);
        }
        let (facts, now) = inner.look(&open, &order.change, loaded.as_ref()).await?;
        let mut plan = plan::plan(&order, loaded.as_ref(), &facts, now)?;
        if let Some(new) = plan.make.take() {
            let escrow = plan.ring.head.limits.escrow();
            let usable = key.take().filter(|(key, for_)| *for_ == escrow && !open.directory().has_version(key.row.id));
            let made = match usable {
                Some((made, _)) => made,
                None => make_key(&inner, &open, &order, (new, escrow), now.wall).await?,
            };
            plan.ring.add(made.clone());
            key = Some((made, escrow));
        }
        let Plan { kind, mut ring, version, before, .. } = plan;
        inner.seal_counts(&order.change, before, &mut ring).await;
        let rings =
            std::iter::once(ring).chain(inner.spending(&open, order.spends.as_ref(), now.wall).await?).collect();
        let draft = Draft { kind, at: now.wall, intent: Some(intent.clone()), rings, partitions: Vec::new() };
        let version = version.or_else(|| key.as_ref().map(|(key, _)| key.row.id));
        match inner.commit(&open, draft).await {
            Ok(drafted) => {
                let rows = drafted.rings.into_iter().next();
                let rows = rows.ok_or_else(|| ApplyError::Unsettled("the change touched no keyring".to_owned()))?;
                return inner.shown(&rows.rows, &open, version, before);
            }
            // Somebody else changed the store: follow, and decide again.
            Err(CommitError::Conflict) => {
                drop(turn);
                race.lost().await?;
                turn = inner.turn.lock().await;
                inner.catch_up(&open).await?;
            }
            Err(CommitError::Other(error)) => return Err(error),
        }
    }
}

async fn make_key(
    inner: &Inner,
    open: &Open,
    order: &Order,
    (new, escrow): (plan::New, Escrow),
    created: Wall,
) -> Result<SealedKey, ApplyError> {
    let genesis = &open.system.genesis;
    let keyring = order.change.keyring().to_string();
    let new = NewKey {
        store: genesis.store,
        environment: genesis.environment,
        id: fresh_id(|id| open.directory().has_version(id))?,
        owner: lookup::owner_name(&keyring, new.lookup.as_ref().map(|(name, _)| name.to_string()).as_deref()),
        purpose: new.purpose,
        keyring,
        created,
        suite: new.suite,
        epoch: None,
        lookup: new.lookup,
        escrow,
        life: Some(new.life),
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
    pub(super) fn shown(
        &self,
        rows: &RingRows,
        open: &Open,
        version: Option<KeyVersionId>,
        before: Option<(KeyVersionId, KeyState)>,
    ) -> Result<Applied, ApplyError> {
        let ring = Ring::read(rows, &open.system.genesis, self.settings.data_key_period)?;
        Ok(Applied { keyring: ring.view.as_ref().clone(), version, before, partitions: None })
    }

    /// The time, and what a change needs to know beyond the keyring. Only a destruction asks the store for more.
    async fn look(&self, open: &Open, change: &Change, loaded: Option<&Loaded>) -> Result<(Facts, Now), ApplyError> {
        match (change, loaded) {
            (Change::Step { version, step: Step::ScheduleDestroy { .. } | Step::Destroy, .. }, Some(loaded)) => {
                Ok((self.needs(*version, loaded).await?, self.fleet_now(open).await?))
            }
            _ => Ok((Facts::default(), self.now(open))),
        }
    }

    /// What still needs a version.
    async fn needs(&self, id: KeyVersionId, loaded: &Loaded) -> Result<Facts, ApplyError> {
        let RingRows { head, keys } = &loaded.rows;
        let parent = format!("key:{id}");
        let keys = keys.iter().filter(|key| key.row.parent == parent).count();
        // Whether there are any is what matters; the number is for people.
        let partitions = self.writer.partitions(head.name.clone(), Some(id), None, SOME_PARTITIONS).await?.len();
        // The end of that day: what was opened in its last second counts in full.
        let used = self.usage(id).await.map_err(|error| uncounted(id, &error))?;
        if let Some(sealed) = loaded.head.used.get(&id.to_string()) {
            self.compare_counts(id, used, metering::tally(*sealed)).map_err(|error| uncounted(id, &error))?;
        }
        let opened = Some(used.opened).filter(|day| day.0 > 0);
        let opened = opened.map(|day| Wall(u64::from(day.0).saturating_add(1).saturating_mul(DAY)));
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        // Rows say what the head does not know, and the head what rows that were deleted or edited do not.
        let partitions = number(partitions).max(super::partition::wrapped_by(loaded.head.partitions.as_ref(), id));
        Ok(Facts { other_active: None, partitions, keys: number(keys), opened })
    }

    /// Seals into the head what was counted of a version that stops to seal, or is to be destroyed: from then on rows that
    /// are missing or older show. Without the counts a rotation is not held up.
    async fn seal_counts(&self, change: &Change, before: Option<(KeyVersionId, KeyState)>, ring: &mut RingDraft) {
        let counts = matches!(
            change,
            Change::Rotate { .. } | Change::Step { step: Step::Deactivate | Step::ScheduleDestroy { .. }, .. }
        );
        if let Change::Step { version, step: Step::Destroy, .. } = change {
            ring.head.used.remove(&version.to_string());
        }
        let Some((id, _)) = before.filter(|_| counts) else { return };
        match self.usage(id).await {
            Ok(used) => drop(ring.head.used.insert(id.to_string(), metering::body(used))),
            Err(error) => tracing::warn!(%error, key = %id, "what was counted of a key could not be sealed"),
        }
    }

    /// Seals a draft behind the chain as it is known, commits it, and from then on everybody sees it. The caller has
    /// the turn.
    pub(super) async fn commit(&self, open: &Open, draft: Draft) -> Result<Drafted, CommitError> {
        self.commit_after(open, draft, open.head()).await
    }

    /// The same for a draft that rests on what was read while the chain ended here.
    pub(super) async fn commit_after(
        &self,
        open: &Open,
        draft: Draft,
        head: StoreHead,
    ) -> Result<Drafted, CommitError> {
        let failed = |error: ApplyError| CommitError::Other(error);
        unchanged(open, &draft).map_err(failed)?;
        let first = first_uses(open, &draft).map_err(failed)?;
        admitted(open, &first).map_err(failed)?;
        let draft = self.with_first_uses(open, draft, first).await.map_err(failed)?;
        let drafted = draft.seal(&open.system.rows, head);
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

/// Whether what the draft rests on is as it was counted. Asked after the head was taken that the draft follows: what changes
/// later moves the chain on, and then the draft is no next link of it.
fn unchanged(open: &Open, draft: &Draft) -> Result<(), ApplyError> {
    let directory = open.directory();
    let generation = |name: &str| directory.known(name).map_or(0, |known| known.generation);
    let mut all = draft.rings.iter().flat_map(|ring| &ring.rests_on);
    match all.find(|(name, counted)| generation(name) != *counted) {
        Some((name, _)) => {
            let why =
                format!("{name} was changed while people were counted by it: ask again, and they are counted anew");
            Err(ApplyError::Superseded(why))
        }
        None => Ok(()),
    }
}

/// The wraps of a draft by versions that have wrapped nothing yet; an error if one is by a version that was retired.
fn first_uses(open: &Open, draft: &Draft) -> Result<Vec<Wrap>, ApplyError> {
    let mut first: Vec<Wrap> = Vec::new();
    for key in draft.rings.iter().flat_map(RingDraft::written) {
        let wraps = wraps_of(key)?;
        if let Some(kek) = open.retired(&wraps) {
            let why = format!("{kek} is retired: this sidecar has to wrap by a newer version, restart it");
            return Err(ApplyError::Unavailable(why));
        }
        for wrap in open.first_uses(&wraps) {
            if !first.iter().any(|one| one.kek == wrap.kek && one.kek_version == wrap.kek_version) {
                first.push(wrap.clone());
            }
        }
    }
    Ok(first)
}

/// Where custodians are, a version of a key-encryption key wraps nothing before they have admitted it: whoever can log in to
/// a token makes a key there, and not one that this store trusts.
fn admitted(open: &Open, first: &[Wrap]) -> Result<(), ApplyError> {
    if !open.in_custody() {
        return Ok(());
    }
    let unknown = |wrap: &&Wrap| open.directory().known(&documents::kek_name(&wrap.kek, wrap.kek_version)).is_none();
    first.iter().find(unknown).map_or(Ok(()), |wrap| {
        let (kek, version) = (&wrap.kek, wrap.kek_version);
        Err(ApplyError::Unavailable(format!(
            "the custodians have not admitted version {version} of {kek}: `keyward ceremony propose kek.rotate --set \
             kek={kek} --set to_version={version}`"
        )))
    })
}

/// Without the counts nobody can say whether a key is still in use.
fn uncounted(id: KeyVersionId, error: &UnlockError) -> ApplyError {
    match error {
        UnlockError::Tampered => ApplyError::Tampered(format!("the count of key {id}")),
        other => ApplyError::Unavailable(other.to_string()),
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
