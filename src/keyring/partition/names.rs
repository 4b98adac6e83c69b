//! Which partitions are live, so that one whose row is gone is an edit and not a new patient? Eight bytes of memory each.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use crate::keyring::directory::IdHasher;

/// Digests of names, keyed for this process: sorted ones, and those that came since. Two names share a digest about never
/// (one chance in ten million for a million partitions); then the second of the two cannot be made until a restart.
#[derive(Default)]
pub(in crate::keyring) struct Names {
    sorted: Vec<u64>,
    recent: HashSet<u64, BuildHasherDefault<IdHasher>>,
}

/// As many as are sorted in at once while there are few; later an eighth of all.
const FEW: usize = 4_096;

impl Names {
    pub(in crate::keyring) fn add(&mut self, name: u64) {
        if self.has(name) {
            return;
        }
        self.recent.insert(name);
        if self.recent.len() >= FEW.max(self.sorted.len() / 8) {
            self.sorted.reserve_exact(self.recent.len());
            self.sorted.extend(self.recent.drain());
            self.sorted.sort_unstable();
        }
    }

    pub(in crate::keyring) fn has(&self, name: u64) -> bool {
        self.recent.contains(&name) || self.sorted.binary_search(&name).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_takes_at_most_16_bytes_each() {
        const MANY: u64 = 300_000;
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut names = Names::default();
        for n in 0..MANY {
            names.add(spread(n));
            names.add(spread(n / 2));
        }
        assert!((0..MANY).all(|n| names.has(spread(n))));
        assert!((MANY..2 * MANY).all(|n| !names.has(spread(n))));
        assert_eq!(names.sorted.len() + names.recent.len(), 300_000);
        // A slot of the set is a number and a byte; of eight slots seven are used.
        let bytes = names.sorted.capacity() * 8 + names.recent.capacity() * 8 / 7 * 9;
        assert!(bytes <= 16 * 300_000, "{bytes}");
    }
}
