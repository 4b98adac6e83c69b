//! How does one show a single record to somebody who has only the log's key? By a C2SP tlog-proof file (LOG-34).
//! This module writes no file, and gives no proof that it has not checked itself.
#![deny(clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::frame::Records;
use super::history;
use super::keys::Keys;
use super::note::{Checkpoint, NoteError, Origin, VerifierKey};
use super::proof::climb;
use super::rule::{Fault, Finding, Rule};
use super::tile::{HASH, Kind, TileName, WIDTH, shape};
use super::tree::{Hash, Tree, leaf, node};
use super::verify::{self, Progress, VerifyError, Walk, fetch, is_export, load_exported, walk};
use super::view;
use super::witnessed;

/// The first line of a proof file.
const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a path at most: a tree of 2^63 records.
const MAX_PATH: usize = 63;

/// A record with all that shows that the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// The place of the record.
    pub index: u64,
    /// The record as it stands in the log.
    pub record: Vec<u8>,
    /// The hashes beside the way from the record to the root, from below.
    pub path: Vec<Hash>,
    /// The checkpoint as it was signed.
    pub note: String,
}

/// What a proof file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The log.
    pub origin: Origin,
    /// What the log signed.
    pub checkpoint: Checkpoint,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log is damaged or cannot be read.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// The newest checkpoint does not cover the record.
    #[error("the newest checkpoint covers {size} records: record {index} is not among them")]
    NotCovered {
        /// The record.
        index: u64,
        /// The records that there are.
        size: u64,
    },
}

/// Why a proof file shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// It is not spelt like one.
    #[error("LOG-34: it is no proof file: {0}")]
    Spelling(&'static str),
    /// Its checkpoint is not one of the log whose key was given.
    #[error("LOG-14: its checkpoint: {0}")]
    Note(#[from] NoteError),
    /// Its checkpoint does not cover the record.
    #[error("LOG-34: its checkpoint covers {size} records: record {index} is not among them")]
    NotCovered {
        /// The record.
        index: u64,
        /// The records that the checkpoint covers.
        size: u64,
    },
    /// The record, its place, the path or the checkpoint is another.
    #[error("LOG-34: the path does not lead from record {0} to the root of the checkpoint")]
    Path(u64),
    /// The record is none of keyward.
    #[error("{}: its record: {}", .0.clause(), .1)]
    Record(Rule, String),
}

/// Proves a record of the log in `dir` by its newest checkpoint: of an exported tree by the few tiles that lead to it,
/// of a log's own directory by reading and verifying all of it.
pub fn prove(
    dir: &Path,
    index: u64,
    key: Option<&VerifierKey>,
    progress: &mut dyn FnMut(Progress),
) -> Result<ProofFile, ProveError> {
    let keys = history::public_keys(dir).map_err(VerifyError::from)?;
    let exported = is_export(dir);
    let stored =
        if exported { load_exported(dir, &keys)? } else { history::load(dir, &keys).map_err(VerifyError::from)? };
    verify::vouch(dir, &keys, &stored, key).map_err(VerifyError::from)?;
    let newest = stored.newest.unwrap_or(Checkpoint { size: 0, root: Tree::default().root() });
    if index >= newest.size {
        return Err(ProveError::NotCovered { index, size: newest.size });
    }
    let (record, path) = if exported {
        let mut tiles = Tiles { dir, size: newest.size, bytes: Vec::new(), held: None };
        (tiles.record(index)?, tiles.path(index)?)
    } else {
        by_reading(dir, Walk::new(&keys, &stored, []), index, newest, progress)?
    };
    // With the cosignatures, if witnesses saw the newest checkpoint.
    let seen = witnessed::load(dir, &keys).map_err(VerifyError::from)?.filter(|(checkpoint, _)| *checkpoint == newest);
    let note = seen.map_or(stored.newest_note, |(_, note)| note);
    let proof = ProofFile { index, record, path, note };
    proof.check(&keys).map_err(|bad| damaged(dir, index, &bad))?;
    Ok(proof)
}

/// The tiles are read as they are: what is wrong with them shows when the proof is checked.
fn damaged(dir: &Path, index: u64, bad: &BadProof) -> VerifyError {
    let rule = if let BadProof::Record(rule, _) = bad { *rule } else { Rule::Proof };
    let detail = format!("{bad}: verify the directory to learn which tile is damaged");
    Fault::new(rule, index, detail).at(dir, 0).into()
}

fn by_reading(
    dir: &Path,
    mut walked: Walk<'_>,
    index: u64,
    newest: Checkpoint,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<u8>, Vec<Hash>), VerifyError> {
    let siblings = beside(index, newest.size);
    let mut trees = vec![Tree::default(); siblings.len()];
    let mut found = Vec::new();
    walk::<VerifyError>(dir, &mut walked, newest.size, progress, &mut |record, tree| {
        let at = tree.size().saturating_sub(1);
        if at == index {
            record.clone_into(&mut found);
        } else if let Some(place) = siblings.iter().position(|(start, end)| (*start..*end).contains(&at))
            && let (Some(tree_beside), Some(hash)) = (trees.get_mut(place), tree.completed(0))
        {
            tree_beside.push(*hash);
        }
        Ok(())
    })?;
    Ok((found, trees.iter().map(Tree::root).collect()))
}

/// The ranges of records beside the way from a record to the root of a tree, from below (RFC 6962, section 2.1.1).
fn beside(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut start, mut end, mut found) = (0, size, Vec::new());
    while end - start > 1 {
        let half = start + left_of(end - start);
        if index < half {
            found.push((half, end));
            end = half;
        } else {
            found.push((start, half));
            start = half;
        }
    }
    found.reverse();
    found
}

/// The records left of the root of a tree with more than one: the largest power of two that is smaller.
const fn left_of(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// An exported tree, of which only what is needed is read.
struct Tiles<'a> {
    dir: &'a Path,
    size: u64,
    bytes: Vec<u8>,
    held: Option<TileName>,
}

impl Tiles<'_> {
    fn record(&mut self, index: u64) -> Result<Vec<u8>, VerifyError> {
        let name = self.name(Kind::Entries, index / WIDTH);
        let path = self.hold(name)?;
        let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let found = Records::of_unverified(&self.bytes).nth(at).map(<[u8]>::to_vec);
        Ok(found.ok_or_else(|| Fault::new(Rule::Bundle, index, "the bundle ends before it").at(path, 0))?)
    }

    fn path(&mut self, index: u64) -> Result<Vec<Hash>, VerifyError> {
        beside(index, self.size).into_iter().map(|(start, end)| self.root(start, end)).collect()
    }

    /// The root over a range: a complete subtree, or one that ends with the tree and is made of such.
    fn root(&mut self, start: u64, end: u64) -> Result<Hash, VerifyError> {
        let records = end - start;
        if records.is_power_of_two() {
            return self.subtree(start, records);
        }
        let half = start + left_of(records);
        Ok(node(&self.subtree(start, half - start)?, &self.root(half, end)?))
    }

    fn subtree(&mut self, start: u64, records: u64) -> Result<Hash, VerifyError> {
        let height = records.trailing_zeros();
        let level = height / 8;
        let first = start.checked_shr(8 * level).unwrap_or(0);
        let name = self.name(Kind::Hashes(level), first / WIDTH);
        let path = self.hold(name)?;
        let from = usize::try_from(first % WIDTH).unwrap_or(usize::MAX).saturating_mul(HASH);
        let until = from.saturating_add(HASH << (height % 8));
        let Some(hashes) = self.bytes.get(from..until) else {
            return Err(Fault::new(Rule::Hashes, start, "the tile ends before a hash of it").at(path, 0).into());
        };
        let mut tree = Tree::default();
        hashes.chunks_exact(HASH).filter_map(|hash| hash.try_into().ok()).for_each(|hash| tree.push(hash));
        Ok(tree.root())
    }

    /// The name under which the tile lies in a tree of this size.
    fn name(&self, kind: Kind, index: u64) -> TileName {
        let (full, partial) = shape(kind, self.size);
        TileName { kind, index, width: if index < full { WIDTH } else { partial } }
    }

    fn hold(&mut self, name: TileName) -> Result<PathBuf, VerifyError> {
        if self.held != Some(name) {
            self.held = None;
            fetch(self.dir, name, &mut self.bytes)?;
            self.held = Some(name);
        }
        Ok(self.dir.join(name.path()))
    }
}

impl ProofFile {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let path: String = self.path.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
        format!("{MAGIC}\nextra {}\nindex {}\n{path}\n{}", STANDARD.encode(&self.record), self.index, self.note)
    }

    /// Reads a file; nothing in it is believed before [`ProofFile::check`].
    pub fn parse(text: &str) -> Result<Self, BadProof> {
        let bad = BadProof::Spelling;
        let (head, note) = text.split_once("\n\n").ok_or(bad("no empty line stands before a checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(bad("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.ok_or(bad("the second line does not hold the record (extra)"))?;
        let record = STANDARD.decode(extra).map_err(|_| bad("the record is not in base64"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(super::note::decimal);
        let index = index.ok_or(bad("the third line is no index"))?;
        let path: Option<Vec<Hash>> = lines.map(|line| STANDARD.decode(line).ok()?.try_into().ok()).collect();
        let path = path.ok_or(bad("a hash is not 32 bytes in base64"))?;
        if path.len() > MAX_PATH {
            return Err(bad("the path is longer than any tree is high"));
        }
        Ok(Self { index, record, path, note: note.to_owned() })
    }

    /// Checks everything against keys that the reader has from elsewhere.
    pub fn check(&self, keys: &Keys) -> Result<Shown, BadProof> {
        let checkpoint = keys.open(&self.note)?;
        if self.index >= checkpoint.size {
            return Err(BadProof::NotCovered { index: self.index, size: checkpoint.size });
        }
        if climb(leaf(&self.record), self.index, checkpoint.size, &self.path) != Some(checkpoint.root) {
            return Err(BadProof::Path(self.index));
        }
        view::read(&self.record, self.index).map_err(|fault| BadProof::Record(fault.rule, fault.detail))?;
        Ok(Shown { origin: keys.origin().clone(), checkpoint })
    }
}

impl From<Finding> for ProveError {
    fn from(finding: Finding) -> Self {
        Self::Log(finding.into())
    }
}
