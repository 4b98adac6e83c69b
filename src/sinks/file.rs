//! How does a file of lines grow? Appended to, synced before its position is saved, and given another name when it is large
//! enough. Whoever moves it away makes us begin a new one.

use std::path::{Path, PathBuf};

use crate::durable::{Disk, DurableError, File};

use super::batch::Batch;
use super::{FileSettings, Problem};

/// The write end.
pub(super) struct Lines {
    settings: FileSettings,
    disk: Disk,
    open: Option<Open>,
}

struct Open {
    file: File,
    len: u64,
    first: u64,
    last: u64,
}

/// Readable by the group that collects it.
const MODE: u32 = 0o640;

impl Lines {
    pub(super) const fn new(settings: FileSettings, disk: Disk) -> Self {
        Self { settings, disk, open: None }
    }

    /// Appends the lines of a batch; they are durable after [`Lines::confirm`].
    pub(super) fn deliver(&mut self, batch: &Batch) -> Result<(), Problem> {
        let done = self.append(batch);
        if done.is_err() {
            // What is in it is not known: it is looked at again.
            self.open = None;
        }
        done
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Problem> {
        let (Some(first), Some(last)) = (batch.items.first(), batch.items.last()) else { return Ok(()) };
        let moved = match &self.open {
            Some(open) => open.file.links().map_err(disk)? == 0 || !same(&open.file, &self.settings.path)?,
            None => true,
        };
        if moved {
            self.open = Some(self.begin(first.index)?);
        }
        let mut bytes = Vec::new();
        for item in &batch.items {
            bytes.extend_from_slice(&item.line);
            bytes.push(b'\n');
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.pwrite_all(&bytes, open.len).map_err(disk)?;
        open.len += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        open.last = last.index;
        if open.len >= self.settings.rotate { self.rotate() } else { Ok(()) }
    }

    /// Opens the file that is there, or a new one. A line that a crash tore is cut: its record comes again.
    fn begin(&self, first: u64) -> Result<Open, Problem> {
        let path = &self.settings.path;
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(DurableError::Missing { .. }) => {
                let file = self.disk.create_new(path, MODE).map_err(disk)?;
                self.disk.sync_dir(parent(path)).map_err(disk)?;
                file
            }
            Err(error) => return Err(disk(error)),
        };
        let len = file.len().map_err(disk)?;
        let whole = whole_lines(&file, len)?;
        if whole < len {
            file.set_len(whole).map_err(disk)?;
        }
        Ok(Open { file, len: whole, first, last: first })
    }

    /// Makes what was appended durable.
    pub(super) fn confirm(&mut self) -> Result<(), Problem> {
        let done = self.open.as_ref().map_or(Ok(()), |open| open.file.fdatasync().map_err(disk));
        if done.is_err() {
            self.open = None;
        }
        done
    }

    fn rotate(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.fdatasync().map_err(disk)?;
        let path = &self.settings.path;
        let named =
            |extra: &str| path.with_file_name(format!("{}.{:020}-{:020}{extra}", name(path), open.first, open.last));
        let mut target = named("");
        for again in 1_u32.. {
            if !target.exists() {
                break;
            }
            // The same records were sent before: both files stay.
            target = named(&format!(".{again}"));
        }
        self.disk.rename(path, &target).map_err(disk)?;
        self.prune()
    }

    /// Removes the oldest files above those to keep.
    fn prune(&self) -> Result<(), Problem> {
        let keep = usize::try_from(self.settings.keep).unwrap_or(usize::MAX);
        if keep == 0 {
            return Ok(());
        }
        let path = &self.settings.path;
        let unread = |error: std::io::Error| Problem::new("disk", format!("{}: {error}", parent(path).display()));
        let prefix = format!("{}.", name(path));
        let mut old: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(parent(path)).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let rotated = entry.file_name().to_string_lossy().strip_prefix(&prefix).is_some_and(is_range);
            if rotated {
                old.push(entry.path());
            }
        }
        old.sort();
        let surplus = old.len().saturating_sub(keep);
        old.iter().take(surplus).try_for_each(|path| self.disk.remove_file(path).map_err(disk))
    }
}

/// `00000000000000000000-00000000000000001023`, as [`Lines::rotate`] names files.
fn is_range(text: &str) -> bool {
    let digits = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.splitn(2, '.');
    let range = parts.next().unwrap_or_default();
    let again = parts.next().is_none_or(|again| again.parse::<u32>().is_ok());
    again && range.split_once('-').is_some_and(|(first, last)| digits(first) && digits(last))
}

/// The bytes up to the end of the last whole line. What a crash of the machine left unwritten reads as zeros, which no line
/// holds: from there on nothing counts.
fn whole_lines(file: &File, len: u64) -> Result<u64, Problem> {
    let mut chunk = vec![0; 64 * 1024];
    let (mut at, mut whole) = (0, 0);
    while at < len {
        let read = file.pread(&mut chunk, at).map_err(disk)?;
        let bytes = chunk.get(..read).unwrap_or_default();
        let hole = bytes.iter().position(|byte| *byte == 0);
        let sound = bytes.get(..hole.unwrap_or(read)).unwrap_or_default();
        if let Some(end) = sound.iter().rposition(|byte| *byte == b'\n') {
            whole = at + u64::try_from(end).unwrap_or(0) + 1;
        }
        if hole.is_some() || read == 0 {
            break;
        }
        at += u64::try_from(read).unwrap_or(0);
    }
    Ok(whole)
}

/// Whether the name still leads to the file.
fn same(file: &File, path: &Path) -> Result<bool, Problem> {
    file.is_at(path).map_err(disk)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn disk(error: DurableError) -> Problem {
    let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
    Problem::new("disk", format!("{error}{why}"))
}
