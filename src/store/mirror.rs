//! What is there while the database is away? Keyrings that were read before, from a file of this machine.
//! This module never answers for a partition, for the end of the chain or for a change, never slows a read down, and never
//! fails one: a mirror that cannot be written is given up with one warning.
//!
//! A keyring from the mirror may be older than the newest one: whoever reads compares it with what the chain told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::sqlite::mirror::MirrorFile;
use super::{
    ChangeRow, Opened, PartitionName, PartitionRow, RingRows, SidecarRow, Snapshot, StoreError, UsageRow, Write, Writer,
};
use crate::clock::BoxFuture;
use crate::durable::Disk;
use crate::names::KeyVersionId;

/// Pages and names that wait to be written. A page of an admission waits for room; a single keyring is left out.
const QUEUE: usize = 64;

/// Keyrings written in one transaction at most.
const TOGETHER: usize = 500;

/// How the mirror fares.
#[derive(Debug, Default)]
pub struct MirrorState {
    failed: AtomicBool,
    served: AtomicU64,
    left_out: AtomicU64,
}

impl MirrorState {
    /// Whether it is written to; false after the first failure.
    pub fn is_kept(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Reads that it answered in place of the database.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Keyrings that were not kept because there was no room in the queue.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn fail(&self, error: &StoreError) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "keyrings are not mirrored here any more: an outage of the database will show sooner");
        }
    }
}

/// Puts a mirror in front of a store's writer.
pub(super) async fn mirrored(opened: Opened, path: &Path) -> Opened {
    let state = Arc::new(MirrorState::default());
    let reader = opened.reader();
    let inner = opened.into_writer();
    let file = match MirrorFile::open(path.to_owned()).await {
        Ok(file) => Arc::new(file),
        Err(error) => {
            state.fail(&error);
            return Opened { reader, writer: inner, mirror: Some(state) };
        }
    };
    let (queue, waiting) = mpsc::channel(QUEUE);
    let changed = Arc::new(Changed::default());
    let keeper = Keeper {
        inner: Arc::clone(&inner),
        file: Arc::clone(&file),
        changed: Arc::clone(&changed),
        state: Arc::clone(&state),
        path: path.to_owned(),
    };
    // It ends when the writer that feeds it is dropped.
    tokio::spawn(keeper.keep(waiting));
    let writer = Mirrored { inner, file, queue, changed, state: Arc::clone(&state) };
    Opened { reader, writer: Arc::new(writer), mirror: Some(state) }
}

/// What the keeper is told.
enum Task {
    /// These were read.
    Keep(Vec<RingRows>),
    /// These were changed here: read them again.
    Look(Vec<String>),
}

/// The keyrings that were changed here, at which generation, and are not kept yet: an older one must not be shown.
#[derive(Default)]
struct Changed(Mutex<HashMap<String, u64>>);

impl Changed {
    fn note(&self, name: &str, generation: u64) {
        let mut changed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = changed.entry(name.to_owned()).or_default();
        *newest = (*newest).max(generation);
    }

    fn kept(&self, name: &str, generation: u64) {
        let mut changed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.get(name).is_some_and(|newest| *newest <= generation) {
            changed.remove(name);
        }
    }

    fn is_outdated(&self, ring: &RingRows) -> bool {
        let changed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changed.get(&ring.head.name).is_some_and(|newest| *newest > ring.head.generation)
    }
}

/// Writes the file, off everybody's path.
struct Keeper {
    inner: Arc<dyn Writer>,
    file: Arc<MirrorFile>,
    changed: Arc<Changed>,
    state: Arc<MirrorState>,
    path: PathBuf,
}

impl Keeper {
    async fn keep(self, mut waiting: mpsc::Receiver<Task>) {
        while let Some(first) = waiting.recv().await {
            let mut rings = self.rings(first).await;
            while rings.len() < TOGETHER
                && let Ok(next) = waiting.try_recv()
            {
                rings.extend(self.rings(next).await);
            }
            let generations: Vec<(String, u64)> =
                rings.iter().map(|ring| (ring.head.name.clone(), ring.head.generation)).collect();
            match self.file.keep(rings).await {
                Ok(()) => generations.iter().for_each(|(name, generation)| self.changed.kept(name, *generation)),
                // A full disk may end; what is left out now is kept when it is read again.
                Err(error @ StoreError::Full(_)) => tracing::warn!(%error, "keyrings were not mirrored"),
                Err(error) => {
                    self.state.fail(&error);
                    return self.forget();
                }
            }
        }
    }

    /// A file that is not kept any more would keep wraps that leave the store.
    fn forget(&self) {
        if let Err(error) = super::sqlite::remove(&Disk::real(), &self.path) {
            tracing::warn!(%error, "remove it by hand: it holds wrapped keys that the store may give up");
        }
    }

    async fn rings(&self, task: Task) -> Vec<RingRows> {
        let names = match task {
            Task::Keep(rings) => return rings,
            Task::Look(names) => names,
        };
        let mut rings = Vec::with_capacity(names.len());
        for name in names {
            // The database may be away by now: then the keyring stays marked as changed.
            rings.extend(self.inner.ring(name).await.ok().flatten());
        }
        rings
    }
}

/// A store's writer with a mirror.
struct Mirrored {
    inner: Arc<dyn Writer>,
    file: Arc<MirrorFile>,
    queue: mpsc::Sender<Task>,
    changed: Arc<Changed>,
    state: Arc<MirrorState>,
}

impl Mirrored {
    /// On the path of a request: never waits.
    fn hand_over(&self, task: Task) {
        if self.state.is_kept() && self.queue.try_send(task).is_err() {
            self.state.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Heads that were changed, with their generations.
    fn heads(batch: &[Write]) -> Vec<(String, u64)> {
        let head = |write: &Write| match write {
            Write::Keyring(row) => Some((row.name.clone(), row.generation)),
            _ => None,
        };
        batch.iter().filter_map(head).collect()
    }

    fn changed(&self, heads: &[(String, u64)]) {
        for (name, generation) in heads {
            self.changed.note(name, *generation);
        }
        if !heads.is_empty() {
            self.hand_over(Task::Look(heads.iter().map(|(name, _)| name.clone()).collect()));
        }
    }

    /// What the mirror has, or the database's own error.
    async fn instead(&self, error: StoreError, name: String) -> Result<RingRows, StoreError> {
        match self.file.ring(name).await {
            Ok(Some(ring)) if !self.changed.is_outdated(&ring) => {
                self.state.served.fetch_add(1, Ordering::Relaxed);
                Ok(ring)
            }
            Ok(_) => Err(error),
            Err(broken) => {
                self.state.fail(&broken);
                Err(error)
            }
        }
    }
}

impl Writer for Mirrored {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let heads = Self::heads(&batch);
            let done = self.inner.commit(batch).await;
            // One whose end is not known may be there: then what is kept may be outdated.
            if matches!(done, Ok(()) | Err(StoreError::Unsettled(_))) {
                self.changed(&heads);
            }
            done
        })
    }

    fn import(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.import(batch)
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        self.inner.last_change()
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        Box::pin(async move {
            match self.inner.ring(name.clone()).await {
                Ok(ring) => {
                    if let Some(ring) = &ring {
                        self.hand_over(Task::Keep(vec![ring.clone()]));
                    }
                    Ok(ring)
                }
                Err(error @ StoreError::Unavailable(_)) => self.instead(error, name).await.map(Some),
                Err(error) => Err(error),
            }
        })
    }

    fn ring_now(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        Box::pin(async move {
            let ring = self.inner.ring(name).await?;
            if let Some(ring) = &ring {
                self.hand_over(Task::Keep(vec![ring.clone()]));
            }
            Ok(ring)
        })
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        Box::pin(async move {
            // Never from the file: a page that lacks a keyring looks like one where there is none.
            let rings = self.inner.rings(after, keys).await?;
            if self.state.is_kept() && !rings.is_empty() {
                // Whoever reads page by page has the time; a closed queue means that the mirror was given up.
                let _given_up = self.queue.send(Task::Keep(rings.clone())).await;
            }
            Ok(rings)
        })
    }

    fn partition(
        &self,
        keyring: String,
        name: PartitionName,
    ) -> BoxFuture<'_, Result<Option<PartitionRow>, StoreError>> {
        self.inner.partition(keyring, name)
    }

    fn partitions(
        &self,
        keyring: String,
        parent: Option<KeyVersionId>,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>> {
        self.inner.partitions(keyring, parent, after, limit)
    }

    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>> {
        self.inner.usage(key)
    }

    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>> {
        self.inner.sidecars()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        self.inner.snapshot()
    }

    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.settled()
    }

    fn hint(&self) -> BoxFuture<'_, ()> {
        self.inner.hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{KeyringRow, Tag};

    fn ring(generation: u64) -> RingRows {
        let head = KeyringRow { name: "a".to_owned(), generation, body: String::new(), tag: Tag([0; 32]) };
        RingRows { head, keys: Vec::new() }
    }

    #[test]
    fn a_keyring_that_was_changed_here_is_not_shown_as_it_was_before() {
        let changed = Changed::default();
        assert!(!changed.is_outdated(&ring(1)));
        changed.note("a", 3);
        changed.note("a", 2);
        assert!(changed.is_outdated(&ring(2)));
        assert!(!changed.is_outdated(&ring(3)));
        changed.kept("a", 2);
        assert!(changed.is_outdated(&ring(2)), "what was kept is older than the change");
        changed.kept("a", 3);
        assert!(!changed.is_outdated(&ring(2)), "nothing older is kept any more");
    }
}
