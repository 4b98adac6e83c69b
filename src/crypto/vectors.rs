//! Primitives with the caller's own keys and nonces, for published vectors and nothing else: a nonce that is chosen
//! instead of drawn is how this cryptography is broken. No other module may use this one.

use ring::hmac;

use super::xaes::Xaes;
use super::{CryptoError, KEY_BYTES, NONCE_BYTES, TAG_BYTES, gcm, hash};
use crate::secret::SecretBytes;

/// AES-256-GCM: `ciphertext || tag`.
pub fn insecure_gcm_seal(
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut out = plaintext.to_vec();
    let tag = gcm::seal(key, nonce, aad, &mut out)?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// AES-256-GCM: opens `ciphertext || tag`.
pub fn insecure_gcm_open(
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, CryptoError> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(CryptoError)?;
    let mut plaintext = SecretBytes::copy_of(ciphertext);
    gcm::open(key, nonce, aad, plaintext.expose_mut(), tag)?;
    Ok(plaintext)
}

/// The key and the nonce that XAES-256-GCM derives for a message.
pub fn insecure_xaes_derive(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES]) -> ([u8; KEY_BYTES], [u8; 12]) {
    let (key, nonce) = Xaes::new(key).derive(nonce);
    (*key, nonce)
}

/// XAES-256-GCM: appends `ciphertext || tag`.
pub fn insecure_xaes_seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    Xaes::new(key).seal_onto(nonce, aad, plaintext, out)
}

/// XAES-256-GCM: opens `ciphertext || tag`.
pub fn insecure_xaes_open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, CryptoError> {
    Xaes::new(key).open(nonce, aad, sealed)
}

/// HKDF-SHA-256, both steps.
pub fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), CryptoError> {
    hash::extract_and_expand(salt, secret, info, out)
}

/// HMAC-SHA-256.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

/// RSAES-OAEP with a key of any size and a seed that was chosen.
pub fn insecure_oaep_encrypt(
    (modulus, exponent): (&[u8], &[u8]),
    hash: super::OaepHash,
    message: &[u8],
    seed: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    super::RsaPublicKey::of_any_size(modulus, exponent)?.encrypt_with_seed(hash, message, seed)
}
