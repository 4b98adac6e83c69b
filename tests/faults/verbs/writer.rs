//! The real store with a commit that fails: before anything was written, or after all of it was.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyward::clock::BoxFuture;
use keyward::names::KeyVersionId;
use keyward::store::{
    ChangeRow, PartitionName, PartitionRow, RingRows, SidecarRow, Snapshot, StoreError, UsageRow, Write, Writer,
};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing was written, and the store says so.
    Refused,
    /// Nothing was written, and nobody knows.
    Lost,
    /// All of it was written, and nobody knows.
    Kept,
    /// All of it was written and nobody knows, and the store takes nothing more until it is opened again.
    KeptAndClosed,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Refused, Self::Lost, Self::Kept, Self::KeptAndClosed];

    pub fn persists(self) -> bool {
        matches!(self, Self::Kept | Self::KeptAndClosed)
    }
}

/// Which commit fails, and what has happened so far.
#[derive(Default)]
pub struct Faults {
    armed: Mutex<Option<(Kind, usize)>>,
    closed: Mutex<bool>,
    fired: AtomicUsize,
    /// Keyrings and partitions that were read.
    pub reads: AtomicUsize,
    /// Changes of keys that are there, the failed one included if it persisted.
    pub kept: AtomicUsize,
}

impl Faults {
    /// The n-th change of keys from now on fails, counted from one. What is only counted goes by.
    pub fn arm(&self, kind: Kind, n: usize) {
        self.kept.store(0, Ordering::SeqCst);
        *self.armed.lock().unwrap() = Some((kind, n));
    }

    fn again(&self, kind: Kind) {
        self.fired.fetch_sub(1, Ordering::SeqCst);
        *self.armed.lock().unwrap() = Some((kind, 1));
    }

    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst) > 0
    }

    fn next(&self, batch: &[Write]) -> Option<Kind> {
        if !batch.iter().any(|write| matches!(write, Write::Change(_))) {
            return None;
        }
        let mut armed = self.armed.lock().unwrap();
        let (kind, left) = armed.as_mut()?;
        *left -= 1;
        let kind = (*left == 0).then_some(*kind)?;
        *armed = None;
        self.fired.fetch_add(1, Ordering::SeqCst);
        Some(kind)
    }
}

/// A writer whose commits fail as planned.
pub struct Tempered {
    inner: Arc<dyn Writer>,
    faults: Arc<Faults>,
}

/// The store behind the plan.
pub fn tempered(inner: Arc<dyn Writer>, faults: &Arc<Faults>) -> Arc<dyn Writer> {
    Arc::new(Tempered { inner, faults: Arc::clone(faults) })
}

impl Tempered {
    async fn write(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        let done = self.inner.commit(batch).await;
        if done.is_ok() {
            self.faults.kept.fetch_add(1, Ordering::SeqCst);
        }
        done
    }
}

impl Writer for Tempered {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if *self.faults.closed.lock().unwrap() {
                return Err(StoreError::Unavailable("closed after a failed write".to_owned()));
            }
            let unsettled = Err(StoreError::Unsettled("told to".to_owned()));
            match self.faults.next(&batch) {
                None => self.write(batch).await,
                Some(Kind::Refused) => Err(StoreError::Unavailable("told to".to_owned())),
                Some(Kind::Lost) => unsettled,
                Some(kind @ (Kind::Kept | Kind::KeptAndClosed)) => {
                    if let Err(error) = self.write(batch).await {
                        // Somebody else was first: it is the next try that persists.
                        self.faults.again(kind);
                        return Err(error);
                    }
                    *self.faults.closed.lock().unwrap() = kind == Kind::KeptAndClosed;
                    unsettled
                }
            }
        })
    }

    fn import(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.import(batch)
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.last_change()
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.ring(name)
    }

    fn ring_now(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.ring_now(name)
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.rings(after, keys)
    }

    fn partition(
        &self,
        keyring: String,
        name: PartitionName,
    ) -> BoxFuture<'_, Result<Option<PartitionRow>, StoreError>> {
        self.faults.reads.fetch_add(1, Ordering::SeqCst);
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
