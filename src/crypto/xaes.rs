//! XAES-256-GCM (c2sp.org/XAES-256-GCM, ENV-16): AES-256-GCM under a key derived from half of a 192-bit nonce.
//! Its security rests on nonces that are drawn at random; who draws them is the caller's business.

use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes256Enc, Block};
use zeroize::{Zeroize, Zeroizing};

use super::gcm::GCM_NONCE_BYTES;
use super::{CryptoError, KEY_BYTES, NONCE_BYTES, TAG_BYTES, gcm};
use crate::secret::SecretBytes;

/// The part of the work that depends on the key alone. To be kept in locked memory.
pub(super) struct Xaes {
    cipher: Aes256Enc,
    /// CMAC's first subkey, K1.
    k1: [u8; 16],
}

impl Xaes {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let cipher = Aes256Enc::new(&Array::from(*key));
        let mut l = Block::default();
        cipher.encrypt_block(&mut l);
        let k1 = double(u128::from_be_bytes(l.into())).to_be_bytes();
        l.zeroize();
        Self { cipher, k1 }
    }

    /// Appends `ciphertext || tag`. The plaintext goes straight to its place in `out` and is sealed there; if that
    /// fails, `out` is as it was and the place is wiped.
    pub(super) fn seal_onto(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let start = out.len();
        // Before the plaintext comes in: a buffer that grew later would leave a copy of it behind.
        out.reserve(plaintext.len() + TAG_BYTES);
        out.extend_from_slice(plaintext);
        let (key, gcm_nonce) = self.derive(nonce);
        let body = out.get_mut(start..).unwrap_or_default();
        match gcm::seal(&key, gcm_nonce, aad, body) {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(CryptoError) => {
                wipe_from(out, start);
                return Err(CryptoError);
            }
        }
        Ok(())
    }

    /// Opens `ciphertext || tag` in a buffer that wipes itself, whatever the outcome (ENV-19).
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(CryptoError)?;
        let mut plaintext = SecretBytes::copy_of(ciphertext);
        let (key, gcm_nonce) = self.derive(nonce);
        gcm::open(&key, gcm_nonce, aad, plaintext.expose_mut(), tag)?;
        Ok(plaintext)
    }

    /// The key and nonce of one message: CMAC of two single blocks, so two AES calls.
    pub(super) fn derive(&self, nonce: &[u8; NONCE_BYTES]) -> (Zeroizing<[u8; KEY_BYTES]>, [u8; GCM_NONCE_BYTES]) {
        let (context, gcm_nonce) = halves(nonce);
        let mut blocks = [self.input(1, &context), self.input(2, &context)];
        self.cipher.encrypt_blocks(&mut blocks);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let (low, high) = key.split_at_mut(16);
        let [first, second] = &mut blocks;
        low.copy_from_slice(first);
        high.copy_from_slice(second);
        first.zeroize();
        second.zeroize();
        (key, gcm_nonce)
    }

    /// `00 counter 58 00 || nonce[..12]`, masked with K1.
    fn input(&self, counter: u8, context: &[u8; 12]) -> Block {
        let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        block.iter_mut().skip(4).zip(context).for_each(|(to, from)| *to = *from);
        block.iter_mut().zip(&self.k1).for_each(|(to, mask)| *to ^= mask);
        Block::from(block)
    }
}

impl Drop for Xaes {
    fn drop(&mut self) {
        self.k1.zeroize();
    }
}

/// Doubling in GF(2^128), as CMAC does it; without a branch on the secret bit.
const fn double(l: u128) -> u128 {
    (l << 1) ^ ((l >> 127) * 0x87)
}

fn halves(nonce: &[u8; NONCE_BYTES]) -> ([u8; 12], [u8; GCM_NONCE_BYTES]) {
    let mut halves = ([0; 12], [0; GCM_NONCE_BYTES]);
    halves.0.iter_mut().chain(halves.1.iter_mut()).zip(nonce).for_each(|(to, from)| *to = *from);
    halves
}

fn wipe_from(out: &mut Vec<u8>, start: usize) {
    out.get_mut(start..).unwrap_or_default().zeroize();
    out.truncate(start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vector_of_the_specification_holds() {
        let xaes = Xaes::new(&[1; 32]);
        let mut out = b"kept".to_vec();
        xaes.seal_onto(b"ABCDEFGHIJKLMNOPQRSTUVWX", b"", b"XAES-256-GCM", &mut out).unwrap();
        assert_eq!(hex::encode(&out[4..]), "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
        assert_eq!(&out[..4], b"kept");
        let opened = xaes.open(b"ABCDEFGHIJKLMNOPQRSTUVWX", b"", &out[4..]).unwrap();
        assert_eq!(opened.expose(), b"XAES-256-GCM");
    }

    #[test]
    fn a_failed_sealing_leaves_the_output_as_it_was() {
        let mut out = b"keptsecret".to_vec();
        wipe_from(&mut out, 4);
        assert_eq!(out, b"kept");
        wipe_from(&mut out, 4);
        wipe_from(&mut out, 9);
        assert_eq!(out, b"kept");
    }

    #[test]
    fn sealing_into_a_buffer_that_is_large_enough_does_not_move_it() {
        let mut out = Vec::with_capacity(64 + TAG_BYTES);
        let before = out.as_ptr();
        Xaes::new(&[9; 32]).seal_onto(&[0; 24], b"", &[5; 64], &mut out).unwrap();
        assert_eq!((before, out.len()), (out.as_ptr(), 64 + TAG_BYTES));
    }
}
