//! The data key: the 32 bytes that only a key-encryption key can unwrap.

use zeroize::Zeroizing;

use super::hash::{expand, extract_and_expand};
use super::{CryptoError, KEY_BYTES, random};
use crate::secret::{Locked, SecretBytes};

/// A 32-byte data key in locked memory. No Clone, no Debug of content; zeroised when dropped.
#[derive(Debug)]
pub struct DataKey(Locked<[u8; KEY_BYTES]>);

impl DataKey {
    /// A fresh key; `extra` (an HSM's randomness, may be empty) is mixed with the operating system's, so that the key
    /// is as good as the better of the two.
    pub fn generate(extra: &[u8]) -> Result<Self, CryptoError> {
        // The operating system's part has a fixed length and comes first: the concatenation has one reading.
        let mut seed = Zeroizing::new(vec![0; KEY_BYTES + extra.len()]);
        let (own, foreign) = seed.split_at_mut(KEY_BYTES);
        random(own)?;
        foreign.copy_from_slice(extra);
        Locked::fill_with(|key: &mut [u8; KEY_BYTES]| extract_and_expand(GENERATE, &seed, GENERATE, key)).map(Self)
    }

    /// A key from its 32 bytes, as an unwrap returned them; any other length is an error.
    pub fn from_secret(bytes: &SecretBytes) -> Result<Self, CryptoError> {
        let bytes: &[u8; KEY_BYTES] = bytes.expose().try_into().map_err(|_| CryptoError)?;
        Locked::fill_with(|key: &mut [u8; KEY_BYTES]| {
            key.copy_from_slice(bytes);
            Ok::<_, CryptoError>(())
        })
        .map(Self)
    }

    /// The key-check value: 16 bytes by HKDF under a label of its own; says nothing about the key.
    pub fn check_value(&self) -> [u8; 16] {
        let mut check = [0; 16];
        // 16 bytes are far below HKDF's limit of 8,160, the only way to fail. Were it to fail all the same, the
        // zeros differ from every stored check value and the key is refused.
        let _ = expand(&self.0, CHECK, &mut check);
        check
    }

    /// The 32 bytes, for wrapping under a KEK and nothing else.
    pub fn expose_for_wrapping(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Derives the subkey of one use, in place.
    pub(super) fn subkey(&self, label: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, CryptoError> {
        let mut subkey = Zeroizing::new([0; KEY_BYTES]);
        expand(&self.0, label, subkey.as_mut())?;
        Ok(subkey)
    }
}

/// Salt and info of the mixing of randomness.
const GENERATE: &[u8] = b"keyward/v1/generate";
/// Label of the key-check value.
pub(super) const CHECK: &str = "keyward/v1/check";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_differ_even_with_the_same_extra_randomness() {
        let keys = [(); 2].map(|()| DataKey::generate(b"the token says the same twice").unwrap());
        assert_ne!(keys[0].expose_for_wrapping(), keys[1].expose_for_wrapping());
        assert_ne!(keys[0].check_value(), keys[1].check_value());
        assert_ne!(DataKey::generate(&[]).unwrap().expose_for_wrapping(), &[0; 32]);
    }

    #[test]
    fn a_key_survives_its_bytes_and_other_lengths_are_refused() {
        let key = DataKey::generate(&[]).unwrap();
        let again = DataKey::from_secret(&SecretBytes::copy_of(key.expose_for_wrapping())).unwrap();
        assert_eq!(key.check_value(), again.check_value());
        for len in [0, 31, 33, 64] {
            assert_eq!(DataKey::from_secret(&SecretBytes::zeroed(len)).err(), Some(CryptoError));
        }
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = DataKey::from_secret(&SecretBytes::new(vec![0xab; 32])).unwrap();
        assert_eq!(format!("{key:?}"), "DataKey(Locked(..))");
    }
}
