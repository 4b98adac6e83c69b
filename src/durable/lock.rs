//! The lock that keeps a second writer out.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::DurableError;
use super::disk::open;

/// A held lock. It ends when this value is dropped or the process ends in any way; the file stays, so that there is
/// never a moment in which two processes lock two files of one name.
#[derive(Debug)]
pub struct Lock {
    _fd: OwnedFd,
    path: PathBuf,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, DurableError> {
        let failed = |errno| DurableError::of("lock", path, errno);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = open(path, flags, 0o600).map_err(failed)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DurableError::AlreadyLocked { path: path.to_path_buf() }),
            Err(errno) => return Err(failed(errno)),
        }
        let held = rustix::fs::fstat(&fd).map_err(failed)?;
        let named = rustix::fs::stat(path).map_err(failed)?;
        // Somebody removed the file between open and lock: whoever opens the name next would lock another file.
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino) {
            return Err(DurableError::AlreadyLocked { path: path.to_path_buf() });
        }
        Ok(Self { _fd: fd, path: path.to_path_buf() })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
