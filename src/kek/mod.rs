//! Who can wrap and unwrap a data key? The key-encryption key in a token, a KMS or, for development, a file.
//! This module never stores a wrap, never decides who may use it and never logs: it reports what happened as values.

mod breaker;
mod events;
mod metered;
pub mod pkcs11;
mod private_file;
pub mod probe;
pub mod profile;
mod report;
mod settings;
mod software;
pub mod transit;
mod wrap;

use crate::clock::{BoxFuture, Deadline, Mono, Wall};
use crate::crypto::{self, DataKey};
use crate::names::KekName;
use crate::secret::SecretBytes;

pub use events::{EventSink, KekEvent};
pub use metered::Metered;
pub use private_file::PrivateFileError;
pub use report::{KekReport, KekVersion, Rotated, Uptake, inspect, rotate};
pub use settings::{Deployment, Settings, StartError, start};
pub use software::{DevelopmentOnly, SoftwareKek, SoftwareSettings};
pub use wrap::{Method, Wrap, WrapBinding, WrapRole};

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
    /// The wrap was written by a newer keyward, or by a method that this one does not have.
    #[error("{0}")]
    Unsupported(String),
    /// The deadline passed.
    #[error("the key-encryption key {0} did not answer in time")]
    Deadline(KekName),
}

/// Facts for the `kek.admitted` record and readiness. Texts come from the token: cleaned to printable ASCII.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KekFacts {
    /// `software`, `pkcs11`, `transit`.
    pub kind: &'static str,
    /// Manufacturer, model, serial, firmware, library version; empty where unknown.
    pub manufacturer: String,
    /// Token model.
    pub model: String,
    /// Token serial.
    pub serial: String,
    /// Firmware and library version.
    pub version: String,
    /// The vendor's library: its path and the SHA-256 of its file; empty where there is none.
    pub module: String,
    /// See above.
    pub module_sha256: String,
    /// The certificate that the operator names, such as `CMVP #4523`; empty where none is.
    pub certificate: String,
    /// Which key of the token or server, as it says itself; empty where unknown.
    pub key: String,
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

/// What a KEK knows of itself without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KekStatus {
    /// What the last call or canary showed.
    pub health: KekHealth,
    /// When a canary last opened: a wrap whose content is known, or the first admission. None before the first.
    pub last_canary: Option<Wall>,
    /// Whether calls get through to the device.
    pub breaker: BreakerState,
    /// Sessions that serve a call now.
    pub sessions_in_use: u32,
    /// Sessions that are open and proven, in use or not; 0 for a KEK without sessions, and while it is away.
    pub sessions: u32,
    /// How many calls it takes at once; more wait for their turn.
    pub most_calls: u32,
    /// What it took to keep it going, since the start.
    pub recoveries: Recoveries,
}

impl Default for KekStatus {
    /// Nothing is known, so nothing is promised.
    fn default() -> Self {
        Self {
            health: KekHealth::Unreachable,
            last_canary: None,
            breaker: BreakerState::Closed,
            sessions_in_use: 0,
            sessions: 0,
            most_calls: 1,
            recoveries: Recoveries::default(),
        }
    }
}

/// A circuit breaker: whether calls get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They are answered without a call until this moment.
    Open {
        /// When the next call may try.
        until: Mono,
    },
    /// The pause is over: the next call decides whether it closes or opens again.
    HalfOpen,
}

/// How often a KEK healed itself, since the start; the first of each that a start needs does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recoveries {
    /// Sessions that were replaced while the worker or connection stayed.
    pub sessions: u64,
    /// Logins, or tokens of a KMS, after the first.
    pub logins: u64,
    /// Workers that were started after the first.
    pub workers: u64,
}

/// A key-encryption key. Implementations own their threads and processes; every call ends by its deadline.
pub trait Kek: Send + Sync {
    /// The name in the configuration.
    fn name(&self) -> &KekName;
    /// Admission facts, known after a successful start.
    fn facts(&self) -> KekFacts;
    /// The version of new wraps, as far as it is known without a call; None before a token or server has told.
    fn current_version(&self) -> Option<u32>;
    /// Wraps a data key under the binding, by the current version. Whoever keeps the wrap opens it again first: one that
    /// does not open is a lost key.
    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>>;
    /// Unwraps by whichever version made the wrap, older or newer than the current one; the check value has been compared
    /// when this returns a key.
    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>>;
    /// [`Self::wrap`], and what the wrap opens to: the proof that it opens. In one trip where the token allows.
    fn wrap_and_open<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<(Wrap, DataKey), KekError>> {
        Box::pin(async move {
            let wrap = self.wrap(key, binding, deadline).await?;
            let opened = self.unwrap(&wrap, binding, deadline).await?;
            Ok((wrap, opened))
        })
    }
    /// Randomness of the token to mix into new keys; empty where there is none.
    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>>;
    /// What the last calls showed; never calls the token.
    fn health(&self) -> KekHealth;
    /// All that is known without a call. Implementations that know more than their health say it here.
    fn status(&self) -> KekStatus {
        KekStatus { health: self.health(), ..KekStatus::default() }
    }
}

/// Makes a data key of what an unwrap returned and compares its check value with the wrap's.
fn checked_key(secret: &SecretBytes, wrap: &Wrap) -> Result<DataKey, KekError> {
    let key = DataKey::from_secret(secret).map_err(|_| KekError::BadWrap)?;
    if !crypto::constant_time_eq(&key.check_value(), &wrap.check_value) {
        return Err(KekError::BadWrap);
    }
    Ok(key)
}
