//! May this file hold a secret, and what does it hold? Reads small files that only their owner can read.
//! This module never writes and never follows a file that others could have changed.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::secret::SecretBytes;

/// Why a file with a secret was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PrivateFileError {
    /// The file.
    pub path: PathBuf,
    /// What to change.
    pub problem: String,
}

/// Which bytes a source held, without saying anything about them: a changed source is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i128,
}

/// Reads a file of at most `max` bytes that belongs to us or to root and that no one else may read or write.
pub(super) fn read(path: &Path, max: usize) -> Result<(SecretBytes, Version), PrivateFileError> {
    read_checked(path, max, &check)
}

/// Reads a file that a supervisor put there for us: others may read it too, as in a pod, but not change it.
pub(super) fn read_projected(path: &Path, max: usize) -> Result<SecretBytes, PrivateFileError> {
    read_checked(path, max, &check_unchanged).map(|(bytes, _)| bytes)
}

fn read_checked(
    path: &Path,
    max: usize,
    check: &dyn Fn(&std::fs::Metadata) -> Result<Version, String>,
) -> Result<(SecretBytes, Version), PrivateFileError> {
    let refuse = |problem: String| PrivateFileError { path: path.to_path_buf(), problem };
    // Looked at before it is opened, since opening a FIFO put in its place would wait for ever; and again once open.
    let named = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be opened: {error}")))?;
    check(&named).map_err(&refuse)?;
    let file = File::open(path).map_err(|error| refuse(format!("cannot be opened: {error}")))?;
    let metadata = file.metadata().map_err(|error| refuse(format!("cannot be examined: {error}")))?;
    let version = check(&metadata).map_err(&refuse)?;
    let bytes = read_all(file, max).map_err(refuse)?;
    Ok((bytes, version))
}

/// The version of the file as it is now, unread.
pub(super) fn version(path: &Path) -> Result<Version, PrivateFileError> {
    let refuse = |problem: String| PrivateFileError { path: path.to_path_buf(), problem };
    let metadata = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be examined: {error}")))?;
    Ok(Version::of(&metadata))
}

/// Reads an inherited descriptor to its end.
pub(super) fn read_descriptor(descriptor: OwnedFd, max: usize) -> Result<SecretBytes, String> {
    read_all(File::from(descriptor), max)
}

impl Version {
    fn of(metadata: &std::fs::Metadata) -> Self {
        let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), mtime_ns }
    }
}

fn check(metadata: &std::fs::Metadata) -> Result<Version, String> {
    check_mode(metadata, 0o077, "reach")
}

fn check_unchanged(metadata: &std::fs::Metadata) -> Result<Version, String> {
    check_mode(metadata, 0o022, "change")
}

fn check_mode(metadata: &std::fs::Metadata, forbidden: u32, might: &str) -> Result<Version, String> {
    let me = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.uid() != me && metadata.uid() != 0 {
        return Err(format!("belongs to user {}: it must belong to user {me} or to root", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(format!("has mode {mode:04o}: others may {might} it, make it 0600"));
    }
    Ok(Version::of(metadata))
}

fn read_all(mut file: File, max: usize) -> Result<SecretBytes, String> {
    // One fixed buffer with a byte to spare: growing would leave copies behind, and the spare byte shows a longer file.
    let mut buffer = SecretBytes::zeroed(max + 1);
    let mut len = 0;
    loop {
        let room = buffer.expose_mut().get_mut(len..).unwrap_or_default();
        match file.read(room) {
            Ok(0) if room.is_empty() => return Err(format!("holds more than {max} bytes")),
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
    }
    if len > max {
        return Err(format!("holds more than {max} bytes"));
    }
    Ok(SecretBytes::copy_of(buffer.expose().get(..len).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test makes the file that the code under test refuses")]
    fn file(bytes: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let file = file(b"12345678", mode);
            let problem = read(file.path(), 64).err().unwrap().problem;
            assert_eq!(problem, format!("has mode {mode:04o}: others may reach it, make it 0600"));
        }
    }

    #[test]
    fn a_projected_file_may_be_read_by_others_and_not_written() {
        assert_eq!(read_projected(file(b"jwt", 0o644).path(), 64).unwrap().expose(), b"jwt");
        for mode in [0o666, 0o664, 0o646] {
            let problem = read_projected(file(b"jwt", mode).path(), 64).err().unwrap().problem;
            assert_eq!(problem, format!("has mode {mode:04o}: others may change it, make it 0600"));
        }
    }

    #[test]
    fn a_file_is_read_whole_and_up_to_the_limit_only() {
        let file = file(b"12345678", 0o400);
        assert_eq!(read(file.path(), 8).unwrap().0.expose(), b"12345678");
        assert_eq!(read(file.path(), 7).err().unwrap().problem, "holds more than 7 bytes");
    }

    #[test]
    fn a_directory_and_a_missing_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 8).err().unwrap().problem, "is not a regular file");
        assert!(read(&dir.path().join("none"), 8).err().unwrap().problem.starts_with("cannot be opened"));
    }
}
