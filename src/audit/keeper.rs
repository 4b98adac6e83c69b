//! What does the log do on its own? A heartbeat, a summary of refusals and a checkpoint, each in its time, on one
//! thread beside the writer's. An outage of checkpoints must not pass unseen: a failed write ends the log.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Mono, SharedClock};

use super::history::History;
use super::note::VerifierKey;
use super::queue::Queue;
use super::refusals::Refusals;
use super::render::{self, Denials};
use super::rotate::{Answering, Command, Rotating};
use super::writer::Board;
use super::{Actor, AppendError, Durability, Event, Outcome, Record, Source};

/// How often summaries and, while the log grows, checkpoints are made.
const TICK: Duration = Duration::from_secs(1);

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not yet.
    Running,
    /// With a last summary and a last checkpoint.
    Drain,
    /// At once, as a crash would.
    Abandon,
}

/// The keeper's own state; moves into its thread.
pub(super) struct Keeper {
    pub(super) queue: Arc<Queue>,
    pub(super) board: Arc<Board>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) clock: SharedClock,
    pub(super) history: History,
    pub(super) durability: Durability,
    pub(super) heartbeat: Duration,
    /// When the log was opened: the times of ticks and beats are counted from it, whenever the thread gets to run.
    pub(super) opened: Mono,
    pub(super) checkpointed: watch::Sender<u64>,
    /// The key whose signature every checkpoint carries.
    pub(super) signs: watch::Sender<VerifierKey>,
    pub(super) rotations: mpsc::Receiver<Command>,
    /// A key whose record is written, and perhaps not yet on the disk.
    pub(super) rotating: Option<Rotating>,
    /// Who is told when the next checkpoint is stored.
    pub(super) answering: Option<Answering>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Keeper {
    /// Runs until stopped; then lets the writer end and makes the last checkpoint.
    pub(super) fn run(mut self, writer: JoinHandle<()>) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| format!("no runtime for the log's timers: {error}"));
        let done = match &runtime {
            Ok(runtime) => runtime.block_on(self.keep()),
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = &done {
            self.queue.fail(why);
        }
        self.queue.finish();
        if writer.join().is_err() {
            self.queue.fail("the writer of the log panicked");
        }
        let last = if *self.stop.borrow() == Stop::Drain && !self.queue.failed() { self.checkpoint() } else { Ok(()) };
        let why = self.queue.closed().unwrap_or_default();
        self.refusals.close(AppendError::Closed(why.clone()));
        if self.queue.failed() { Err(why) } else { done.and(last) }
    }

    async fn keep(&mut self) -> Result<(), String> {
        let mut tick = self.opened.plus(TICK);
        let mut beat = self.opened.plus(self.heartbeat);
        while *self.stop.borrow() == Stop::Running && !self.queue.failed() {
            tokio::select! {
                () = self.clock.sleep_until(tick.min(beat)) => {}
                () = self.queue.broken() => break,
                Some(command) = self.rotations.recv() => {
                    self.rotate(command).await?;
                    continue;
                }
                changed = self.stop.changed() => if changed.is_err() { break },
            }
            let now = self.clock.mono();
            // LOG-23: silence is an alarm, so that there is none.
            if now >= beat {
                beat = after(beat, self.heartbeat, now);
                self.record(Event::LogHeartbeat, &[]).await?;
            }
            if now >= tick {
                tick = after(tick, TICK, now);
                self.summarise().await?;
                self.cover().await?;
            }
        }
        if *self.stop.borrow() == Stop::Drain && !self.queue.failed() {
            self.summarise().await?;
        }
        Ok(())
    }

    /// Makes the summary of what was counted, and tells who waits for it.
    async fn summarise(&self) -> Result<(), String> {
        let Some(summary) = self.refusals.summary() else { return Ok(()) };
        let heard = self.append(Event::DataDeniedSummary, &summary.denials).await;
        let done = fatal(&heard);
        summary.heard.send_replace(Some(heard));
        done
    }

    async fn record(&self, event: Event, denials: &[Denials]) -> Result<(), String> {
        fatal(&self.append(event, denials).await)
    }

    async fn append(&self, event: Event, denials: &[Denials]) -> Result<u64, AppendError> {
        let entry = render::entry(&own(event), denials)?;
        let closed = || AppendError::Closed("the writer is gone".to_owned());
        self.queue.push_own(entry)?.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Makes a checkpoint if the log has grown; what is in the page cache only is synced first.
    async fn cover(&mut self) -> Result<(), String> {
        if self.durability == Durability::Written && *self.board.committed.borrow() > self.history.newest {
            // The writer syncs in its own time; the next tick covers what it has synced.
            self.queue.want_sync();
        }
        self.checkpoint()
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), String> {
        let stored = self.take_over().and_then(|()| self.history.store(self.board.synced()));
        let taken = stored.and_then(|taken| self.settle().map(|()| taken)).map_err(|error| {
            let why = format!("the checkpoint was not stored: {error}");
            self.queue.fail(&why);
            why
        })?;
        self.board.usage.add(taken);
        self.checkpointed.send_replace(self.history.newest);
        self.told();
        Ok(())
    }
}

/// A record that the log makes about itself.
pub(super) fn own(event: Event) -> Record {
    Record {
        event,
        outcome: if event == Event::DataDeniedSummary { Outcome::Denied } else { Outcome::Done },
        reason: None,
        actor: Actor::Sidecar,
        source: Source::Internal,
        request: None,
        purpose: None,
        groups: Vec::new(),
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: None,
        intent: None,
        facts: Vec::new(),
    }
}

/// A full disk budget stops summaries, not the log.
fn fatal(result: &Result<u64, AppendError>) -> Result<(), String> {
    match result {
        Err(AppendError::Closed(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

/// The next time of its series that lies ahead.
fn after(last: Mono, interval: Duration, now: Mono) -> Mono {
    let mut next = last.plus(interval);
    if next <= now {
        next = now.plus(interval);
    }
    next
}
