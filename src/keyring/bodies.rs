//! What does the JSON inside a sealed row say? Canonical: sorted ASCII keys, no spaces, integers only, absent for none.
//! Fields stand in the order of their names; that order is the canonical form.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::views::Escrow;

/// The schema number of every body that this build writes; it reads no other.
pub(super) const SCHEMA: u32 = 1;

/// Of the genesis row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenesisBody {
    pub created: u64,
    pub environment: String,
    pub schema: u32,
    /// Hex.
    pub store: String,
    /// Hex id of the key that seals the rows.
    pub store_key: String,
}

/// Of a keyring's head.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadBody {
    /// How many key rows it has.
    pub count: u64,
    pub created: u64,
    /// Of a document, which has no keys: what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// The context key that names the partition; none where there are no partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionsBody>,
    pub required_context: Vec<String>,
    /// Of keyward's own head: key-encryption keys by which no key may be wrapped any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// Hex digest over its key rows' ids and tags.
    pub root: String,
    pub schema: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_key: Option<String>,
    /// Of new values; none for keyward's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<u8>,
    /// What was counted of versions when they stopped sealing, by their hex ids: no count is ever lower.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, UsedBody>,
    /// Of keyward's own head: since when each version of a key-encryption key wraps keys of this store. The founding
    /// writes the first ones: no released keyward made a store without, so nobody guesses the age of an older one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrapping: Vec<Wrapping>,
}

/// The first use of a version of a key-encryption key in this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrapping {
    pub kek: String,
    pub since: u64,
    pub version: u32,
}

impl Wrapping {
    pub(super) fn is(&self, wrap: &crate::kek::Wrap) -> bool {
        self.kek == wrap.kek.as_str() && self.version == wrap.kek_version
    }
}

/// What all sidecars together had counted of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsedBody {
    pub bytes: u64,
    pub messages: u64,
    /// The last day of an opening.
    pub opened: u32,
}

/// A key-encryption key, or one version of it, that was retired: nothing was wrapped by it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retired {
    pub kek: String,
    /// All versions without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

impl Retired {
    pub(super) fn is(&self, wrap: &crate::kek::Wrap) -> bool {
        self.kek == wrap.kek.as_str() && self.version.is_none_or(|version| version == wrap.kek_version)
    }
}

/// What a keyring asks for beyond the configuration's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cryptoperiod_days: Option<u32>,
    /// False where the escrow wraps none of its keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_max_seconds: Option<u32>,
}

impl Limits {
    /// Whether the escrow wraps the keyring's keys.
    pub(super) fn escrow(&self) -> Escrow {
        if self.escrow == Some(false) { Escrow::No } else { Escrow::Yes }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The partitions of a keyring, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionsBody {
    /// How many rows there are, shredded ones included.
    pub count: u64,
    /// How many live ones each data key version wraps, by its hex id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parents: BTreeMap<String, u64>,
    pub shredded: u64,
    /// Hex: the masked sum over all rows, as `partition::sum` computes it.
    pub sum: String,
}

/// Of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    pub created: u64,
    /// When it is to be destroyed; its state stays what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy: Option<DestroyBody>,
    /// Made in a development store: production refuses it.
    pub development: bool,
    /// Of a pseudonym key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// `NAME vN` of each wrap.
    pub keks: Vec<String>,
    /// The last time that the key came into each state, by the state's name; none for keyward's own keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moves: BTreeMap<String, MoveBody>,
    /// Of a look-up key: `USE/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub schema: u32,
    /// Of a data key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<u8>,
    /// Of a look-up key: its number among those of the same name, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// How a key came into a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveBody {
    /// A principal's name, or `(sidecar)`.
    pub actor: String,
    pub at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceremony: Option<String>,
    /// A closed code.
    pub reason: String,
}

/// A destruction that has been decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DestroyBody {
    /// Not before this, by the wall clock.
    pub at: u64,
    /// Who decided it, when and why.
    pub by: MoveBody,
    /// Nor before the fleet has counted so many microseconds.
    pub counted: u64,
    /// Hex digest of what the owner declared.
    pub statement: String,
}

/// Of a link in the chain of changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody {
    pub at: u64,
    /// Every keyring that the change touched, by name.
    pub heads: Vec<TouchedHead>,
    /// Index of the intent record; none for the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    pub kind: String,
    /// Which log has the intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Where the store is after a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub schema: u32,
}

/// A head as a change left it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TouchedHead {
    /// The keyring's generation after the change.
    pub generation: u64,
    pub keyring: String,
    /// Every key row that the change wrote.
    pub keys: Vec<TouchedKey>,
    /// Hex names of the partitions that the change made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    /// Hex names of the partitions that the change shredded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shredded: Vec<String>,
    /// Hex tag of the keyring's head after the change.
    pub tag: String,
}

/// A key row as a change left it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TouchedKey {
    pub generation: u64,
    /// Hex id.
    pub key: String,
    /// Hex tag.
    pub tag: String,
}

/// Of what a sidecar says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SidecarBody {
    /// Up to which change it has followed the store.
    #[serde(default)]
    pub changes: u64,
    /// Microseconds that the fleet has counted, as far as this sidecar knows.
    pub counted: u64,
    /// When it said so, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    /// For how many seconds it believes a store that it cannot reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    pub schema: u32,
}

/// The canonical text; None only if a body could not be text, which none of the above can.
pub(super) fn encode<T: Serialize>(body: &T) -> Option<String> {
    serde_json::to_string(body).ok()
}

/// Why stored bytes say nothing to this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A newer keyward wrote them.
    Newer(String),
    /// Nobody's keyward wrote them.
    Broken(String),
}

/// Reads a body.
pub(super) fn decode<T: DeserializeOwned + Numbered>(text: &str) -> Result<T, Unreadable> {
    let broken = |error: serde_json::Error| Unreadable::Broken(error.to_string());
    let read = serde_json::from_str::<T>(text).map_err(broken);
    // What a newer keyward wrote may be unreadable to this one: that is said first.
    match read.as_ref().map_or_else(|_| number(text), |body| Some(body.schema())) {
        Some(schema) if schema > SCHEMA => {
            Err(Unreadable::Newer(format!("it has schema {schema}, this keyward knows {SCHEMA}")))
        }
        _ => read,
    }
}

/// The schema number of a text that may say more than is known here.
fn number(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Only {
        schema: u32,
    }
    serde_json::from_str(text).ok().map(|Only { schema }| schema)
}

/// A body says which schema it is of.
pub(super) trait Numbered {
    fn schema(&self) -> u32;
}

macro_rules! numbered {
    ($($body:ty),+) => {$(
        impl Numbered for $body {
            fn schema(&self) -> u32 {
                self.schema
            }
        }
    )+};
}

numbered!(GenesisBody, HeadBody, KeyBody, ChangeBody, SidecarBody);
