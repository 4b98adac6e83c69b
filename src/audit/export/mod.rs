//! How does somebody else get the log in a form that tools which are not ours read? As C2SP tlog-tiles, byte for byte
//! (LOG-27 to LOG-30). This module only reads the log, exports nothing that it has not verified, and never writes over
//! an export that tells another story.

mod sink;

use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{Disk, DurableError};

use super::history::{self, ALL, HANDOVERS, NEWEST, PUBLIC, PUBLIC_MODE, SUCCESSORS, Stored};
use super::keys::Keys;
use super::note::{Checkpoint, Origin, VerifierKey};
use super::rule::{Fault, Finding, Rule};
use super::tile::TILES;
use super::tree::Tree;
use super::verify::{self, Progress, VerifyError, Walk, walk};
use super::wal::FILE_MODE;
use super::witnessed::{self, WITNESSED};
use sink::Sink;

/// Whoever exports holds it: two at once would take each other's tiles away (LOG-27).
const LOCK: &str = "lock";

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The log's name.
    pub origin: Origin,
    /// What the export proves: all records up to its size are there.
    pub checkpoint: Checkpoint,
    /// The size of the export that was there before.
    pub before: Option<u64>,
    /// Tiles and bundles that were written.
    pub written: u64,
    /// Tiles and bundles that were there already, and are what the log says.
    pub kept: u64,
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log itself is damaged or cannot be read.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// What is exported already is not what this log says: keep both, and find out which was changed.
    #[error("the export tells another story than the log: {0}")]
    Conflict(Finding),
    /// The target holds other things: name an empty directory.
    #[error("{} holds {name}, which no export has", dir.display())]
    NotAnExport {
        /// The directory.
        dir: PathBuf,
        /// What lies in it.
        name: String,
    },
    /// The log has signed no checkpoint yet: start it once.
    #[error("the log has signed no checkpoint yet")]
    Unsigned,
    /// Another process exports there.
    #[error("another process exports to {}", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// The target cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The target cannot be written.
    #[error(transparent)]
    Disk(#[from] DurableError),
}

/// Exports the log in `dir` up to its newest checkpoint to `out`, which is made, or extended if it holds an export of a
/// shorter tree of the same log. The log may be written meanwhile. What a crash leaves is completed by the next run.
pub fn export(
    dir: &Path,
    out: &Path,
    key: Option<&VerifierKey>,
    disk: &Disk,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, ExportError> {
    let keys = history::public_keys(dir).map_err(VerifyError::from)?;
    // Read before the history, which holds what was cosigned.
    let seen = witnessed::load(dir, &keys).map_err(VerifyError::from)?;
    let stored = history::load(dir, &keys).map_err(VerifyError::from)?;
    verify::vouch(dir, &keys, &stored, key).map_err(VerifyError::from)?;
    let newest = stored.newest.ok_or(ExportError::Unsigned)?;
    let lock = prepare(disk, out)?;
    let before = before(out, &keys, newest)?;
    let mut sink = Sink::new(disk, out, before.map_or(0, |before| before.size));
    let mut walked = Walk::new(&keys, &stored, seen.as_ref().map(|(checkpoint, _)| *checkpoint));
    let told = walk(dir, &mut walked, newest.size, progress, &mut |record, tree| {
        agree(out, before, tree)?;
        sink.take(record, tree)
    });
    told.map_err(|error| whose(error, dir, newest))?;
    finish(dir, &stored, &walked, newest)?;
    sink.end()?;
    commit(disk, out, &keys, &stored, seen.as_ref().map(|(_, note)| note.as_str()))?;
    // If we stop here the export is complete, and holds tiles that nobody needs: the next run removes them.
    sink.clean(newest.size)?;
    drop(lock);
    let (written, kept) = sink.counts();
    Ok(Exported { origin: keys.origin().clone(), checkpoint: newest, before: before.map(|b| b.size), written, kept })
}

/// Whose fault it is that log and export differ: a log that does not verify is damaged, whatever the export holds.
fn whose(error: ExportError, dir: &Path, newest: Checkpoint) -> ExportError {
    match (&error, verify::verify(dir, None, None, &mut |_| {})) {
        (ExportError::Conflict(_), Err(VerifyError::Broken(finding))) if finding.index < newest.size => {
            ExportError::Log(finding.into())
        }
        _ => error,
    }
}

/// The target is there, holds nothing but an export, and is ours while we write.
fn prepare(disk: &Disk, out: &Path) -> Result<crate::durable::Lock, ExportError> {
    match disk.create_dir(out, 0o700) {
        Ok(()) | Err(DurableError::Exists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let failed = |source| ExportError::Read { path: out.to_path_buf(), source };
    for entry in std::fs::read_dir(out).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let known =
            [NEWEST, PUBLIC, SUCCESSORS, HANDOVERS, WITNESSED, TILES, LOCK].contains(&name.trim_end_matches(".draft"));
        if !known {
            return Err(ExportError::NotAnExport { dir: out.to_path_buf(), name });
        }
    }
    // A log's own directory has these names too, and others beside.
    if out.join(ALL).exists() {
        return Err(ExportError::NotAnExport { dir: out.to_path_buf(), name: ALL.to_owned() });
    }
    disk.lock_exclusive(&out.join(LOCK)).map_err(|error| match error {
        DurableError::AlreadyLocked { .. } => ExportError::Busy { dir: out.to_path_buf() },
        other => other.into(),
    })
}

/// The checkpoint of the export that is there: of this log, and not of a longer one.
fn before(out: &Path, keys: &Keys, newest: Checkpoint) -> Result<Option<Checkpoint>, ExportError> {
    let path = out.join(NEWEST);
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ExportError::Read { path, source }),
    };
    let conflict = |rule, index, why: String| ExportError::Conflict(Fault::new(rule, index, why).at(&path, 0));
    let before = keys.open(&note).map_err(|error| conflict(Rule::Note, 0, error.to_string()))?;
    if before.size > newest.size {
        let why = format!("the log's newest checkpoint has {} records, the export {}", newest.size, before.size);
        return Err(conflict(Rule::Cut, newest.size, why));
    }
    Ok(Some(before))
}

/// The export that is there was made of the same records.
fn agree(out: &Path, before: Option<Checkpoint>, tree: &Tree) -> Result<(), ExportError> {
    match before {
        Some(before) if before.size == tree.size() && before.root != tree.root() => {
            let why = format!("records 0 to {} have another root in the log", before.size.saturating_sub(1));
            Err(ExportError::Conflict(Fault::new(Rule::History, 0, why).at(out.join(NEWEST), 0)))
        }
        _ => Ok(()),
    }
}

/// The log reaches to its newest checkpoint, and ends no record half-way there.
fn finish(dir: &Path, stored: &Stored, walked: &Walk<'_>, newest: Checkpoint) -> Result<(), VerifyError> {
    walked.end(dir, stored)?;
    if walked.chain.tree.size() == newest.size {
        return Ok(());
    }
    let why = format!("the checkpoint of {} records ends inside a frame", newest.size);
    Err(Fault::new(Rule::History, newest.size, why).at(dir.join(NEWEST), 0).into())
}

/// Makes the new tree the exported one: the tiles are durable, what the checkpoint needs comes before it.
fn commit(disk: &Disk, out: &Path, keys: &Keys, stored: &Stored, seen: Option<&str>) -> Result<(), ExportError> {
    let handovers: String = stored.handovers.iter().map(|(_, note)| note.as_str()).collect();
    replace(disk, &out.join(PUBLIC), &(keys.founding().to_text() + "\n"), PUBLIC_MODE)?;
    // A key that has not signed yet would be one that no record of the export need name.
    let successors: String = keys.all().skip(1).take(stored.handovers.len()).map(|key| key.to_text() + "\n").collect();
    if !successors.is_empty() {
        replace(disk, &out.join(SUCCESSORS), &successors, PUBLIC_MODE)?;
    }
    if !handovers.is_empty() {
        replace(disk, &out.join(HANDOVERS), &handovers, PUBLIC_MODE)?;
    }
    replace(disk, &out.join(NEWEST), &stored.newest_note, PUBLIC_MODE)?;
    // Last: it may cover more than the checkpoint before this one.
    seen.map_or(Ok(()), |note| replace(disk, &out.join(WITNESSED), note, PUBLIC_MODE))
}

fn replace(disk: &Disk, path: &Path, text: &str, mode: u32) -> Result<(), ExportError> {
    if std::fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        // It may have been written by a run that stopped before it was durable.
        disk.open(path)?.fdatasync()?;
        return Ok(disk.sync_dir(path.parent().unwrap_or(path))?);
    }
    Ok(disk.write_atomic(path, text.as_bytes(), mode)?)
}
