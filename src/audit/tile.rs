//! Into which tiles is a tree cut, and how are they called? C2SP tlog-tiles: hash tiles (LOG-29) and entry bundles
//! (LOG-28). This module never reads or writes a file.
#![deny(clippy::indexing_slicing)]

use std::path::PathBuf;

use super::tree::{Hash, Tree};

/// Hashes or records of a full tile.
pub(super) const WIDTH: u64 = 256;
/// Bytes of a hash.
pub(super) const HASH: usize = size_of::<Hash>();
/// Bytes of an entry bundle at most: each record has two bytes of length before it.
pub(super) const MAX_BUNDLE: u64 = WIDTH * (2 + 0xffff);
/// The folder of the tiles (LOG-27).
pub(super) const TILES: &str = "tile";

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Records, each with its length before it.
    Entries,
    /// Hashes of the level: of records at 0, of full tiles of the level below above.
    Hashes(u32),
}

/// The name of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TileName {
    pub(super) kind: Kind,
    pub(super) index: u64,
    /// How many hashes or records it has, 1 to 256.
    pub(super) width: u64,
}

impl TileName {
    /// Records of one hash or entry of it.
    fn unit(self) -> u64 {
        match self.kind {
            Kind::Entries => 1,
            Kind::Hashes(level) => 1u64.checked_shl(8 * level).unwrap_or(u64::MAX),
        }
    }

    /// The first record that it stands for.
    pub(super) fn start(self) -> u64 {
        self.index.saturating_mul(WIDTH).saturating_mul(self.unit())
    }

    /// The record behind the last one that it stands for.
    pub(super) fn end(self) -> u64 {
        self.index.saturating_mul(WIDTH).saturating_add(self.width).saturating_mul(self.unit())
    }

    /// The full tile at the same place.
    pub(super) const fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// The path in the export: three digits a step, all but the last with an `x`, partial ones under `.p/`.
    pub(super) fn path(self) -> PathBuf {
        let mut path = self.kind.folder();
        let mut steps = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            steps.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        if let Some(last) = steps.first_mut().filter(|_| self.width < WIDTH) {
            last.push_str(&format!(".p/{}", self.width));
        }
        steps.iter().rev().for_each(|step| path.push(step));
        path
    }
}

impl Kind {
    /// The folder of the tiles of this kind in the export.
    pub(super) fn folder(self) -> PathBuf {
        PathBuf::from(TILES).join(match self {
            Self::Entries => "entries".to_owned(),
            Self::Hashes(level) => level.to_string(),
        })
    }
}

/// The tiles that a tree of a size has, of one kind: how many full ones, and how wide the partial one is.
pub(super) fn shape(kind: Kind, size: u64) -> (u64, u64) {
    let hashes = match kind {
        Kind::Entries => size,
        Kind::Hashes(level) => size.checked_shr(8 * level).unwrap_or(0),
    };
    (hashes / WIDTH, hashes % WIDTH)
}

/// Cuts a growing tree into tiles. Memory is bounded by one bundle and one tile of each level.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    rows: Vec<Vec<u8>>,
    size: u64,
}

impl Cutter {
    /// Takes the leaf that the tree got last; `tell` hears of each hash tile that it completes.
    pub(super) fn take<E>(
        &mut self,
        tree: &Tree,
        tell: &mut impl FnMut(TileName, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.size = tree.size();
        let mut level = 0;
        while let Some(hash) = tree.completed(8 * level) {
            if self.rows.len() == level {
                self.rows.push(Vec::with_capacity(256 * HASH));
            }
            let Some(row) = self.rows.get_mut(level) else { break };
            row.extend_from_slice(hash);
            let kind = Kind::Hashes(u32::try_from(level).unwrap_or(u32::MAX));
            let (full, partial) = shape(kind, self.size);
            if partial == 0 {
                tell(TileName { kind, index: full.saturating_sub(1), width: WIDTH }, row)?;
                row.clear();
            }
            level += 1;
        }
        Ok(())
    }

    /// Tells of the partial tile of each level.
    pub(super) fn end<E>(&self, tell: &mut impl FnMut(TileName, &[u8]) -> Result<(), E>) -> Result<(), E> {
        for (level, row) in (0..).zip(&self.rows) {
            let kind = Kind::Hashes(level);
            let (index, width) = shape(kind, self.size);
            if width > 0 {
                tell(TileName { kind, index, width }, row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree::{leaf, node};

    fn name(kind: Kind, index: u64, width: u64) -> String {
        TileName { kind, index, width }.path().display().to_string()
    }

    /// LOG-27: the examples of the published format.
    #[test]
    fn tiles_are_called_as_the_published_examples() {
        assert_eq!(name(Kind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(name(Kind::Entries, 1_234_067, 1), "tile/entries/x001/x234/067.p/1");
        assert_eq!(name(Kind::Hashes(63), 0, 255), "tile/63/000.p/255");
        assert_eq!(name(Kind::Entries, 1_000, 256), "tile/entries/x001/000");
        assert_eq!(TileName { kind: Kind::Hashes(2), index: 1, width: 3 }.start(), 1 << 24);
        assert_eq!(TileName { kind: Kind::Hashes(1), index: 0, width: 3 }.end(), 768);
    }

    /// LOG-29: a tree of 70,000 records, as the published format counts it; one of 256 has a partial tile above.
    #[test]
    fn the_tiles_of_a_tree_are_those_that_the_published_format_counts() {
        let (mut tree, mut cutter, mut told) = (Tree::default(), Cutter::default(), Vec::new());
        let mut tell = |name: TileName, bytes: &[u8]| {
            assert_eq!(bytes.len() as u64, name.width * 32);
            told.push(name);
            Ok::<(), ()>(())
        };
        for n in 0..70_000_u32 {
            tree.push(leaf(&n.to_be_bytes()));
            cutter.take(&tree, &mut tell).unwrap();
        }
        cutter.end(&mut tell).unwrap();
        let count = |level, full| {
            told.iter()
                .filter(|t| t.kind == Kind::Hashes(level) && (t.width == WIDTH) == full)
                .map(|t| t.width)
                .collect()
        };
        let widths: Vec<Vec<u64>> = [(0, false), (1, true), (1, false), (2, true), (2, false), (3, false)]
            .map(|(level, full)| count(level, full))
            .to_vec();
        assert_eq!(widths, [vec![112], vec![256], vec![17], vec![], vec![1], vec![]]);
        assert_eq!(told.iter().filter(|t| t.kind == Kind::Hashes(0) && t.width == WIDTH).count(), 273);
        assert_eq!(shape(Kind::Hashes(1), 256), (0, 1));
    }

    #[test]
    fn the_hash_of_a_full_tile_stands_in_the_level_above() {
        let (mut tree, mut cutter, mut above) = (Tree::default(), Cutter::default(), Vec::new());
        let mut tell = |name: TileName, bytes: &[u8]| {
            if name.kind == Kind::Hashes(0) && name.width == WIDTH {
                let mut row: Vec<Hash> = bytes.chunks(32).map(|hash| hash.try_into().unwrap()).collect();
                while row.len() > 1 {
                    row = row.chunks(2).map(|two| node(&two[0], &two[1])).collect();
                }
                above.extend_from_slice(&row[0]);
            } else if name.kind == Kind::Hashes(1) {
                assert_eq!(bytes, above);
            }
            Ok::<(), ()>(())
        };
        for n in 0..1_111_u32 {
            tree.push(leaf(&n.to_be_bytes()));
            cutter.take(&tree, &mut tell).unwrap();
        }
        cutter.end(&mut tell).unwrap();
        assert_eq!(above.len(), 4 * 32);
    }
}
