//! May the PIN be tried? Holds the PIN and the latch that keeps a refused one from being tried again, across restarts.
//! This module never stores anything of a PIN: a latch names the token and which version of the PIN's source was used.
//!
//! Order: latch `pending` durable, then C_Login, then the latch goes (logged in, or certainly not refused) or becomes
//! `refused`. If we stop in between, `pending` stays and blocks: the token may have counted a failure.

use std::fmt;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::crypto;
use crate::durable::{Disk, DurableError, Lock};
use crate::kek::profile::{self, PinShape};
use crate::kek::{StartError, private_file};
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::descriptors;

/// Where the PIN comes from. Never an argument, never the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file that only its owner can read. Writing a new one lifts a block.
    File(PathBuf),
    /// A file that a service manager makes anew at each start, so that its age says nothing: after a refusal only
    /// `keyward kek login --clear` lifts the block.
    Credential(PathBuf),
    /// An inherited descriptor, read once; blocked like a credential.
    Descriptor(RawFd),
}

/// The PIN of one token and its latch.
pub(super) struct Login {
    kek: KekName,
    source: PinSource,
    rules: profile::Login,
    state_dir: PathBuf,
    disk: Disk,
    pin: Mutex<Pin>,
    /// Held from before the attempt until its end is known.
    turn: Mutex<Option<Lock>>,
}

#[derive(Clone)]
struct Pin {
    secret: Arc<SecretBytes>,
    version: String,
}

/// Why the PIN was not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blocked {
    /// It was refused, or may have been.
    Latched(Latch),
    /// The latch could not be written or read, so nothing was tried.
    Disk(String),
}

/// What is known of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Latch {
    /// It did not finish.
    Pending,
    /// The token said no.
    Refused,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Disk(problem) => return write!(f, "the login cannot be recorded, so it is not tried: {problem}"),
            Self::Latched(Latch::Pending) => "a login with this PIN did not finish and may have been refused",
            Self::Latched(Latch::Refused) => "the token refused this PIN",
        };
        write!(f, "{what}; it is not tried again before a new PIN or `keyward kek login --clear`")
    }
}

impl Login {
    /// Reads the PIN, which must look as the profile says.
    pub(super) fn read(
        kek: &KekName,
        source: &PinSource,
        rules: &profile::Login,
        state_dir: &Path,
        disk: Disk,
    ) -> Result<Self, StartError> {
        let problem = |problem: String| StartError::Pin { kek: kek.clone(), problem };
        let pin = read_pin(source, rules).map_err(problem)?;
        let (kek, source, state_dir) = (kek.clone(), source.clone(), state_dir.to_path_buf());
        Ok(Self { kek, source, rules: rules.clone(), state_dir, disk, pin: Mutex::new(pin), turn: Mutex::default() })
    }

    /// Writes the latch and hands out the PIN for one attempt. Blocks on the disk.
    pub(super) fn begin(&self, serial: &str) -> Result<Arc<SecretBytes>, Blocked> {
        let pin = self.current();
        let path = latch_path(&self.state_dir, &self.kek, serial);
        self.take_turn(serial)?;
        self.unblocked(&path, serial, &pin.version).inspect_err(|_| self.end_turn())?;
        self.write(&path, &pin.version, Latch::Pending).map_err(|error| {
            self.end_turn();
            Blocked::Disk(described(&error))
        })?;
        Ok(pin.secret)
    }

    /// Logins to one token are serialised, over all processes that share the directory: two that both saw no latch would
    /// both try a wrong PIN.
    fn take_turn(&self, serial: &str) -> Result<(), Blocked> {
        let lock = self.disk.lock_exclusive(&self.state_dir.join(format!("login.{}.lock", token_of(serial))));
        let lock =
            lock.map_err(|error| Blocked::Disk(format!("another login to this token runs: {}", described(&error))))?;
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(())
    }

    /// The attempt is over, however it ended.
    pub(super) fn end_turn(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// No latch of this token, by whatever name it was tried, forbids this PIN.
    fn unblocked(&self, own: &Path, serial: &str, version: &str) -> Result<(), Blocked> {
        let unreadable = |path: &Path, error: std::io::Error| Blocked::Disk(format!("{}: {error}", path.display()));
        let end = format!(".{}{SUFFIX}", token_of(serial));
        let listed = std::fs::read_dir(&self.state_dir).map_err(|error| unreadable(&self.state_dir, error))?;
        let mut latches = vec![own.to_path_buf()];
        for entry in listed {
            let path = entry.map_err(|error| unreadable(&self.state_dir, error))?.path();
            if path != own && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(&end)) {
                latches.push(path);
            }
        }
        for path in latches {
            match std::fs::read_to_string(&path) {
                Ok(text) => blocked_by(&text, version)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // Unreadable is no licence: it may say `refused`.
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
        Ok(())
    }

    /// The token did not refuse the PIN: the latch goes. Blocks on the disk.
    pub(super) fn settle(&self, serial: &str) -> Result<(), String> {
        let settled = self.remove(serial);
        self.end_turn();
        settled
    }

    fn remove(&self, serial: &str) -> Result<(), String> {
        match self.disk.remove_file(&latch_path(&self.state_dir, &self.kek, serial)) {
            Ok(()) | Err(DurableError::Missing { .. }) => Ok(()),
            Err(error) => Err(described(&error)),
        }
    }

    /// The token refused the PIN. Blocks on the disk.
    pub(super) fn refuse(&self, serial: &str) {
        let pin = self.held();
        // If this write fails, `pending` stands and blocks as well.
        let _pending_stays = self.write(&latch_path(&self.state_dir, &self.kek, serial), &pin.version, Latch::Refused);
        self.end_turn();
    }

    fn write(&self, path: &Path, version: &str, latch: Latch) -> Result<(), DurableError> {
        let state = match latch {
            Latch::Pending => "pending",
            Latch::Refused => "refused",
        };
        self.disk.write_atomic(path, format!("{MAGIC}\n{version}\n{state}\n").as_bytes(), 0o600)
    }

    /// The PIN as its source holds it now; a source that has gone since leaves the PIN that was read.
    fn current(&self) -> Pin {
        let mut held = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if let PinSource::File(path) = &self.source
            && private_file::version(path).is_ok_and(|version| version_line(version) != held.version)
            && let Ok(pin) = read_pin(&self.source, &self.rules)
        {
            *held = pin;
        }
        held.clone()
    }

    fn held(&self) -> Pin {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Removes the latches of a KEK (`keyward kek login --clear`); how many there were.
pub fn clear_login(disk: &Disk, state_dir: &Path, kek: &KekName) -> Result<usize, DurableError> {
    let prefix = format!("login-{kek}.");
    let unreadable = |source| DurableError::Io { operation: "list", path: state_dir.to_path_buf(), source };
    let mut cleared = 0;
    for entry in std::fs::read_dir(state_dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(SUFFIX));
        if ours {
            disk.remove_file(&state_dir.join(&name))?;
            cleared += 1;
        }
    }
    Ok(cleared)
}

fn blocked_by(text: &str, version: &str) -> Result<(), Blocked> {
    let mut lines = text.lines();
    let latch = match (lines.next(), lines.next(), lines.next(), lines.next()) {
        (Some(MAGIC), Some(tried), Some(_), None) if tried != version => return Ok(()),
        (Some(MAGIC), Some(_), Some("refused"), None) => Latch::Refused,
        // Damaged or newer: what it forbids is not known, so it forbids.
        _ => Latch::Pending,
    };
    Err(Blocked::Latched(latch))
}

fn read_pin(source: &PinSource, rules: &profile::Login) -> Result<Pin, String> {
    let from_file = |path: &Path| private_file::read(path, MAX_PIN).map_err(|error| error.to_string());
    let (bytes, version) = match source {
        PinSource::File(path) => {
            let (bytes, version) = from_file(path)?;
            (bytes, version_line(version))
        }
        PinSource::Credential(path) => (from_file(path)?.0, "credential".into()),
        PinSource::Descriptor(number) => {
            let descriptor =
                descriptors::inherited(*number).ok_or_else(|| format!("descriptor {number} is not open"))?;
            let bytes = private_file::read_descriptor(descriptor, MAX_PIN)
                .map_err(|problem| format!("descriptor {number} {problem}"))?;
            (bytes, "descriptor".into())
        }
    };
    let secret = without_line_end(bytes)?;
    check_shape(secret.expose(), rules)?;
    Ok(Pin { secret: Arc::new(secret), version })
}

/// A PIN that cannot be right is not given to the token, which would count it. Says nothing of the PIN but its shape.
fn check_shape(pin: &[u8], rules: &profile::Login) -> Result<(), String> {
    let (min, max) = (usize::from(rules.pin_min), usize::from(rules.pin_max));
    if pin.len() < min || (max != 0 && pin.len() > max) {
        return Err(format!("its length is not {min} to {max} bytes, as this product wants"));
    }
    let fits = match rules.pin_shape {
        PinShape::Free => true,
        PinShape::UserPassword => {
            pin.iter().position(|byte| *byte == b':').is_some_and(|at| at > 0 && at + 1 < pin.len())
        }
        PinShape::KeyIdPassword => pin.get(..4).is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit)),
    };
    let shape = match rules.pin_shape {
        PinShape::Free => "free",
        PinShape::UserPassword => "USER:PASSWORD",
        PinShape::KeyIdPassword => "four hexadecimal digits of the key's id and the password",
    };
    if fits { Ok(()) } else { Err(format!("this product wants {shape}")) }
}

/// Editors end the file with a line end that is not part of the PIN.
fn without_line_end(bytes: SecretBytes) -> Result<SecretBytes, String> {
    let text = bytes.expose();
    let pin = text.strip_suffix(b"\n").unwrap_or(text);
    let pin = pin.strip_suffix(b"\r").unwrap_or(pin);
    if pin.is_empty() {
        return Err("it is empty".into());
    }
    if pin.len() == text.len() {
        return Ok(bytes);
    }
    Ok(SecretBytes::copy_of(pin))
}

fn version_line(version: private_file::Version) -> String {
    let private_file::Version { device, inode, size, mtime_ns } = version;
    format!("file {device} {inode} {size} {mtime_ns}")
}

fn latch_path(state_dir: &Path, kek: &KekName, serial: &str) -> PathBuf {
    state_dir.join(format!("login-{kek}.{}{SUFFIX}", token_of(serial)))
}

/// A serial may hold any character; its hash makes a file name.
fn token_of(serial: &str) -> String {
    hex::encode(crypto::sha256(&[serial.as_bytes()])).chars().take(16).collect()
}

fn described(error: &DurableError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

const MAGIC: &str = "keyward login latch 1";
const SUFFIX: &str = ".latch";
/// Twice the longest known shape (`user:password` of 31 and 32, and 4 + 64 characters).
const MAX_PIN: usize = 256;

#[cfg(test)]
mod tests;
