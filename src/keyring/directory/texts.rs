//! How do many short texts that stay for ever lie in little memory? One behind the other in large blocks, without an
//! allocation of each: that would be half as large again, and would lie among what is soon given back, and keep it.
//! This module never takes a text out and never moves one.

/// Large enough to be a mapping of its own, of which no more is real than what was written.
const BLOCK: usize = 1 << BITS;
const BITS: u32 = 18;

/// Where a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub at: u32,
    pub len: u8,
}

/// Texts of at most 255 bytes; four GiB of them.
#[derive(Default)]
pub(super) struct Texts(Vec<String>);

impl Texts {
    /// None if it is too long, or if there is no room any more.
    pub(super) fn add(&mut self, text: &str) -> Option<Place> {
        let len = u8::try_from(text.len()).ok()?;
        if self.0.last().is_none_or(|block| block.len().saturating_add(text.len()) > BLOCK) {
            self.0.push(String::with_capacity(BLOCK));
        }
        let before = self.0.len().checked_sub(1)?.checked_mul(BLOCK)?;
        let block = self.0.last_mut()?;
        let at = u32::try_from(before.checked_add(block.len())?).ok()?;
        block.push_str(text);
        Some(Place { at, len })
    }

    pub(super) fn get(&self, Place { at, len }: Place) -> Option<&str> {
        let block = self.0.get(usize::try_from(at >> BITS).ok()?)?;
        let from = usize::try_from(at).ok()? % BLOCK;
        block.get(from..from.checked_add(usize::from(len))?)
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.0.iter().map(String::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_where_they_were_put_across_blocks() {
        let mut texts = Texts::default();
        let text = |n: usize| format!("{n:0width$}", width = n % 256);
        let places: Vec<Place> = (0..10_000).map(|n| texts.add(&text(n)).unwrap()).collect();
        assert!(texts.0.len() > 4);
        assert!(texts.0.iter().all(|block| block.capacity() == BLOCK));
        for (n, place) in places.iter().enumerate() {
            assert_eq!(texts.get(*place), Some(&*text(n)));
        }
        assert_eq!(texts.get(Place { at: u32::MAX, len: 1 }), None);
        assert_eq!(texts.add(&"x".repeat(256)), None);
    }
}
