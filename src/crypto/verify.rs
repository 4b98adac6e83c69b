//! Did the holder of this key sign that? Signatures of other people's keys: none of these keys is ever ours.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::CryptoError;

/// A public key with the scheme that it signs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// Ed25519 (RFC 8032), 32 bytes.
    Ed25519(&'a [u8]),
    /// ECDSA over P-256 with SHA-256 (FIPS 186-5): the point as `04 || X || Y`, signatures as `r || s` of 32 bytes each.
    EcdsaP256(&'a [u8]),
    /// ECDSA over P-384 with SHA-384: 48 bytes each.
    EcdsaP384(&'a [u8]),
    /// RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2), 2,048 to 8,192 bits; both numbers big-endian without leading zeros.
    Rsa {
        /// The modulus.
        modulus: &'a [u8],
        /// The public exponent.
        exponent: &'a [u8],
        /// The hash.
        hash: RsaHash,
    },
}

/// The hash of an RSA signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// Verifies a signature over a message, which is hashed here. Whatever is wrong is one error.
pub fn verify_signature(key: PublicKey<'_>, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    match key {
        PublicKey::Ed25519(public) => UnparsedPublicKey::new(&ED25519, public).verify(message, signature)?,
        PublicKey::EcdsaP256(point) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)?;
        }
        PublicKey::EcdsaP384(point) => {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)?;
        }
        PublicKey::Rsa { modulus, exponent, hash } => {
            let scheme = match hash {
                RsaHash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                RsaHash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            };
            RsaPublicKeyComponents { n: modulus, e: exponent }.verify(scheme, message, signature)?;
        }
    }
    Ok(())
}
