//! What happened to keys, in what order, and can anyone have changed the story? The log.
//! This module never sees a key or a plaintext and never decides; it refuses to answer when it cannot record.

mod canonical;
mod cosign;
mod event;
pub mod export;
pub mod frame;
mod history;
mod keeper;
mod keys;
mod log;
mod note;
mod open;
mod proof;
pub mod prove;
mod queue;
mod read;
mod receipt;
mod recover;
mod refusals;
mod render;
mod rotate;
mod rule;
mod scan;
mod signers;
#[cfg(test)]
mod tests;
mod tile;
mod tree;
mod trust;
mod usage;
pub mod verify;
mod view;
mod wal;
mod witnessed;
mod writer;

pub use cosign::CosignerKey;
pub use event::{Event, FACTS};
pub use keys::Keys;
pub use log::{Health, Log, State};
pub use note::{Checkpoint, MAX_NOTE, NoteError, Origin, VerifierKey, heading};
pub use open::{Founding, Limits, OpenError, Opened};
pub use proof::{ProofError, Proofs, consistent};
pub use queue::QUEUE;
pub use read::ReadError;
pub use receipt::{IntentReceipt, Recorded};
pub use recover::{Dangling, Recovered, Restored};
pub use render::{MAX_RECORD, MAX_SUBJECTS, SCHEMA};
pub use rotate::{RotateError, Rotated};
pub use rule::{Finding, Rule};
pub use scan::{Scan, scan_bytes};
pub use tree::{Hash, Tree, leaf};
pub use trust::{TrustError, Witness, WitnessPolicy};
pub use wal::SEGMENT_BYTES;
pub use witnessed::Cosigned;

use std::path::PathBuf;
use std::time::Duration;

use crate::identity::{PrincipalKind, Proof};
use crate::names::{KeyVersionId, KeyringName, PrincipalName, Purpose, RequestId};

/// How the recorded thing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It will be tried; an outcome record follows.
    Intent,
    /// It was done.
    Done,
    /// Malformed or refused before policy.
    Refused,
    /// Policy said no.
    Denied,
    /// It was tried and failed.
    Failed,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An authenticated principal.
    Principal { name: PrincipalName, kind: PrincipalKind, proof: Proof },
    /// Nobody was recognised.
    Unknown,
    /// keyward itself.
    Sidecar,
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    DataSocket,
    DataTcp,
    DataTls,
    ControlSocket,
    ControlTls,
    Internal,
}

/// The items of a request that share a keyring and a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub keyring: KeyringName,
    pub version: Option<KeyVersionId>,
    /// Items done.
    pub done: u32,
    /// Items refused or failed, with the closed reason codes and how often, sorted by code.
    pub failed: Vec<(&'static str, u32)>,
}

/// One record as the service gives it; the log adds schema, index, time and clock state. Never plaintext, never a
/// context value in clear, no free text: every text here is a closed code or a parsed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub event: Event,
    pub outcome: Outcome,
    /// A closed code.
    pub reason: Option<&'static str>,
    pub actor: Actor,
    pub source: Source,
    pub request: Option<RequestId>,
    pub purpose: Option<Purpose>,
    pub groups: Vec<Group>,
    /// Items of the request that belong to no keyring (unknown key, malformed value), by reason code.
    pub orphans: Vec<(&'static str, u32)>,
    /// Distinct subject pseudonyms; the log sorts, and splits above 1,000 into continuation records of the same frame.
    pub subjects: Vec<[u8; 16]>,
    /// SHA-256 over the item list (what was sealed or opened, in order).
    pub items_digest: Option<[u8; 32]>,
    /// The policy set in force.
    pub policy: Option<[u8; 32]>,
    /// The index of the intent that this record closes.
    pub intent: Option<u64>,
    /// Facts of a closed set of names (`kek`, `kek_model`, `config_digest`, `binary_digest`, ...) with printable-ASCII values of at most 256 bytes.
    pub facts: Vec<(&'static str, String)>,
}

/// How durable an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// fdatasync before the answer (default).
    #[default]
    Synced,
    /// In the page cache: survives a crash of the process, not of the machine.
    Written,
}

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The log's directory, made by `init`.
    pub dir: PathBuf,
    pub durability: Durability,
    /// Bytes the log may use; warn at 75 %, refuse at 95 %, a tenth kept for control records.
    pub disk_budget: u64,
    /// Longest silence.
    pub heartbeat: Duration,
    /// Refusals recorded one by one per principal and reason and second; beyond it they are coalesced.
    pub refusals_per_second: u32,
}

/// Why a record is not durable. The outcome is gone by then: dropped and zeroised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A write or sync failed, or the log is closed: nothing is answered until a restart has recovered it.
    #[error("the audit log is closed: {0}")]
    Closed(String),
    /// The deadline passed before the record was durable (it may become durable later).
    #[error("the audit log did not answer in time")]
    Deadline,
    /// The disk budget is used up.
    #[error("the audit log has used its disk budget")]
    Full,
    /// The record is larger than 65,535 bytes after splitting.
    #[error("the record is too large")]
    TooLarge,
    /// The record holds what no record may hold: a fact or code that is not on its list, or a text that is not
    /// printable ASCII. The code that made it is wrong.
    #[error("the record is malformed: {0}")]
    Malformed(&'static str),
}

/// Whether a refusal gets a record of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Record,
    /// No: answer 429, it is counted in the next summary.
    Coalesce,
}
