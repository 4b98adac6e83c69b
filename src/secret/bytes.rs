//! Secret bytes on the heap: plaintexts, PINs, PKCS#8.

use std::fmt;
use std::hint::black_box;

use zeroize::{Zeroize, Zeroizing};

/// Secret bytes of any length on the heap: zeroised when dropped (spare capacity too), compared in constant time,
/// no Debug of content, no Clone.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership. The source buffer must be this one: a buffer that grew while it was filled has left
    /// copies behind that nobody wipes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A copy in a buffer of exactly this length; whoever owns the source wipes it.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// Zeros, to be filled through [`Self::expose_mut`].
    pub fn zeroed(len: usize) -> Self {
        Self::new(vec![0; len])
    }

    /// The bytes. Every use is reviewable: search for `expose`.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be filled or transformed in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Overwrites the first `len` bytes with zeros, in a way that the optimiser keeps.
    pub fn wipe(&mut self, len: usize) {
        if let Some(used) = self.0.get_mut(..len) {
            used.zeroize();
        }
    }

    /// How many bytes; lengths are public.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.expose(), other.expose())
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// Whether two byte strings of public length are equal, in time that depends on the length alone.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // black_box keeps the optimiser from leaving the loop once a difference is known.
    let difference = a.iter().zip(b).fold(0_u8, |seen, (x, y)| black_box(seen | (x ^ y)));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_and_nothing_of_the_content() {
        let secret = SecretBytes::copy_of(b"hunter2");
        assert_eq!(format!("{secret:?}"), "SecretBytes(7 bytes)");
    }

    #[test]
    fn equality_sees_every_single_bit_and_the_length() {
        let base = [0x5a_u8; 33];
        assert!(constant_time_eq(&base, &base));
        for bit in 0..base.len() * 8 {
            let mut other = base;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!constant_time_eq(&base, &other));
        }
        assert!(!constant_time_eq(&base, &base[..32]));
        assert!(constant_time_eq(&[], &[]));
    }
}
