//! How is a wrap bound to its place when the token's mechanism authenticates nothing else? The token wraps a fresh key, and
//! the data key is sealed under what is derived from that key and the binding.
//!
//! The blob: `u16 length || what the token returned || nonce || ciphertext || tag`, big-endian. The key of the seal is
//! HKDF-SHA-256 of the fresh key with the label `keyward/bound/v1` and the binding.

#![deny(clippy::indexing_slicing)]

use crate::crypto::{self, CryptoError, DataKey, NONCE_BYTES, WrappingKey};
use crate::secret::SecretBytes;

/// A data key sealed under a fresh key: `nonce || ciphertext || tag`.
pub(super) fn seal(fresh: &SecretBytes, binding: &[u8], key: &DataKey) -> Result<Vec<u8>, CryptoError> {
    let mut nonce = [0; NONCE_BYTES];
    crypto::random(&mut nonce)?;
    let sealed = WrappingKey::bound(fresh, LABEL, binding)?.seal(&nonce, binding, key.expose_for_wrapping())?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// The data key's bytes.
pub(super) fn open(fresh: &SecretBytes, binding: &[u8], sealed: &[u8]) -> Result<SecretBytes, CryptoError> {
    let (nonce, sealed) = sealed.split_first_chunk().ok_or(CryptoError)?;
    WrappingKey::bound(fresh, LABEL, binding)?.open(nonce, binding, sealed)
}

/// The stored blob.
pub(super) fn join(by_token: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(by_token.len()).ok()?.to_be_bytes();
    Some([len.as_slice(), by_token, sealed].concat())
}

/// What the token returned, and the sealed key: the latter has one length only, so that a blob has one reading.
pub(super) fn split(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = blob.split_first_chunk()?;
    let (by_token, sealed) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    (sealed.len() == SEALED_BYTES && !by_token.is_empty()).then_some((by_token, sealed))
}

const LABEL: &[u8] = b"keyward/bound/v1\0";
/// Nonce, data key, tag.
const SEALED_BYTES: usize = NONCE_BYTES + 32 + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_key_opens_under_its_fresh_key_and_binding_only() {
        let key = DataKey::from_secret(&SecretBytes::new(vec![9; 32])).unwrap();
        let fresh = |byte| SecretBytes::new(vec![byte; 32]);
        let sealed = seal(&fresh(1), b"row 1", &key).unwrap();
        assert_eq!(open(&fresh(1), b"row 1", &sealed).unwrap().expose(), [9; 32]);
        assert!(open(&fresh(1), b"row 2", &sealed).is_err());
        assert!(open(&fresh(2), b"row 1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&fresh(1), b"row 1", &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_blob_has_one_reading() {
        let sealed = [7; SEALED_BYTES];
        let blob = join(&[1; 40], &sealed).unwrap();
        assert_eq!(split(&blob), Some(([1; 40].as_slice(), sealed.as_slice())));
        for len in 0..blob.len() {
            assert_eq!(split(&blob[..len]), None, "{len} bytes");
        }
        assert_eq!(split(&[blob.as_slice(), &[0]].concat()), None);
        assert_eq!(split(&join(&[], &sealed).unwrap()), None);
    }
}
