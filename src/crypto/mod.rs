//! Which primitives does keyward use? The only door to the crypto libraries.
//! This module never sees a name, a policy or a file; it never says why an opening failed.

pub mod canonical;
mod selftest;

use crate::secret::SecretBytes;

pub use selftest::{SelfTestError, self_test};

/// The one way in which cryptography fails: opaque on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic operation failed")]
pub struct CryptoError;

/// How a value is sealed (ENV suites).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XAES-256-GCM.
    Xaes = 1,
    /// XAES-256-GCM with a 32-byte key commitment; the default.
    XaesCommitted = 2,
}

/// What a key may protect (ENV classes); each derives subkeys under labels of its own.
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

/// Bytes of the envelope's nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes of a key commitment.
pub const COMMITMENT_BYTES: usize = 32;
/// Bytes of an authentication tag.
pub const TAG_BYTES: usize = 16;

/// Random bytes from the operating system, one call.
pub fn random(_out: &mut [u8]) -> Result<(), CryptoError> {
    todo!()
}

/// SHA-256.
pub fn sha256(_parts: &[&[u8]]) -> [u8; 32] {
    todo!()
}

/// Whether two public-length byte strings are equal, in constant time.
pub fn constant_time_eq(_a: &[u8], _b: &[u8]) -> bool {
    todo!()
}

/// A 32-byte data key in locked memory. No Clone, no Debug of content; zeroised when dropped.
pub struct DataKey {}

impl DataKey {
    /// A fresh key; `extra` (an HSM's randomness, may be empty) is mixed with the operating system's.
    pub fn generate(_extra: &[u8]) -> Result<Self, CryptoError> {
        todo!()
    }

    /// A key from its 32 bytes, as an unwrap returned them.
    pub fn from_secret(_bytes: &SecretBytes) -> Result<Self, CryptoError> {
        todo!()
    }

    /// The key-check value: 16 bytes by HKDF under a label of its own; says nothing about the key.
    pub fn check_value(&self) -> [u8; 16] {
        todo!()
    }

    /// The 32 bytes, for wrapping under a KEK and nothing else.
    pub fn expose_for_wrapping(&self) -> &[u8; 32] {
        todo!()
    }
}

/// The schedules of one key class of one data key: XAES key, commitment key. In locked memory.
pub struct MessageKey {}

impl MessageKey {
    /// Derives the subkeys of a class.
    pub fn derive(_key: &DataKey, _class: KeyClass) -> Result<Self, CryptoError> {
        todo!()
    }

    /// Appends `[commitment] || ciphertext || tag` to `out` (commitment for the committed suite only).
    pub fn seal(
        &self,
        _suite: Suite,
        _header: &[u8; 12],
        _nonce: &[u8; NONCE_BYTES],
        _aad: &[u8],
        _plaintext: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        todo!()
    }

    /// Opens `[commitment] || ciphertext || tag`.
    pub fn open(
        &self,
        _suite: Suite,
        _header: &[u8; 12],
        _nonce: &[u8; NONCE_BYTES],
        _aad: &[u8],
        _sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        todo!()
    }
}

/// An HMAC-SHA-256 key derived from a data key under a label, in locked memory.
pub struct MacKey {}

impl MacKey {
    /// Derives the key for one use; the label names it (`keyward/v1/rows`, ...).
    pub fn derive(_key: &DataKey, _label: &'static str) -> Result<Self, CryptoError> {
        todo!()
    }

    /// The tag over the parts, in order (parts must come from [`canonical`]: no separators are added).
    pub fn tag(&self, _parts: &[&[u8]]) -> [u8; 32] {
        todo!()
    }

    /// Whether the tag is right, in constant time.
    pub fn verify(&self, _parts: &[&[u8]], _tag: &[u8]) -> Result<(), CryptoError> {
        todo!()
    }
}

/// An Ed25519 key that signs (checkpoints).
pub struct SigningKey {}

impl SigningKey {
    /// A fresh key as PKCS#8, to be stored by the caller.
    pub fn generate_pkcs8() -> Result<SecretBytes, CryptoError> {
        todo!()
    }

    /// A key from PKCS#8.
    pub fn from_pkcs8(_pkcs8: &SecretBytes) -> Result<Self, CryptoError> {
        todo!()
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        todo!()
    }

    /// Signs a message.
    pub fn sign(&self, _message: &[u8]) -> [u8; 64] {
        todo!()
    }
}

/// Verifies an Ed25519 signature.
pub fn verify_ed25519(_public: &[u8], _message: &[u8], _signature: &[u8]) -> Result<(), CryptoError> {
    todo!()
}
