//! How does a file get written so that it is still there after a crash? The only writer of files.
//! This module never interprets what it writes, never retries a failed sync and holds no global: a [`Disk`] is passed
//! to whoever writes, so that a test can pass one that fails or forgets.

mod disk;
#[cfg(feature = "faults")]
pub mod faults;
mod file;
mod lock;
mod temporary;
#[cfg(test)]
mod tests;

pub use disk::Disk;
pub use file::File;
pub use lock::Lock;
pub use temporary::TemporaryDir;

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a file is not as it should be. Every variant names the path.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// Another process (or another part of this one) holds the lock: stop it first.
    #[error("{} is locked by another process", path.display())]
    AlreadyLocked {
        /// The lock file.
        path: PathBuf,
    },
    /// Something is there already, and it is never overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// What exists.
        path: PathBuf,
    },
    /// Nothing is there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// What is missing.
        path: PathBuf,
    },
    /// The file system or the quota is full: an operator must make room.
    #[error("cannot {operation} {}: no space left", path.display())]
    NoSpace {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The operating system refused or failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl DurableError {
    fn of(operation: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_path_buf();
        match errno {
            Errno::EXIST => Self::Exists { path },
            Errno::NOENT => Self::Missing { path },
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { operation, path },
            other => Self::Io { operation, path, source: other.into() },
        }
    }
}

/// One change to the disk, as data: what a fault plan decides on before it happens.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "faults"), expect(dead_code, reason = "only a fault plan reads what an act is"))]
enum Act<'a> {
    /// A file appears.
    Create { path: &'a Path },
    /// Bytes are written at an offset.
    Write { file: u64, at: u64, bytes: &'a [u8] },
    /// A file is cut or extended.
    SetLen { file: u64, len: u64 },
    /// The bytes and the length of a file reach the disk.
    Sync { file: u64 },
    /// An entry moves.
    Rename { from: &'a Path, to: &'a Path },
    /// An entry goes.
    Remove { path: &'a Path },
    /// A directory appears.
    CreateDir { path: &'a Path },
    /// The entries of a directory reach the disk.
    SyncDir { path: &'a Path },
    /// A fault plan took the act's place: there is nothing left to do.
    Nothing,
}

/// The directory that holds an entry; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
