//! SHA-256 and the key derivation over it.

use ring::digest::{Context, SHA256, SHA512};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::{CryptoError, KEY_BYTES};

/// SHA-256 of the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-512 of the parts, one after the other.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 64];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-256 of what does not fit into memory, part by part.
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// And of this.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Of all parts.
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// HKDF-Expand-SHA-256 of a data key under the label of one use (ENV-13). No Extract: a data key is uniformly random.
pub(super) fn expand(key: &[u8; KEY_BYTES], label: &str, out: &mut [u8]) -> Result<(), CryptoError> {
    expand_from(&Prk::new_less_safe(HKDF_SHA256, key), label.as_bytes(), out)
}

/// HKDF-SHA-256 with both steps.
pub(super) fn extract_and_expand(salt: &[u8], secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), CryptoError> {
    expand_from(&Salt::new(HKDF_SHA256, salt).extract(secret), label, out)
}

fn expand_from(prk: &Prk, label: &[u8], out: &mut [u8]) -> Result<(), CryptoError> {
    let info = [label];
    Ok(prk.expand(&info, Length(out.len()))?.fill(out)?)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
