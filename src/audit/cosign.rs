//! What does a witness say of a checkpoint? That, as of a time, the largest tree that it has seen of this log is that one:
//! C2SP tlog-cosignature, version 1, Ed25519 (LOG-35). Pure: whose tree it was is the caller's question.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{SigningKey, verify_ed25519};

use super::note::{Origin, key_id, key_text, parse_key, signatures};

/// The signature type of a cosignature: Ed25519, with a time.
const COSIGNATURE: u8 = 4;

/// The public key of a witness, under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: Origin,
    public: [u8; 32],
}

impl CosignerKey {
    /// The key of a witness.
    pub const fn new(name: Origin, public: [u8; 32]) -> Self {
        Self { name, public }
    }

    /// Reads `name+hex key id+base64(04 || key)`; surrounding white space is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, public) = parse_key(text, COSIGNATURE)?;
        Some(Self { name, public })
    }

    /// The text that [`CosignerKey::parse`] reads.
    pub fn to_text(&self) -> String {
        key_text(self.name.as_str(), COSIGNATURE, &self.public)
    }

    /// What the witness calls itself.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The Ed25519 key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// When the witness cosigned a note, in seconds since 1970: the newest time of its lines. None where it did not, or
    /// where a line with its name and key is not what it would have written.
    pub fn cosigned(&self, note: &str) -> Option<u64> {
        let (text, lines) = note.split_once("\n\n")?;
        let mut newest = None;
        for (name, id, signature) in signatures(lines).ok()? {
            if name != self.name() || id != key_id(self.name(), COSIGNATURE, &self.public) {
                continue;
            }
            let (time, signature) = signature.split_first_chunk::<8>()?;
            let time = u64::from_be_bytes(*time);
            verify_ed25519(&self.public, &message(text, time), signature).ok()?;
            // Zero stands for no time, which a checkpoint's cosignature always has.
            newest = newest.max(Some(time).filter(|time| *time > 0));
        }
        newest
    }

    /// A line of the witness that owns `key` under the text of a note, with its line feed.
    pub fn cosign(&self, key: &SigningKey, note: &str, time: u64) -> Option<String> {
        let (text, _) = note.split_once("\n\n")?;
        let id = key_id(self.name(), COSIGNATURE, &self.public);
        let value = [id.as_slice(), &time.to_be_bytes(), &key.sign(&message(text, time))].concat();
        Some(format!("\u{2014} {} {}\n", self.name(), STANDARD.encode(value)))
    }

    /// Of lines that somebody gave as cosignatures of a note the first that is this witness's.
    pub fn pick(&self, note: &str, lines: &str) -> Option<String> {
        let (text, _) = note.split_once("\n\n")?;
        let alone = |line: &&str| self.cosigned(&format!("{text}\n\n{line}\n")).is_some();
        lines.lines().find(alone).map(|line| format!("{line}\n"))
    }
}

fn message(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG-35: the example of the published format.
    #[test]
    fn the_published_cosignature_has_the_published_shape() {
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let (name, _, signature) = signatures(line).unwrap().remove(0);
        assert_eq!(name, "witness.example.com/w1");
        assert_eq!(signature.len(), 8 + 64);
        assert_eq!(u64::from_be_bytes(*signature.first_chunk().unwrap()), 1_679_315_147, "the time it names");
    }

    #[test]
    fn a_cosignature_is_of_one_witness_one_text_and_one_time() {
        let signing = [(); 2].map(|()| SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap());
        let key = |at: usize| CosignerKey::new(Origin::parse("witness.example/w").unwrap(), signing[at].public());
        assert_eq!(CosignerKey::parse(&key(0).to_text()), Some(key(0)));
        let note = "log\n5\nAAAA\n\n\u{2014} log AAAAAAA=\n";
        let line = key(0).cosign(&signing[0], note, 17).unwrap();
        let cosigned = format!("{note}{line}");
        assert_eq!(key(0).cosigned(&cosigned), Some(17));
        assert_eq!(key(1).cosigned(&cosigned), None);
        assert_eq!(key(0).cosigned(&cosigned.replace("\n5\n", "\n6\n")), None);
        assert_eq!(key(0).cosigned(note), None);
        assert_eq!(key(0).pick(note, &format!("rubbish\n{line}")), Some(line.clone()));
        assert_eq!(key(1).pick(note, &line), None);
        let zero = key(0).cosign(&signing[0], note, 0).unwrap();
        assert_eq!(key(0).cosigned(&format!("{note}{zero}")), None, "a checkpoint's cosignature has a time");
        for bit in 0..line.len() * 8 {
            let mut bytes = line.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bytes).map(|line| key(0).cosigned(&format!("{note}{line}")));
            assert!(!matches!(read, Ok(Some(_))), "bit {bit}");
        }
    }
}
