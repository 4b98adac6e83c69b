//! Ed25519: who said so (checkpoints)?

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{CryptoError, KEY_BYTES, random};
use crate::secret::{Locked, SecretBytes};

/// An Ed25519 key that signs (checkpoints).
pub struct SigningKey(Locked<Ed25519KeyPair>);

impl SigningKey {
    /// A fresh key as PKCS#8 (RFC 8410, version 1), to be stored by the caller. Built here from a seed, because
    /// `ring`'s own document leaves a copy of the key behind that nobody wipes.
    pub fn generate_pkcs8() -> Result<SecretBytes, CryptoError> {
        let mut document = SecretBytes::zeroed(PKCS8_PREFIX.len() + KEY_BYTES);
        let (prefix, seed) = document.expose_mut().split_at_mut(PKCS8_PREFIX.len());
        prefix.copy_from_slice(&PKCS8_PREFIX);
        random(seed)?;
        Ok(document)
    }

    /// A key from PKCS#8, version 1 or 2.
    pub fn from_pkcs8(pkcs8: &SecretBytes) -> Result<Self, CryptoError> {
        let parse = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.expose()).map_err(|_| CryptoError);
        Locked::try_new_with(parse).map(Self)
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.public_key().as_ref());
        public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

/// Verifies an Ed25519 signature.
pub fn verify_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    Ok(UnparsedPublicKey::new(&ED25519, public).verify(message, signature)?)
}

/// `SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING (32 bytes follow) } }`.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_for_its_key_and_message_only() {
        let keys = [(); 2].map(|()| SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap());
        let signature = keys[0].sign(b"tree head");
        assert_eq!(verify_ed25519(&keys[0].public(), b"tree head", &signature), Ok(()));
        assert_eq!(verify_ed25519(&keys[0].public(), b"tree hea", &signature), Err(CryptoError));
        assert_eq!(verify_ed25519(&keys[1].public(), b"tree head", &signature), Err(CryptoError));
    }

    #[test]
    fn a_stored_key_is_the_same_key_again_and_rubbish_is_none() {
        let document = SigningKey::generate_pkcs8().unwrap();
        let publics = [(); 2].map(|()| SigningKey::from_pkcs8(&document).unwrap().public());
        assert_eq!(publics[0], publics[1]);
        for len in [0, 32, 48] {
            assert_eq!(SigningKey::from_pkcs8(&SecretBytes::zeroed(len)).err(), Some(CryptoError));
        }
    }
}
