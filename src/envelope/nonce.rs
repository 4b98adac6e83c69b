//! Nonces that serve once (ENV-15): drawn from the operating system in one call for a whole request, moved into the
//! sealing that uses them, and gone with the request. Nobody can choose, copy or keep one.

use crate::crypto::{CryptoError, NONCE_BYTES, random};

/// One nonce for one sealing.
#[must_use]
#[derive(Debug)]
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// The bytes; only sealing asks, and it consumes the nonce.
    pub(super) const fn into_bytes(self) -> [u8; NONCE_BYTES] {
        self.0
    }

    /// A nonce of the caller's choice, for published vectors and nothing else: sealing two values under one key with
    /// one nonce gives both away.
    #[doc(hidden)]
    pub const fn insecure_fixed(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }
}

/// The nonces of one request.
#[must_use]
#[derive(Debug)]
pub struct Nonces(std::vec::IntoIter<[u8; NONCE_BYTES]>);

impl Nonces {
    /// Draws `count` nonces with one call to the operating system.
    pub fn draw(count: usize) -> Result<Self, CryptoError> {
        let mut nonces = vec![[0; NONCE_BYTES]; count];
        random(nonces.as_flattened_mut())?;
        Ok(Self(nonces.into_iter()))
    }
}

impl Iterator for Nonces {
    type Item = Nonce;

    fn next(&mut self) -> Option<Nonce> {
        self.0.next().map(Nonce)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Nonces {}
