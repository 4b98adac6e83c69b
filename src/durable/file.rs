//! One open file, written at offsets and synced when its owner says so.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, retry_on_intr};

use super::{Act, Disk, DurableError};

/// An open file. Nothing in it is durable before [`File::fdatasync`] has returned Ok, and after an error from it
/// nothing written since the last success may be relied on: the file must not be used again in this process.
pub struct File {
    disk: Disk,
    fd: OwnedFd,
    path: PathBuf,
    number: u64,
}

impl File {
    pub(super) fn new(disk: Disk, fd: OwnedFd, path: &Path, number: u64) -> Self {
        Self { disk, fd, path: path.to_path_buf(), number }
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all the bytes at an offset; a short write is carried on, an error leaves an unknown part written.
    pub fn pwrite_all(&self, mut bytes: &[u8], mut at: u64) -> Result<(), DurableError> {
        while !bytes.is_empty() {
            let written = self
                .disk
                .perform(Act::Write { file: self.number, at, bytes }, |act| match act {
                    Act::Write { bytes, .. } => retry_on_intr(|| rustix::io::pwrite(&self.fd, bytes, at)),
                    _ => Ok(0),
                })
                .map_err(|errno| self.failed("write", errno))?;
            if written == 0 {
                return Err(self.failed("write", Errno::IO));
            }
            bytes = bytes.get(written..).unwrap_or_default();
            at = at.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Reads at an offset; fewer bytes than asked for mean the end of the file.
    pub fn pread(&self, into: &mut [u8], at: u64) -> Result<usize, DurableError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let from = at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let read = retry_on_intr(|| rustix::io::pread(&self.fd, &mut *rest, from))
                .map_err(|errno| self.failed("read", errno))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    /// Makes the bytes and the length durable. Never repeat it after an error: the page cache may have dropped the
    /// bytes and would then report success for nothing.
    pub fn fdatasync(&self) -> Result<(), DurableError> {
        self.disk
            .perform(Act::Sync { file: self.number }, |act| match act {
                Act::Nothing => Ok(()),
                _ => rustix::fs::fdatasync(&self.fd),
            })
            .map_err(|errno| self.failed("sync", errno))
    }

    /// Cuts or extends the file.
    pub fn set_len(&self, len: u64) -> Result<(), DurableError> {
        self.disk
            .perform(Act::SetLen { file: self.number, len }, |_| rustix::fs::ftruncate(&self.fd, len))
            .map_err(|errno| self.failed("set the length of", errno))
    }

    /// The length in bytes.
    pub fn len(&self) -> Result<u64, DurableError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| self.failed("inspect", errno))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> Result<bool, DurableError> {
        Ok(self.len()? == 0)
    }

    /// How many directory entries name the file; 0 when somebody unlinked it under its owner.
    pub fn links(&self) -> Result<u64, DurableError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| self.failed("inspect", errno))?;
        #[allow(clippy::useless_conversion, reason = "the width of st_nlink differs between architectures")]
        Ok(u64::from(stat.st_nlink))
    }

    /// Whether a name leads to this very file.
    pub fn is_at(&self, path: &Path) -> Result<bool, DurableError> {
        let own = rustix::fs::fstat(&self.fd).map_err(|errno| self.failed("inspect", errno))?;
        match rustix::fs::lstat(path) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(DurableError::of("inspect", path, errno)),
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> DurableError {
        DurableError::of(operation, &self.path, errno)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.path).finish()
    }
}
