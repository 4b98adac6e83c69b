//! Does the log hold these records? Inclusion and consistency in an RFC 6962 tree under a checkpoint that the log signed
//! (CER-20). Computed from texts alone, with nothing of the running log.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::crypto::{sha256, verify_ed25519};

/// What proves that the log holds some records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogProof {
    /// The log's verifier key, as text.
    pub key: String,
    /// A checkpoint that covers the records, as the log signed it.
    pub checkpoint: String,
    /// The hashes that lead from the tree of the proposal to that of the checkpoint (RFC 9162, 2.1.4), hexadecimal; without
    /// any that is not proven.
    pub consistency: Vec<String>,
    /// The records, by their index.
    pub records: Vec<ProvenRecord>,
}

/// A record with the way from it to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenRecord {
    /// Its number in the log.
    pub index: u64,
    /// Its canonical text.
    pub record: String,
    /// The hashes beside the way, from the leaf up (RFC 6962, 2.1.1), hexadecimal.
    pub path: Vec<String>,
}

type Hash = [u8; 32];

/// What a checkpoint says.
pub(super) struct Checkpoint {
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: Hash,
}

impl LogProof {
    /// Reads the checkpoint that the key signed.
    pub(super) fn open(&self) -> Result<Checkpoint, &'static str> {
        let (origin, id, public) = key(&self.key).ok_or("the verifier key is not one")?;
        let (text, signatures) = self.checkpoint.split_once("\n\n").ok_or("the checkpoint is not a signed note")?;
        let mut lines = text.split('\n');
        let (name, size, root) = (lines.next(), lines.next(), lines.next());
        if name != Some(&origin) || lines.next().is_some() {
            return Err("the checkpoint is of another log than the key");
        }
        let size = size.and_then(|size| size.parse::<u64>().ok().filter(|number| number.to_string() == size));
        let root = root.and_then(|root| STANDARD.decode(root).ok()?.try_into().ok());
        let (Some(size), Some(root)) = (size, root) else { return Err("the checkpoint has no size or no root") };
        let signed = [text, "\n"].concat();
        let signatures = signatures.strip_suffix('\n').ok_or("the checkpoint is cut short")?;
        // One signature, the log's: whatever else stood here nobody would have checked.
        let value =
            signatures.strip_prefix("\u{2014} ").and_then(|rest| rest.strip_prefix(&*origin)?.strip_prefix(' '));
        let value = value
            .and_then(|value| STANDARD.decode(value).ok())
            .ok_or("the checkpoint is not signed by the log alone")?;
        let (by, signature) = value.split_first_chunk::<4>().ok_or("the signature of the checkpoint is cut short")?;
        if *by != id || verify_ed25519(&public, signed.as_bytes(), signature).is_err() {
            return Err("the log has not signed the checkpoint");
        }
        Ok(Checkpoint { origin, size, root })
    }

    /// Whether the tree of the proposal is a beginning of the checkpoint's; None where nothing was given to prove it.
    pub(super) fn extends(&self, size: u64, root: &Hash, checkpoint: &Checkpoint) -> Option<bool> {
        if size == checkpoint.size {
            return Some(*root == checkpoint.root && self.consistency.is_empty());
        }
        if self.consistency.is_empty() {
            return None;
        }
        Some(hashes(&self.consistency).and_then(|path| consistent(size, root, checkpoint, path)).is_some())
    }
}

impl ProvenRecord {
    /// Whether it leads to the root.
    pub(super) fn is_in(&self, checkpoint: &Checkpoint) -> bool {
        let leaf = sha256(&[&[0], self.record.as_bytes()]);
        let root = hashes(&self.path).and_then(|path| root_from(self.index, checkpoint.size, leaf, path));
        root == Some(checkpoint.root)
    }

    /// What it says; None of what is no record.
    pub(super) fn said(&self) -> Option<Said> {
        serde_json::from_str(&self.record).ok()
    }
}

/// What of a record counts here. Whoever asks keyward for something chooses texts that stand in its records (a request's
/// id, a ticket): only what keyward itself says under these names is believed.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) actor: Actor,
    pub(super) event: String,
    #[serde(default)]
    pub(super) facts: BTreeMap<String, String>,
    pub(super) index: u64,
    #[serde(default)]
    pub(super) intent: Option<u64>,
    pub(super) outcome: String,
}

/// Who acted.
#[derive(Debug, Deserialize)]
pub(super) struct Actor {
    pub(super) kind: String,
}

impl Said {
    /// A fact.
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// Whether it is this event with this outcome.
    pub(super) fn is(&self, event: &str, outcome: &str) -> bool {
        self.event == event && self.outcome == outcome
    }
}

/// `origin+key id+base64(01 || key)`.
fn key(text: &str) -> Option<(String, [u8; 4], Hash)> {
    let mut fields = text.splitn(3, '+');
    let (origin, id) = (fields.next()?, fields.next()?);
    let bytes = STANDARD.decode(fields.next()?).ok()?;
    let (&[1], public) = bytes.split_first_chunk::<1>()? else { return None };
    let public: Hash = public.try_into().ok()?;
    let hash = sha256(&[origin.as_bytes(), b"\n", &[1], &public]);
    let found: [u8; 4] = hash.first_chunk().copied()?;
    (hex::encode(found) == id && !origin.is_empty()).then(|| (origin.to_owned(), found, public))
}

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    let hash = |text: &String| {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        (hex::encode(hash) == *text).then_some(hash)
    };
    texts.iter().map(hash).collect()
}

/// RFC 9162, section 2.1.3.2.
fn root_from(index: u64, size: u64, leaf: Hash, path: Vec<Hash>) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node_at, mut last, mut root) = (index, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if node_at & 1 == 1 || node_at == last {
            root = node(&beside, &root);
            while node_at & 1 == 0 && node_at != 0 {
                (node_at, last) = (node_at >> 1, last >> 1);
            }
        } else {
            root = node(&root, &beside);
        }
        (node_at, last) = (node_at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// RFC 9162, section 2.1.4.2.
fn consistent(size: u64, root: &Hash, to: &Checkpoint, mut path: Vec<Hash>) -> Option<()> {
    if size == 0 || size > to.size {
        return None;
    }
    if size.is_power_of_two() {
        path.insert(0, *root);
    }
    let (mut node_at, mut last) = (size - 1, to.size - 1);
    let down = node_at.trailing_ones();
    (node_at, last) = (node_at >> down, last >> down);
    let mut path = path.into_iter();
    let first = path.next()?;
    let (mut old, mut new) = (first, first);
    for beside in path {
        if last == 0 {
            return None;
        }
        if node_at & 1 == 1 || node_at == last {
            (old, new) = (node(&beside, &old), node(&beside, &new));
            while node_at & 1 == 0 && node_at != 0 {
                (node_at, last) = (node_at >> 1, last >> 1);
            }
        } else {
            new = node(&new, &beside);
        }
        (node_at, last) = (node_at >> 1, last >> 1);
    }
    (last == 0 && old == *root && new == to.root).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(index: u64) -> Hash {
        sha256(&[&[0], index.to_string().as_bytes()])
    }

    /// RFC 6962, section 2.1, by its definition.
    fn root(from: u64, to: u64) -> Hash {
        if to - from == 1 {
            return leaf(from);
        }
        let half = (to - from).next_power_of_two() / 2;
        node(&root(from, from + half), &root(from + half, to))
    }

    /// RFC 6962, section 2.1.1.
    fn path(index: u64, from: u64, to: u64) -> Vec<Hash> {
        if to - from == 1 {
            return Vec::new();
        }
        let middle = from + (to - from).next_power_of_two() / 2;
        let (mut path, beside) = if index < middle {
            (path(index, from, middle), root(middle, to))
        } else {
            (path(index, middle, to), root(from, middle))
        };
        path.push(beside);
        path
    }

    /// RFC 6962, section 2.1.2.
    fn proof(size: u64, from: u64, to: u64, whole: bool) -> Vec<Hash> {
        if size == to - from {
            return if whole { Vec::new() } else { vec![root(from, to)] };
        }
        let half = (to - from).next_power_of_two() / 2;
        let (mut proof, beside) = if size <= half {
            (proof(size, from, from + half, whole), root(from + half, to))
        } else {
            (proof(size - half, from + half, to, false), root(from, from + half))
        };
        proof.push(beside);
        proof
    }

    #[test]
    fn cer_20_the_path_of_a_record_leads_to_the_root_and_no_other_does() {
        for size in 1..40 {
            for index in 0..size {
                let path = path(index, 0, size);
                let lead = |index, leaf, path| root_from(index, size, leaf, path);
                assert_eq!(lead(index, leaf(index), path.clone()), Some(root(0, size)), "{index} of {size}");
                assert_ne!(lead(index, leaf(index + 1), path.clone()), Some(root(0, size)));
                assert_ne!(lead(index, leaf(index), [path.clone(), vec![leaf(0)]].concat()), Some(root(0, size)));
                if size > 1 {
                    assert_ne!(lead((index + 1) % size, leaf(index), path.clone()), Some(root(0, size)));
                    assert_ne!(lead(index, leaf(index), path[1..].to_vec()), Some(root(0, size)));
                }
            }
        }
    }

    #[test]
    fn a_tree_extends_another_exactly_where_it_was_grown_from_it() {
        for size in 2..40 {
            for before in 1..size {
                let to = Checkpoint { origin: String::new(), size, root: root(0, size) };
                let proof = proof(before, 0, size, true);
                let known = |root| consistent(before, &root, &to, proof.clone()).is_some();
                assert!(known(root(0, before)), "{before} of {size}");
                assert!(!known(leaf(99)), "{before} of {size}");
                let other = Checkpoint { root: leaf(99), ..to };
                assert!(consistent(before, &root(0, before), &other, proof.clone()).is_none());
            }
        }
    }
}
