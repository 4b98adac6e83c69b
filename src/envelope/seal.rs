//! How does a sealed value come together? Header and nonce here, the rest by the key that the caller holds.

use super::{HEADER_BYTES, Header, MAX_CIPHERTEXT_BYTES, Nonce, text};
use crate::crypto::{CryptoError, NONCE_BYTES};

/// Why a value was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is larger than [`MAX_CIPHERTEXT_BYTES`].
    #[error("the plaintext is larger than {MAX_CIPHERTEXT_BYTES} bytes")]
    TooLong,
    /// The key did not seal.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A sealed value in its text form. `seal` appends `[commitment] || ciphertext || tag` for the header and the nonce
/// that it is given, for instance
/// `|header, nonce, out| key.seal(header, nonce, &aad, plaintext, out)`.
/// `plaintext_bytes` is the plaintext's length, so that the one buffer is allocated once.
pub fn seal_text(
    header: &Header,
    nonce: Nonce,
    plaintext_bytes: usize,
    seal: impl FnOnce(&[u8; HEADER_BYTES], &[u8; NONCE_BYTES], &mut Vec<u8>) -> Result<(), CryptoError>,
) -> Result<String, SealError> {
    seal_binary(header, nonce, plaintext_bytes, seal).map(|value| text::encode(&value))
}

/// As [`seal_text`], in the binary form (ENV-1).
pub fn seal_binary(
    header: &Header,
    nonce: Nonce,
    plaintext_bytes: usize,
    seal: impl FnOnce(&[u8; HEADER_BYTES], &[u8; NONCE_BYTES], &mut Vec<u8>) -> Result<(), CryptoError>,
) -> Result<Vec<u8>, SealError> {
    if plaintext_bytes > MAX_CIPHERTEXT_BYTES {
        return Err(SealError::TooLong);
    }
    let whole = header.overhead().saturating_add(plaintext_bytes);
    let (header, nonce) = (header.encode(), nonce.into_bytes());
    let mut out = Vec::with_capacity(whole);
    out.extend_from_slice(&header);
    out.extend_from_slice(&nonce);
    seal(&header, &nonce, &mut out)?;
    // A key that sealed under another suite than the header's would leave a value that nobody can open.
    if out.len() == whole { Ok(out) } else { Err(SealError::Crypto(CryptoError)) }
}
