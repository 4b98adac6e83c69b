//! Files as they are copied: read once, digested and written in the same pass, synced before anybody is told.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::crypto::Sha256;
use crate::durable::{Disk, DurableError};
use crate::store::sqlite;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The bytes of a file, without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) bytes: u64,
    /// In hexadecimal.
    pub(super) sha256: String,
}

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Its copy cannot be written.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// Reads a file to its end.
pub(super) fn digest(path: &Path) -> std::io::Result<Digest> {
    let mut digest = Sha256::new();
    let mut bytes = 0;
    read(path, &mut |part| {
        digest.update(part);
        bytes += length(part);
        Ok::<(), std::io::Error>(())
    })?;
    Ok(Digest { bytes, sha256: hex::encode(digest.finish()) })
}

/// Copies a file to where none is. The entry is durable when its directory has been synced.
pub(super) fn copy(disk: &Disk, from: &Path, to: &Path) -> Result<Digest, FileError> {
    let file = disk.create_new(to, 0o600)?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let copied = read(from, &mut |part| {
        digest.update(part);
        file.pwrite_all(part, bytes).map_err(Stop::Write)?;
        bytes += length(part);
        Ok(())
    });
    copied.map_err(|stop| match stop {
        Stop::Read(source) => FileError::Read { path: from.to_owned(), source },
        Stop::Write(error) => FileError::Write(error),
    })?;
    file.fdatasync()?;
    Ok(Digest { bytes, sha256: hex::encode(digest.finish()) })
}

/// Makes a directory, and those above it up to `root`, where they are missing.
pub(super) fn make_dirs(disk: &Disk, root: &Path, dir: &Path) -> Result<(), DurableError> {
    if dir.exists() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| dir != root && !parent.exists()) {
        make_dirs(disk, root, parent)?;
    }
    disk.create_dir(dir, 0o700)
}

/// Gives a file or directory the first free name `PATH.WORD-N`.
pub(in crate::app) fn set_aside(disk: &Disk, path: &Path, word: &str) -> Result<PathBuf, DurableError> {
    let to = free_name(path, word)?;
    disk.rename(path, &to)?;
    disk.sync_dir(path.parent().unwrap_or(path))?;
    Ok(to)
}

/// The same for a SQLite database, with what lies beside it; nothing if there is none.
pub(super) fn set_store_aside(disk: &Disk, path: &Path, word: &str) -> Result<(), DurableError> {
    let to = free_name(path, word)?;
    for (from, to) in sqlite::files(path).into_iter().zip(sqlite::files(&to)).filter(|(from, _)| from.exists()) {
        disk.rename(&from, &to)?;
    }
    disk.sync_dir(path.parent().unwrap_or(path))
}

fn free_name(path: &Path, word: &str) -> Result<PathBuf, DurableError> {
    let names = (1_u32..).map(|n| PathBuf::from(format!("{}.{word}-{n}", path.display())));
    names.take(10_000).find(|name| !name.exists()).ok_or_else(|| DurableError::Exists { path: path.to_owned() })
}

/// Every file below a directory, by its path inside it; none if there is no directory.
pub(super) fn below(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| FileError::Read { path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder == dir => return Ok(found),
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.extend(entry.path().strip_prefix(dir).map(Path::to_path_buf));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

enum Stop {
    Read(std::io::Error),
    Write(DurableError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

fn read<E: From<std::io::Error>>(path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        each(buffer.get(..read).unwrap_or_default())?;
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
