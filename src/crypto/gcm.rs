//! AES-256-GCM under a key that serves one message (or one vector): 96-bit nonce, 128-bit tag, detached.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::{CryptoError, KEY_BYTES, TAG_BYTES};

/// Bytes of AES-256-GCM's own nonce.
pub(super) const GCM_NONCE_BYTES: usize = 12;

/// Encrypts in place; the tag is the result.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: [u8; GCM_NONCE_BYTES],
    aad: &[u8],
    in_out: &mut [u8],
) -> Result<[u8; TAG_BYTES], CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = schedule(key)?.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)?;
    tag.as_ref().try_into().map_err(|_| CryptoError)
}

/// Decrypts in place. On an error the content of `in_out` is undefined and must be wiped.
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: [u8; GCM_NONCE_BYTES],
    aad: &[u8],
    in_out: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), CryptoError> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    schedule(key)?.open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(*tag), in_out, 0..)?;
    Ok(())
}

fn schedule(key: &[u8; KEY_BYTES]) -> Result<LessSafeKey, CryptoError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?))
}
