//! How do new partitions get their keys? Requests that wait at the same time share an intent, a transaction and an outcome.
//!
//! The making runs in a task of its own: a request that goes away leaves it to the others and to its record. If we stop
//! after the intent, the restart finds it open and settles it. This module never seals and never opens.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::audit::{Actor, Event, Group, Log, Outcome, Record, Source};
use crate::clock::{Deadline, Mono, SharedClock};
use crate::keyring::{
    Applied, ApplyError, Change, Keyrings, PARTITION_BATCH, PartitionChange, PartitionName, PartitionStep,
};
use crate::names::{KeyringName, PrincipalName};
use crate::policy::Authority;

/// New partitions that one principal may bring about in a minute, and at once: a hospital's busiest day has a few
/// thousand, a migration of a million takes under two hours, and an application that takes a request id for a patient is
/// stopped before it has filled a disk.
const NEW_A_MINUTE: u64 = 10_000;
/// Principals whose allowance is remembered; those who have all of it back need none.
const REMEMBERED: usize = 1_024;

/// Makes partitions for all requests of a sidecar.
pub(super) struct Maker {
    shared: Arc<Shared>,
    allowances: Mutex<HashMap<PrincipalName, Allowance>>,
}

struct Shared {
    keyrings: Arc<Keyrings>,
    log: Log,
    clock: SharedClock,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Wanted>,
    at_work: bool,
}

/// What one request needs of one keyring.
pub(super) struct Wanted {
    pub(super) keyring: KeyringName,
    pub(super) names: Vec<PartitionName>,
    pub(super) authority: Authority,
    pub(super) actor: Actor,
    pub(super) source: Source,
    pub(super) policy: Option<[u8; 32]>,
    done: Option<oneshot::Sender<()>>,
}

/// What a principal may still bring about.
struct Allowance {
    left: u64,
    since: Mono,
}

impl Wanted {
    /// A request's need; at most a batch.
    pub(super) fn new(
        (keyring, names): (KeyringName, Vec<PartitionName>),
        authority: Authority,
        (actor, source): (Actor, Source),
        policy: Option<[u8; 32]>,
    ) -> Self {
        Self { keyring, names, authority, actor, source, policy, done: None }
    }
}

impl Maker {
    pub(super) fn new(keyrings: Arc<Keyrings>, log: Log, clock: SharedClock) -> Self {
        let shared = Shared { keyrings, log, clock, queue: Mutex::default() };
        Self { shared: Arc::new(shared), allowances: Mutex::default() }
    }

    /// Takes new partitions off a principal's allowance; all of them or none.
    pub(super) fn allow(&self, principal: &PrincipalName, new: u64, now: Mono) -> bool {
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        if allowances.len() >= REMEMBERED {
            allowances.retain(|_, allowance| now.since(allowance.since) < MINUTE);
        }
        let allowance = allowances.entry(principal.clone()).or_insert(Allowance { left: NEW_A_MINUTE, since: now });
        allowance.refill(now);
        match allowance.left.checked_sub(new) {
            Some(left) => {
                allowance.left = left;
                true
            }
            None => false,
        }
    }

    /// Makes what is wanted, and returns when it was tried; whether it is there is seen by unlocking again.
    pub(super) async fn make(&self, wanted: Wanted) {
        let (done, made) = oneshot::channel();
        let starts = {
            let mut queue = self.shared.queue();
            queue.waiting.push_back(Wanted { done: Some(done), ..wanted });
            !std::mem::replace(&mut queue.at_work, true)
        };
        if starts {
            tokio::spawn(Shift { shared: Arc::clone(&self.shared), over: false }.work());
        }
        // An end without a word is an end too.
        let _tried = made.await;
    }
}

impl Allowance {
    fn refill(&mut self, now: Mono) {
        let passed = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        let back = passed.saturating_mul(NEW_A_MINUTE) / MINUTE_MILLIS;
        if back > 0 {
            self.left = self.left.saturating_add(back).min(NEW_A_MINUTE);
            self.since = now;
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_MILLIS: u64 = 60_000;

/// The one task that makes partitions while any are waited for.
struct Shift {
    shared: Arc<Shared>,
    /// Set when nothing was left to do; from then on another shift may be at work.
    over: bool,
}

impl Shift {
    async fn work(mut self) {
        while let Some(batch) = self.shared.next() {
            self.shared.make(batch).await;
        }
        self.over = true;
    }
}

impl Drop for Shift {
    /// A task that ended early must not keep the next one from starting; whoever waits hears that it has ended.
    fn drop(&mut self) {
        if !self.over {
            let mut queue = self.shared.queue();
            queue.waiting.clear();
            queue.at_work = false;
        }
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that waits for the keyring whose turn it is, as much as one transaction takes.
    fn next(&self) -> Option<Vec<Wanted>> {
        let mut queue = self.queue();
        let Some(first) = queue.waiting.pop_front() else {
            queue.at_work = false;
            return None;
        };
        let (mut room, mut batch, mut rest) =
            (PARTITION_BATCH.saturating_sub(first.names.len()), vec![first], VecDeque::new());
        for wanted in std::mem::take(&mut queue.waiting) {
            let same = batch.first().is_some_and(|first| first.keyring == wanted.keyring);
            match room.checked_sub(wanted.names.len()) {
                Some(left) if same => {
                    room = left;
                    batch.push(wanted);
                }
                _ => rest.push_back(wanted),
            }
        }
        queue.waiting = rest;
        Some(batch)
    }

    /// Intent, change, outcome.
    async fn make(&self, batch: Vec<Wanted>) {
        // Whoever has the longest time: all of them are for sealing under this keyring.
        let Some(lead) = batch.iter().max_by_key(|wanted| wanted.authority.deadline()) else { return };
        let mut names: Vec<PartitionName> = batch.iter().flat_map(|wanted| wanted.names.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(lead.authority.deadline());
        let intent = match self.log.intent(record(&batch, lead, Outcome::Intent, names.len()), by).await {
            Ok(intent) => intent,
            Err(error) => return tracing::error!(%error, "the audit log did not take an intent"),
        };
        let index = intent.index();
        let change =
            Change::Partitions(PartitionChange { keyring: lead.keyring.clone(), step: PartitionStep::Make(names) });
        let applied = self.keyrings.apply(&change, &lead.authority, intent).await;
        let record = self.outcome(&batch, lead, index, &applied);
        let by = Deadline(self.clock.mono().plus(super::APPEND_TIME)).max(lead.authority.deadline());
        match self.log.append(record, (), by).await {
            Ok(recorded) => recorded.into_outcome(),
            Err(error) => tracing::error!(%error, "the audit log did not take a record"),
        }
        for wanted in batch {
            // Nobody waits any more whose request has ended.
            let _told = wanted.done.map(|done| done.send(()));
        }
    }

    fn outcome(&self, batch: &[Wanted], lead: &Wanted, index: u64, applied: &Result<Applied, ApplyError>) -> Record {
        match applied {
            Ok(applied) => {
                let made = applied.partitions.as_ref().map_or(0, |partitions| partitions.done);
                let made = usize::try_from(made).unwrap_or(usize::MAX);
                let mut record = record(batch, lead, Outcome::Done, made);
                record.facts.extend(self.keyrings.head().map(|head| ("store_head", head.to_string())));
                Record { intent: Some(index), ..record }
            }
            Err(error) => {
                tracing::warn!(%error, keyring = %lead.keyring, "partitions could not be made");
                let unsettled = matches!(error, ApplyError::Unsettled(_));
                let reason = Some(super::change::change_refused(error.clone()).code.as_str());
                let record = record(batch, lead, Outcome::Failed, 0);
                // What nobody can tell yet stays open for the restart.
                Record { reason, intent: (!unsettled).then_some(index), ..record }
            }
        }
    }
}

/// The record names who asked, where it was one; each request's own record says so in any case.
fn record(batch: &[Wanted], lead: &Wanted, outcome: Outcome, partitions: usize) -> Record {
    let alone = batch.iter().all(|wanted| wanted.actor == lead.actor && wanted.source == lead.source);
    let (actor, source) = if alone { (lead.actor.clone(), lead.source) } else { (Actor::Sidecar, Source::Internal) };
    let done = if outcome == Outcome::Done { u32::try_from(partitions).unwrap_or(u32::MAX) } else { 0 };
    Record {
        event: Event::PartitionCreated,
        outcome,
        reason: None,
        actor,
        source,
        request: None,
        purpose: None,
        groups: vec![Group { keyring: lead.keyring.clone(), version: None, done, failed: Vec::new() }],
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: lead.policy,
        intent: None,
        facts: vec![("authority", lead.authority.code().to_owned()), ("partitions", partitions.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_spent_and_comes_back_with_time() {
        let mut allowance = Allowance { left: 0, since: Mono(0) };
        allowance.refill(Mono(5_000_000));
        assert_eq!((allowance.left, allowance.since), (0, Mono(0)), "less than one keeps its time");
        allowance.refill(Mono(6_000_000_000));
        assert_eq!(allowance.left, NEW_A_MINUTE / 10);
        allowance.refill(Mono(600_000_000_000));
        assert_eq!(allowance.left, NEW_A_MINUTE);
    }
}
