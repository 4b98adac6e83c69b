//! How does somebody see that a record is in the log, without the log? By the path from the record's hash to a root that
//! the log signed (RFC 6962, section 2.1.1).

use super::log::Log;
use super::note::{Checkpoint, NoteError};
use super::tree::{Hash, leaf};
use super::{ReadError, history};

/// Records with their paths to one signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proofs {
    /// The checkpoint as a signed note.
    pub note: String,
    /// What it says.
    pub checkpoint: Checkpoint,
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
        let checkpoint = self.verifier_key().open(&note)?;
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
        Ok(Proofs { note, checkpoint, records, consistency })
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
