//! What does a start find? Recovery is the normal path: every start reads the whole log, rebuilds the tree and sets
//! aside what a crash tore (LOG-19). Damage that a crash cannot explain refuses the start (LOG-20).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::crypto::sha256;
use crate::durable::{Disk, DurableError};
use crate::names::KeyringName;

use super::OpenError;
use super::event::Event;
use super::frame::{self, FLAG_WRITTEN, HEADER_BYTES, MAGIC, MAX_BODY};
use super::history::Stored;
use super::read::Marks;
use super::rule::{Fault, Finding, Rule};
use super::scan::{Chain, FrameReader, NextError, Segment, segments};
use super::view;
use super::wal::{FILE_MODE, Place};

/// How a moved tail is called: `torn-INDEX-TIME` (LOG-19).
pub(super) const TORN: &str = "torn-";

/// A change that was intended and of whose outcome nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dangling {
    /// The index of the intent.
    pub index: u64,
    /// Its event, as it is named in records.
    pub event: String,
    /// The keyring, where the intent names one.
    pub keyring: Option<KeyringName>,
    /// The request that asked for it.
    pub request: Option<String>,
    /// The intent's facts.
    pub facts: Vec<(String, String)>,
}

/// A tail that a crash tore and that was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The file in the log's directory that holds the bytes.
    pub file: String,
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// A store with custodians that was put back, or set back and declared in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What names it: the digest of the backup's manifest; of one that was declared in place, that of its newest change.
    pub digest: String,
    /// Where its chain ended.
    pub head: String,
}

/// The log as it was found, its tail whole.
pub(super) struct Found {
    pub(super) chain: Chain,
    pub(super) marks: Marks,
    pub(super) dangling: Vec<Dangling>,
    /// The newest head of the store that a record names.
    pub(super) store_head: Option<String>,
    /// Heads that restores gave up.
    pub(super) abandoned: Vec<String>,
    /// The newest store that was put back, if it has custodians.
    pub(super) restored: Option<Restored>,
    /// Moved tails that no record names yet.
    pub(super) recovered: Vec<Recovered>,
    /// The segment to write on.
    pub(super) last: (u64, PathBuf),
    pub(super) used: u64,
}

/// Reads the log in `dir` against its checkpoints and moves a torn tail aside.
pub(super) fn recover(disk: &Disk, dir: &Path, stored: &Stored, time: u64) -> Result<Found, OpenError> {
    let segments = segments(dir).map_err(|source| OpenError::Read { path: dir.to_path_buf(), source })?;
    let mut walk = Walk::new(dir, stored);
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        let Some(torn) = walk.segment(segment)? else { continue };
        if !is_last {
            return Err(torn.finding.into());
        }
        walk.check_torn(segment, &torn)?;
        move_aside(disk, dir, segment, &torn, walk.chain.tree.size(), time)?;
    }
    walk.check_reach()?;
    let last = segments.last().ok_or_else(|| OpenError::Unfinished { dir: dir.to_path_buf() })?;
    rewrite(disk, &last.path, walk.covered_bytes)?;
    let recovered = walk.unrecorded()?;
    let used = used(dir).map_err(|source| OpenError::Read { path: dir.to_path_buf(), source })?;
    Ok(Found {
        chain: walk.chain,
        marks: walk.marks,
        dangling: walk.seen.intents.into_values().collect(),
        store_head: walk.seen.store_head,
        abandoned: walk.seen.abandoned,
        restored: walk.seen.restored,
        recovered,
        last: (last.first, last.path.clone()),
        used,
    })
}

/// Bytes at the end of a segment that are no frame.
struct Torn {
    finding: Finding,
    /// The bytes of the tail that were read, from its first.
    tail: Vec<u8>,
}

struct Walk<'a> {
    dir: &'a Path,
    stored: &'a Stored,
    next_checkpoint: usize,
    /// Bytes of the segment in hand that the newest checkpoint covers.
    covered_bytes: u64,
    chain: Chain,
    marks: Marks,
    seen: Seen,
}

/// What records say that a start needs.
#[derive(Default)]
struct Seen {
    intents: BTreeMap<u64, Dangling>,
    recorded: BTreeSet<String>,
    store_head: Option<String>,
    abandoned: Vec<String>,
    restored: Option<Restored>,
}

impl<'a> Walk<'a> {
    fn new(dir: &'a Path, stored: &'a Stored) -> Self {
        Self {
            dir,
            stored,
            next_checkpoint: 0,
            covered_bytes: 0,
            chain: Chain::default(),
            marks: Marks::default(),
            seen: Seen::default(),
        }
    }

    /// Follows one segment to its end, or to the first bytes that are no frame of this log.
    fn segment(&mut self, segment: &Segment) -> Result<Option<Torn>, OpenError> {
        let failed = |source| OpenError::Read { path: segment.path.clone(), source };
        if segment.first != self.chain.tree.size() {
            let detail = format!("a segment begins at record {}", segment.first);
            return Err(Fault::new(Rule::Segments, self.chain.tree.size(), detail).at(&segment.path, 0).into());
        }
        let covered = self.stored.newest.map_or(0, |checkpoint| checkpoint.size);
        self.covered_bytes = 0;
        let mut reader = FrameReader::open(&segment.path, 0).map_err(failed)?;
        loop {
            if self.chain.tree.size() <= covered {
                self.covered_bytes = reader.offset();
            }
            let offset = reader.offset();
            let index = self.chain.tree.size();
            let fault = match reader.next() {
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    // A frame whose checksum is right was not torn: what is wrong with it was put there.
                    self.frame(&frame).map_err(|fault| fault.at(&segment.path, offset))?;
                    self.marks.note(index, Place { segment: segment.first, offset });
                    continue;
                }
                Err(NextError::Frame(frame::FrameError::Newer(version))) => {
                    return Err(OpenError::Newer {
                        what: "a frame",
                        found: version.into(),
                        known: frame::VERSION.into(),
                    });
                }
                Err(NextError::Frame(error)) => Fault::new(error.rule(), index, error.to_string()),
                Err(NextError::Io(source)) => return Err(failed(source)),
            };
            let tail = tail(&segment.path, offset).map_err(failed)?;
            return Ok(Some(Torn { finding: fault.at(&segment.path, offset), tail }));
        }
    }

    fn frame(&mut self, frame: &frame::Frame<'_>) -> Result<(), Fault> {
        let Self { chain, stored, next_checkpoint, seen, .. } = self;
        chain.follow(frame, |index, record, tree| -> Result<(), Fault> {
            if let Some((_, checkpoint)) = stored.all.get(*next_checkpoint).filter(|(_, c)| c.size == tree.size()) {
                *next_checkpoint += 1;
                if checkpoint.root != tree.root() {
                    return Err(Fault::new(Rule::History, index, "the records are not those of the checkpoint"));
                }
            }
            seen.note(index, record)
        })
    }

    /// A crash tears only what was not acknowledged: beyond the newest checkpoint, and with nothing behind it.
    fn check_torn(&self, segment: &Segment, torn: &Torn) -> Result<(), OpenError> {
        let covered = self.stored.newest.map_or(0, |checkpoint| checkpoint.size);
        let index = self.chain.tree.size();
        if index < covered {
            return Err(torn.finding.clone().into());
        }
        if let Some((at, first)) = later_frame(&torn.tail, index) {
            let detail = format!("{}, and yet record {first} follows", torn.finding.detail);
            let offset = torn.finding.offset.saturating_add(u64::try_from(at).unwrap_or(0));
            return Err(Fault::new(torn.finding.rule, index, detail).at(&segment.path, offset).into());
        }
        Ok(())
    }

    /// The log must reach to its newest checkpoint (LOG-17).
    fn check_reach(&self) -> Result<(), OpenError> {
        let size = self.chain.tree.size();
        match self.stored.newest {
            Some(newest) if newest.size > size => {
                let detail = format!("the log ends here, its newest checkpoint has {} records", newest.size);
                Err(Fault::new(Rule::Cut, size, detail).at(self.dir, 0).into())
            }
            _ if size == 0 => Err(OpenError::Unfinished { dir: self.dir.to_path_buf() }),
            _ => Ok(()),
        }
    }

    /// Tails that were moved, now or by a start that crashed before it could say so.
    fn unrecorded(&self) -> Result<Vec<Recovered>, OpenError> {
        let mut found = Vec::new();
        for file in torn_files(self.dir).map_err(|source| OpenError::Read { path: self.dir.to_path_buf(), source })? {
            if !self.seen.recorded.contains(&file) {
                let path = self.dir.join(&file);
                let bytes = std::fs::read(&path).map_err(|source| OpenError::Read { path, source })?;
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                found.push(Recovered { file, bytes: length, sha256: sha256(&[&bytes]) });
            }
        }
        Ok(found)
    }
}

impl Seen {
    /// Keeps the open intents, the names of recorded tails and the heads of the store. A record is read only where its text
    /// says that it matters: quotation marks inside a text are escaped, so that these words cannot stand in a value.
    fn note(&mut self, index: u64, record: &[u8]) -> Result<(), Fault> {
        let has = |word: &[u8]| record.windows(word.len()).any(|window| window == word);
        if !(has(b"\"intent\"") || has(b"\"log.recovered\"") || has(b"\"store_head\"")) {
            return Ok(());
        }
        let view = view::read(record, index)?;
        if view.outcome == "intent" && view.part.unwrap_or(0) == 0 {
            let keyring = view.keyring.and_then(|name| name.parse().ok());
            let keyring = keyring.or_else(|| view.facts.get("keyring").and_then(|name| name.parse().ok()));
            let facts = view.facts.all();
            let request = view.request.map(str::to_owned);
            self.intents.insert(index, Dangling { index, event: view.event.to_owned(), keyring, request, facts });
        }
        if let Some(intent) = view.intent {
            self.intents.remove(&intent);
        }
        if let Some(head) = view.facts.get("store_head") {
            self.store_head = Some(head.to_string());
            if PUT_BACK.iter().any(|event| view.event == event.name()) {
                self.restored = restored(&view, &head);
            }
        }
        self.abandoned.extend(view.facts.get("abandoned_head").map(Cow::into_owned));
        if let Some(file) = view.facts.get("torn_file") {
            self.recorded.insert(file.to_string());
        }
        Ok(())
    }
}

/// What records that a store was put back, or declared to be in force as it is.
const PUT_BACK: &[Event] = &[Event::StoreRestored, Event::StoreRebased];

/// None of a store that had no custodians: the record names their roster.
fn restored(view: &view::View<'_>, head: &str) -> Option<Restored> {
    view.facts.get("roster")?;
    let newest = head.rsplit(':').next().unwrap_or_default();
    let digest = view.facts.get("backup_digest").map_or_else(|| newest.to_owned(), Cow::into_owned);
    Some(Restored { digest, head: head.to_owned() })
}

/// A whole frame of later records inside a torn tail: whoever wrote it had been told that what is torn was synced.
/// Frames that were acknowledged from the page cache prove nothing about those before them.
fn later_frame(tail: &[u8], index: u64) -> Option<(usize, u64)> {
    let mut at = 1;
    while let Some(rest) = tail.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let found = rest.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        at += found;
        if let Ok(frame) = frame::parse(rest.get(found..).unwrap_or_default())
            && frame.header.first > index
            && frame.header.flags & FLAG_WRITTEN == 0
        {
            return Some((at, frame.header.first));
        }
        at += 1;
    }
    None
}

/// The bytes of a file from an offset on.
fn tail(path: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + MAX_BODY);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Copies the tail to a file of its own and cuts it off the segment. If we stop between the two, the next start finds
/// the tail again and makes a second copy; nothing is ever deleted that does not exist elsewhere.
fn move_aside(
    disk: &Disk,
    dir: &Path,
    segment: &Segment,
    torn: &Torn,
    index: u64,
    time: u64,
) -> Result<(), DurableError> {
    let mut time = time;
    loop {
        let path = dir.join(format!("{TORN}{index:020}-{time}"));
        match disk.write_new(&path, &torn.tail, FILE_MODE) {
            Ok(()) => break,
            // A copy of an earlier start at the same microsecond.
            Err(DurableError::Exists { .. }) => time += 1,
            Err(error) => return Err(error),
        }
    }
    let file = disk.open(&segment.path)?;
    file.set_len(torn.finding.offset)?;
    file.fdatasync()
}

/// Writes the bytes behind the newest checkpoint once more and syncs them: after a failed sync the page cache may show
/// bytes as clean that never reached the disk, and what is built on them now must not vanish with the power.
fn rewrite(disk: &Disk, path: &Path, from: u64) -> Result<(), OpenError> {
    let bytes = tail(path, from).map_err(|source| OpenError::Read { path: path.to_path_buf(), source })?;
    let file = disk.open(path)?;
    file.pwrite_all(&bytes, from)?;
    Ok(file.fdatasync()?)
}

/// The names of the moved tails in a log's directory, sorted.
pub(super) fn torn_files(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(name) = entry?.file_name().to_str().filter(|name| name.starts_with(TORN)) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes of all the log's files.
fn used(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0u64;
    for folder in [dir.to_path_buf(), dir.join(super::scan::WAL)] {
        for entry in std::fs::read_dir(folder)? {
            let facts = entry?.metadata()?;
            sum = sum.saturating_add(if facts.is_file() { facts.len() } else { 0 });
        }
    }
    Ok(sum)
}
