//! What was found edited in the store since the admission? Each keyring once, by what was found of it first: a second one
//! does not hide the first, and two that are found in turn do not look like news.

use std::sync::{Mutex, PoisonError};

/// Keyrings that are told apart; whoever has more edited ones restores a backup, and does not read a list.
const MOST: usize = 1_000;
/// Those that are told in full: readiness and a warning are read by people.
const TOLD: usize = 5;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<Vec<Found>>);

#[derive(Debug)]
struct Found {
    /// The keyring; a key's id or the finding itself where no keyring is known.
    of: String,
    why: String,
}

impl Noted {
    pub(super) fn note(&self, of: &str, why: &str) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MOST && !found.iter().any(|known| known.of == of || known.why == why) {
            found.push(Found { of: of.to_owned(), why: why.to_owned() });
        }
    }

    /// In words, the first ones and how many more there are; None if nothing was found.
    pub(super) fn told(&self) -> Option<String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() {
            return None;
        }
        let mut told: Vec<String> = found.iter().take(TOLD).map(|one| one.why.clone()).collect();
        let more = found.len().saturating_sub(TOLD);
        if more > 0 {
            let least = if found.len() == MOST { "at least " } else { "" };
            told.push(format!("and {least}{more} more, which the sidecar's own output names"));
        }
        Some(told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edited_keyring_is_told_once_and_of_many_the_first_and_their_number() {
        let noted = Noted::default();
        assert_eq!(noted.told(), None);
        for why in ["one row", "another row"] {
            noted.note("default/a", why);
        }
        noted.note("default/b", "a third row");
        noted.note("the chain", "a third row");
        assert_eq!(noted.told().unwrap(), "one row; a third row");
        for number in 0..2_000 {
            noted.note(&number.to_string(), &format!("row {number}"));
        }
        let told = noted.told().unwrap();
        assert!(told.starts_with("one row; a third row; row 0; row 1; row 2; and at least 995 more"), "{told}");
    }
}
