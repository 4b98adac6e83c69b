//! When may a key-encryption key, or a version of it, be called retired? When nothing is wrapped by it, and by a sealed
//! change that every sidecar looks at before it stores a key: nothing can be wrapped by it from then on.

use std::sync::Arc;

use super::bodies::Retired;
use super::change::{CommitError, Kind};
use super::directory::Intent;
use super::draft::{Draft, RingDraft};
use super::follow::Open;
use super::race::{Manner, Race};
use super::rewrap::{PATIENCE, RewrapReport, survey};
use super::verify;
use super::{ApplyError, Inner, Keyrings, SYSTEM, StoreHead};
use crate::audit::IntentReceipt;
use crate::clock::Deadline;
use crate::names::KekName;
use crate::policy::{Action, Authority, Spends};

/// What became of a retirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// Nothing is wrapped by it, and nothing can be any more.
    Done(RewrapReport),
    /// So many keys are.
    Needed(u64),
    /// It wraps new keys, by this version: only what is older can be retired.
    Wraps(u32),
}

impl Keyrings {
    /// Retires a version of a key-encryption key, or a whole one that wraps no more: from this change on no sidecar of the
    /// fleet can store a key that is wrapped by it, however far behind it is.
    pub async fn retire(
        &self,
        authority: &Authority,
        intent: IntentReceipt,
        kek: KekName,
        version: Option<u32>,
    ) -> Result<Retirement, ApplyError> {
        if authority.action() != Action::KeysRewrap {
            return Err(ApplyError::NotCovered);
        }
        let inner = Arc::clone(&self.inner);
        let ended = |_| Err(ApplyError::Unsettled("the retirement was cut off: ask again".to_owned()));
        let (kind, spends) = (Kind::of(authority), authority.spends().cloned());
        let work = async move {
            if kind != Kind::Other && inner.opened_to_change()?.in_custody() {
                return Err(ApplyError::NeedsQuorum);
            }
            retire(&inner, intent.index(), (kek, version), spends).await
        };
        tokio::spawn(work).await.unwrap_or_else(ended)
    }
}

pub(super) async fn retire(
    inner: &Inner,
    intent: u64,
    (kek, version): (KekName, Option<u32>),
    spends: Option<Spends>,
) -> Result<Retirement, ApplyError> {
    let open = inner.opened_to_change()?;
    if let Some(refused) = wraps_on(inner, &kek, version)? {
        return Ok(refused);
    }
    let retired = Retired { kek: kek.to_string(), version };
    let by = Deadline(inner.clock.mono().plus(PATIENCE));
    let mut race = Race::until(&inner.clock, by, Manner::Urgent);
    loop {
        // Read without the turn, so that nobody else's change waits for it.
        inner.catch_up(&open).await?;
        let surveyed = open.head();
        let report = survey(inner, &open).await?;
        if let Some(damaged) = report.damaged.first() {
            let why =
                format!("the keyring {damaged} was edited in the store: nobody knows by what its keys are wrapped");
            return Err(ApplyError::Tampered(why));
        }
        let left = report.wraps_by(&kek, version);
        if left > 0 {
            return Ok(Retirement::Needed(left));
        }
        let turn = inner.turn.lock().await;
        inner.catch_up(&open).await?;
        let head = open.head();
        if !wrote_no_key(inner, &open, surveyed, head).await? {
            drop(turn);
            race.lost().await?;
            continue;
        }
        let own = inner.load(&open, SYSTEM).await?;
        let own = own.ok_or_else(|| ApplyError::Unavailable("keyward's own keys are not there".to_owned()))?;
        if own.head.retired.contains(&retired) {
            // What several people decided would stay unspent.
            if spends.is_some() {
                return Err(ApplyError::Superseded("it is retired already".to_owned()));
            }
            return Ok(Retirement::Done(report));
        }
        let mut ring = RingDraft::of(&own);
        ring.head.retired.push(retired.clone());
        let intent = Some(Intent { log: inner.log_name(), index: intent });
        let at = inner.clock.wall();
        let rings = std::iter::once(ring).chain(inner.spending(&open, spends.as_ref(), at).await?).collect();
        let draft = Draft { kind: "kek.retired", at, intent, rings, partitions: Vec::new() };
        match inner.commit_after(&open, draft, head).await {
            Ok(_) => return Ok(Retirement::Done(report)),
            Err(CommitError::Conflict) => {}
            Err(CommitError::Other(error)) => return Err(error),
        }
        drop(turn);
        race.lost().await?;
    }
}

/// Whether the changes between two heads wrote no key, so that what was surveyed at the first holds at the second.
/// Partitions are made all the time; their keys are wrapped by data keys.
async fn wrote_no_key(inner: &Inner, open: &Open, from: StoreHead, to: StoreHead) -> Result<bool, ApplyError> {
    let mut at = from;
    while at.changes < to.changes {
        let links = inner.reader.changes(at.changes, verify::PAGE).await?;
        if links.is_empty() {
            return Ok(false);
        }
        for link in links.iter().filter(|link| link.seq <= to.changes) {
            let (body, after) = verify::link(link, at, &open.system.rows)?;
            if body.heads.iter().any(|head| !head.keys.is_empty()) {
                return Ok(false);
            }
            at = after;
        }
    }
    Ok(true)
}

/// Only what is known and wraps no more can be retired: evidence about another key would be evidence of nothing.
fn wraps_on(inner: &Inner, kek: &KekName, version: Option<u32>) -> Result<Option<Retirement>, ApplyError> {
    if inner.keks.retiring().any(|retiring| retiring.name() == kek) {
        return Ok(None);
    }
    let Some((_, wraps)) = inner.keks.each().find(|(_, one)| one.name() == kek) else {
        let known = "name one that [keyring] has as primary, escrow or retiring";
        return Err(ApplyError::Unknown(format!("there is no key-encryption key {kek}: {known}")));
    };
    let current = wraps.current_version();
    match (version, current) {
        (Some(version), Some(current)) if version < current => Ok(None),
        (_, None) => Err(ApplyError::Unavailable(format!("it is not known by which version {kek} wraps"))),
        (_, Some(current)) => Ok(Some(Retirement::Wraps(current))),
    }
}
