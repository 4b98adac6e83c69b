//! Where do the tiles go? To their names, durable before the checkpoint that needs them (LOG-30).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::audit::rule::{Fault, Rule};
use crate::audit::tile::{Cutter, Kind, TileName, WIDTH, shape};
use crate::audit::tree::Tree;
use crate::durable::{Disk, DurableError, File};

use super::{ExportError, FILE_MODE};

/// Files that are written before they are synced together: the disk gets their bytes in one go.
const TOGETHER: usize = 128;

/// The write end of an export.
pub(super) struct Sink<'a> {
    bundle: Vec<u8>,
    cutter: Cutter,
    size: u64,
    files: Files<'a>,
}

/// The files of the tiles.
struct Files<'a> {
    disk: &'a Disk,
    out: &'a Path,
    /// The records of the export that is there: its tiles are durable, and are not written again.
    before: u64,
    unsynced: Vec<File>,
    /// Directories whose entries must be durable before the checkpoint is.
    dirs: BTreeSet<PathBuf>,
    written: u64,
    kept: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(disk: &'a Disk, out: &'a Path, before: u64) -> Self {
        let (unsynced, dirs) = (Vec::new(), BTreeSet::new());
        let files = Files { disk, out, before, unsynced, dirs, written: 0, kept: 0 };
        Self { bundle: Vec::new(), cutter: Cutter::default(), size: 0, files }
    }

    /// Takes the next record, which the tree got last.
    pub(super) fn take(&mut self, record: &[u8], tree: &Tree) -> Result<(), ExportError> {
        let Self { bundle, cutter, size, files } = self;
        *size = tree.size();
        bundle.extend_from_slice(&u16::try_from(record.len()).unwrap_or(u16::MAX).to_be_bytes());
        bundle.extend_from_slice(record);
        let (full, partial) = shape(Kind::Entries, *size);
        if partial == 0 {
            files.put(TileName { kind: Kind::Entries, index: full.saturating_sub(1), width: WIDTH }, bundle)?;
            bundle.clear();
        }
        cutter.take(tree, &mut |name, bytes| files.put(name, bytes))
    }

    /// Writes the partial tiles, and makes all durable.
    pub(super) fn end(&mut self) -> Result<(), ExportError> {
        let Self { bundle, cutter, size, files } = self;
        let (index, width) = shape(Kind::Entries, *size);
        if width > 0 {
            files.put(TileName { kind: Kind::Entries, index, width }, bundle)?;
        }
        cutter.end(&mut |name, bytes| files.put(name, bytes))?;
        files.sync()?;
        Ok(std::mem::take(&mut files.dirs).iter().try_for_each(|dir| files.disk.sync_dir(dir))?)
    }

    /// Removes partial tiles that a tree of `size` does not have: those of shorter trees.
    pub(super) fn clean(&self, size: u64) -> Result<(), ExportError> {
        let kinds = std::iter::once(Kind::Entries).chain((0..8).map(Kind::Hashes));
        for kind in kinds {
            let (index, width) = shape(kind, size);
            let keep = self.files.out.join(TileName { kind, index, width }.path());
            let folder = self.files.out.join(kind.folder());
            if folder.is_dir() {
                self.files.clean(&folder, &keep)?;
            }
        }
        Ok(())
    }

    /// Tiles that were written, and that were there.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.files.written, self.files.kept)
    }
}

impl Files<'_> {
    fn put(&mut self, name: TileName, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.out.join(name.path());
        let found = match std::fs::read(&path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ExportError::Read { path, source }),
        };
        let same = found.as_deref() == Some(bytes);
        if name.end() <= self.before {
            self.kept += 1;
            return if same { Ok(()) } else { Err(conflict(name, path, found.is_none())) };
        }
        if same {
            // A run that stopped wrote it, and nobody knows whether the disk has it.
            self.kept += 1;
            self.unsynced.push(self.disk.open(&path)?);
        } else {
            if found.is_some() {
                self.disk.remove_file(&path)?;
            }
            self.make_dirs(&path)?;
            let file = self.disk.create_new(&path, FILE_MODE)?;
            file.pwrite_all(bytes, 0)?;
            self.written += 1;
            self.unsynced.push(file);
        }
        self.note_dirs(&path);
        if self.unsynced.len() >= TOGETHER { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), ExportError> {
        Ok(std::mem::take(&mut self.unsynced).iter().try_for_each(File::fdatasync)?)
    }

    /// The directories above a tile, the highest first.
    fn dirs_of(&self, path: &Path) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            path.ancestors().skip(1).take_while(|dir| *dir != self.out).map(Path::to_path_buf).collect();
        dirs.reverse();
        dirs
    }

    fn make_dirs(&self, path: &Path) -> Result<(), ExportError> {
        if path.parent().is_some_and(|parent| self.dirs.contains(parent)) {
            return Ok(());
        }
        for dir in self.dirs_of(path) {
            match self.disk.create_dir(&dir, 0o700) {
                Ok(()) | Err(DurableError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn note_dirs(&mut self, path: &Path) {
        if path.parent().is_some_and(|parent| !self.dirs.contains(parent)) {
            let dirs = self.dirs_of(path);
            self.dirs.insert(self.out.to_path_buf());
            self.dirs.extend(dirs);
        }
    }

    fn clean(&self, folder: &Path, keep: &Path) -> Result<(), ExportError> {
        for path in list(folder)? {
            if !path.is_dir() {
                continue;
            }
            if path.extension().is_some_and(|extension| extension == "p") {
                for partial in list(&path)?.iter().filter(|partial| *partial != keep) {
                    self.disk.remove_file(partial)?;
                }
                if keep.parent() != Some(&path) {
                    self.disk.remove_empty_dir(&path)?;
                }
            } else {
                self.clean(&path, keep)?;
            }
        }
        Ok(())
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let failed = |source| ExportError::Read { path: dir.to_path_buf(), source };
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

fn conflict(name: TileName, path: PathBuf, missing: bool) -> ExportError {
    let rule = match (missing, name.kind) {
        (true, _) => Rule::Tiles,
        (false, Kind::Entries) => Rule::Bundle,
        (false, Kind::Hashes(_)) => Rule::Hashes,
    };
    let what = if missing { "is missing" } else { "is not what the log says" };
    let detail = format!("{} {what}", name.path().display());
    ExportError::Conflict(Fault::new(rule, name.start(), detail).at(path, 0))
}
