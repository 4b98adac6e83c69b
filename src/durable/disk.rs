//! Whole files and directories: made, replaced, moved and removed so that a crash leaves the old or the new state.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Act, DurableError, File, Lock, parent};

/// The disk, as its writers see it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    #[cfg(feature = "faults")]
    faults: Option<std::sync::Arc<super::faults::Faults>>,
}

impl Disk {
    /// The machine's disk.
    pub fn real() -> Self {
        Self::default()
    }

    /// A disk that follows a fault plan and forgets what was not synced.
    #[cfg(feature = "faults")]
    pub fn with_faults(faults: std::sync::Arc<super::faults::Faults>) -> Self {
        Self { faults: Some(faults) }
    }

    /// Makes a file that must not exist, with all its bytes and exactly this mode, durable with its directory entry.
    pub fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
        let file = self.create_new(path, mode)?;
        file.pwrite_all(bytes, 0)?;
        file.fdatasync()?;
        // If we stop here the entry may be gone after a crash; the caller has not been told that it is there.
        self.sync_dir(parent(path))
    }

    /// Makes or replaces a file: after a crash it holds the old bytes or the new ones, never a mixture.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
        let draft = draft_of(path);
        match self.remove_file(&draft) {
            // A draft that an earlier crash left behind; its bytes never counted.
            Ok(()) | Err(DurableError::Missing { .. }) => {}
            Err(other) => return Err(other),
        }
        let file = self.create_new(&draft, mode)?;
        file.pwrite_all(bytes, 0)?;
        file.fdatasync()?;
        self.rename(&draft, path)
    }

    /// Makes a directory that must not exist, with exactly this mode, durable with its entry.
    pub fn create_dir(&self, path: &Path, mode: u32) -> Result<(), DurableError> {
        self.perform(Act::CreateDir { path }, |_| rustix::fs::mkdir(path, Mode::from_raw_mode(mode)))
            .and_then(|()| rustix::fs::chmod(path, Mode::from_raw_mode(mode)))
            .map_err(|errno| DurableError::of("create the directory", path, errno))?;
        self.sync_dir(parent(path))
    }

    /// Removes a file, durably.
    pub fn remove_file(&self, path: &Path) -> Result<(), DurableError> {
        self.perform(Act::Remove { path }, |_| rustix::fs::unlink(path))
            .map_err(|errno| DurableError::of("remove", path, errno))?;
        self.sync_dir(parent(path))
    }

    /// Removes a directory that must be empty, durably.
    pub fn remove_empty_dir(&self, path: &Path) -> Result<(), DurableError> {
        self.perform(Act::Remove { path }, |_| rustix::fs::rmdir(path))
            .map_err(|errno| DurableError::of("remove the directory", path, errno))?;
        self.sync_dir(parent(path))
    }

    /// Moves a file over another or to a new name, durably.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DurableError> {
        self.perform(Act::Rename { from, to }, |_| rustix::fs::rename(from, to))
            .map_err(|errno| DurableError::of("rename", from, errno))?;
        self.sync_dir(parent(to))?;
        if parent(from) == parent(to) { Ok(()) } else { self.sync_dir(parent(from)) }
    }

    /// Makes an empty file that must not exist, open for reading and writing. Its entry is durable after
    /// [`Disk::sync_dir`] of its directory.
    pub fn create_new(&self, path: &Path, mode: u32) -> Result<File, DurableError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self
            .perform(Act::Create { path }, |_| open(path, flags, mode))
            .map_err(|errno| DurableError::of("create", path, errno))?;
        Ok(self.hold(fd, path))
    }

    /// Opens a file that exists, for reading and writing; a symbolic link is refused.
    pub fn open(&self, path: &Path) -> Result<File, DurableError> {
        let fd = open(path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, 0)
            .map_err(|errno| DurableError::of("open", path, errno))?;
        Ok(self.hold(fd, path))
    }

    /// Makes the entries of a directory durable.
    pub fn sync_dir(&self, path: &Path) -> Result<(), DurableError> {
        self.perform(Act::SyncDir { path }, |act| match act {
            Act::Nothing => Ok(()),
            _ => {
                let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, 0)?;
                rustix::fs::fsync(fd)
            }
        })
        .map_err(|errno| DurableError::of("sync the directory", path, errno))
    }

    /// Takes a lock that ends with the returned value or the process; the file itself stays.
    /// Errors: [`DurableError::AlreadyLocked`] at once when anybody else holds it.
    pub fn lock_exclusive(&self, path: &Path) -> Result<Lock, DurableError> {
        Lock::take(path)
    }

    #[cfg(not(feature = "faults"))]
    #[inline]
    pub(super) fn perform<T>(&self, act: Act<'_>, run: impl FnOnce(&Act<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        run(&act)
    }

    #[cfg(feature = "faults")]
    pub(super) fn perform<T>(&self, act: Act<'_>, run: impl FnOnce(&Act<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        match &self.faults {
            None => run(&act),
            Some(faults) => faults.perform(act, run),
        }
    }

    #[cfg(not(feature = "faults"))]
    fn hold(&self, fd: OwnedFd, path: &Path) -> File {
        File::new(self.clone(), fd, path, 0)
    }

    #[cfg(feature = "faults")]
    fn hold(&self, fd: OwnedFd, path: &Path) -> File {
        let number = self.faults.as_ref().map_or(0, |faults| faults.number_of(path));
        File::new(self.clone(), fd, path, number)
    }
}

/// Opens a file; when it creates one, its mode is exact whatever the umask says.
pub(super) fn open(path: &Path, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let fd = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::from_raw_mode(mode)))?;
    if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
    }
    Ok(fd)
}

/// The name under which the new bytes of `path` are gathered: in the same directory, so that the rename is atomic.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".draft");
    path.with_file_name(name)
}
