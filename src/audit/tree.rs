//! Which hash stands for the whole log? An RFC 6962 tree of which only the right edge is kept (LOG-12).
//! This module never sees what a record means.

use crate::crypto::sha256;

/// A node of the tree: SHA-256.
pub type Hash = [u8; 32];

/// The hash of a record: `SHA-256(00 || record)` (LOG-12).
pub fn leaf(record: &[u8]) -> Hash {
    sha256(&[&[0], record])
}

pub(super) fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// The tree over the records so far: its complete subtrees, largest first, one for each bit of the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    peaks: Vec<Hash>,
    /// The subtrees that the last leaf completed, from the leaf itself upwards; kept so that its memory is.
    completed: Vec<Hash>,
}

impl Tree {
    /// How many records there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends the hash of a record.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        self.completed.clear();
        self.completed.push(leaf);
        // Each trailing one of the size is a complete subtree as large as the one in hand.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
                self.completed.push(hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The complete subtree of 2^height leaves that ends with the last leaf, if there is one.
    pub(super) fn completed(&self, height: usize) -> Option<&Hash> {
        self.completed.get(height)
    }

    /// The complete subtree that begins at a leaf and is none of a larger one's.
    pub(super) fn peak(&self, start: u64) -> Option<Hash> {
        let (mut at, mut left) = (0, self.size);
        for peak in &self.peaks {
            if at == start {
                return Some(*peak);
            }
            let largest = 1 << left.checked_ilog2()?;
            at += largest;
            left -= largest;
        }
        None
    }

    /// The root: of the empty tree `SHA-256("")`.
    pub fn root(&self) -> Hash {
        let mut right_to_left = self.peaks.iter().rev();
        let Some(last) = right_to_left.next() else { return sha256(&[]) };
        right_to_left.fold(*last, |right, left| node(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, by its recursive definition.
    fn by_definition(leaves: &[&[u8]]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => leaf(one),
            many => {
                let half = many.len().next_power_of_two() / 2;
                let (left, right) = many.split_at(half);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_at_every_size() {
        let records: Vec<Vec<u8>> = (0..300u32).map(|n| n.to_be_bytes().repeat(n as usize % 7)).collect();
        let mut tree = Tree::default();
        for size in 0..records.len() {
            let leaves: Vec<&[u8]> = records[..size].iter().map(Vec::as_slice).collect();
            assert_eq!(tree.root(), by_definition(&leaves), "size {size}");
            tree.push(leaf(&records[size]));
        }
    }

    #[test]
    fn the_root_of_the_published_test_leaves_is_the_published_one() {
        // The eight leaves that the Certificate Transparency implementations share.
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let mut tree = Tree::default();
        for text in leaves {
            tree.push(leaf(&hex::decode(text).unwrap()));
        }
        assert_eq!(hex::encode(tree.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}
