//! Which checkpoints did this log sign? `checkpoints` holds all of them in order, `checkpoint` the newest (LOG-16).

use std::io;
use std::path::{Path, PathBuf};

use crate::crypto::SigningKey;
use crate::durable::{Disk, DurableError, File};

use super::keys::{Keys, Succession};
use super::note::{Checkpoint, MAX_NOTE, VerifierKey, split_first};
use super::rule::{Fault, Finding, Rule};
use super::wal::FILE_MODE;

/// The newest checkpoint (LOG-1).
pub(super) const NEWEST: &str = "checkpoint";
/// All checkpoints (LOG-1).
pub(super) const ALL: &str = "checkpoints";
/// The public key (LOG-1).
pub(super) const PUBLIC: &str = "checkpoint.pub";
/// Of an export: the checkpoints by which one key of the log took over from another (LOG-27).
pub(super) const HANDOVERS: &str = "handovers";
/// The private key (LOG-1).
pub(super) const PRIVATE: &str = "checkpoint.key";
/// Checkpoints and public keys are made to be shown.
pub(super) const PUBLIC_MODE: u32 = 0o644;

/// The write end: signs and stores checkpoints.
pub(super) struct History {
    disk: Disk,
    dir: PathBuf,
    file: File,
    length: u64,
    signing: SigningKey,
    key: VerifierKey,
    pub(super) newest: u64,
}

impl History {
    /// Makes the empty history of a new log.
    pub(super) fn found(disk: &Disk, dir: &Path) -> Result<(), DurableError> {
        disk.write_new(&dir.join(ALL), b"", FILE_MODE)
    }

    /// Opens the history for writing behind its first `length` bytes; what follows them was never finished.
    pub(super) fn open(
        disk: &Disk,
        dir: &Path,
        signing: SigningKey,
        key: VerifierKey,
        stored: &Stored,
    ) -> Result<Self, DurableError> {
        let file = disk.open(&dir.join(ALL))?;
        if file.len()? > stored.length {
            file.set_len(stored.length)?;
            file.fdatasync()?;
        }
        let newest = stored.newest.map_or(0, |checkpoint| checkpoint.size);
        let (disk, dir) = (disk.clone(), dir.to_path_buf());
        Ok(Self { disk, dir, file, length: stored.length, signing, key, newest })
    }

    /// Signs and stores a checkpoint unless it is the newest already; gives the bytes it took.
    pub(super) fn store(&mut self, checkpoint: Checkpoint) -> Result<usize, DurableError> {
        if checkpoint.size <= self.newest {
            return Ok(0);
        }
        let note = checkpoint.sign(&self.signing, self.key.origin());
        self.file.pwrite_all(note.as_bytes(), self.length)?;
        self.file.fdatasync()?;
        // If we stop here the history is ahead of `checkpoint`, and counts.
        self.length = self.length.saturating_add(u64::try_from(note.len()).unwrap_or(0));
        self.disk.write_atomic(&self.dir.join(NEWEST), note.as_bytes(), PUBLIC_MODE)?;
        self.newest = checkpoint.size;
        Ok(note.len())
    }
}

/// The checkpoints as they were found.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// All of the history, in order of size, with the byte where each begins.
    pub(super) all: Vec<(u64, Checkpoint)>,
    /// The newest of history and `checkpoint`.
    pub(super) newest: Option<Checkpoint>,
    /// The newest as it was signed.
    pub(super) newest_note: String,
    /// For each key but the first the first checkpoint that it signed, as it was signed (LOG-32).
    pub(super) handovers: Vec<(Checkpoint, String)>,
    /// Which key signs.
    pub(super) succession: Succession,
    /// Bytes of the history that are whole notes.
    pub(super) length: u64,
    /// Bytes behind them: a note that was being written.
    pub(super) torn: u64,
}

/// Reads the public keys of a log.
pub(super) fn public_keys(dir: &Path) -> Result<Keys, HistoryError> {
    let path = dir.join(PUBLIC);
    let text = std::fs::read_to_string(&path).map_err(|source| HistoryError::Io { path: path.clone(), source })?;
    Keys::parse(&text).ok_or_else(|| Fault::new(Rule::Key, 0, "it is no verifier key").at(path, 0).into())
}

/// Reads all checkpoints and checks each signature; whether the tree agrees is the caller's question.
/// A note of some 220 bytes a second is the most that a log writes; the list is 48 bytes for each.
pub(super) fn load(dir: &Path, keys: &Keys) -> Result<Stored, HistoryError> {
    let path = dir.join(NEWEST);
    // Read before the history, which is written first: of a log that is written meanwhile the newest is in it.
    let newest = std::fs::read_to_string(&path);
    let mut stored = load_all(&dir.join(ALL), keys)?;
    let newest = match newest {
        Ok(note) => keys.open(&note).map_err(|error| Fault::new(Rule::Note, 0, error.to_string()).at(&path, 0))?,
        // A founding that stopped before or while its first checkpoint was stored.
        Err(error) if error.kind() == io::ErrorKind::NotFound && stored.all.len() < 2 => {
            stored.newest = stored.all.last().map(|(_, checkpoint)| *checkpoint);
            return Ok(stored);
        }
        Err(source) => return Err(HistoryError::Io { path, source }),
    };
    let reached = stored.all.last().map(|(_, checkpoint)| *checkpoint);
    // The history is written first: a newest checkpoint that it does not hold was put there, or the history was cut.
    if !stored.all.iter().any(|(_, checkpoint)| *checkpoint == newest) {
        let detail = format!("the newest checkpoint, of size {}, is not in the history", newest.size);
        return Err(Fault::new(Rule::History, reached.map_or(0, |last| last.size), detail).at(path, 0).into());
    }
    stored.newest = reached;
    Ok(stored)
}

fn load_all(path: &Path, keys: &Keys) -> Result<Stored, HistoryError> {
    let failed = |source| HistoryError::Io { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    // A torn note may end inside a character; only whole notes count.
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    let mut stored = Stored::default();
    let mut rest = text;
    while let Some((note, after)) = split_first(rest) {
        let size = stored.all.last().map_or(0, |(_, checkpoint)| checkpoint.size);
        match stored.take(keys, note) {
            Ok(()) => {}
            // Only the end can be torn: a bad note that others follow is damage.
            Err(_) if after.len() < MAX_NOTE && split_first(after).is_none() => break,
            Err(why) => return Err(Fault::new(Rule::Note, size, why).at(path, stored.length).into()),
        }
        rest = after;
    }
    stored.torn = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_sub(stored.length);
    Ok(stored)
}

impl Stored {
    /// Takes the next whole note.
    pub(super) fn take(&mut self, keys: &Keys, note: &str) -> Result<(), String> {
        let mut succession = self.succession.clone();
        let signed = succession.take(keys, note).map_err(|error| error.to_string())?;
        if signed.checkpoint.size <= self.all.last().map_or(0, |(_, last)| last.size) {
            return Err("the sizes do not grow".to_owned());
        }
        self.succession = succession;
        self.all.push((self.length, signed.checkpoint));
        self.length += u64::try_from(note.len()).unwrap_or(0);
        if signed.hands_over {
            self.handovers.push((signed.checkpoint, note.to_owned()));
        }
        note.clone_into(&mut self.newest_note);
        Ok(())
    }
}

/// Why the checkpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryError {
    #[error("cannot read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Broken(#[from] Finding),
}
