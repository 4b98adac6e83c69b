//! What does the log say about itself that others can check? Checkpoints: C2SP signed notes (LOG-14, LOG-15).
//! Parsing is pure and strict; this module never reads or writes a file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{SigningKey, sha256, verify_ed25519};
use crate::names::StoreId;

use super::tree::Hash;

/// The signature type of the signed-note format: Ed25519 over the text.
const ED25519: u8 = 1;
/// Bytes of one note at most: more than sixteen signatures of other algorithms would need.
pub const MAX_NOTE: usize = 64 * 1024;

/// The name of a log: no two volumes share one (LOG-15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// The public key of a log, under the log's name: `origin+key id+key` (LOG-15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    origin: Origin,
    public: [u8; 32],
}

/// The size and the root of a log, as it signed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many records it covers.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// Why a text is no checkpoint of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not spelt like one.
    #[error("it is not a checkpoint")]
    Spelling,
    /// It names another log.
    #[error("it names another log")]
    Origin,
    /// The log's key has not signed it.
    #[error("the log's key has not signed it")]
    Unsigned,
    /// The log's signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl Origin {
    /// The log of a volume of a store.
    pub fn new(store: StoreId, volume: [u8; 16]) -> Self {
        Self(format!("keyward/{store}/{}", hex::encode(volume)))
    }

    /// Reads a name: printable ASCII without spaces and `+`.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'+');
        fine.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl VerifierKey {
    /// The key of a log.
    pub const fn new(origin: Origin, public: [u8; 32]) -> Self {
        Self { origin, public }
    }

    /// Reads `origin+hex key id+base64(01 || key)`; surrounding white space is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().splitn(3, '+');
        let origin = Origin::parse(fields.next()?)?;
        let id = fields.next()?;
        let bytes = STANDARD.decode(fields.next()?).ok()?;
        let (&[ED25519], public) = bytes.split_first_chunk::<1>()? else { return None };
        let key = Self { origin, public: public.try_into().ok()? };
        (hex::encode(key.id()) == id).then_some(key)
    }

    /// The name of the log.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The Ed25519 key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The text that [`VerifierKey::parse`] reads.
    pub fn to_text(&self) -> String {
        let typed = [&[ED25519], self.public.as_slice()].concat();
        format!("{}+{}+{}", self.origin.0, hex::encode(self.id()), STANDARD.encode(typed))
    }

    /// What tells the key from others of the log: the first bytes of a hash over both.
    pub fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.origin.0.as_bytes(), b"\n", &[ED25519], &self.public]);
        hash.first_chunk().copied().unwrap_or_default()
    }

    /// Reads a checkpoint that this key signed; signatures of others are ignored.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let (text, signatures) = note.split_once("\n\n").ok_or(NoteError::Spelling)?;
        let checkpoint = self.read_text(text)?;
        let signed = [text, "\n"].concat();
        let mut found = Err(NoteError::Unsigned);
        for line in signatures.strip_suffix('\n').ok_or(NoteError::Spelling)?.split('\n') {
            let (name, value) =
                line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(NoteError::Spelling)?;
            let value = STANDARD.decode(value).map_err(|_| NoteError::Spelling)?;
            let (id, signature) = value.split_first_chunk::<4>().ok_or(NoteError::Spelling)?;
            if name == self.origin.0 && *id == self.id() {
                verify_ed25519(&self.public, signed.as_bytes(), signature).map_err(|_| NoteError::Signature)?;
                found = Ok(checkpoint);
            }
        }
        found
    }

    /// A note of this key with no other signature than its own; None of one that it has not signed.
    pub fn alone(&self, note: &str) -> Option<String> {
        let (text, signatures) = note.split_once("\n\n")?;
        let mut alone = signatures.lines().map(|line| format!("{text}\n\n{line}\n"));
        alone.find(|note| self.open(note).is_ok())
    }

    fn read_text(&self, text: &str) -> Result<Checkpoint, NoteError> {
        let mut lines = text.split('\n');
        if lines.next() != Some(&self.origin.0) {
            return Err(NoteError::Origin);
        }
        let size = lines.next().and_then(decimal).ok_or(NoteError::Spelling)?;
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok()).ok_or(NoteError::Spelling)?;
        let root = root.try_into().map_err(|_| NoteError::Spelling)?;
        if lines.next().is_some() { Err(NoteError::Spelling) } else { Ok(Checkpoint { size, root }) }
    }
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, key: &SigningKey, origin: &Origin) -> String {
        self.sign_by([key], origin)
    }

    /// The note with a signature of each key, in their order.
    pub fn sign_by<'k>(&self, keys: impl IntoIterator<Item = &'k SigningKey>, origin: &Origin) -> String {
        let text = format!("{}\n{}\n{}\n", origin.0, self.size, STANDARD.encode(self.root));
        let mut note = format!("{text}\n");
        for key in keys {
            let id = VerifierKey::new(origin.clone(), key.public()).id();
            let signature = [id.as_slice(), &key.sign(text.as_bytes())].concat();
            note.push_str(&format!("\u{2014} {} {}\n", origin.0, STANDARD.encode(signature)));
        }
        note
    }
}

/// Splits the first note off a file of notes that follow each other: text, blank line, signature lines.
/// None when the file ends before the note does.
pub fn split_first(notes: &str) -> Option<(&str, &str)> {
    let mut end = notes.find("\n\n")? + 2;
    while let Some(line) = notes.get(end..).filter(|rest| rest.starts_with('\u{2014}')) {
        end += line.find('\n')? + 1;
    }
    notes.split_at_checked(end)
}

/// A number as it is spelt: no sign, no leading zero.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (SigningKey, VerifierKey) {
        let signing = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
        let public = signing.public();
        (signing, VerifierKey::new(Origin::new(StoreId([1; 16]), [2; 16]), public))
    }

    #[test]
    fn a_checkpoint_reads_back_and_every_flipped_bit_is_noticed() {
        let (signing, key) = key();
        let checkpoint = Checkpoint { size: 70_000, root: [9; 32] };
        let note = checkpoint.sign(&signing, key.origin());
        assert_eq!(key.open(&note), Ok(checkpoint));
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let opened = String::from_utf8(bytes).map(|text| key.open(&text));
            assert!(!matches!(opened, Ok(Ok(_))), "bit {bit}");
        }
    }

    #[test]
    fn other_signatures_are_ignored_and_other_logs_refused() {
        let (signing, ours) = key();
        let (other_signing, other) = key();
        let checkpoint = Checkpoint { size: 1, root: [0; 32] };
        let note = checkpoint.sign(&signing, ours.origin());
        let theirs = checkpoint.sign(&other_signing, other.origin());
        let both = note.clone() + theirs.split_once("\n\n").unwrap().1;
        assert_eq!(ours.open(&both), Ok(checkpoint));
        assert_eq!(ours.alone(&both), Some(note.clone()));
        assert_eq!(ours.alone(&theirs), None);
        assert_eq!(ours.open(&theirs), Err(NoteError::Unsigned), "same origin, another key");
        let moved = VerifierKey::new(Origin::parse("elsewhere").unwrap(), *ours.public());
        assert_eq!(moved.open(&note), Err(NoteError::Origin));
        assert_eq!(split_first(&(both.clone() + &note)), Some((both.as_str(), note.as_str())));
    }

    #[test]
    fn a_verifier_key_reads_back_and_a_wrong_id_is_refused() {
        let (_, key) = key();
        let text = key.to_text();
        assert_eq!(VerifierKey::parse(&text), Some(key));
        let (origin, rest) = text.split_once('+').unwrap();
        assert_eq!(VerifierKey::parse(&format!("{origin}x+{rest}")), None);
    }
}
