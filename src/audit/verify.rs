//! Has anyone changed the story? Offline proof over a copied directory, with nothing of the running sidecar.
//! This module writes nothing, needs no key but the public one, and says first what is wrong: which record, which rule.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::crypto::sha256;

use super::frame::Frame;
use super::history::{self, HistoryError, NEWEST, Stored};
use super::note::{Checkpoint, Origin, VerifierKey};
use super::recover::torn_files;
use super::rule::{Fault, Finding, Rule};
use super::scan::{Chain, FrameReader, NextError, PartsCheck, Segment, WAL, name_bad_record, segments};
use super::tree::{Hash, Tree};
use super::view::{self, View};

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's name.
    pub origin: Origin,
    /// Whether the key was given from outside; the key in the directory vouches for nobody.
    pub key_given: bool,
    /// Records read.
    pub records: u64,
    /// Bytes of frames read.
    pub bytes: u64,
    /// The root over all of them.
    pub root: Hash,
    /// The newest checkpoint: the log is complete up to its size.
    pub checkpoint: Option<Checkpoint>,
    /// Records behind the newest checkpoint: whole, but nobody could tell if more had followed them.
    pub unproven_tail: u64,
    /// Whether a checkpoint from outside was given. Without one, a log that was cut exactly at an older checkpoint,
    /// with its checkpoints, looks whole.
    pub since_given: bool,
    /// Intents without an outcome, oldest first.
    pub open_intents: Vec<u64>,
    /// Checkpoints that were compared with the tree.
    pub checkpoints: u64,
    /// The time of the first and of the last record, UTC in microseconds.
    pub times: Option<(u64, u64)>,
    /// The check value of the store key, as record 0 says.
    pub store_key_check: Option<String>,
    /// The newest head of the store that a record names.
    pub store_head: Option<String>,
    /// Heads that restores gave up.
    pub abandoned: Vec<String>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of all segments.
    pub of: u64,
    /// Records read.
    pub records: u64,
}

/// Why nothing was proven.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log breaks a rule.
    #[error(transparent)]
    Broken(#[from] Finding),
    /// A file cannot be read: this says nothing about the log.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl From<HistoryError> for VerifyError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Io { path, source } => Self::read(path)(source),
            HistoryError::Broken(finding) => Self::Broken(finding),
        }
    }
}

impl VerifyError {
    fn read(path: PathBuf) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Read { path, source }
    }
}

/// Verifies the log in `dir`. `key` is the verifier key as somebody else keeps it, `since` a checkpoint (a signed
/// note) that somebody else kept. Memory is bounded by one frame and the list of checkpoints.
pub fn verify(
    dir: &Path,
    key: Option<&VerifierKey>,
    since: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified, VerifyError> {
    let stored_key = history::public_key(dir)?;
    if key.is_some_and(|key| *key != stored_key) {
        let detail = "the key in the directory is not the one that was given";
        return Err(Fault::new(Rule::Key, 0, detail).at(dir.join(history::PUBLIC), 0).into());
    }
    let stored = history::load(dir, &stored_key)?;
    if stored.torn > 0 {
        let size = stored.newest.map_or(0, |newest| newest.size);
        let detail = "its last bytes are no checkpoint (a crash leaves such; the next start cuts them)";
        return Err(Fault::new(Rule::Note, size, detail).at(dir.join(history::ALL), stored.length).into());
    }
    let since = since.map(|note| outside(dir, &stored_key, note)).transpose()?;
    let segments = segments(dir).map_err(VerifyError::read(dir.to_path_buf()))?;
    let mut proof = Proof::new(&stored, since, progress, segments.iter().map(|segment| segment.len).sum());
    for segment in &segments {
        proof.segment(segment)?;
    }
    proof.end(dir, &stored)?;
    Ok(Verified {
        origin: stored_key.origin().clone(),
        key_given: key.is_some(),
        records: proof.chain.tree.size(),
        bytes: proof.bytes,
        root: proof.chain.tree.root(),
        checkpoint: stored.newest,
        unproven_tail: proof.chain.tree.size() - stored.newest.map_or(0, |newest| newest.size),
        since_given: since.is_some(),
        open_intents: proof.open.into_iter().collect(),
        checkpoints: u64::try_from(stored.all.len()).unwrap_or(u64::MAX),
        times: proof.first_time.map(|first| (first, proof.chain.time)),
        store_key_check: proof.store_key_check,
        store_head: proof.store_head,
        abandoned: proof.abandoned,
    })
}

/// The files that a copy for verification needs (LOG-1), relative to the log's directory: everything but the key that
/// signs and the lock. Of a log that is written meanwhile they are copied in this order, the segments listed again when
/// the others are there: a newest checkpoint is in the history that was copied after it, and what the history covers was
/// written before it. Then [`whole`] says where the copy ends.
pub fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        [history::PUBLIC, history::NEWEST, history::ALL].into_iter().map(PathBuf::from).collect();
    files.extend(torn_files(dir)?.into_iter().map(PathBuf::from));
    for segment in segments(dir)? {
        files.extend(segment.path.strip_prefix(dir).map(Path::to_path_buf));
    }
    Ok(files)
}

/// Where the files of such a copy are to be cut, so that they end with a whole checkpoint and a whole frame. A frame that
/// was being written had not been acknowledged.
pub fn whole(dir: &Path) -> Result<Vec<(PathBuf, u64)>, VerifyError> {
    let stored = history::load(dir, &history::public_key(dir)?)?;
    let mut ends = vec![(dir.join(history::ALL), stored.length)];
    if let Some(last) = segments(dir).map_err(VerifyError::read(dir.to_path_buf()))?.pop() {
        let mut reader = FrameReader::open(&last.path, 0).map_err(VerifyError::read(last.path.clone()))?;
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) | Err(NextError::Frame(_)) => break,
                Err(NextError::Io(source)) => return Err(VerifyError::Read { path: last.path, source }),
            }
        }
        ends.push((last.path, reader.offset()));
    }
    Ok(ends)
}

/// The folder of the segments, relative to the log's directory.
pub const SEGMENTS: &str = WAL;

fn outside(dir: &Path, key: &VerifierKey, note: &str) -> Result<Checkpoint, Finding> {
    key.open(note).map_err(|error| {
        let detail = format!("the checkpoint that was given: {error}");
        Fault::new(Rule::Note, 0, detail).at(dir.join(NEWEST), 0)
    })
}

struct Proof<'a> {
    /// What the tree must be at which sizes, in order: the history and the checkpoint from outside.
    expected: Vec<Checkpoint>,
    next_expected: usize,
    chain: Chain,
    bytes: u64,
    total: u64,
    open: BTreeSet<u64>,
    /// Tails that were moved aside, with what the record says of them.
    torn: Vec<(u64, String, String, String)>,
    first_time: Option<u64>,
    store_key_check: Option<String>,
    store_head: Option<String>,
    abandoned: Vec<String>,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Proof<'a> {
    fn new(stored: &Stored, since: Option<Checkpoint>, progress: &'a mut dyn FnMut(Progress), total: u64) -> Self {
        let mut expected: Vec<Checkpoint> = stored.all.iter().map(|(_, checkpoint)| *checkpoint).collect();
        expected.extend(since);
        expected.sort_by_key(|checkpoint| checkpoint.size);
        Self {
            expected,
            next_expected: 0,
            chain: Chain::default(),
            bytes: 0,
            total,
            open: BTreeSet::new(),
            torn: Vec::new(),
            first_time: None,
            store_key_check: None,
            store_head: None,
            abandoned: Vec::new(),
            progress,
        }
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), VerifyError> {
        let index = self.chain.tree.size();
        if segment.first != index {
            let detail = format!("a segment begins at record {}", segment.first);
            return Err(Fault::new(Rule::Segments, index, detail).at(&segment.path, 0).into());
        }
        let path = || segment.path.clone();
        let mut reader = FrameReader::open(&segment.path, 0).map_err(VerifyError::read(path()))?;
        loop {
            let offset = reader.offset();
            let index = self.chain.tree.size();
            match reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => {
                    self.frame(&frame).map_err(|fault| fault.at(path(), offset))?;
                    self.bytes += u64::try_from(frame.size()).unwrap_or(0);
                }
                Err(NextError::Io(source)) => return Err(VerifyError::Read { path: path(), source }),
                Err(NextError::Frame(error)) => {
                    let bad = name_bad_record(reader.buffer(), index);
                    let detail = self.describe(&error.to_string(), index);
                    return Err(Fault::new(error.rule(), bad, detail).at(path(), offset).into());
                }
            }
            (self.progress)(Progress { bytes: self.bytes, of: self.total, records: self.chain.tree.size() });
        }
    }

    /// Says of a bad frame what a reader must know: whether a crash could have left it.
    fn describe(&self, error: &str, index: u64) -> String {
        let covered = self.expected.last().map_or(0, |checkpoint| checkpoint.size);
        if index >= covered {
            format!("{error}; no checkpoint covers it, so that a crash may have torn it")
        } else {
            format!("{error}; a checkpoint of {covered} records covers it")
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let Self {
            chain, expected, next_expected, open, torn, first_time, store_key_check, store_head, abandoned, ..
        } = self;
        let mut parts = PartsCheck::default();
        let mut intents = Vec::new();
        chain.follow(frame, |index, record, tree| {
            let view = view::read(record, index)?;
            if view.time != frame.header.time {
                return Err(Fault::new(Rule::Time, index, "its time is not its frame's"));
            }
            first_time.get_or_insert(view.time);
            parts.take(&view)?;
            compare(expected, next_expected, tree)?;
            if index == 0 {
                *store_key_check = view.facts.get("store_key_check").map(ToString::to_string);
            }
            if let Some(head) = view.facts.get("store_head") {
                *store_head = Some(head.to_string());
            }
            abandoned.extend(view.facts.get("abandoned_head").map(ToString::to_string));
            if view.event == "log.recovered" {
                torn.push(torn_facts(&view));
            }
            intents.push((index, view.outcome == "intent" && view.part.unwrap_or(0) == 0, view.intent));
            Ok(())
        })?;
        for (index, opens, closes) in intents {
            settle(open, index, opens, closes)?;
        }
        parts.end(frame.end().saturating_sub(1))
    }

    fn end(&self, dir: &Path, stored: &Stored) -> Result<(), VerifyError> {
        let size = self.chain.tree.size();
        if let Some(beyond) = self.expected.get(self.next_expected) {
            let whose = if stored.all.iter().any(|(_, c)| c == beyond) { "its own" } else { "the given" };
            let detail = format!("the log ends here; {whose} checkpoint has {} records", beyond.size);
            return Err(Fault::new(Rule::Cut, size, detail).at(dir.join(NEWEST), 0).into());
        }
        if size == 0 {
            return Err(Fault::new(Rule::Directory, 0, "there is no record").at(dir, 0).into());
        }
        let kept = torn_files(dir).map_err(VerifyError::read(dir.to_path_buf()))?;
        for (index, file, bytes, digest) in self.torn.iter().filter(|(_, file, ..)| kept.contains(file)) {
            let path = dir.join(file);
            let found = std::fs::read(&path).map_err(VerifyError::read(path.clone()))?;
            if found.len().to_string() != *bytes || hex::encode(sha256(&[&found])) != *digest {
                let detail = "the tail that was moved aside is not what the record says";
                return Err(Fault::new(Rule::Torn, *index, detail).at(path, 0).into());
            }
        }
        Ok(())
    }
}

/// Compares the tree with every checkpoint of its size (LOG-16).
fn compare(expected: &[Checkpoint], next: &mut usize, tree: &Tree) -> Result<(), Fault> {
    while let Some(checkpoint) = expected.get(*next).filter(|checkpoint| checkpoint.size == tree.size()) {
        if checkpoint.root != tree.root() {
            let good = next.checked_sub(1).and_then(|before| expected.get(before)).map_or(0, |c| c.size);
            let detail = format!(
                "records {good} to {} are not those that the checkpoint of {} records was signed over",
                checkpoint.size.saturating_sub(1),
                checkpoint.size
            );
            return Err(Fault::new(Rule::History, good, detail));
        }
        *next += 1;
    }
    Ok(())
}

/// Opens and closes intents (LOG-21).
fn settle(open: &mut BTreeSet<u64>, index: u64, opens: bool, closes: Option<u64>) -> Result<(), Fault> {
    if let Some(intent) = closes
        && !open.remove(&intent)
    {
        return Err(Fault::new(Rule::Intents, index, format!("record {intent} is no open intent")));
    }
    if opens {
        open.insert(index);
    }
    Ok(())
}

fn torn_facts(view: &View<'_>) -> (u64, String, String, String) {
    let fact = |name| view.facts.get(name).map(ToString::to_string).unwrap_or_default();
    (view.index, fact("torn_file"), fact("torn_bytes"), fact("torn_sha256"))
}
