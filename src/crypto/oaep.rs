//! How is a key encrypted to an RSA key in a token? RSAES-OAEP (RFC 8017, section 7.1.1) with the public key, no label.
//! Encryption only: no private key ever comes here. The padded message passes through big integers that are not wiped.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use ring::digest;
use zeroize::Zeroizing;

use super::{CryptoError, random};
use crate::secret::SecretBytes;

/// The hash of OAEP and of its mask generation function MGF1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OaepHash {
    /// SHA-1, for tokens that have no other. OAEP does not rest on its resistance to collisions.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// An RSA public key for encryption.
#[derive(Debug, Clone)]
pub struct RsaPublicKey {
    modulus: Odd<BoxedUint>,
    exponent: BoxedUint,
    len: usize,
}

impl RsaPublicKey {
    /// A key from its modulus and public exponent, big-endian. Refused: moduli that are even or outside of 2,048 to 4,096
    /// bits (SP 800-56B section 6.2.1, and what a stored wrap has room for), and exponents that are even or below 65,537.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, CryptoError> {
        let key = Self::of_any_size(modulus, exponent)?;
        let exponent = key.exponent.to_be_bytes_trimmed_vartime();
        let small = exponent.len() < 3;
        let even = exponent.last().is_none_or(|byte| byte & 1 == 0);
        if !(256..=512).contains(&key.len) || small || even {
            return Err(CryptoError);
        }
        Ok(key)
    }

    /// [`Self::new`] for published vectors, whose keys are short.
    pub(super) fn of_any_size(modulus: &[u8], exponent: &[u8]) -> Result<Self, CryptoError> {
        let modulus = BoxedUint::from_be_slice_vartime(modulus);
        let len = usize::try_from(modulus.bits_vartime().div_ceil(8)).map_err(|_| CryptoError)?;
        let exponent = BoxedUint::from_be_slice_vartime(exponent);
        let modulus = modulus.into_odd().into_option().ok_or(CryptoError)?;
        Ok(Self { modulus, exponent, len })
    }

    /// Encrypts at most `modulus - 2 * hash - 2` bytes.
    pub fn encrypt(&self, hash: OaepHash, message: &SecretBytes) -> Result<Vec<u8>, CryptoError> {
        let mut seed = Zeroizing::new(vec![0; hash.len()]);
        random(&mut seed)?;
        self.encrypt_with_seed(hash, message.expose(), &seed)
    }

    /// [`Self::encrypt`] with a seed that was chosen.
    pub(super) fn encrypt_with_seed(
        &self,
        hash: OaepHash,
        message: &[u8],
        seed: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let padded = self.pad(hash, message, seed)?;
        let precision = self.modulus.bits_precision();
        let integer = BoxedUint::from_be_slice(&padded, precision).map_err(|_| CryptoError)?;
        let parameters = BoxedMontyParams::new_vartime(self.modulus.clone());
        // The exponent is public, and so is its length.
        let power = BoxedMontyForm::new(integer, &parameters)
            .pow_bounded_exp(&self.exponent, self.exponent.bits_vartime())
            .retrieve();
        let bytes = power.to_be_bytes();
        let from = bytes.len().checked_sub(self.len).ok_or(CryptoError)?;
        Ok(bytes.get(from..).ok_or(CryptoError)?.to_vec())
    }

    /// `0x00 || masked seed || masked (hash of the empty label || zeros || 0x01 || message)`.
    fn pad(&self, hash: OaepHash, message: &[u8], seed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let room = self.len.checked_sub(2 * hash.len() + 2).ok_or(CryptoError)?;
        let zeros = room.checked_sub(message.len()).ok_or(CryptoError)?;
        let mut padded = Zeroizing::new(Vec::with_capacity(self.len));
        padded.push(0);
        padded.extend_from_slice(seed);
        padded.extend_from_slice(digest::digest(hash.algorithm(), b"").as_ref());
        let end = padded.len() + zeros;
        padded.resize(end, 0);
        padded.push(1);
        padded.extend_from_slice(message);
        let (seed, block) = padded.get_mut(1..).ok_or(CryptoError)?.split_at_mut(hash.len());
        hash.mask(seed, block);
        hash.mask(block, seed);
        Ok(padded)
    }
}

impl OaepHash {
    const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    /// Adds MGF1 (RFC 8017, appendix B.2.1) of `seed` to `out`.
    fn mask(self, seed: &[u8], out: &mut [u8]) {
        for (counter, block) in (0_u32..).zip(out.chunks_mut(self.len())) {
            let mut context = digest::Context::new(self.algorithm());
            context.update(seed);
            context.update(&counter.to_be_bytes());
            let mask = context.finish();
            block.iter_mut().zip(mask.as_ref()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_even_and_small_keys_are_refused() {
        let modulus = [0xC1; 256];
        assert!(RsaPublicKey::new(&modulus, &[1, 0, 1]).is_ok());
        assert!(RsaPublicKey::new(&modulus[..128], &[1, 0, 1]).is_err(), "1,024 bits");
        assert!(RsaPublicKey::new(&[[0xC1; 255].as_slice(), &[0xC0]].concat(), &[1, 0, 1]).is_err(), "an even modulus");
        assert!(RsaPublicKey::new(&modulus, &[3]).is_err(), "a small exponent");
        assert!(RsaPublicKey::new(&modulus, &[1, 0, 0]).is_err(), "an even exponent");
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_and_no_two_encryptions_are_alike() {
        let key = RsaPublicKey::new(&[0xC1; 256], &[1, 0, 1]).unwrap();
        let encrypt = |len| key.encrypt(OaepHash::Sha256, &SecretBytes::zeroed(len));
        assert!(encrypt(191).is_err());
        assert_eq!(encrypt(190).unwrap().len(), 256);
        assert_ne!(encrypt(32).unwrap(), encrypt(32).unwrap());
    }
}
