//! How does one record something? Through this handle: a record goes in, and what it is about comes out only when the
//! record is durable.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use crate::clock::{Deadline, SharedClock};
use crate::durable::Lock;

use super::keeper::Stop;
use super::note::VerifierKey;
use super::queue::{Answer, Queue};
use super::refusals::Refusals;
use super::render;
use super::rotate::Command;
use super::writer::Board;
use super::{
    Actor, Admission, AppendError, Durability, Event, IntentReceipt, Outcome, ReadError, Record, Recorded, read,
};

/// The log of one volume; cheap to clone. Dropping the last clone stops its threads without a last checkpoint: call
/// [`Log::drain`] first.
#[derive(Clone)]
pub struct Log {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) dir: PathBuf,
    pub(super) durability: Durability,
    pub(super) key: VerifierKey,
    pub(super) queue: Arc<Queue>,
    pub(super) board: Arc<Board>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) clock: SharedClock,
    pub(super) checkpointed: watch::Receiver<u64>,
    pub(super) signing: watch::Receiver<VerifierKey>,
    pub(super) rotate: mpsc::Sender<Command>,
    pub(super) stop: watch::Sender<Stop>,
    pub(super) ended: watch::Receiver<Option<Result<(), String>>>,
    pub(super) keeper: Mutex<Option<JoinHandle<()>>>,
    /// Held until the threads have ended.
    pub(super) _lock: Lock,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it records.
    pub state: State,
    /// How durable what it acknowledges is.
    pub durability: Durability,
    /// Records that are committed.
    pub records: u64,
    /// Records that the newest checkpoint covers.
    pub checkpointed: u64,
    /// Bytes of its files.
    pub used: u64,
    /// Bytes that they may have.
    pub budget: u64,
    /// Whether three quarters of the budget are used.
    pub nearly_full: bool,
}

/// Whether the log records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does.
    Open,
    /// It was drained or failed, and says why; only a restart opens it.
    Closed(String),
}

impl Log {
    /// Releases the outcome when its record is durable. On an error the outcome has been dropped.
    pub async fn append<T>(&self, record: Record, outcome: T, deadline: Deadline) -> Result<Recorded<T>, AppendError> {
        if record.outcome == Outcome::Intent {
            return Err(AppendError::Malformed("an intent is recorded by `intent`"));
        }
        // Such a record without a key behind it would make a log that no start accepts (LOG-32).
        if record.event == Event::LogKeyRotated && record.outcome == Outcome::Done {
            return Err(AppendError::Malformed("the key of the log is changed by `rotate_key`"));
        }
        let index = self.record(&record, deadline).await?;
        Ok(Recorded::mint(outcome, index))
    }

    /// Records what is about to be done.
    pub async fn intent(&self, record: Record, deadline: Deadline) -> Result<IntentReceipt, AppendError> {
        let record = Record { outcome: Outcome::Intent, ..record };
        self.record(&record, deadline).await.map(IntentReceipt::mint)
    }

    /// Spends a token of the bucket of this actor and reason.
    pub fn admit_refusal(&self, actor: &Actor, reason: &'static str) -> Admission {
        self.inner.refusals.admit(actor, reason, self.inner.clock.mono())
    }

    /// Counts a coalesced refusal and releases its outcome when the summary (one a second) is durable.
    pub async fn append_summarised<T>(
        &self,
        actor: &Actor,
        reason: &'static str,
        outcome: T,
        deadline: Deadline,
    ) -> Result<Recorded<T>, AppendError> {
        let mut heard = self.inner.refusals.count(actor, reason);
        let told = async {
            let told = heard.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            told.unwrap_or_else(|| Err(AppendError::Closed("the keeper of the log is gone".to_owned())))
        };
        let index = self.before(deadline, told).await?;
        Ok(Recorded::mint(outcome, index))
    }

    /// Takes no more records, writes what is queued, the last summary and a last checkpoint. Repeating it waits for
    /// the same end.
    pub async fn drain(&self) -> Result<(), AppendError> {
        self.inner.queue.drain();
        self.inner.stop.send_if_modified(|stop| {
            let first = *stop == Stop::Running;
            *stop = if first { Stop::Drain } else { *stop };
            first
        });
        let mut ended = self.inner.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| Err("the keeper of the log is gone".to_owned())).map_err(AppendError::Closed)
    }

    /// How the log is, now.
    pub fn health(&self) -> Health {
        let Inner { board, queue, checkpointed, .. } = &*self.inner;
        Health {
            state: queue.closed().map_or(State::Open, State::Closed),
            durability: self.inner.durability,
            records: *board.committed.borrow(),
            checkpointed: *checkpointed.borrow(),
            used: board.usage.used(),
            budget: board.usage.budget(),
            nearly_full: board.usage.warns(),
        }
    }

    /// Reads at most `max` committed records from index `from` on, each as its canonical JSON. Reads files: call it
    /// where blocking is allowed.
    pub fn read(&self, from: u64, max: usize) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let Inner { dir, board, .. } = &*self.inner;
        read::read(dir, &board.marks, *board.committed.borrow(), from, max)
    }

    /// The number of committed records, and every later one.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.inner.board.committed.subscribe()
    }

    /// The number of records that the newest checkpoint covers, and every later one.
    pub fn checkpointed(&self) -> watch::Receiver<u64> {
        self.inner.checkpointed.clone()
    }

    /// The log's name and the key that it was founded with, from which every later one follows.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.inner.key
    }

    /// The key whose signature every checkpoint carries now.
    pub fn signing_key(&self) -> VerifierKey {
        self.inner.signing.borrow().clone()
    }

    async fn record(&self, record: &Record, deadline: Deadline) -> Result<u64, AppendError> {
        let entry = render::entry(record, &[])?;
        let told = async {
            let answer = self.inner.queue.push(entry).await?;
            hear(answer).await
        };
        self.before(deadline, told).await
    }

    pub(super) async fn before<T>(
        &self,
        deadline: Deadline,
        told: impl Future<Output = Result<T, AppendError>>,
    ) -> Result<T, AppendError> {
        // The record comes first: even a request that is out of time has been made.
        tokio::select! {
            biased;
            told = told => told,
            () = self.inner.clock.sleep_until(deadline.0) => Err(AppendError::Deadline),
        }
    }
}

async fn hear(answer: Answer) -> Result<u64, AppendError> {
    answer.await.unwrap_or_else(|_gone| Err(AppendError::Closed("the writer of the log is gone".to_owned())))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Abandon);
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A keeper that panicked has nothing left to say.
        let _ended = keeper.map(JoinHandle::join);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Log").field(&self.inner.key.origin().as_str()).finish()
    }
}
