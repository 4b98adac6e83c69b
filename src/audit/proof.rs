//! How does somebody see that a record is in the log, without the log? By the path from the record's hash to a root that
//! the log signed (RFC 6962, section 2.1.1).

use super::history::HistoryError;
use super::log::Log;
use super::note::{Checkpoint, NoteError, VerifierKey};
use super::tree::{Hash, leaf};
use super::{ReadError, history};

/// Records with their paths to one signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proofs {
    /// The checkpoint as a signed note.
    pub note: String,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The key that signed it: where keys were changed (LOG-32), the oldest that did.
    pub key: VerifierKey,
    /// Index, canonical record, and the path from the leaf up, in the order of the log.
    pub records: Vec<(u64, String, Vec<Hash>)>,
    /// From the tree of the size asked from to that of the checkpoint (RFC 9162, section 2.1.4.1).
    pub consistency: Vec<Hash>,
}

/// Why there are no proofs.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Records cannot be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The newest checkpoint cannot be read.
    #[error("cannot read the newest checkpoint: {0}")]
    Checkpoint(std::io::Error),
    /// It is none.
    #[error("the newest checkpoint is damaged: {0}")]
    Note(#[from] NoteError),
    /// The log's keys cannot be read.
    #[error("the keys of the log: {0}")]
    Keys(String),
    /// No checkpoint covers a record yet; one is made each second.
    #[error("no checkpoint covers record {0} yet: ask again in a moment")]
    NotCovered(u64),
}

impl Log {
    /// The size and root of what is durable now, as the next checkpoint will sign it or a later one.
    pub fn head(&self) -> Checkpoint {
        self.inner.board.synced()
    }

    /// Proves the records from an index on that are meant, by the newest checkpoint, and that the tree which had that size
    /// has only grown since. Reads the whole log up to the checkpoint: call it where blocking is allowed.
    pub fn prove_since(&self, from: u64, meant: &dyn Fn(&str) -> bool) -> Result<Proofs, ProofError> {
        let path = self.inner.dir.join(history::NEWEST);
        let note = std::fs::read_to_string(path).map_err(ProofError::Checkpoint)?;
        let keys = history::public_keys(&self.inner.dir)?;
        let checkpoint = keys.open(&note)?;
        let key = keys.all().find(|key| key.open(&note).is_ok()).unwrap_or(keys.founding()).clone();
        if from > checkpoint.size {
            return Err(ProofError::NotCovered(from));
        }
        let (mut leaves, mut records, mut next) = (Vec::new(), Vec::new(), 0);
        while next < checkpoint.size {
            let page = self.read(next, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            next = last.saturating_add(1);
            for (index, record) in page.into_iter().take_while(|(index, _)| *index < checkpoint.size) {
                leaves.push(leaf(&record));
                let text = String::from_utf8_lossy(&record);
                if index >= from && meant(&text) {
                    records.push((index, text.into_owned(), Vec::new()));
                }
            }
        }
        for (index, _, path) in &mut records {
            *path = inclusion(&leaves, usize::try_from(*index).unwrap_or(usize::MAX));
        }
        let consistency = grown(&leaves, usize::try_from(from).unwrap_or(usize::MAX));
        Ok(Proofs { note, checkpoint, key, records, consistency })
    }
}

impl From<HistoryError> for ProofError {
    fn from(error: HistoryError) -> Self {
        Self::Keys(error.to_string())
    }
}

/// Records that are read at once.
const PAGE: usize = 4_096;

/// `PATH(m, D[n])` of RFC 6962.
fn inclusion(leaves: &[Hash], at: usize) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let half = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(half);
    let (mut path, beside) =
        if at < half { (inclusion(left, at), root(right)) } else { (inclusion(right, at - half), root(left)) };
    path.push(beside);
    path
}

/// `PROOF(m, D[n])` of RFC 9162, section 2.1.4.1; nothing where there is nothing to prove.
fn grown(leaves: &[Hash], from: usize) -> Vec<Hash> {
    if from == 0 || from >= leaves.len() { Vec::new() } else { subproof(from, leaves, true) }
}

fn subproof(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let half = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(half);
    let (mut proof, beside) = if from <= half {
        (subproof(from, left, whole), root(right))
    } else {
        (subproof(from - half, right, false), root(left))
    };
    proof.push(beside);
    proof
}

/// The ranges of records whose roots are `PROOF(from, D[size])`, in its order.
pub(super) fn growth_ranges(from: u64, size: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    if from == 0 || from >= size {
        return found;
    }
    let (mut start, mut end, mut whole) = (0, size, true);
    while from != end {
        // The largest power of two that is smaller than what is left.
        let half = start + (1 << (end - start - 1).ilog2());
        if from <= half {
            found.push((half, end));
            end = half;
        } else {
            found.push((start, half));
            (start, whole) = (half, false);
        }
    }
    if !whole {
        found.push((start, end));
    }
    found.reverse();
    found
}

/// Whether a proof shows that one tree grew out of another (RFC 9162, section 2.1.4.2).
pub fn consistent(old: &Checkpoint, new: &Checkpoint, proof: &[Hash]) -> bool {
    if old.size == 0 || old.size >= new.size {
        let same = old.size == 0 || old == new;
        return same && proof.is_empty();
    }
    let (seed, path) = match proof.split_first() {
        _ if old.size.is_power_of_two() => (old.root, proof),
        Some((first, rest)) => (*first, rest),
        None => return false,
    };
    let twos = (old.size - 1).trailing_ones();
    let (mut at, mut last) = ((old.size - 1) >> twos, (new.size - 1) >> twos);
    let (mut before, mut now) = (seed, seed);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            before = super::tree::node(beside, &before);
            now = super::tree::node(beside, &now);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            now = super::tree::node(&now, beside);
        }
        at /= 2;
        last /= 2;
    }
    last == 0 && before == old.root && now == new.root
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = super::tree::Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The root that a path leads to from a leaf; None when the path does not fit the tree.
pub(super) fn climb(mut hash: Hash, at: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    // RFC 9162, section 2.1.3.2.
    let (mut at, mut last) = (at, size.checked_sub(1)?);
    if at > last {
        return None;
    }
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = super::tree::node(beside, &hash);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = super::tree::node(&hash, beside);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_growth_is_proven_alike_and_no_other_passes() {
        let leaves: Vec<Hash> = (0..40_u8).map(|n| leaf(&[n])).collect();
        for size in 1..=leaves.len() {
            let new = Checkpoint { size: size as u64, root: root(&leaves[..size]) };
            for from in 0..=size {
                let old = Checkpoint { size: from as u64, root: root(&leaves[..from]) };
                let proof = grown(&leaves[..size], from);
                let ranges = growth_ranges(old.size, new.size);
                let by_ranges: Vec<Hash> = ranges
                    .into_iter()
                    .map(|(start, end)| root(&leaves[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]))
                    .collect();
                assert_eq!(by_ranges, proof, "{from} of {size}");
                assert!(consistent(&old, &new, &proof), "{from} of {size}");
                let forked = Checkpoint { root: leaf(b"another"), ..new };
                assert!(from == 0 || !consistent(&old, &forked, &proof), "{from} of {size}");
                let other = Checkpoint { root: leaf(b"another"), ..old };
                assert!(from == 0 || !consistent(&other, &new, &proof), "{from} of {size}");
                let longer = [proof.as_slice(), &[leaf(b"more")]].concat();
                assert!(!consistent(&old, &new, &longer), "{from} of {size}");
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!consistent(&old, &new, shorter), "{from} of {size}");
                }
                assert!(from == size || !consistent(&new, &old, &proof));
            }
        }
    }

    #[test]
    fn every_path_leads_to_the_root_and_no_other_leaf_does() {
        let leaves: Vec<Hash> = (0..40_u8).map(|n| leaf(&[n])).collect();
        for size in 1..=leaves.len() {
            let leaves = &leaves[..size];
            for at in 0..size {
                let path = inclusion(leaves, at);
                let climb = |hash, at: usize| climb(hash, at as u64, size as u64, &path);
                assert_eq!(climb(leaves[at], at), Some(root(leaves)), "{at} of {size}");
                assert_ne!(climb(leaf(b"another"), at), Some(root(leaves)));
                if at + 1 < size {
                    assert_ne!(climb(leaves[at], at + 1), Some(root(leaves)), "{at} of {size} elsewhere");
                }
            }
        }
    }
}
