//! Is the whole store as keyward left it? Every tag, the chain of changes, and every head against its rows.
//!
//! A tag alone lets an older copy of a row pass; the chain names the newest generation and tag of each row, so an older,
//! a deleted and an added row are found and named. An older copy of the whole store passes: the heads in the log's
//! heartbeats exist against that.

use std::collections::HashMap;

use super::ApplyError;
use super::bodies::{self, ChangeBody, HeadBody, Unreadable};
use super::seal::{self, Row, RowSealer};
use super::snapshot::describe;
use super::views::StoreHead;
use crate::store::{ChangeRow, Image, KeyringRow, SealedKey};

/// What the operator does about a row that does not verify.
pub(super) const ADVICE: &str =
    "restore the database from a backup made before it was edited, and find out who can write its file";

/// Why a store is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Damage {
    /// Which row, and what is wrong.
    Row(String, String),
    /// A key of a development store under a production configuration.
    Development(String),
    /// Written by a newer keyward.
    Newer(String, String),
}

/// What the chain of changes proves.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub head: StoreHead,
    /// The keyring that the change of an intent touched.
    pub intents: HashMap<u64, String>,
    heads: HashMap<String, Newest>,
    keys: HashMap<String, Newest>,
}

/// The newest generation and hex tag of a row.
#[derive(Debug, PartialEq, Eq)]
struct Newest(u64, String);

impl Damage {
    pub(super) fn of(row: String, what: impl Into<String>) -> Self {
        Self::Row(row, what.into())
    }

    pub(super) fn unreadable(row: String, why: Unreadable) -> Self {
        match why {
            Unreadable::Newer(what) => Self::Newer(row, what),
            Unreadable::Broken(what) => Self::Row(row, what),
        }
    }
}

impl From<Damage> for ApplyError {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::Row(row, what) => Self::Tampered(format!("{row}: {what}; {ADVICE}")),
            Damage::Newer(row, what) => {
                Self::Refused(format!("{row}: {what}; run the keyward that wrote it, or newer"))
            }
            Damage::Development(row) => Self::Refused(format!("{row} was made for development")),
        }
    }
}

/// Verifies everything but the genesis row.
pub(super) fn verify(image: &Image, rows: &RowSealer) -> Result<Chain, Damage> {
    for key in &image.keys {
        check_tag(rows, Row::Key(key), || describe(key))?;
    }
    for head in &image.keyrings {
        check_tag(rows, Row::Keyring(head), || describe_head(head))?;
    }
    let chain = replay(&image.changes, rows)?;
    check_heads(image, &chain)?;
    check_keys(image, &chain)?;
    check_roots(image)?;
    Ok(chain)
}

fn check_tag(rows: &RowSealer, row: Row<'_>, name: impl Fn() -> String) -> Result<(), Damage> {
    rows.verify(row).map_err(|_| Damage::of(name(), "its seal does not verify"))
}

fn replay(changes: &[ChangeRow], rows: &RowSealer) -> Result<Chain, Damage> {
    let mut chain = Chain::default();
    for (link, seq) in changes.iter().zip(1..) {
        let name = || format!("change {}", link.seq);
        check_tag(rows, Row::Change(link), name)?;
        if link.seq != seq || link.previous != chain.head.digest {
            return Err(Damage::of(name(), "the change before it is missing or another one"));
        }
        let body: ChangeBody = bodies::decode(&link.body).map_err(|why| Damage::unreadable(name(), why))?;
        chain.heads.insert(body.keyring.clone(), Newest(body.generation, body.head));
        for row in body.rows {
            chain.keys.insert(row.key, Newest(row.generation, row.tag));
        }
        if let Some(intent) = body.intent {
            chain.intents.insert(intent, body.keyring);
        }
        let digest = seal::digest(link).map_err(|_| Damage::of(name(), "it is too large"))?;
        chain.head = StoreHead { changes: seq, digest };
    }
    Ok(chain)
}

fn check_heads(image: &Image, chain: &Chain) -> Result<(), Damage> {
    for head in &image.keyrings {
        let found = Newest(head.generation, hex::encode(head.tag.0));
        if chain.heads.get(&head.name) != Some(&found) {
            return Err(Damage::of(describe_head(head), "it is not the one that the last change wrote"));
        }
    }
    let missing = |name: &&String| !image.keyrings.iter().any(|head| head.name == **name);
    match image.keyrings.len() == chain.heads.len() {
        true => Ok(()),
        false => Err(gone(chain.heads.keys().find(missing), "the head of keyring")),
    }
}

fn check_keys(image: &Image, chain: &Chain) -> Result<(), Damage> {
    for key in &image.keys {
        let found = Newest(key.row.generation, hex::encode(key.row.tag.0));
        if chain.keys.get(&key.row.id.to_string()) != Some(&found) {
            return Err(Damage::of(describe(key), "it is not the one that the last change wrote"));
        }
    }
    let missing = |id: &&String| !image.keys.iter().any(|key| key.row.id.to_string() == **id);
    match image.keys.len() == chain.keys.len() {
        true => Ok(()),
        false => Err(gone(chain.keys.keys().find(missing), "key")),
    }
}

fn check_roots(image: &Image) -> Result<(), Damage> {
    let mut keys: HashMap<&str, Vec<&SealedKey>> = HashMap::new();
    for key in &image.keys {
        keys.entry(&key.row.keyring).or_default().push(key);
    }
    for head in &image.keyrings {
        let body: HeadBody = bodies::decode(&head.body).map_err(|why| Damage::unreadable(describe_head(head), why))?;
        let keys = keys.remove(&*head.name).unwrap_or_default();
        let root = hex::encode(seal::root(keys.iter().map(|key| (&key.row.id, &key.row.tag))));
        if body.count != u64::try_from(keys.len()).unwrap_or(u64::MAX) || body.root != root {
            return Err(Damage::of(describe_head(head), "its keys are not the ones that it counts"));
        }
    }
    match keys.into_values().flatten().next() {
        None => Ok(()),
        Some(key) => Err(Damage::of(describe(key), "its keyring has no head")),
    }
}

fn gone(name: Option<&String>, what: &str) -> Damage {
    Damage::of(format!("{what} {}", name.map_or("(unnamed)", String::as_str)), "its row has been deleted")
}

fn describe_head(head: &KeyringRow) -> String {
    format!("the head of keyring {}", head.name)
}
