//! What did the engine make of a data key? `vault:vN:` and the base64 of nonce, ciphertext and tag, read strictly.
//! This module never accepts two texts for the same bytes, nor a length that no wrapped data key has.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A wrapped data key as the engine writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ciphertext {
    text: String,
    version: u32,
}

impl Ciphertext {
    /// The text and the version of the key that made it; None for anything that the engine did not write.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (number, body) = text.strip_prefix(PREFIX)?.split_once(':')?;
        let version: u32 = number.parse().ok()?;
        // One spelling for a version: no sign, no leading zero, and no version 0, which the engine reads as 1.
        if version == 0 || version.to_string() != number {
            return None;
        }
        let sealed = STANDARD.decode(body).ok()?;
        (sealed.len() == SEALED_BYTES).then(|| Self { text: text.to_owned(), version })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn version(&self) -> u32 {
        self.version
    }
}

const PREFIX: &str = "vault:v";
/// Nonce, data key, tag.
const SEALED_BYTES: usize = 12 + 32 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(number: &str, sealed: &[u8]) -> Option<Ciphertext> {
        Ciphertext::parse(format!("vault:v{number}:{}", STANDARD.encode(sealed)).as_bytes())
    }

    #[test]
    fn a_ciphertext_has_one_spelling() {
        assert_eq!(parse("1", &[7; 60]).unwrap().version(), 1);
        assert_eq!(parse("4294967295", &[7; 60]).unwrap().version(), u32::MAX);
        for number in ["", "0", "01", "+1", "-1", " 1", "1 ", "4294967296", "1x"] {
            assert_eq!(parse(number, &[7; 60]), None, "{number}");
        }
        for len in [0, 28, 59, 61, 72] {
            assert_eq!(parse("1", &vec![7; len]), None, "{len} bytes");
        }
        let good = format!("vault:v1:{}", STANDARD.encode([7; 60]));
        for bad in [good.replace("vault", "Vault"), good.clone() + "\n", good.clone() + "=", good.replace("v1:", "v1")]
        {
            assert_eq!(Ciphertext::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
