//! Which keys signed for this log, one after the other? Whoever trusts one of them must be able to see that the next one
//! came from it (LOG-32). This module never reads or writes a file and never sees a private key.

use super::note::{Checkpoint, NoteError, Origin, VerifierKey};

/// The keys of a log in the order in which they followed each other; there is always a first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    founding: VerifierKey,
    later: Vec<VerifierKey>,
}

impl Keys {
    /// The keys of a log that has had one.
    pub const fn founding_only(founding: VerifierKey) -> Self {
        Self { founding, later: Vec::new() }
    }

    /// Reads one key a line, the founding one first; all under one name, none twice.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.trim().lines();
        let mut keys = Self::founding_only(VerifierKey::parse(lines.next()?)?);
        for line in lines {
            let key = VerifierKey::parse(line)?;
            if key.origin() != keys.origin() || keys.position(&key).is_some() {
                return None;
            }
            keys.later.push(key);
        }
        Some(keys)
    }

    /// The text that [`Keys::parse`] reads.
    pub fn to_text(&self) -> String {
        self.all().map(|key| key.to_text() + "\n").collect()
    }

    /// The name of the log.
    pub const fn origin(&self) -> &Origin {
        self.founding.origin()
    }

    /// The key that the log was founded with.
    pub const fn founding(&self) -> &VerifierKey {
        &self.founding
    }

    /// The newest key.
    pub fn newest(&self) -> &VerifierKey {
        self.later.last().unwrap_or(&self.founding)
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &VerifierKey> {
        std::iter::once(&self.founding).chain(&self.later)
    }

    /// The place of a key among them.
    pub fn position(&self, key: &VerifierKey) -> Option<usize> {
        self.all().position(|one| one == key)
    }

    /// Reads a checkpoint that any of them signed; the newest is asked first.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let mut said = Err(NoteError::Unsigned);
        for key in self.later.iter().rev().chain([&self.founding]) {
            said = key.open(note);
            if said != Err(NoteError::Unsigned) {
                break;
            }
        }
        said
    }

    pub(super) fn get(&self, at: usize) -> Option<&VerifierKey> {
        match at.checked_sub(1) {
            None => Some(&self.founding),
            Some(later) => self.later.get(later),
        }
    }

    pub(super) fn push(&mut self, key: VerifierKey) {
        self.later.push(key);
    }
}

/// Follows the checkpoints of a log from the oldest on: which key signs, and when the next one took over (LOG-32).
#[derive(Debug, Clone, Default)]
pub(super) struct Succession {
    /// The place of the key whose signature every checkpoint needs now.
    pub(super) current: usize,
    /// Whether a checkpoint was signed by it and by the next one.
    handed: bool,
}

/// What the next checkpoint showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) checkpoint: Checkpoint,
    /// It is the first that the next key signed.
    pub(super) hands_over: bool,
}

impl Succession {
    /// Reads the next checkpoint: signed by the key that signs, or by the next one once both have signed together.
    pub(super) fn take(&mut self, keys: &Keys, note: &str) -> Result<Signed, NoteError> {
        loop {
            let current = keys.get(self.current).ok_or(NoteError::Unsigned)?;
            let by_next = keys.get(self.current + 1).map(|next| next.open(note));
            match (current.open(note), by_next) {
                (Ok(checkpoint), Some(Ok(_))) => {
                    let hands_over = !std::mem::replace(&mut self.handed, true);
                    return Ok(Signed { checkpoint, hands_over });
                }
                (Ok(_), Some(Err(NoteError::Signature))) => return Err(NoteError::Signature),
                (Ok(checkpoint), _) => return Ok(Signed { checkpoint, hands_over: false }),
                (Err(NoteError::Unsigned), Some(Ok(_))) if self.handed => {
                    self.current += 1;
                    self.handed = false;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The place of the newest key that signed.
    pub(super) const fn reached(&self) -> usize {
        if self.handed { self.current + 1 } else { self.current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    fn origin() -> Origin {
        Origin::parse("keyward/a/b").unwrap()
    }

    fn three() -> (Vec<SigningKey>, Keys) {
        let signing: Vec<SigningKey> =
            (0..3).map(|_| SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap()).collect();
        let mut keys = Keys::founding_only(VerifierKey::new(origin(), signing[0].public()));
        signing[1..].iter().for_each(|key| keys.push(VerifierKey::new(origin(), key.public())));
        (signing, keys)
    }

    fn note(size: u64, by: &[&SigningKey]) -> String {
        Checkpoint { size, root: [7; 32] }.sign_by(by.iter().copied(), &origin())
    }

    /// LOG-32
    #[test]
    fn a_key_signs_alone_only_after_it_signed_with_the_one_before() {
        let (signing, keys) = three();
        let [a, b, c] = [&signing[0], &signing[1], &signing[2]];
        let run = |notes: &[&[&SigningKey]]| -> Result<usize, NoteError> {
            let mut succession = Succession::default();
            for (size, by) in (1..).zip(notes) {
                succession.take(&keys, &note(size, by))?;
            }
            Ok(succession.reached())
        };
        assert_eq!(run(&[&[a], &[a]]), Ok(0));
        assert_eq!(run(&[&[a], &[a, b], &[a, b], &[b], &[b, c], &[c]]), Ok(2));
        assert_eq!(run(&[&[a, b], &[b, c]]), Ok(2), "the next rotation may follow at once");
        assert_eq!(run(&[&[a], &[b]]), Err(NoteError::Unsigned), "nobody handed over");
        assert_eq!(run(&[&[a, b], &[c]]), Err(NoteError::Unsigned));
        assert_eq!(run(&[&[a, b], &[b], &[a]]), Err(NoteError::Unsigned), "an old key does not come back");
        assert_eq!(run(&[&[a, c]]), Ok(0), "a key whose turn it is not says nothing");
    }

    #[test]
    fn keys_read_back_and_strange_ones_are_refused() {
        let (_, keys) = three();
        assert_eq!(Keys::parse(&keys.to_text()), Some(keys.clone()));
        assert_eq!(keys.newest(), keys.get(2).unwrap());
        let twice = keys.to_text() + &keys.founding().to_text();
        assert_eq!(Keys::parse(&twice), None);
        let other = VerifierKey::new(Origin::parse("elsewhere").unwrap(), [1; 32]).to_text();
        assert_eq!(Keys::parse(&(keys.to_text() + &other)), None);
        assert_eq!(Keys::parse(""), None);
    }
}
