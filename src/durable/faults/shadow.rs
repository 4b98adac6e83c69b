//! The disk that a restart sees: bytes, lengths and directory entries that were synced, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::{Act, parent};

/// Bytes that the kernel may write out on their own: a crash keeps or loses each page.
const PAGE: u64 = 4096;

#[derive(Debug, Default)]
pub(super) struct Shadow {
    random: u64,
    last: u64,
    /// Which file each touched path names now.
    live: BTreeMap<PathBuf, u64>,
    /// Which file each touched path names after a crash.
    durable: BTreeMap<PathBuf, u64>,
    /// Entry changes of each directory since its last sync, in order: the path and what it names from then on.
    entries: BTreeMap<PathBuf, Vec<(PathBuf, Option<u64>)>>,
    /// Directories that are not durable yet.
    new_dirs: BTreeSet<PathBuf>,
    files: HashMap<u64, Synced>,
}

#[derive(Debug, Default)]
struct Synced {
    bytes: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Write { at: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Shadow {
    pub(super) fn seeded(seed: u64) -> Self {
        Self { random: seed, ..Self::default() }
    }

    /// The number of the file at a path; one that was there before the plan is durable as it is.
    pub(super) fn number_of(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.live.get(path) {
            return *number;
        }
        let number = self.add(std::fs::read(path).unwrap_or_default());
        self.live.insert(path.to_path_buf(), number);
        self.durable.insert(path.to_path_buf(), number);
        number
    }

    fn add(&mut self, bytes: Vec<u8>) -> u64 {
        self.last += 1;
        self.files.insert(self.last, Synced { bytes, pending: Vec::new() });
        self.last
    }

    /// Learns what is there before an act changes it.
    pub(super) fn prepare(&mut self, act: &Act<'_>) {
        let touched = match act {
            Act::Rename { from, to } => vec![*from, *to],
            Act::Remove { path } => vec![*path],
            _ => Vec::new(),
        };
        for path in touched {
            // An empty directory holds no bytes that could be lost.
            if path.is_file() {
                self.number_of(path);
            }
        }
    }

    /// Follows an act that was done.
    pub(super) fn note(&mut self, act: &Act<'_>) {
        match act {
            Act::Create { path } => {
                let number = self.add(Vec::new());
                self.enter(path, Some(number));
            }
            Act::Write { file, at, bytes } => {
                self.pend(*file, Pending::Write { at: *at, bytes: bytes.to_vec() });
            }
            Act::SetLen { file, len } => self.pend(*file, Pending::SetLen(*len)),
            Act::Sync { file } => self.sync(*file),
            Act::Rename { from, to } => {
                let number = self.live.get(*from).copied();
                self.enter(to, number);
                self.enter(from, None);
            }
            Act::Remove { path } => self.enter(path, None),
            Act::CreateDir { path } => {
                self.new_dirs.insert(path.to_path_buf());
            }
            Act::SyncDir { path } => self.sync_dir(path),
            Act::Nothing => {}
        }
    }

    /// Makes the effect of one act durable, whatever else is pending in its directory.
    pub(super) fn persist(&mut self, act: &Act<'_>) {
        match act {
            Act::Write { file, .. } | Act::SetLen { file, .. } | Act::Sync { file } => self.sync(*file),
            Act::Create { path } | Act::Remove { path } | Act::CreateDir { path } => self.sync_dir(parent(path)),
            Act::Rename { from, to } => {
                self.sync_dir(parent(to));
                self.sync_dir(parent(from));
            }
            Act::SyncDir { path } => self.sync_dir(path),
            Act::Nothing => {}
        }
    }

    /// Makes the real disk equal to what a restart sees; `lucky` keeps a seeded part of what was not synced.
    pub(super) fn materialise(&mut self, lucky: bool) -> io::Result<()> {
        if lucky {
            self.keep_some();
        }
        let paths: BTreeSet<PathBuf> = self.live.keys().chain(self.durable.keys()).cloned().collect();
        for path in paths {
            let mode = std::fs::metadata(&path).map(|facts| facts.permissions()).ok();
            if mode.is_some() {
                remove(&path)?;
            }
            if let Some(synced) = self.durable.get(&path).and_then(|number| self.files.get(number)) {
                put(&path, &synced.bytes, mode)?;
            }
        }
        for dir in std::mem::take(&mut self.new_dirs) {
            if dir.exists() {
                remove_dir(&dir)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, path: &Path, number: Option<u64>) {
        match number {
            Some(number) => self.live.insert(path.to_path_buf(), number),
            None => self.live.remove(path),
        };
        self.entries.entry(parent(path).to_path_buf()).or_default().push((path.to_path_buf(), number));
    }

    fn pend(&mut self, file: u64, change: Pending) {
        self.files.entry(file).or_default().pending.push(change);
    }

    fn sync(&mut self, file: u64) {
        let synced = self.files.entry(file).or_default();
        for change in std::mem::take(&mut synced.pending) {
            synced.apply(&change);
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        for (path, number) in self.entries.remove(dir).unwrap_or_default() {
            self.settle(path, number);
        }
        self.new_dirs.retain(|new| parent(new) != dir);
    }

    fn settle(&mut self, path: PathBuf, number: Option<u64>) {
        match number {
            Some(number) => self.durable.insert(path, number),
            None => self.durable.remove(&path),
        };
    }

    /// Keeps a prefix of each directory's changes (journals keep order) and any pages of each file.
    fn keep_some(&mut self) {
        for (_, changes) in std::mem::take(&mut self.entries) {
            let most = u64::try_from(changes.len()).unwrap_or(0);
            let kept = usize::try_from(self.next() % (most + 1)).unwrap_or(0);
            for (path, number) in changes.into_iter().take(kept) {
                self.settle(path, number);
            }
        }
        let mut numbers: Vec<u64> = self.files.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let pending = self.files.get_mut(&number).map(|f| std::mem::take(&mut f.pending)).unwrap_or_default();
            for change in pending {
                for part in pages(&change) {
                    let kept = self.next().is_multiple_of(2);
                    if let (true, Some(file)) = (kept, self.files.get_mut(&number)) {
                        file.apply(&part);
                    }
                }
            }
        }
    }

    /// SplitMix64: the sequence of a seed is the same everywhere.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Synced {
    fn apply(&mut self, change: &Pending) {
        match change {
            Pending::SetLen(len) => self.bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0),
            Pending::Write { at, bytes } => {
                let start = usize::try_from(*at).unwrap_or(usize::MAX);
                let end = start.saturating_add(bytes.len());
                if self.bytes.len() < end {
                    self.bytes.resize(end, 0);
                }
                if let Some(place) = self.bytes.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }
}

/// Splits a write where pages end.
fn pages(change: &Pending) -> Vec<Pending> {
    let Pending::Write { at, bytes } = change else {
        let Pending::SetLen(len) = change else { return Vec::new() };
        return vec![Pending::SetLen(*len)];
    };
    let (mut at, mut rest, mut parts) = (*at, bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let room = usize::try_from(PAGE - at % PAGE).unwrap_or(1).min(rest.len());
        let (page, after) = rest.split_at(room);
        parts.push(Pending::Write { at, bytes: page.to_vec() });
        at += u64::try_from(room).unwrap_or(0);
        rest = after;
    }
    parts
}

#[expect(clippy::disallowed_methods, reason = "this is the writer of files, building the disk of a restart")]
fn put(path: &Path, bytes: &[u8], mode: Option<Permissions>) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, mode.unwrap_or(Permissions::from_mode(0o600)))
}

#[expect(clippy::disallowed_methods, reason = "this is the writer of files, building the disk of a restart")]
fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

#[expect(clippy::disallowed_methods, reason = "this is the writer of files, building the disk of a restart")]
fn remove_dir(path: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(path)
}
