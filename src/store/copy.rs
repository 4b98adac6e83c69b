//! How does a store move to another place? Row by row as they are, compared row by row afterwards, page by page, all of it
//! as of one moment of the source, which others may change meanwhile.
//! This module never changes the source, and never makes a target that could be taken for a whole store before it is one:
//! the genesis row comes last.

use super::{Counts, Opened, Reader, RingRows, Snapshot, StoreError, Write, Writer};

use std::sync::Arc;

/// Rows of a page, and of a transaction.
const PAGE: u32 = 500;

/// Why a store was not copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be read.
    #[error("cannot read the store to be copied: {0}")]
    From(StoreError),
    /// The target cannot be made, written or read.
    #[error("cannot write the new store: {0}")]
    To(StoreError),
    /// Nothing was founded in the source.
    #[error("the store to be copied was never founded")]
    Unfounded,
    /// The target has rows: another store, or an unfinished copy.
    #[error("the new store is not empty: it has {0} rows")]
    NotEmpty(u64),
    /// A row is not in the target as it is in the source.
    #[error("the copy differs from the store in {0}")]
    Different(&'static str),
}

/// How far a copy is: rows done, of all to do. Every row is copied, then compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows copied or compared.
    pub done: u64,
    /// Twice the rows of the store.
    pub all: u64,
}

/// Copies a whole store, as it was at one moment, into an empty one and compares the two.
pub async fn copy(
    from: Box<dyn Snapshot>,
    to: Opened,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Counts, CopyError> {
    let to = Side::of(to);
    let counts = from.counts().await.map_err(CopyError::From)?;
    let there = rows(&to.reader.counts().await.map_err(CopyError::To)?);
    let genesis = from.genesis().await.map_err(CopyError::From)?.ok_or(CopyError::Unfounded)?;
    if there > 0 {
        return Err(CopyError::NotEmpty(there));
    }
    let mut steps = Steps { tell, progress: Progress { done: 0, all: rows(&counts).saturating_mul(2) } };
    for pass in [Pass::Copy, Pass::Compare] {
        let mut work = Work { from: &*from, to: &to, pass, counts: &counts, steps: &mut steps };
        work.keyrings().await?;
        work.sidecars().await?;
        work.changes().await?;
    }
    drop(from);
    let copied = Counts { genesis: counts.genesis, ..to.reader.counts().await.map_err(CopyError::To)? };
    if copied != counts {
        return Err(CopyError::Different("the number of rows"));
    }
    // Crash state: until here the target has no genesis row, and nobody takes it for a store.
    to.writer.import(vec![Write::Genesis(genesis.clone())]).await.map_err(CopyError::To)?;
    if to.reader.genesis().await.map_err(CopyError::To)? != Some(genesis) {
        return Err(CopyError::Different("the genesis row"));
    }
    steps.made(2);
    Ok(counts)
}

fn rows(counts: &Counts) -> u64 {
    let Counts { genesis, keyrings, keys, partitions, usage, sidecars, changes } = counts;
    [genesis, keyrings, keys, partitions, usage, sidecars, changes].into_iter().sum()
}

/// The target.
struct Side {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
}

impl Side {
    fn of(opened: Opened) -> Self {
        Self { reader: opened.reader(), writer: opened.into_writer() }
    }
}

struct Steps<'a> {
    tell: &'a mut (dyn FnMut(Progress) + Send),
    progress: Progress,
}

impl Steps<'_> {
    fn made(&mut self, rows: usize) {
        self.progress.done = self.progress.done.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
        (self.tell)(self.progress);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Copy,
    Compare,
}

/// One pass over the source: each page goes to the target, or is compared with the target's.
struct Work<'a, 'b> {
    from: &'a dyn Snapshot,
    to: &'a Side,
    pass: Pass,
    counts: &'a Counts,
    steps: &'a mut Steps<'b>,
}

impl Work<'_, '_> {
    async fn keyrings(&mut self) -> Result<(), CopyError> {
        let mut after = None;
        loop {
            let page = self.from.rings(after.clone(), PAGE).await.map_err(CopyError::From)?;
            let writes = |page: &[RingRows]| page.iter().flat_map(ring_writes).collect();
            let theirs = self.theirs(self.to.writer.rings(after.clone(), PAGE)).await?;
            self.page(&page, theirs, "keyrings and keys", writes).await?;
            for ring in &page {
                self.partitions(&ring.head.name).await?;
                self.usage(ring).await?;
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.head.name.clone());
        }
    }

    async fn partitions(&mut self, keyring: &str) -> Result<(), CopyError> {
        if self.counts.partitions == 0 {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.from.partitions(keyring.to_owned(), after, PAGE).await.map_err(CopyError::From)?;
            let theirs = self.theirs(self.to.writer.partitions(keyring.to_owned(), None, after, PAGE)).await?;
            self.page(&page, theirs, "partitions", |page| page.iter().cloned().map(Write::Partition).collect()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name);
        }
    }

    /// Key by key: all rows at once could be more than fits into memory.
    async fn usage(&mut self, ring: &RingRows) -> Result<(), CopyError> {
        if self.counts.usage == 0 {
            return Ok(());
        }
        for key in &ring.keys {
            let page = self.from.usage(Some(key.row.id)).await.map_err(CopyError::From)?;
            let theirs = self.theirs(self.to.writer.usage(Some(key.row.id))).await?;
            self.page(&page, theirs, "counts of use", |page| page.iter().cloned().map(Write::Usage).collect()).await?;
        }
        Ok(())
    }

    async fn sidecars(&mut self) -> Result<(), CopyError> {
        let page = self.from.sidecars().await.map_err(CopyError::From)?;
        let theirs = self.theirs(self.to.writer.sidecars()).await?;
        self.page(&page, theirs, "sidecars", |page| page.iter().cloned().map(Write::Sidecar).collect()).await
    }

    async fn changes(&mut self) -> Result<(), CopyError> {
        let mut after = 0;
        loop {
            let page = self.from.changes(after, PAGE).await.map_err(CopyError::From)?;
            let theirs = self.theirs(self.to.reader.changes(after, PAGE)).await?;
            self.page(&page, theirs, "changes", |page| page.iter().cloned().map(Write::Change).collect()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
        }
    }

    /// The target's page, if it is to be compared.
    async fn theirs<T>(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, CopyError> {
        match self.pass {
            Pass::Copy => Ok(None),
            Pass::Compare => read.await.map(Some).map_err(CopyError::To),
        }
    }

    async fn page<T: PartialEq>(
        &mut self,
        page: &Vec<T>,
        theirs: Option<Vec<T>>,
        what: &'static str,
        writes: impl Fn(&[T]) -> Vec<Write>,
    ) -> Result<(), CopyError> {
        if theirs.as_ref().is_some_and(|theirs| theirs != page) {
            return Err(CopyError::Different(what));
        }
        let batch = writes(page);
        let rows = batch.len();
        if theirs.is_none() && rows > 0 {
            self.to.writer.import(batch).await.map_err(CopyError::To)?;
        }
        self.steps.made(rows);
        Ok(())
    }
}

fn ring_writes(ring: &RingRows) -> impl Iterator<Item = Write> + use<> {
    let keys = ring.keys.clone().into_iter().map(Write::Key);
    std::iter::once(Write::Keyring(ring.head.clone())).chain(keys)
}
