//! Keys that wrap data keys by XAES-256-GCM: the software key-encryption key, straight from a file, and the fresh key that a
//! token wraps when its mechanism cannot authenticate what a wrap is bound to.

use zeroize::Zeroizing;

use super::xaes::Xaes;
use super::{CryptoError, KEY_BYTES, NONCE_BYTES, TAG_BYTES, hash};
use crate::secret::{Locked, SecretBytes};

/// A 32-byte key that wraps data keys, its schedule in locked memory. The key serves this and nothing else.
pub struct WrappingKey(Locked<Xaes>);

impl WrappingKey {
    /// A key from its 32 bytes; any other length is an error.
    pub fn from_secret(bytes: &SecretBytes) -> Result<Self, CryptoError> {
        let bytes: &[u8; KEY_BYTES] = bytes.expose().try_into().map_err(|_| CryptoError)?;
        Ok(Self(Locked::new_with(|| Xaes::new(bytes))?))
    }

    /// The key of one wrap, from the 32 bytes that a token wrapped: HKDF-SHA-256 with the wrap's binding in its label, so
    /// that a wrap moved to another place derives another key and does not open.
    pub fn bound(fresh: &SecretBytes, label: &[u8], binding: &[u8]) -> Result<Self, CryptoError> {
        if fresh.len() != KEY_BYTES {
            return Err(CryptoError);
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hash::extract_and_expand(&[], fresh.expose(), &[label, binding].concat(), key.as_mut_slice())?;
        Ok(Self(Locked::new_with(|| Xaes::new(&key))?))
    }

    /// `ciphertext || tag`. The nonce must be drawn at random for each wrap.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = Vec::with_capacity(plaintext.len() + TAG_BYTES);
        self.0.seal_onto(nonce, aad, plaintext, &mut out)?;
        Ok(out)
    }

    /// Opens `ciphertext || tag`.
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, CryptoError> {
        self.0.open(nonce, aad, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_opens_under_its_own_key_nonce_and_binding_only() {
        let key = |byte| WrappingKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap();
        let wrap = key(1).seal(&[7; 24], b"binding", &[0x11; 32]).unwrap();
        assert_eq!(key(1).open(&[7; 24], b"binding", &wrap).unwrap().expose(), [0x11; 32]);
        assert!(key(2).open(&[7; 24], b"binding", &wrap).is_err());
        assert!(key(1).open(&[8; 24], b"binding", &wrap).is_err());
        assert!(key(1).open(&[7; 24], b"Binding", &wrap).is_err());
        assert!(WrappingKey::from_secret(&SecretBytes::zeroed(16)).is_err());
    }

    #[test]
    fn a_bound_key_opens_with_its_own_binding_only() {
        let key =
            |byte, binding: &[u8]| WrappingKey::bound(&SecretBytes::new(vec![byte; 32]), b"label\0", binding).unwrap();
        let wrap = key(1, b"row 1").seal(&[7; 24], b"", &[0x11; 32]).unwrap();
        assert_eq!(key(1, b"row 1").open(&[7; 24], b"", &wrap).unwrap().expose(), [0x11; 32]);
        assert!(key(1, b"row 2").open(&[7; 24], b"", &wrap).is_err());
        assert!(key(2, b"row 1").open(&[7; 24], b"", &wrap).is_err());
        assert!(WrappingKey::bound(&SecretBytes::zeroed(31), b"label\0", b"").is_err());
    }
}
