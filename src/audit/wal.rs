//! Where do frames go? Into the newest segment, at its end, and to the disk before anybody hears of them (LOG-18).
//! A failed write or sync ends the log: nothing is written after it, and nothing is tried again.

use std::path::{Path, PathBuf};

use crate::durable::{Disk, DurableError, File};

use super::Durability;
use super::scan::{WAL, segment_path};

/// Bytes of a segment after which the next one begins.
pub const SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// The log's files are for its owner.
pub(super) const FILE_MODE: u32 = 0o600;

/// The write end of the log.
pub(super) struct Wal {
    disk: Disk,
    dir: PathBuf,
    segment: File,
    first: u64,
    length: u64,
    segment_bytes: u64,
    durability: Durability,
}

impl Wal {
    /// Makes the first or the next segment, which begins at `first`, durable as an entry.
    pub(super) fn begin(disk: &Disk, dir: &Path, first: u64) -> Result<File, DurableError> {
        let segment = disk.create_new(&segment_path(dir, first), FILE_MODE)?;
        disk.sync_dir(&dir.join(WAL))?;
        Ok(segment)
    }

    pub(super) fn new(
        disk: &Disk,
        dir: &Path,
        (first, segment): (u64, File),
        segment_bytes: u64,
        durability: Durability,
    ) -> Result<Self, DurableError> {
        let length = segment.len()?;
        Ok(Self { disk: disk.clone(), dir: dir.to_path_buf(), segment, first, length, segment_bytes, durability })
    }

    /// Writes a frame that begins at record `first`; with [`Durability::Synced`] it is durable on return.
    pub(super) fn write(&mut self, frame: &[u8], first: u64) -> Result<Place, WalError> {
        if self.length >= self.segment_bytes {
            self.roll(first)?;
        }
        self.segment.pwrite_all(frame, self.length)?;
        // If we stop here the frame may be torn; nobody has been told of its records.
        match self.durability {
            Durability::Synced => self.sync()?,
            Durability::Written => self.check_linked()?,
        }
        let place = Place { segment: self.first, offset: self.length };
        self.length = self.length.saturating_add(u64::try_from(frame.len()).unwrap_or(u64::MAX));
        Ok(place)
    }

    /// Makes everything written durable.
    pub(super) fn sync(&self) -> Result<(), WalError> {
        self.segment.fdatasync()?;
        self.check_linked()
    }

    /// An unlinked file takes every write and is gone with the process.
    fn check_linked(&self) -> Result<(), WalError> {
        if self.segment.links()? == 0 {
            return Err(WalError::Unlinked(self.segment.path().to_path_buf()));
        }
        Ok(())
    }

    fn roll(&mut self, first: u64) -> Result<(), WalError> {
        // A segment is complete on the disk before the next one exists: recovery relies on it.
        self.sync()?;
        self.segment = Self::begin(&self.disk, &self.dir, first)?;
        self.first = first;
        self.length = 0;
        Ok(())
    }
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The first index of the segment.
    pub(super) segment: u64,
    /// The byte in it.
    pub(super) offset: u64,
}

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalError {
    #[error(transparent)]
    Disk(#[from] DurableError),
    #[error("{} was unlinked while it was written", .0.display())]
    Unlinked(PathBuf),
}
