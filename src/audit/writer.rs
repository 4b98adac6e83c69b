//! Who writes the log? One thread: it gives records their index and time, makes frames, syncs, and only then tells
//! whoever waits (LOG-18). While one frame syncs, the next batch gathers in the queue.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::clock::SharedClock;

use super::frame::{self, FLAG_WRITTEN, HEADER_BYTES, Header, MAX_BODY, MAX_COUNT};
use super::note::Checkpoint;
use super::queue::{Item, Queue, Taken};
use super::read::Marks;
use super::render::{self, ClockState, Rendered};
use super::tree::{self, Tree};
use super::usage::Usage;
use super::wal::{Place, Wal, WalError};
use super::{AppendError, Durability, Record};

/// What the writer shares with the rest of the log.
pub(super) struct Board {
    /// The newest state of which every byte is on the disk: what a checkpoint may cover.
    synced: Mutex<Checkpoint>,
    /// Records that were acknowledged or could be: what readers see.
    pub(super) committed: watch::Sender<u64>,
    pub(super) usage: Usage,
    pub(super) marks: Marks,
}

impl Board {
    pub(super) fn new(synced: Checkpoint, usage: Usage, marks: Marks) -> Self {
        Self { synced: Mutex::new(synced), committed: watch::Sender::new(synced.size), usage, marks }
    }

    pub(super) fn synced(&self) -> Checkpoint {
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_synced(&self, tree: &Tree) {
        let now = Checkpoint { size: tree.size(), root: tree.root() };
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The writer's own state; moves into its thread.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) board: Arc<Board>,
    pub(super) clock: SharedClock,
    pub(super) wal: Wal,
    pub(super) durability: Durability,
    pub(super) tree: Tree,
    /// The time of the last frame: it never goes back (LOG-8).
    pub(super) time: u64,
    /// Intents without an outcome: each is closed once (LOG-21).
    pub(super) intents: BTreeSet<u64>,
    /// The frame in the making; kept so that its memory is.
    pub(super) buffer: Vec<u8>,
}

/// Records that will share a frame.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    records: usize,
    bytes: usize,
}

impl Batch {
    fn fits(&self, (records, bytes): (usize, usize)) -> bool {
        self.records + records <= usize::from(MAX_COUNT) && self.bytes + bytes <= MAX_BODY
    }

    fn push(&mut self, item: Item, (records, bytes): (usize, usize)) {
        self.items.push(item);
        self.records += records;
        self.bytes += bytes;
    }
}

impl Writer {
    /// Writes until the queue ends or something fails.
    pub(super) fn run(mut self) {
        loop {
            let (done, end) = match self.queue.take() {
                Taken::Items(items) => (self.write_all(items), false),
                Taken::Sync => (self.sync(), false),
                Taken::End => (self.sync(), true),
            };
            if let Err(error) = done {
                self.queue.fail(&error.to_string());
            }
            if end {
                return;
            }
        }
    }

    /// Writes the records of a start, before there is a thread.
    pub(super) fn write_first(&mut self, records: Vec<Record>) -> Result<(), AppendError> {
        let mut answers = Vec::new();
        for record in &records {
            answers.push(self.queue.push_own(render::entry(record, &[])?)?);
        }
        if let Taken::Items(items) = self.queue.take() {
            let done = self.write_all(items).and_then(|()| self.sync());
            done.map_err(|error| AppendError::Closed(error.to_string()))?;
        }
        for mut answer in answers {
            answer.try_recv().unwrap_or_else(|_| Err(AppendError::Closed("the record was not written".to_owned())))?;
        }
        Ok(())
    }

    /// Writes a batch: one frame, or several where one cannot hold it, each synced before the next is begun.
    fn write_all(&mut self, items: Vec<Item>) -> Result<(), WalError> {
        let mut batch = Batch::default();
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let weight = weight(&item);
            if !batch.fits(weight) {
                let full = std::mem::take(&mut batch);
                if let Err(error) = self.write_frame(full) {
                    let closed = AppendError::Closed(error.to_string());
                    std::iter::once(item).chain(items).for_each(|item| item.tell(Err(closed.clone())));
                    return Err(error);
                }
            }
            match self.admit(&item, batch.bytes + weight.1) {
                Ok(()) => batch.push(item, weight),
                Err(error) => item.tell(Err(error)),
            }
        }
        if batch.items.is_empty() { Ok(()) } else { self.write_frame(batch) }
    }

    fn admit(&mut self, item: &Item, bytes: usize) -> Result<(), AppendError> {
        if !self.board.usage.has_room(item.entry.share, bytes) {
            return Err(AppendError::Full);
        }
        match item.entry.closes {
            // A second outcome would be one too many, whoever repeats it.
            Some(intent) if !self.intents.remove(&intent) => Err(AppendError::Malformed("the intent is not open")),
            _ => Ok(()),
        }
    }

    fn write_frame(&mut self, batch: Batch) -> Result<(), WalError> {
        let wall = self.clock.wall().0;
        let state = if wall < self.time { ClockState::Held } else { ClockState::Unverified };
        let time = wall.max(self.time);
        let first = self.tree.size();
        let tree = self.fill(&batch, time, state);
        match self.wal.write(&self.buffer, first) {
            Ok(place) => {
                self.tree = tree;
                self.time = time;
                self.publish(first, place);
                self.release(batch, first);
                Ok(())
            }
            Err(error) => {
                let closed = AppendError::Closed(error.to_string());
                batch.items.into_iter().for_each(|item| item.tell(Err(closed.clone())));
                Err(error)
            }
        }
    }

    /// Makes the frame in the buffer and gives the tree after it.
    fn fill(&mut self, batch: &Batch, time: u64, state: ClockState) -> Tree {
        let mut tree = self.tree.clone();
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        for part in batch.items.iter().flat_map(|item| item.entry.parts()) {
            let place = part.fill(&mut self.buffer, tree.size(), time, state);
            tree.push(tree::leaf(self.buffer.get(place).unwrap_or_default()));
        }
        let header = Header {
            flags: if self.durability == Durability::Written { FLAG_WRITTEN } else { 0 },
            count: u16::try_from(batch.records).unwrap_or(u16::MAX),
            first: self.tree.size(),
            time,
            body: u32::try_from(self.buffer.len() - HEADER_BYTES).unwrap_or(u32::MAX),
            root: tree.root(),
        };
        frame::write_header(&mut self.buffer, &header);
        tree
    }

    /// Shows the new records to readers and checkpoints before anybody is answered.
    fn publish(&self, first: u64, place: Place) {
        self.board.usage.add(self.buffer.len());
        self.board.marks.note(first, place);
        if self.durability == Durability::Synced {
            self.board.set_synced(&self.tree);
        }
        self.board.committed.send_replace(self.tree.size());
    }

    fn release(&mut self, batch: Batch, first: u64) {
        let mut index = first;
        for item in batch.items {
            let records = weight(&item).0;
            if item.entry.opens {
                self.intents.insert(index);
            }
            item.tell(Ok(index));
            index += u64::try_from(records).unwrap_or(0);
        }
    }

    /// Makes what was acknowledged from the page cache durable, so that a checkpoint may cover it.
    fn sync(&self) -> Result<(), WalError> {
        if self.durability == Durability::Written && !self.queue.failed() {
            self.wal.sync()?;
            self.board.set_synced(&self.tree);
        }
        Ok(())
    }
}

/// Records and bytes that an item takes at most.
fn weight(item: &Item) -> (usize, usize) {
    (1 + item.entry.rest.len(), item.entry.parts().map(Rendered::most).sum())
}
