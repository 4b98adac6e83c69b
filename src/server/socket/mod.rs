//! How does a Unix socket come into being and go? In a directory that only we can write, with its mode set before
//! it stands under its name, over a stale file but never over a live one. Who finds the draft in between is judged by its
//! credentials like anybody else.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::durable::{Disk, DurableError};

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit the kernel's structure.
    #[error("the socket path {0} is longer than {MAX_PATH} bytes; choose a shorter one")]
    TooLong(PathBuf),
    /// The directory is missing or cannot be looked at.
    #[error("the directory of the socket {path} cannot be used; make it first")]
    Directory {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could replace the socket.
    #[error("the directory {path} must belong to user {uid} or to root and be writable by nobody else")]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Who we are.
        uid: u32,
    },
    /// Something that is not a socket has the name.
    #[error("{0} exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// Another process answers there.
    #[error("a process is listening on {0}: is keyward already running?")]
    Live(PathBuf),
    /// Making it failed.
    #[error("the socket {path} cannot be made")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Moving it to its name failed.
    #[error(transparent)]
    Place(#[from] DurableError),
}

/// A bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What `sun_path` holds, with the closing zero.
const MAX_PATH: usize = 107;

/// Binds a socket with exactly this mode.
pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Socket), SocketError> {
    let draft = draft_of(path);
    if [path, &draft].iter().any(|path| path.as_os_str().len() > MAX_PATH) {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    check_directory(path)?;
    check_free(path)?;
    let disk = Disk::real();
    match disk.remove_file(&draft) {
        Ok(()) | Err(DurableError::Missing { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let wrong = |source| SocketError::Bind { path: path.to_owned(), source };
    let listener = UnixListener::bind(&draft).map_err(wrong)?;
    restrict(&draft, mode).map_err(wrong)?;
    // If we stop here the draft stays behind; the next start removes it. A stale socket is replaced in one step, so
    // that clients find the old file, which refuses, or the new one, which answers.
    disk.rename(&draft, path)?;
    let found = std::fs::symlink_metadata(path).map_err(wrong)?;
    Ok((listener, Socket { path: path.to_owned(), device: found.dev(), inode: found.ino() }))
}

impl Drop for Socket {
    /// Removes the file, unless another process has taken the name since. A file that stays is taken over by the next
    /// start.
    fn drop(&mut self) {
        let ours = |found: &Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if !std::fs::symlink_metadata(&self.path).is_ok_and(|found| ours(&found)) {
            return;
        }
        if let Err(error) = Disk::real().remove_file(&self.path) {
            tracing::warn!(%error, "a socket file could not be removed");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket is made by bind, not by durable, and bind takes no mode")]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn check_directory(path: &Path) -> Result<(), SocketError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let wrong = |source| SocketError::Directory { path: path.to_owned(), source };
    let found = std::fs::metadata(directory).map_err(wrong)?;
    let uid = rustix::process::geteuid().as_raw();
    let owned = found.uid() == uid || found.uid() == 0;
    if owned && found.is_dir() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(SocketError::Exposed { path: directory.to_owned(), uid })
}

/// Refuses a name at which somebody answers or at which something else stands.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::Directory { path: path.to_owned(), source }),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Connected, or a full backlog, or no right to connect: a process holds it.
        Ok(_) | Err(_) => Err(SocketError::Live(path.to_owned())),
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".draft");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
