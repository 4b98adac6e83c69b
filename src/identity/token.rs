//! What is a bearer token? At least 256 random bits as base64url text, of which the configuration keeps the SHA-256 only.
//! This module never stores a token and never prints one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::crypto::{CryptoError, random, sha256};
use crate::secret::SecretBytes;

/// Marks our tokens for people and for secret scanners.
pub const PREFIX: &str = "kwt_";
/// 256 bits in base64url; a shorter text cannot hold enough randomness to be safe as a bare SHA-256.
pub const MIN_CHARS: usize = 43;
/// Nobody needs more, and the hash is computed before anybody is recognised.
pub const MAX_CHARS: usize = 256;

/// A new token: shown once, then only its hash is kept. No Debug.
pub struct Token {
    /// The text that a client sends after `Bearer `.
    pub text: SecretBytes,
    /// What the configuration keeps.
    pub sha256: [u8; 32],
}

/// Makes a token from 32 random bytes.
pub fn generate() -> Result<Token, CryptoError> {
    let mut bytes = SecretBytes::zeroed(32);
    random(bytes.expose_mut())?;
    // Room for all of it from the start: a growing String would leave copies behind.
    let mut text = String::with_capacity(PREFIX.len() + MIN_CHARS);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes.expose(), &mut text);
    let hash = sha256(&[text.as_bytes()]);
    Ok(Token { text: SecretBytes::new(text.into_bytes()), sha256: hash })
}

/// The hash of an offered token; None if the text cannot be a token at all (too short, too long, not base64url).
pub fn hash(text: &[u8]) -> Option<[u8; 32]> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let sized = (MIN_CHARS..=MAX_CHARS).contains(&text.len());
    (sized && text.iter().all(allowed)).then(|| sha256(&[text]))
}
