//! What does the JSON inside a sealed row say? Canonical: sorted ASCII keys, no spaces, integers only, absent for none.
//! Fields stand in the order of their names; that order is the canonical form.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadBody {
    /// How many key rows it has.
    pub count: u64,
    pub created: u64,
    pub required_context: Vec<String>,
    /// Hex digest over its key rows' ids and tags.
    pub root: String,
    pub schema: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_key: Option<String>,
    /// Of new values; none for keyward's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<u8>,
}

/// Of a key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    pub created: u64,
    /// Made in a development store: production refuses it.
    pub development: bool,
    /// Of a pseudonym key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// `NAME vN` of each wrap.
    pub keks: Vec<String>,
    pub schema: u32,
    /// Of a data key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<u8>,
}

/// Of a link in the chain of changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBody {
    pub at: u64,
    /// The keyring's generation after the change.
    pub generation: u64,
    /// Hex tag of the keyring's head after the change.
    pub head: String,
    /// Index of the intent record; none for the founding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    pub keyring: String,
    pub kind: String,
    /// Every key row that the change wrote.
    pub rows: Vec<Touched>,
    pub schema: u32,
}

/// A key row as a change left it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Touched {
    pub generation: u64,
    /// Hex id.
    pub key: String,
    /// Hex tag.
    pub tag: String,
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
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Numbered {
        schema: u32,
    }
    let broken = |error: serde_json::Error| Unreadable::Broken(error.to_string());
    let Numbered { schema } = serde_json::from_str(text).map_err(broken)?;
    if schema > SCHEMA {
        return Err(Unreadable::Newer(format!("it has schema {schema}, this keyward knows {SCHEMA}")));
    }
    serde_json::from_str(text).map_err(broken)
}
