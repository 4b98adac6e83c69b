//! HMAC-SHA-256 keys: row seals, pseudonyms.

use ring::hmac;

use super::{CryptoError, DataKey, KeyClass, constant_time_eq, key, message};
use crate::secret::Locked;

/// An HMAC-SHA-256 key derived from a data key under a label, in locked memory.
pub struct MacKey(Locked<hmac::Key>);

impl MacKey {
    /// Derives the key for one use; the label names it (`keyward/v1/rows`, ...). A label that is not of this form or
    /// that already serves another algorithm (ENV-13) is refused.
    pub fn derive(key: &DataKey, label: &'static str) -> Result<Self, CryptoError> {
        if !label.starts_with("keyward/v1/") || is_taken(label) {
            return Err(CryptoError);
        }
        let subkey = key.subkey(label)?;
        Ok(Self(Locked::new_with(|| hmac::Key::new(hmac::HMAC_SHA256, subkey.as_ref()))?))
    }

    /// The tag over the parts, in order (parts must come from [`super::canonical`]: no separators are added).
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whether the tag is right, in constant time.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), CryptoError> {
        if constant_time_eq(&self.tag(parts), tag) { Ok(()) } else { Err(CryptoError) }
    }
}

/// Whether a label belongs to message keys, the check value or a reserved use.
fn is_taken(label: &str) -> bool {
    const CLASSES: [KeyClass; 4] = [KeyClass::Field, KeyClass::Partition, KeyClass::Caller, KeyClass::System];
    const RESERVED: [&str; 4] = [key::CHECK, "keyward/v1/generate", "keyward/v1/deterministic", "keyward/v1/object"];
    let of_a_class = |(message, commitment): (&str, &str)| label == message || label == commitment;
    RESERVED.contains(&label) || CLASSES.iter().filter_map(|class| message::labels(*class)).any(of_a_class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretBytes;

    fn data_key() -> DataKey {
        DataKey::from_secret(&SecretBytes::new(vec![3; 32])).unwrap()
    }

    #[test]
    fn a_tag_verifies_under_its_own_label_and_content_only() {
        let rows = MacKey::derive(&data_key(), "keyward/v1/rows").unwrap();
        let tag = rows.tag(&[b"a", b"bc"]);
        assert_eq!(tag, rows.tag(&[b"abc"]), "the parts are concatenated");
        assert_eq!(rows.verify(&[b"abc"], &tag), Ok(()));
        assert_eq!(rows.verify(&[b"abd"], &tag), Err(CryptoError));
        assert_eq!(rows.verify(&[b"abc"], &tag[..31]), Err(CryptoError));
        assert_ne!(MacKey::derive(&data_key(), "keyward/v1/pseudonyms").unwrap().tag(&[b"abc"]), tag);
    }

    #[test]
    fn a_label_of_another_algorithm_is_refused() {
        for label in ["keyward/v1/field", "keyward/v1/system/commit", "keyward/v1/check", "keyward/v1/object", "rows"] {
            assert!(MacKey::derive(&data_key(), label).is_err(), "{label}");
        }
    }
}
