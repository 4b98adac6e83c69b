//! How do all keys move to the current versions of the key-encryption keys? Page by page through the store: every key
//! that is behind is wrapped anew and proven before its old wraps go, at most 500 in a transaction.
//!
//! The job keeps no state of its own: what is behind is what is left to do, so one that was stopped anywhere, also by a
//! crash, is resumed by starting it again, and two sidecars that run it at once share the work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::change::CommitError;
use super::directory::{Intent, Known};
use super::draft::{Draft, RingDraft, parent};
use super::follow::{Loaded, Open, Page, breathe};
use super::genesis::owner_of;
use super::keks::{NotGiven, NotRewrapped, Rewrapped, Wrapped};
use super::race::{Manner, Race};
use super::rings::wraps_of;
use super::{ApplyError, Escrow, Inner, Keyrings, wraps};
use crate::audit::IntentReceipt;
use crate::clock::{Deadline, Mono};
use crate::kek::{Wrap, WrapRole};
use crate::names::{KekName, KeyVersionId};
use crate::policy::{Action, Authority};

/// Keys of one transaction at most: what a crash repeats, and how long other changes wait for their turn.
const PAGE: u32 = 500;
/// How long a key may take, whose token's own limits are shorter, and a commit against other sidecars.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Keys that could not be rewrapped and are named in the report; more are only counted.
const NAMED: usize = 20;

/// What stands where, and what a rewrapping has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewrapReport {
    /// Keys that have wraps.
    pub keys: u64,
    /// How many of them were behind when they were looked at.
    pub behind: u64,
    /// How many were wrapped anew.
    pub rewrapped: u64,
    /// How many of those had a wrap that did not open, beside one that did.
    pub mended: u64,
    /// How many keep what they have, because nobody opens them.
    pub failed: u64,
    /// The first of them, and why.
    pub failures: Vec<(KeyVersionId, String)>,
    /// Keyrings that were edited in the store: none of their keys was looked at.
    pub damaged: Vec<String>,
    /// How many wraps there are by each version of each key-encryption key.
    pub wraps: Vec<(KekName, u32, u64)>,
}

impl RewrapReport {
    /// Whether every key is wrapped as it would be if it were made now.
    pub fn is_complete(&self) -> bool {
        self.behind == self.rewrapped && self.failed == 0 && self.damaged.is_empty()
    }

    /// How many wraps a key-encryption key still has, of this version or of all.
    pub fn wraps_by(&self, kek: &KekName, version: Option<u32>) -> u64 {
        let by = |(name, its, _): &&(KekName, u32, u64)| name == kek && version.is_none_or(|version| *its == version);
        self.wraps.iter().filter(by).map(|(.., count)| count).sum()
    }
}

impl Keyrings {
    /// Reads every key and says by what it is wrapped and how many are behind. Changes nothing.
    pub async fn wraps(&self) -> Result<RewrapReport, ApplyError> {
        let open = self.inner.opened_to_change()?;
        survey(&self.inner, &open).await
    }

    /// Wraps keys anew that are behind, from after a keyring on, and begins no further page after `until`: at least one
    /// page is done. A caller that goes away does not stop it.
    pub async fn rewrap(
        &self,
        authority: &Authority,
        intent: IntentReceipt,
        after: Option<String>,
        until: Mono,
    ) -> Result<RewrapStep, ApplyError> {
        if authority.action() != Action::KeysRewrap {
            return Err(ApplyError::NotCovered);
        }
        let inner = Arc::clone(&self.inner);
        let ended = |_| Err(ApplyError::Unsettled("the rewrapping was cut off: start it again".to_owned()));
        tokio::spawn(step(inner, intent.index(), after, until)).await.unwrap_or_else(ended)
    }
}

/// A part of a rewrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrapStep {
    /// What was done; its counts are of this part alone, and it counts no wraps.
    pub report: RewrapReport,
    /// The keyring after which to go on; None when there are no more.
    pub next: Option<String>,
    /// What ended it before its time. What the report says was done all the same.
    pub stopped: Option<ApplyError>,
}

pub(super) async fn step(
    inner: Arc<Inner>,
    intent: u64,
    after: Option<String>,
    until: Mono,
) -> Result<RewrapStep, ApplyError> {
    let open = inner.opened_to_change()?;
    let job = Job { inner, open, intent, report: Arc::default() };
    let worked = job.work(after, until).await;
    let report = std::mem::take(&mut *job.report.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(match worked {
        Ok(next) => RewrapStep { report, next, stopped: None },
        Err(error) => RewrapStep { stopped: Some(interrupted(error, &report)), report, next: None },
    })
}

fn interrupted(error: ApplyError, done: &RewrapReport) -> ApplyError {
    let told =
        |why: String| format!("{why}; {} keys were rewrapped before that: start it again for the rest", done.rewrapped);
    match error {
        ApplyError::Unavailable(why) => ApplyError::Unavailable(told(why)),
        ApplyError::Unsettled(why) => ApplyError::Unsettled(told(why)),
        other => other,
    }
}

pub(super) async fn survey(inner: &Inner, open: &Open) -> Result<RewrapReport, ApplyError> {
    let (mut report, mut wrapped) = (RewrapReport::default(), Wrapped::default());
    let (mut after, mut seen, known) = (None::<String>, 0_usize, open.directory().len());
    loop {
        let page = inner.page_past(open, after.take(), PAGE).await?;
        let Some(last) = page.last else { break };
        after = Some(last);
        seen = seen.saturating_add(page.loaded.len()).saturating_add(page.damaged.len());
        report.damaged.extend(page.damaged);
        for (escrow, key) in page.loaded.iter().flat_map(Loaded::keys) {
            let wraps = wraps_of(key)?;
            if wraps.is_empty() {
                continue;
            }
            report.keys += 1;
            report.behind += u64::from(inner.keks.behind(&wraps, escrow));
            wrapped.add(&wraps);
        }
    }
    // No keyring ever goes: one whose head was deleted stands in no page, and its keys have wraps all the same.
    if seen < known {
        report.damaged.push(format!("{} whose rows were deleted", known.saturating_sub(seen)));
    }
    report.wraps = wrapped.each().map(|(kek, version, count)| (kek.clone(), version, count)).collect();
    Ok(report)
}

struct Job {
    inner: Arc<Inner>,
    open: Arc<Open>,
    intent: u64,
    report: Arc<Mutex<RewrapReport>>,
}

/// A key with what its wraps are bound to, the wraps, and whether one by the escrow is to be among them.
type Behind = (KeyVersionId, wraps::Owner, Vec<(WrapRole, Wrap)>, Escrow);

/// Keyrings with what of them is behind.
struct Found {
    rings: Vec<Loaded>,
    behind: Vec<Behind>,
    /// Those that were edited, and are left alone.
    damaged: Vec<String>,
    /// Where to go on.
    after: Option<String>,
    /// Whether a keyring has more keys behind than the transaction takes.
    again: bool,
}

/// Keyrings of a page with what their keys are to be wrapped by.
type Batch = Vec<(Loaded, Vec<(KeyVersionId, Rewrapped)>)>;

impl Job {
    /// Where to go on; None when all was looked at. While the token works on one page, the one before is committed and
    /// the one after it is read: three pages are in memory.
    async fn work(&self, after: Option<String>, until: Mono) -> Result<Option<String>, ApplyError> {
        let mut committing: Option<JoinHandle<Result<(), ApplyError>>> = None;
        let mut reading = self.read(after);
        loop {
            let page = match reading.await.unwrap_or_else(|_| Err(cut_off("a reading"))) {
                Ok(Some(page)) => page,
                ended => {
                    finish(committing).await?;
                    return ended.map(|_| None);
                }
            };
            let (then, again) = (page.after.clone(), page.again);
            // What is left of the same keyring is read only after this page's commit.
            let ahead = (!again).then(|| self.read(then.clone()));
            let wrapped = self.wrap(page).await;
            finish(committing.take()).await?;
            committing = wrapped?.map(|batch| self.commit(batch));
            let late = self.inner.clock.mono() >= until;
            if again || late {
                finish(committing.take()).await?;
            }
            if late {
                return Ok(Some(then.unwrap_or_default()));
            }
            reading = ahead.unwrap_or_else(|| self.read(then));
        }
    }

    fn read(&self, after: Option<String>) -> JoinHandle<Result<Option<Found>, ApplyError>> {
        let (inner, open) = (Arc::clone(&self.inner), Arc::clone(&self.open));
        tokio::spawn(async move { read(&inner, &open, after).await })
    }

    fn commit(&self, batch: Batch) -> JoinHandle<Result<(), ApplyError>> {
        let (inner, open, intent) = (Arc::clone(&self.inner), Arc::clone(&self.open), self.intent);
        let report = Arc::clone(&self.report);
        tokio::spawn(async move { commit(&inner, &open, intent, batch, &report).await })
    }

    /// What is behind in a page, wrapped anew and proven; None when that is nothing.
    async fn wrap(&self, page: Found) -> Result<Option<Batch>, ApplyError> {
        let found = page.behind.len();
        note(&self.report, |report| report.damaged.extend(page.damaged));
        let done = self.wrap_all(page.behind).await?;
        if done.is_empty() && page.again && found > 0 {
            return Err(ApplyError::Unavailable("500 keys of one keyring cannot be rewrapped".to_owned()));
        }
        Ok((!done.is_empty()).then(|| sorted(page.rings, done)))
    }

    /// As many at once as the key-encryption keys take. A key that nobody opens is counted; a key-encryption key that is
    /// away or refuses ends the job, since the others would fail like it.
    async fn wrap_all(&self, behind: Vec<Behind>) -> Result<Vec<(KeyVersionId, Rewrapped)>, ApplyError> {
        let places = Arc::new(Semaphore::new(self.inner.keks.at_once()));
        let mut work = JoinSet::new();
        let found = behind.len();
        for (id, owner, wraps, escrow) in behind {
            let (inner, places) = (Arc::clone(&self.inner), Arc::clone(&places));
            work.spawn(async move {
                let _place = places.acquire().await;
                let deadline = Deadline(inner.clock.mono().plus(PATIENCE));
                (id, inner.keks.rewrap(&inner.clock, &wraps, &owner, escrow, deadline).await)
            });
        }
        let (mut done, mut failed) = (Vec::with_capacity(found), Vec::new());
        while let Some(ended) = work.join_next().await {
            let (id, result) = ended.map_err(|_| ApplyError::Unsettled("a wrapping was cut off".to_owned()))?;
            match result.map_err(sorted_by_blame) {
                Ok(rewrapped) => done.push((id, rewrapped)),
                Err(Failure::Key(why)) => failed.push((id, why)),
                Err(Failure::Kek(why)) => return Err(ApplyError::Unavailable(why)),
            }
        }
        let mended = done.iter().filter(|(_, rewrapped)| !rewrapped.mended.is_empty()).count();
        note(&self.report, |report| {
            report.behind += found as u64;
            report.mended += mended as u64;
            report.failed += failed.len() as u64;
            let room = NAMED.saturating_sub(report.failures.len());
            report.failures.extend(failed.into_iter().take(room));
        });
        Ok(done)
    }
}

enum Failure {
    /// This key's own trouble.
    Key(String),
    /// Any other key would fail too.
    Kek(String),
}

fn sorted_by_blame(error: NotRewrapped) -> Failure {
    match error {
        NotRewrapped::Closed(NotGiven::BadWrap(kek)) => Failure::Key(format!("its wrap by {kek} does not open")),
        NotRewrapped::Closed(NotGiven::Foreign) => {
            Failure::Key("it is wrapped by no configured key-encryption key".to_owned())
        }
        NotRewrapped::Contradicts(kek) => Failure::Key(format!("its wrap by {kek} is of another key")),
        NotRewrapped::Closed(NotGiven::Refused(_, why) | NotGiven::Late(why) | NotGiven::Away(why)) => {
            Failure::Kek(why)
        }
        NotRewrapped::NotWrapped(error) => Failure::Kek(error.to_string()),
    }
}

/// The next keyrings after a name, and which of their keys are behind; None when there are no more.
async fn read(inner: &Inner, open: &Open, after: Option<String>) -> Result<Option<Found>, ApplyError> {
    let Page { loaded: rings, damaged, last } = inner.page_past(open, after.clone(), PAGE).await?;
    let Some(last) = last else { return Ok(None) };
    let (mut behind, mut full) = (Vec::new(), None);
    for (at, loaded) in rings.iter().enumerate() {
        breathe(at).await;
        for (escrow, key) in loaded.keys() {
            let wraps = wraps_of(key)?;
            if wraps.is_empty() || !inner.keks.behind(&wraps, escrow) {
                continue;
            }
            if u32::try_from(behind.len()).is_ok_and(|taken| taken < PAGE) {
                behind.push((key.row.id, owner_of(key, open.system.genesis.store)?, wraps, escrow));
            } else {
                full.get_or_insert(at);
            }
        }
    }
    // The keyring in which a key found no room is looked at again.
    let before = full.map(|at| at.checked_sub(1).and_then(|at| rings.get(at)).map(|loaded| &loaded.rows.head.name));
    let after = before.map_or(Some(last), |before| before.cloned().or(after));
    Ok(Some(Found { rings, behind, damaged, after, again: full.is_some() }))
}

/// Waits for a commit that was begun.
async fn finish(commit: Option<JoinHandle<Result<(), ApplyError>>>) -> Result<(), ApplyError> {
    match commit {
        Some(commit) => commit.await.unwrap_or_else(|_| Err(cut_off("a commit"))),
        None => Ok(()),
    }
}

/// Each keyring of a page with those of its keys that were done; keyrings without any are left out.
fn sorted(page: Vec<Loaded>, done: Vec<(KeyVersionId, Rewrapped)>) -> Batch {
    let mut done: std::collections::HashMap<KeyVersionId, Rewrapped> = done.into_iter().collect();
    let of = |loaded: Loaded| {
        let keys = loaded.rows.keys.iter().map(|key| key.row.id);
        let its: Vec<_> = keys.filter_map(|id| Some((id, done.remove(&id)?))).collect();
        (!its.is_empty()).then_some((loaded, its))
    };
    page.into_iter().filter_map(of).collect()
}

/// Replaces the wraps of a page in one transaction. A key that somebody changed meanwhile is left as it is: if it is still
/// behind, the next run finds it.
async fn commit(
    inner: &Inner,
    open: &Open,
    intent: u64,
    batch: Batch,
    report: &Mutex<RewrapReport>,
) -> Result<(), ApplyError> {
    let mut turn = inner.turn.lock().await;
    let mut rings = batch;
    let by = Deadline(inner.clock.mono().plus(PATIENCE));
    let mut race = Race::until(&inner.clock, by, Manner::Yielding);
    loop {
        // A page that was read ahead may be older than the commit before it: keyward's own keyring notes first uses.
        if is_stale(open, &rings) {
            rings = reread(inner, open, rings).await?;
        }
        let (drafts, keys) = drafts(inner, &rings).await?;
        if drafts.is_empty() {
            return Ok(());
        }
        let draft = Draft {
            kind: "keys.rewrapped",
            at: inner.clock.wall(),
            intent: Some(Intent { log: inner.log_name(), index: intent }),
            rings: drafts,
            partitions: Vec::new(),
        };
        match inner.commit(open, draft).await {
            Ok(_) => {
                note(report, |report| report.rewrapped += keys);
                return Ok(());
            }
            Err(CommitError::Conflict) => {
                drop(turn);
                race.lost().await?;
                turn = inner.turn.lock().await;
                inner.catch_up(open).await?;
            }
            Err(CommitError::Other(error)) => return Err(error),
        }
    }
}

/// Whether a keyring is not as the chain knows it any more.
fn is_stale(open: &Open, rings: &Batch) -> bool {
    let directory = open.directory();
    let newest = |loaded: &Loaded| Some(Known::new(loaded.rows.head.generation, &loaded.rows.head.tag));
    rings.iter().any(|(loaded, _)| directory.known(&loaded.rows.head.name) != newest(loaded))
}

async fn drafts(
    inner: &Inner,
    rings: &[(Loaded, Vec<(KeyVersionId, Rewrapped)>)],
) -> Result<(Vec<RingDraft>, u64), ApplyError> {
    let (mut drafts, mut keys) = (Vec::with_capacity(rings.len()), 0);
    for (at, (loaded, done)) in rings.iter().enumerate() {
        breathe(at).await;
        let mut draft = RingDraft::of(loaded);
        for (id, rewrapped) in done {
            let bytes = wraps::encode(&rewrapped.wraps);
            let bytes = bytes.ok_or_else(|| ApplyError::Invalid("a wrap is too large".to_owned()))?;
            draft.change(*id, |key, body| {
                key.wraps = bytes;
                key.row.parent = parent(inner.keks.primary());
                body.keks = wraps::shown(&rewrapped.wraps);
            })?;
            keys += 1;
        }
        drafts.push(draft);
    }
    Ok((drafts, keys))
}

/// The keyrings as they are after somebody else's change, with those keys whose wraps are still the ones that were read.
async fn reread(inner: &Inner, open: &Open, rings: Batch) -> Result<Batch, ApplyError> {
    let mut again = Vec::with_capacity(rings.len());
    for (old, done) in rings {
        let Some(new) = inner.load(open, &old.rows.head.name).await? else { continue };
        if new.head.limits.escrow() != old.head.limits.escrow() {
            continue;
        }
        let wraps =
            |loaded: &Loaded, id| loaded.rows.keys.iter().find(|key| key.row.id == id).map(|key| key.wraps.clone());
        let same: Vec<_> = done.into_iter().filter(|(id, _)| wraps(&old, *id) == wraps(&new, *id)).collect();
        if !same.is_empty() {
            again.push((new, same));
        }
    }
    Ok(again)
}

fn note(report: &Mutex<RewrapReport>, work: impl FnOnce(&mut RewrapReport)) {
    work(&mut report.lock().unwrap_or_else(PoisonError::into_inner));
}

fn cut_off(what: &str) -> ApplyError {
    ApplyError::Unsettled(format!("{what} was cut off"))
}
