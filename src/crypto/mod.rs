//! Which primitives does keyward use? The only door to the crypto libraries.
//! This module never sees a name, a policy or a file; it never says why an opening failed.
//!
//! `ring` does the work on bulk data (AES-256-GCM, SHA-256, HMAC, HKDF, Ed25519, randomness); the `aes` crate gives the
//! single AES block that XAES-256-GCM adds, because its key schedule is a plain value that can live in locked memory;
//! `aes-gcm` is the second implementation that the self-test compares with; `crypto-bigint` raises to a public RSA exponent,
//! which `ring` does only to verify.
//! Not covered by locked memory: the AES-256-GCM schedule of one message, which `ring` keeps on the stack.

pub mod canonical;
mod gcm;
mod hash;
mod key;
mod mac;
mod message;
mod oaep;
mod random;
mod selftest;
mod sign;
#[doc(hidden)]
pub mod vectors;
mod verify;
mod wrapping;
mod xaes;

pub use crate::secret::constant_time_eq;
pub use hash::{Sha256, sha256, sha512};
pub use key::DataKey;
pub use mac::MacKey;
pub use message::MessageKey;
pub use oaep::{OaepHash, RsaPublicKey};
pub use random::random;
pub use selftest::{SelfTestError, self_test};
pub use sign::{SigningKey, verify_ed25519};
pub use verify::{PublicKey, RsaHash, verify_signature};
pub use wrapping::WrappingKey;

use crate::secret::SlabError;

/// The one way in which cryptography fails: opaque on purpose.
///
/// Making a key (`generate`, `from_secret`, `derive`) fails only for want of a slot in locked memory or of
/// randomness, or for a length that is none of a key; it never says anything about the key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic operation failed")]
pub struct CryptoError;

impl From<ring::error::Unspecified> for CryptoError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self
    }
}

impl From<SlabError> for CryptoError {
    fn from(_: SlabError) -> Self {
        Self
    }
}

/// How a value is sealed (ENV-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XAES-256-GCM.
    Xaes = 1,
    /// XAES-256-GCM with a 32-byte key commitment; the default.
    XaesCommitted = 2,
}

/// What a key may protect (ENV-5); each derives subkeys under labels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyClass {
    /// Sealed fields.
    Field = 1,
    /// Deterministic values.
    Deterministic = 2,
    /// Large objects.
    Object = 3,
    /// Partition keys, sealed by a data key.
    Partition = 4,
    /// Data keys handed to a caller.
    Caller = 5,
    /// keyward's own: store, log, look-up.
    System = 6,
}

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of the envelope's nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes of a key commitment.
pub const COMMITMENT_BYTES: usize = 32;
/// Bytes of an authentication tag.
pub const TAG_BYTES: usize = 16;
