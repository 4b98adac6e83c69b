//! How do partitions get keys, lose them for good, and follow their data key? Each change is one transaction: the rows, the
//! head with its new sum, and the link of the chain, which names what was shredded.
//!
//! If we stop before the commit nothing has happened; after it everything has. Whoever was slower reads again.

use std::sync::Arc;

use super::rows::{self, Partition};
use super::unlock::DELETED;
use super::wrap::{self, Place};
use super::{PartitionChange, PartitionName, PartitionStep, PartitionsApplied, Shredded, Totals};
use crate::clock::Wall;
use crate::crypto::{CryptoError, DataKey};
use crate::keyring::cache::Slot;
use crate::keyring::change::{CommitError, Order};
use crate::keyring::directory::Intent;
use crate::keyring::draft::{Draft, RingDraft};
use crate::keyring::follow::Open;
use crate::keyring::rings::{Ring, Version};
use crate::keyring::verify::Damage;
use crate::keyring::{Applied, ApplyError, Inner, KeyState};
use crate::names::KeyVersionId;
use crate::store::PartitionRow;

/// Edited rows that a moving names one by one; of more it says the number.
const NAMED: u64 = 10;

/// A planned change of one keyring's partitions.
struct Work<'a> {
    inner: &'a Arc<Inner>,
    open: &'a Open,
    ring: &'a Ring,
    order: &'a Order,
    now: Wall,
    totals: Totals,
    rows: Vec<PartitionRow>,
    /// Rows that were edited: a moving goes past them, and their version is not free of them.
    damaged: u64,
    /// Whether somebody else was first: then what was believed to be missing is looked at.
    contested: bool,
}

/// Carries out a change of partitions whose intent is durable.
pub(in crate::keyring) async fn carry_out(
    inner: Arc<Inner>,
    order: Order,
    change: PartitionChange,
) -> Result<Applied, ApplyError> {
    let mut turn = inner.turn.lock().await;
    let name = change.keyring.to_string();
    let intent = Intent { log: inner.log_name(), index: order.intent };
    let (mut race, mut contested) = (order.race(&inner.clock), false);
    loop {
        let open = inner.opened_to_change()?;
        order.holds(&open)?;
        let unknown = || ApplyError::Unknown(format!("there is no keyring {name}"));
        let loaded = inner.load(&open, &name).await?.ok_or_else(unknown)?;
        let ring = Ring::read(&loaded.rows, &open.system.genesis, inner.settings.data_key_period)?;
        if ring.view.partition_key.is_none() {
            return Err(ApplyError::Invalid(format!("the keyring {name} has no partitions")));
        }
        let totals = Totals::read(&name, loaded.head.partitions.as_ref(), open.system.partitions.summer())?;
        let mut work = Work {
            inner: &inner,
            open: &open,
            ring: &ring,
            order: &order,
            now: inner.clock.wall(),
            totals,
            rows: Vec::new(),
            damaged: 0,
            contested,
        };
        let (kind, shredded) = work.plan(&change.step).await?;
        let outcome = PartitionsApplied {
            done: u64::try_from(work.rows.len()).unwrap_or(u64::MAX),
            remaining: work.totals.elsewhere(ring.sealing().map(|version| version.view.id)),
            damaged: work.damaged,
            shredded,
        };
        if work.rows.is_empty() || open.directory().recent(&intent) == Some(&*name) {
            return applied(&inner, &loaded.rows, &open, outcome);
        }
        let at = work.now;
        let mut draft = work.draft(kind, RingDraft::of(&loaded), &intent, &outcome)?;
        draft.rings.extend(inner.spending(&open, order.spends.as_ref(), at).await?);
        match inner.commit(&open, draft).await {
            Ok(drafted) => {
                let rows = drafted.rings.into_iter().next();
                let rows = rows.ok_or_else(|| ApplyError::Unsettled("the change touched no keyring".to_owned()))?;
                return applied(&inner, &rows.rows, &open, outcome);
            }
            Err(CommitError::Conflict) => {
                drop(turn);
                race.lost().await?;
                turn = inner.turn.lock().await;
                inner.catch_up(&open).await?;
                contested = true;
            }
            Err(CommitError::Other(error)) => return Err(error),
        }
    }
}

fn applied(
    inner: &Inner,
    rows: &crate::store::RingRows,
    open: &Open,
    outcome: PartitionsApplied,
) -> Result<Applied, ApplyError> {
    Ok(Applied { partitions: Some(outcome), ..inner.shown(rows, open, None, None)? })
}

impl Work<'_> {
    /// One transaction of what was planned.
    fn draft(
        self,
        kind: &'static str,
        mut ring: RingDraft,
        intent: &Intent,
        outcome: &PartitionsApplied,
    ) -> Result<Draft, ApplyError> {
        ring.head.partitions = Some(self.totals.body(self.open.system.partitions.summer()).map_err(failed)?);
        let newly = outcome.shredded.iter().filter(|shredded| !shredded.before);
        ring.shredded = newly.map(|shredded| hex::encode(shredded.name.0)).collect();
        // Those that a peer learns of by this change; one that was shredded unmade is known by its tombstone.
        let made = self.rows.iter().filter(|row| row.generation == 1 && !row.wrap.is_empty());
        ring.made = made.map(|row| hex::encode(row.name.0)).collect();
        Ok(Draft { kind, at: self.now, intent: Some(intent.clone()), rings: vec![ring], partitions: self.rows })
    }

    async fn plan(&mut self, step: &PartitionStep) -> Result<(&'static str, Option<Shredded>), ApplyError> {
        match step {
            PartitionStep::Make(names) => self.make(names).await.map(|()| ("partition.created", None)),
            PartitionStep::Shred { name, reason } => {
                self.shred(*name, reason).await.map(|tombstone| ("partition.shredded", Some(tombstone)))
            }
            PartitionStep::Rewrap(most) => self.rewrap(*most).await.map(|()| ("partition.rewrapped", None)),
        }
    }

    async fn make(&mut self, names: &[PartitionName]) -> Result<(), ApplyError> {
        let active = self.active()?;
        let data_key = self.inner.data_key(self.ring, &active, self.order.deadline).await.map_err(unlocked)?;
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (shredded, made) = self.known(name);
            if shredded || ((self.contested || made) && self.row(name).await?.is_some()) {
                continue;
            }
            if made {
                return Err(Damage::of(rows::describe(&self.ring.label, name), DELETED).into());
            }
            let place = self.place(name, active.view.id, self.now);
            let key = DataKey::generate(&[]).map_err(failed)?;
            let wrap = wrap::wrap(data_key.key(), &key, &place).map_err(failed)?;
            let row = rows::live(&self.ring.label, name, active.view.id, self.now, wrap, &self.open.system.rows);
            self.add(row.map_err(failed)?)?;
        }
        Ok(())
    }

    async fn shred(&mut self, name: PartitionName, reason: &str) -> Result<Shredded, ApplyError> {
        let shredded = Shredded {
            name,
            at: self.now,
            actor: self.order.actor.name().to_owned(),
            reason: reason.to_owned(),
            log: self.inner.log_name(),
            intent: self.order.intent,
            before: false,
        };
        let (known, made) = self.known(name);
        let row = self.row(name).await?;
        let damage = |what| Err(Damage::of(rows::describe(&self.ring.label, name), what).into());
        let before = match row.as_ref().map(|row| rows::read(row, &self.open.system.rows)).transpose()? {
            Some(Partition::Shredded(tombstone)) => {
                // The same intent again finds its own work.
                let own = tombstone.intent == shredded.intent && tombstone.log == shredded.log;
                return Ok(Shredded { before: !own, ..tombstone });
            }
            Some(Partition::Live(_)) if known => return damage("it was shredded, and an older copy was put back"),
            None if known => return damage("its tombstone has been deleted"),
            None if made => return damage(DELETED),
            Some(Partition::Live(created)) => row.as_ref().map(|row| (row, created)),
            None => None,
        };
        let tombstone = rows::tombstone(&self.ring.label, before, &shredded, &self.open.system.rows).map_err(failed)?;
        if let Some((row, _)) = before {
            self.totals.remove(row, self.open.system.partitions.summer()).map_err(failed)?;
        }
        self.add(tombstone)?;
        Ok(shredded)
    }

    async fn rewrap(&mut self, most: usize) -> Result<(), ApplyError> {
        let active = self.active()?;
        let to = self.inner.data_key(self.ring, &active, self.order.deadline).await.map_err(unlocked)?;
        let older: Vec<KeyVersionId> = self.totals.parents.keys().copied().filter(|id| *id != active.view.id).collect();
        for id in older {
            if self.room(most) == 0 {
                break;
            }
            let wrong =
                || Damage::of(format!("the key {id} of {}", self.ring.label), "it wraps partitions and is gone");
            let parent = Arc::clone(self.ring.version(id).ok_or_else(wrong)?);
            // Whatever its state: moving partitions away from a suspended or compromised version is what is wanted.
            let from = self.inner.data_key(self.ring, &parent, self.order.deadline).await.map_err(unlocked)?;
            self.move_from((id, &from), (&to, active.view.id), most).await?;
        }
        Ok(())
    }

    /// The partitions under one version, as many as there is room for. Those that were edited are gone past, or the first
    /// of them would keep all behind it where they are; they stay in the totals, and so in the way of their version's end.
    async fn move_from(
        &mut self,
        (id, from): (KeyVersionId, &Slot),
        to: (&Slot, KeyVersionId),
        most: usize,
    ) -> Result<(), ApplyError> {
        let (mut after, page) = (None, u32::try_from(super::BATCH).unwrap_or(u32::MAX));
        // Many that were edited do not keep other changes waiting for longer than the one who asks waits.
        while self.inner.clock.mono() < self.order.deadline.0 {
            let page = self.inner.writer.partitions(self.ring.label.to_string(), Some(id), after, page).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name);
            for row in page {
                if self.room(most) == 0 {
                    return Ok(());
                }
                match self.rewrapped(&row, from, to) {
                    Ok(moved) => {
                        self.totals.remove(&row, self.open.system.partitions.summer()).map_err(failed)?;
                        self.add(moved)?;
                    }
                    Err(ApplyError::Tampered(why)) => self.go_past(&why),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// How many more rows the transaction takes.
    fn room(&self, most: usize) -> usize {
        most.min(super::BATCH).saturating_sub(self.rows.len())
    }

    fn go_past(&mut self, why: &str) {
        self.damaged = self.damaged.saturating_add(1);
        if self.damaged <= NAMED {
            self.inner.note_damage(self.ring.label.as_ref(), why);
        }
    }

    fn rewrapped(
        &self,
        row: &PartitionRow,
        from: &Slot,
        (to, parent): (&Slot, KeyVersionId),
    ) -> Result<PartitionRow, ApplyError> {
        let damage = |what| Damage::of(rows::describe(&row.keyring, row.name), what);
        let Partition::Live(created) = rows::read(row, &self.open.system.rows)? else {
            return Err(damage("it is shredded and names a key").into());
        };
        if self.open.directory().is_shredded(row.name) {
            return Err(damage("it was shredded, and an older copy was put back").into());
        }
        let place = self.place(row.name, row.parent, created);
        let key = wrap::unwrap(from.key(), &row.wrap, &place).map_err(|_| damage("its wrap does not open"))?;
        let wrap = wrap::wrap(to.key(), &key, &self.place(row.name, parent, created)).map_err(failed)?;
        rows::moved(row, parent, wrap, &self.open.system.rows).map_err(failed)
    }

    fn add(&mut self, row: PartitionRow) -> Result<(), ApplyError> {
        self.totals.add(&row, self.open.system.partitions.summer()).map_err(failed)?;
        self.rows.push(row);
        Ok(())
    }

    /// Whether it was shredded, and whether it was made, as of before its row is read: what is known by then is there.
    fn known(&self, name: PartitionName) -> (bool, bool) {
        let directory = self.open.directory();
        (directory.is_shredded(name), directory.is_made(name))
    }

    async fn row(&self, name: PartitionName) -> Result<Option<PartitionRow>, ApplyError> {
        Ok(self.inner.writer.partition(self.ring.label.to_string(), name).await?)
    }

    fn active(&self) -> Result<Arc<Version>, ApplyError> {
        let none = || ApplyError::Invalid(format!("the keyring {} has no active version", self.ring.view.name));
        self.ring.sealing().map(Arc::clone).ok_or_else(none)
    }

    fn place(&self, name: PartitionName, parent: KeyVersionId, created: Wall) -> Place<'_> {
        Place { store: self.open.system.genesis.store, keyring: &self.ring.label, name, parent, created }
    }
}

/// No randomness, or no room in locked memory.
fn failed(_: CryptoError) -> ApplyError {
    ApplyError::Unavailable("no key could be made in this process".to_owned())
}

fn unlocked(error: crate::keyring::UnlockError) -> ApplyError {
    use crate::keyring::UnlockError;
    match error {
        UnlockError::State(KeyState::Destroyed) => ApplyError::Invalid("the key version is destroyed".to_owned()),
        UnlockError::Tampered => ApplyError::Tampered("the wrapped data key does not verify".to_owned()),
        other => ApplyError::Unavailable(other.to_string()),
    }
}
