//! Has anyone changed the story? Offline proof over a copied directory, with nothing of the running sidecar.
//! This module writes nothing, needs no key but the public one, and says first what is wrong: which record, which rule.
#![deny(clippy::indexing_slicing)]

mod exported;
mod story;
mod walk;

pub(super) use exported::{fetch, load as load_exported};
pub(super) use walk::{Walk, walk};

use std::path::{Path, PathBuf};

use crate::crypto::sha256;

use super::history::{self, HistoryError, NEWEST, Stored};
use super::keys::Keys;
use super::note::{Checkpoint, Origin, VerifierKey};
use super::recover::torn_files;
use super::rule::{Fault, Finding, Rule};
use super::scan::{FrameReader, NextError, WAL, segments};
use super::tile::TILES;
use super::tree::Hash;
use super::trust::WitnessPolicy;
use super::witnessed;
use story::Story;

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's name.
    pub origin: Origin,
    /// Whether the key was given from outside; the key in the directory vouches for nobody.
    pub key_given: bool,
    /// Whether it is an exported tree (LOG-27) and not a log's own directory.
    pub exported: bool,
    /// The keys that signed, one after the other: the newest signed the newest checkpoint.
    pub keys: Vec<VerifierKey>,
    /// Records read.
    pub records: u64,
    /// Bytes of frames or bundles read.
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
    /// What witnesses saw of it, by a policy that was given.
    pub witnessed: Option<Witnessed>,
}

/// The newest checkpoint that enough witnesses cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Who, by the names of the policy, and when, in seconds since 1970.
    pub by: Vec<(String, u64)>,
}

/// What a verifier believes, and has from elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trusted<'a> {
    /// A key of the log.
    pub key: Option<&'a VerifierKey>,
    /// A checkpoint that was kept.
    pub since: Option<&'a str>,
    /// Who must have cosigned.
    pub witnesses: Option<&'a WitnessPolicy>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of all segments or bundles.
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

/// Verifies the log in `dir`, or an exported tree. `key` is a verifier key of the log as somebody else keeps it, `since`
/// a checkpoint (a signed note) that somebody else kept. Memory is bounded by one frame or bundle and the list of
/// checkpoints.
pub fn verify(
    dir: &Path,
    key: Option<&VerifierKey>,
    since: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified, VerifyError> {
    read(dir, key, since, progress, &mut |_, _| {})
}

/// The same, and `visit` sees each record with its index, in order. What it was told holds only if nothing was found wrong
/// with the whole.
pub fn read(
    dir: &Path,
    key: Option<&VerifierKey>,
    since: Option<&str>,
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<Verified, VerifyError> {
    read_by(dir, Trusted { key, since, witnesses: None }, progress, visit)
}

/// The same by all that a verifier may have from elsewhere.
pub fn read_by(
    dir: &Path,
    trusted: Trusted<'_>,
    progress: &mut dyn FnMut(Progress),
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<Verified, VerifyError> {
    let keys = history::public_keys(dir)?;
    let seen = Seen::load(dir, &keys, trusted)?;
    let key = trusted.key.or(seen.key.as_ref());
    if is_export(dir) {
        let told = exported::verify(dir, &keys, (key, trusted.since, &seen), progress, visit)?;
        return Ok(seen.note(told));
    }
    // Read before the history: of a log that is written meanwhile what was cosigned is in it.
    let stored = history::load(dir, &keys)?;
    vouch(dir, &keys, &stored, key)?;
    if stored.torn > 0 {
        let size = stored.newest.map_or(0, |newest| newest.size);
        let detail = "its last bytes are no checkpoint (a crash leaves such; the next start cuts them)";
        return Err(Fault::new(Rule::Note, size, detail).at(dir.join(history::ALL), stored.length).into());
    }
    let since = trusted.since.map(|note| outside(dir, &keys, note)).transpose()?;
    let mut walked = Walk::new(&keys, &stored, since.into_iter().chain(seen.checkpoint()));
    walk::<VerifyError>(dir, &mut walked, u64::MAX, progress, &mut |record, tree| {
        visit(tree.size().saturating_sub(1), record);
        Ok(())
    })?;
    let Walk { chain, story, bytes } = &walked;
    end(dir, &stored, story, chain.tree.size())?;
    if keys.all().count() > story.rotations() + 1 {
        let detail = "it holds a key that no record names";
        return Err(Fault::new(Rule::Succession, chain.tree.size(), detail)
            .at(dir.join(history::SUCCESSORS), 0)
            .into());
    }
    check_torn(dir, story)?;
    Ok(seen.note(Verified {
        bytes: *bytes,
        unproven_tail: chain.tree.size() - stored.newest.map_or(0, |newest| newest.size),
        ..proven(&keys, &stored, story, (chain.tree.size(), chain.tree.root()), (key.is_some(), since.is_some()))
    }))
}

/// The cosigned checkpoint of a directory, and what a policy says of it.
struct Seen {
    found: Option<(Checkpoint, String)>,
    by: Option<Vec<(String, u64)>>,
    /// A key of this log that the policy names.
    key: Option<VerifierKey>,
}

impl Seen {
    fn load(dir: &Path, keys: &Keys, trusted: Trusted<'_>) -> Result<Self, VerifyError> {
        let found = witnessed::load(dir, keys)?;
        let Some(policy) = trusted.witnesses else { return Ok(Self { found, by: None, key: None }) };
        let fault = |index, why: &str| Fault::new(Rule::Witnessed, index, why).at(dir.join(witnessed::WITNESSED), 0);
        let key = policy.logs().iter().find(|key| keys.position(key).is_some()).cloned();
        if key.is_none() && !policy.logs().is_empty() {
            return Err(fault(0, "the policy names other logs").into());
        }
        let (by, enough) =
            found.as_ref().map_or((Vec::new(), policy.satisfied(&|_| false)), |(_, note)| policy.cosigned(note));
        if !enough {
            let size = found.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size);
            let why = if found.is_some() { "the witnesses who cosigned it are not enough" } else { "nobody cosigned" };
            return Err(fault(size, why).into());
        }
        let by = by.into_iter().map(|(name, time)| (name.to_owned(), time)).collect();
        Ok(Self { found, by: Some(by), key })
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.found.as_ref().map(|(checkpoint, _)| *checkpoint)
    }

    fn note(&self, told: Verified) -> Verified {
        let witnessed = self.checkpoint().zip(self.by.clone()).map(|(checkpoint, by)| Witnessed { checkpoint, by });
        Verified { witnessed, ..told }
    }
}

/// Whether a directory holds exported tiles and no segments.
pub fn is_export(dir: &Path) -> bool {
    dir.join(TILES).is_dir() && !dir.join(WAL).exists()
}

/// The key that was given is one of the log's, and what it signed reaches to the newest checkpoint.
pub(super) fn vouch(dir: &Path, keys: &Keys, stored: &Stored, given: Option<&VerifierKey>) -> Result<(), Finding> {
    let Some(given) = given else { return Ok(()) };
    let fault = |detail: &str| Err(Fault::new(Rule::Key, 0, detail).at(dir.join(history::PUBLIC), 0));
    match keys.position(given) {
        None => fault("the key in the directory is not the one that was given"),
        Some(at) if at > stored.succession.reached() => fault("the key that was given has signed no checkpoint here"),
        Some(_) => Ok(()),
    }
}

/// What was proven of a log or an export.
fn proven(
    keys: &Keys,
    stored: &Stored,
    story: &Story<'_>,
    (records, root): (u64, Hash),
    (key_given, since_given): (bool, bool),
) -> Verified {
    Verified {
        origin: keys.origin().clone(),
        key_given,
        exported: false,
        keys: keys.all().take(stored.succession.reached() + 1).cloned().collect(),
        records,
        bytes: 0,
        root,
        checkpoint: stored.newest,
        unproven_tail: 0,
        since_given,
        open_intents: story.open.iter().copied().collect(),
        checkpoints: u64::try_from(stored.all.len()).unwrap_or(u64::MAX),
        times: story.first_time.map(|first| (first, story.time)),
        store_key_check: story.store_key_check.clone(),
        store_head: story.store_head.clone(),
        abandoned: story.abandoned.clone(),
        witnessed: None,
    }
}

/// The files that a copy for verification needs (LOG-1), relative to the log's directory: everything but the key that
/// signs and the lock. Of a log that is written meanwhile they are copied in this order, the segments listed again when
/// the others are there: a newest checkpoint is in the history that was copied after it, and what the history covers was
/// written before it. Then [`whole`] says where the copy ends.
pub fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        [history::PUBLIC, history::NEWEST, history::ALL].into_iter().map(PathBuf::from).collect();
    files.extend(dir.join(history::SUCCESSORS).exists().then(|| PathBuf::from(history::SUCCESSORS)));
    if dir.join(witnessed::WITNESSED).exists() {
        files.insert(0, PathBuf::from(witnessed::WITNESSED));
    }
    files.extend(torn_files(dir)?.into_iter().map(PathBuf::from));
    for segment in segments(dir)? {
        files.extend(segment.path.strip_prefix(dir).map(Path::to_path_buf));
    }
    Ok(files)
}

/// Where the files of such a copy are to be cut, so that they end with a whole checkpoint and a whole frame. A frame that
/// was being written had not been acknowledged.
pub fn whole(dir: &Path) -> Result<Vec<(PathBuf, u64)>, VerifyError> {
    let stored = history::load(dir, &history::public_keys(dir)?)?;
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

fn outside(dir: &Path, keys: &Keys, note: &str) -> Result<Checkpoint, Finding> {
    keys.open(note).map_err(|error| {
        let detail = format!("the checkpoint that was given: {error}");
        Fault::new(Rule::Note, 0, detail).at(dir.join(NEWEST), 0)
    })
}

/// What must hold when the last record is read.
fn end(dir: &Path, stored: &Stored, story: &Story<'_>, size: u64) -> Result<(), Finding> {
    if let Some(beyond) = story.beyond() {
        let whose = if stored.all.iter().any(|(_, c)| c == beyond) { "its own" } else { "the given" };
        let detail = format!("the log ends here; {whose} checkpoint has {} records", beyond.size);
        return Err(Fault::new(Rule::Cut, size, detail).at(dir.join(NEWEST), 0));
    }
    if size == 0 {
        return Err(Fault::new(Rule::Directory, 0, "there is no record").at(dir, 0));
    }
    if let Some((checkpoint, _)) = stored.handovers.get(story.rotations()) {
        let detail = format!("a key that no record names signed the checkpoint of {} records", checkpoint.size);
        return Err(Fault::new(Rule::Succession, checkpoint.size, detail).at(dir.join(NEWEST), 0));
    }
    Ok(())
}

/// The tails that were moved aside are what the records say, where they were kept (LOG-19).
fn check_torn(dir: &Path, story: &Story<'_>) -> Result<(), VerifyError> {
    let kept = torn_files(dir).map_err(VerifyError::read(dir.to_path_buf()))?;
    for (index, file, bytes, digest) in story.torn.iter().filter(|(_, file, ..)| kept.contains(file)) {
        let path = dir.join(file);
        let found = std::fs::read(&path).map_err(VerifyError::read(path.clone()))?;
        if found.len().to_string() != *bytes || hex::encode(sha256(&[&found])) != *digest {
            let detail = "the tail that was moved aside is not what the record says";
            return Err(Fault::new(Rule::Torn, *index, detail).at(path, 0).into());
        }
    }
    Ok(())
}
