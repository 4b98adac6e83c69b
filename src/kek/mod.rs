//! Who can wrap and unwrap a data key? The key-encryption key in a token, a KMS or, for development, a file.
//! This module never stores a wrap, never decides who may use it and never logs: it reports what happened as values.

use crate::clock::{BoxFuture, Deadline, Wall};
use crate::crypto::DataKey;
use crate::names::{KekName, KeyVersionId, StoreId};

/// Which of the independent wraps of a key this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WrapRole {
    /// The wrap that daily work uses.
    Primary,
    /// The wrap for the day the primary is lost.
    Escrow,
}

/// What a wrap is bound to: a row swapped in the database does not unwrap.
#[derive(Debug, Clone)]
pub struct WrapBinding {
    /// The store that holds the wrap.
    pub store: StoreId,
    /// `tenant/name` of the keyring, or the use of a system key (`kw.store`, `kw.pseudonym`).
    pub owner: String,
    /// The wrapped key.
    pub key: KeyVersionId,
    /// The KEK as configured.
    pub kek: KekName,
    /// Primary or escrow.
    pub role: WrapRole,
    /// When the key was made.
    pub created: Wall,
}

impl WrapBinding {
    /// The canonical bytes (label `keyward/wrap/v1`): the AAD where the mechanism has one. Method and algorithm are part of it.
    pub fn encode(&self, _method: Method) -> Vec<u8> {
        todo!()
    }
}

/// How a wrap was made; recorded in it, so that a later profile change still unwraps older values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Development only: XAES-256-GCM under a key in a file.
    Software,
    /// CKM_AES_GCM with the binding as AAD and an IV of the caller.
    AesGcmCallerIv,
}

/// A wrapped data key, self-describing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// The KEK as configured.
    pub kek: KekName,
    /// The KEK's version (1, 2, ...), part of its object label in the token.
    pub kek_version: u32,
    /// How it was made.
    pub method: Method,
    /// Method-specific bytes (for AES-GCM: IV, ciphertext, tag).
    pub blob: Vec<u8>,
    /// Key-check value of the data key, compared after every unwrap.
    pub check_value: [u8; 16],
}

impl Wrap {
    /// The stored form: schema number, then fields.
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// Strict inverse of [`Self::encode`].
    pub fn decode(_bytes: &[u8]) -> Result<Self, KekError> {
        todo!()
    }
}

/// Why a wrap or an unwrap failed, by who must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// The token or KMS cannot be reached; retrying is right, leases run on.
    #[error("the key-encryption key {kek} is unreachable: {detail}")]
    Unreachable {
        /// Which KEK.
        kek: KekName,
        /// The return code or system error, never a secret.
        detail: String,
    },
    /// The token answered and said no (disabled, forbidden, wrong PIN, key gone); cached keys are evicted.
    #[error("the key-encryption key {kek} refused: {detail}")]
    Denied {
        /// Which KEK.
        kek: KekName,
        /// The return code in words.
        detail: String,
    },
    /// The wrap does not open under its binding, or its check value differs: tampered, swapped or foreign.
    #[error("the wrapped key does not open")]
    BadWrap,
    /// The deadline passed.
    #[error("the key-encryption key {0} did not answer in time")]
    Deadline(KekName),
}

/// Facts for the `kek.admitted` record and readiness. Texts come from the token: cleaned to printable ASCII.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KekFacts {
    /// `software`, `pkcs11`.
    pub kind: &'static str,
    /// Manufacturer, model, serial, firmware, library version; empty where unknown.
    pub manufacturer: String,
    /// Token model.
    pub model: String,
    /// Token serial.
    pub serial: String,
    /// Firmware and library version.
    pub version: String,
    /// Whether only development may use it.
    pub development_only: bool,
}

/// What is known of a KEK's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KekHealth {
    /// The last call or canary succeeded.
    Reachable,
    /// The last call failed to reach it.
    Unreachable,
    /// The last call was refused.
    Denied,
}

/// A key-encryption key. Implementations own their threads and processes; every call ends by its deadline.
pub trait Kek: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &KekName;
    /// Admission facts, known after a successful start.
    fn facts(&self) -> KekFacts;
    /// Wraps a data key under the binding.
    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>>;
    /// Unwraps; the check value has been compared when this returns a key.
    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>>;
    /// Randomness of the token to mix into new keys; empty where there is none.
    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>>;
    /// What the last calls showed; never calls the token.
    fn health(&self) -> KekHealth;
}
