//! How do records get from many requests to one writer? Through a bounded queue whose lock is held for one push.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::AppendError;
use super::render::Entry;

/// Records that may wait at once: some 20 MiB, and several times what one batch takes.
pub const QUEUE: usize = 65_536;

/// A record on its way, and who waits for it.
pub(super) struct Item {
    pub(super) entry: Entry,
    done: Done,
    /// What it holds of the queue's room.
    room: usize,
}

type Done = oneshot::Sender<Result<u64, AppendError>>;
pub(super) type Answer = oneshot::Receiver<Result<u64, AppendError>>;

impl Item {
    /// Tells whoever waits; a caller that has gone hears nothing.
    pub(super) fn tell(self, result: Result<u64, AppendError>) {
        let _gone = self.done.send(result);
    }
}

/// What the writer finds when it wakes.
pub(super) enum Taken {
    /// Records, in order.
    Items(Vec<Item>),
    /// A sync is wanted, and nothing else.
    Sync,
    /// No record will come any more.
    End,
}

/// The queue. Room is a semaphore, so that a full queue makes callers wait and never grows.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    room: Semaphore,
    /// Wakes the keeper when the log fails.
    broken: Notify,
}

#[derive(Default)]
struct State {
    items: Vec<Item>,
    phase: Phase,
    sync: bool,
    asleep: bool,
}

#[derive(Default, Clone, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Requests are refused; the log's own last records still come.
    Draining,
    /// Nothing comes any more; what is queued will be written.
    Finished,
    /// The log failed: nothing is written.
    Failed(String),
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), room: Semaphore::new(room), broken: Notify::new() }
    }

    /// Waits for room and queues a record; the answer comes through the receiver.
    pub(super) async fn push(&self, entry: Entry) -> Result<Answer, AppendError> {
        let parts = 1 + entry.rest.len();
        match self.room.acquire_many(u32::try_from(parts).unwrap_or(u32::MAX)).await {
            // The writer gives the room back when it takes the record.
            Ok(permit) => permit.forget(),
            Err(_closed) => return Err(self.why_closed()),
        }
        self.put(entry, parts, &Phase::Open)
    }

    /// Queues a record of the log itself: never waits, and still works while draining.
    pub(super) fn push_own(&self, entry: Entry) -> Result<Answer, AppendError> {
        // Own records are one a second: where there is no room they overdraw it.
        let room = self.room.forget_permits(1 + entry.rest.len());
        self.put(entry, room, &Phase::Draining)
    }

    fn put(&self, entry: Entry, room: usize, latest: &Phase) -> Result<Answer, AppendError> {
        let (done, answer) = oneshot::channel();
        let mut state = self.lock();
        let open = state.phase == Phase::Open || state.phase == *latest;
        if !open {
            return Err(state.phase.error());
        }
        state.items.push(Item { entry, done, room });
        self.wake(state);
        Ok(answer)
    }

    /// Waits for records; called by the writer only.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        loop {
            if !state.items.is_empty() && !matches!(state.phase, Phase::Failed(_)) {
                let items = std::mem::take(&mut state.items);
                drop(state);
                self.room.add_permits(items.iter().map(|item| item.room).sum());
                return Taken::Items(items);
            }
            if std::mem::take(&mut state.sync) {
                return Taken::Sync;
            }
            if matches!(state.phase, Phase::Finished | Phase::Failed(_)) {
                return Taken::End;
            }
            state.asleep = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
    }

    /// Asks the writer for a sync after what is queued.
    pub(super) fn want_sync(&self) {
        let mut state = self.lock();
        state.sync = true;
        self.wake(state);
    }

    /// Refuses records of requests from now on.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.room.close();
    }

    /// Lets the writer end when it has written what is queued.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Failed(_)) {
            state.phase = Phase::Finished;
        }
        self.wake(state);
        self.room.close();
    }

    /// Ends everything: who waits is told, and so is everybody who comes later.
    pub(super) fn fail(&self, why: &str) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Failed(_)) {
            state.phase = Phase::Failed(why.to_owned());
        }
        let error = state.phase.error();
        let items = std::mem::take(&mut state.items);
        self.wake(state);
        self.room.close();
        self.broken.notify_one();
        items.into_iter().for_each(|item| item.tell(Err(error.clone())));
    }

    /// Resolves once when the log has failed.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Why nothing more is taken; None while records are.
    pub(super) fn closed(&self) -> Option<String> {
        let state = self.lock();
        (state.phase != Phase::Open).then(|| state.phase.why())
    }

    /// Whether the log failed, as against being drained.
    pub(super) fn failed(&self) -> bool {
        matches!(self.lock().phase, Phase::Failed(_))
    }

    fn why_closed(&self) -> AppendError {
        self.lock().phase.error()
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let asleep = state.asleep;
        drop(state);
        if asleep {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    fn why(&self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Draining | Self::Finished => "the sidecar is stopping".to_owned(),
            Self::Failed(why) => why.clone(),
        }
    }

    fn error(&self) -> AppendError {
        AppendError::Closed(self.why())
    }
}
