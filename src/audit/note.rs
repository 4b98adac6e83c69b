//! What does the log say about itself that others can check? Checkpoints: C2SP signed notes (LOG-14, LOG-15).
//! Parsing is pure and strict; this module never reads or writes a file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{SigningKey, sha256, verify_ed25519};
use crate::names::StoreId;

use super::tree::Hash;

/// The signature type of the signed-note format: Ed25519 over the text.
const ED25519: u8 = 1;
/// What [`signatures`] gives of a line: who, the id of the key, and what the key made.
pub(super) type SignatureLine<'a> = (&'a str, [u8; 4], Vec<u8>);
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
        let (origin, public) = parse_key(text, ED25519)?;
        Some(Self { origin, public })
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
        key_text(&self.origin.0, ED25519, &self.public)
    }

    /// What tells the key from others of the log: the first bytes of a hash over both.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.origin.0, ED25519, &self.public)
    }

    /// Reads a checkpoint that this key signed; signatures of others are ignored.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let (text, _) = note.split_once("\n\n").ok_or(NoteError::Spelling)?;
        let checkpoint = self.read_text(text)?;
        self.signed(note).map(|()| checkpoint)
    }

    /// Whether this key signed a note, whatever lines its text has; signatures of others are ignored.
    pub fn signed(&self, note: &str) -> Result<(), NoteError> {
        let (text, lines) = note.split_once("\n\n").ok_or(NoteError::Spelling)?;
        let signed = [text, "\n"].concat();
        let mut found = Err(NoteError::Unsigned);
        for (name, id, signature) in signatures(lines)? {
            if name == self.origin.0 && id == self.id() {
                verify_ed25519(&self.public, signed.as_bytes(), &signature).map_err(|_| NoteError::Signature)?;
                found = Ok(());
            }
        }
        found
    }

    /// A note of this key with no other signature than its own; None of one that it has not signed.
    pub fn alone(&self, note: &str) -> Option<String> {
        let (text, signatures) = note.split_once("\n\n")?;
        let mut alone = signatures.lines().map(|line| format!("{text}\n\n{line}\n"));
        alone.find(|note| self.signed(note).is_ok())
    }

    fn read_text(&self, text: &str) -> Result<Checkpoint, NoteError> {
        if text.split('\n').next() != Some(&self.origin.0) {
            return Err(NoteError::Origin);
        }
        let (_, checkpoint, extensions) = heading(text).ok_or(NoteError::Spelling)?;
        if extensions { Err(NoteError::Spelling) } else { Ok(checkpoint) }
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

/// Reads the text of a checkpoint: its origin, what it says, and whether extension lines follow.
pub fn heading(text: &str) -> Option<(&str, Checkpoint, bool)> {
    let mut lines = text.split('\n');
    let origin = lines.next().filter(|origin| !origin.is_empty())?;
    let size = lines.next().and_then(decimal)?;
    let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
    Some((origin, Checkpoint { size, root }, lines.next().is_some()))
}

/// The lines under the text of a note.
pub(super) fn signatures(lines: &str) -> Result<Vec<SignatureLine<'_>>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Spelling)?.split('\n');
    lines.map(|line| signature(line).ok_or(NoteError::Spelling)).collect()
}

fn signature(line: &str) -> Option<SignatureLine<'_>> {
    let (name, value) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let value = STANDARD.decode(value).ok()?;
    let (id, signature) = value.split_first_chunk::<4>()?;
    Some((name, *id, signature.to_vec()))
}

/// Reads `name+hex key id+base64(kind || key)`; surrounding white space is ignored.
pub(super) fn parse_key(text: &str, kind: u8) -> Option<(Origin, [u8; 32])> {
    let mut fields = text.trim().splitn(3, '+');
    let name = Origin::parse(fields.next()?)?;
    let id = fields.next()?;
    let bytes = STANDARD.decode(fields.next()?).ok()?;
    let (found, public) = bytes.split_first()?;
    let public = <[u8; 32]>::try_from(public).ok().filter(|_| *found == kind)?;
    (hex::encode(key_id(&name.0, kind, &public)) == id).then_some((name, public))
}

/// The text that [`parse_key`] reads.
pub(super) fn key_text(name: &str, kind: u8, public: &[u8; 32]) -> String {
    let typed = [&[kind], public.as_slice()].concat();
    format!("{name}+{}+{}", hex::encode(key_id(name, kind, public)), STANDARD.encode(typed))
}

/// The first bytes of a hash over name, kind and key.
pub(super) fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> [u8; 4] {
    let hash = sha256(&[name.as_bytes(), b"\n", &[kind], public]);
    hash.first_chunk().copied().unwrap_or_default()
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
