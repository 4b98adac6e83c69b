//! Is the store as keyward left it? Every tag, the chain of changes, and every head against its rows.
//!
//! A tag alone lets an older copy of a row pass; the chain names the newest generation and tag of each head, and a head
//! the digest over its keys' tags, so an older, a deleted and an added row are found and named. An older copy of the
//! whole store passes: the heads in the log's records exist against that.

use std::collections::HashMap;

use super::ApplyError;
use super::bodies::{self, ChangeBody, HeadBody, Unreadable};
use super::directory::Known;
use super::rings::describe;
use super::seal::{self, Row, RowSealer};
use super::views::StoreHead;
use crate::store::{ChangeRow, PartitionName, Reader, RingRows, SealedKey, StoreError};

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

/// Checks a link against where the chain ended before it, and says where it ends with it.
pub(super) fn link(link: &ChangeRow, before: StoreHead, rows: &RowSealer) -> Result<(ChangeBody, StoreHead), Damage> {
    let name = || format!("change {}", link.seq);
    rows.verify(Row::Change(link)).map_err(|_| Damage::of(name(), UNSEALED))?;
    if link.seq != before.changes.saturating_add(1) || link.previous != before.digest {
        return Err(Damage::of(name(), "the change before it is missing or another one"));
    }
    let body: ChangeBody = bodies::decode(&link.body).map_err(|why| Damage::unreadable(name(), why))?;
    let digest = seal::digest(link).map_err(|_| Damage::of(name(), "it is too large"))?;
    Ok((body, StoreHead { changes: link.seq, digest }))
}

/// The newest head that a link names for one of its keyrings.
pub(super) fn named(head: &bodies::TouchedHead) -> Result<Known, Damage> {
    let mut tag = crate::store::Tag([0; 32]);
    let broken = |_| Damage::of(format!("the change of keyring {}", head.keyring), "its tag is none");
    hex::decode_to_slice(&head.tag, &mut tag.0).map_err(broken)?;
    Ok(Known::new(head.generation, &tag))
}

/// The partitions that a link shreds in one of its keyrings.
pub(super) fn shredded(head: &bodies::TouchedHead) -> Result<Vec<PartitionName>, Damage> {
    partitions(head, &head.shredded)
}

/// Those that it makes.
pub(super) fn made(head: &bodies::TouchedHead) -> Result<Vec<PartitionName>, Damage> {
    partitions(head, &head.made)
}

fn partitions(head: &bodies::TouchedHead, names: &[String]) -> Result<Vec<PartitionName>, Damage> {
    let read = |text: &String| {
        let mut name = PartitionName([0; 16]);
        let broken = |_| Damage::of(format!("the change of keyring {}", head.keyring), "a partition's name is none");
        hex::decode_to_slice(text, &mut name.0).map(|()| name).map_err(broken)
    };
    names.iter().map(read).collect()
}

/// Whether the rows of a keyring are those that the chain knows, whole and as they were sealed.
pub(super) fn ring(ring: &RingRows, known: Known, rows: &RowSealer) -> Result<HeadBody, Damage> {
    for key in &ring.keys {
        rows.verify(Row::Key(key)).map_err(|_| Damage::of(describe(key), UNSEALED))?;
    }
    let head = || describe_head(&ring.head.name);
    rows.verify(Row::Keyring(&ring.head)).map_err(|_| Damage::of(head(), UNSEALED))?;
    if Known::new(ring.head.generation, &ring.head.tag) != known {
        return Err(Damage::of(head(), STALE));
    }
    let body: HeadBody = bodies::decode(&ring.head.body).map_err(|why| Damage::unreadable(head(), why))?;
    let root = hex::encode(seal::root(ring.keys.iter().map(|key| (&key.row.id, &key.row.tag))));
    if body.count != u64::try_from(ring.keys.len()).unwrap_or(u64::MAX) || body.root != root {
        return Err(Damage::of(head(), "its keys are not the ones that it counts"));
    }
    Ok(body)
}

const UNSEALED: &str = "its seal does not verify";
const STALE: &str = "it is not the one that the last change wrote";

/// Which row of a keyring is the wrong one? The head said only that something is: the chain says which generation and
/// tag each of its keys has. Reads the whole chain; asked once something is known to be wrong.
pub(super) async fn blame(
    reader: &dyn Reader,
    rows: &RowSealer,
    keyring: &str,
    found: Option<&RingRows>,
    otherwise: Damage,
) -> Result<Damage, StoreError> {
    let mut newest: HashMap<String, (u64, String)> = HashMap::new();
    let mut end = StoreHead::default();
    loop {
        let links = reader.changes(end.changes, PAGE).await?;
        if links.is_empty() {
            break;
        }
        for row in &links {
            let (body, after) = match link(row, end, rows) {
                Ok(passed) => passed,
                Err(damage) => return Ok(damage),
            };
            end = after;
            for head in body.heads.into_iter().filter(|head| head.keyring == keyring) {
                newest.extend(head.keys.into_iter().map(|key| (key.key, (key.generation, key.tag))));
            }
        }
    }
    let Some(found) = found else { return Ok(Damage::of(describe_head(keyring), GONE)) };
    let stale = |key: &&SealedKey| {
        newest.get(&key.row.id.to_string()) != Some(&(key.row.generation, hex::encode(key.row.tag.0)))
    };
    if let Some(key) = found.keys.iter().find(stale) {
        return Ok(Damage::of(describe(key), STALE));
    }
    let missing = |id: &&String| !found.keys.iter().any(|key| key.row.id.to_string() == **id);
    match newest.keys().find(missing) {
        Some(id) => Ok(Damage::of(format!("key {id} of {keyring}"), GONE)),
        None => Ok(otherwise),
    }
}

const GONE: &str = "its row has been deleted";
/// Links that are read at once.
pub(super) const PAGE: u32 = 500;

pub(super) fn describe_head(name: &str) -> String {
    format!("the head of keyring {name}")
}
