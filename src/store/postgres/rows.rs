//! How is each row type read from its table? One statement a read, so that what it shows is of one moment.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::names::KeyVersionId;
use crate::store::{
    ChangeRow, Counts, GenesisRow, KeyRow, KeyringRow, PartitionName, PartitionRow, RingRows, SealedKey, SidecarId,
    SidecarRow, StoreError, Tag, UsageRow,
};

pub(super) const GENESIS: &str = "SELECT generation, body, tag FROM keyward.genesis";
pub(super) const KEYRINGS: &str =
    "SELECT name, generation, body, tag FROM keyward.keyrings WHERE name > $1 ORDER BY name LIMIT $2";
/// Without the wraps: the statement does not even read them.
pub(super) const KEYS: &str = "SELECT id, purpose, keyring, parent, state, generation, body, tag FROM keyward.keys
    WHERE id > $1 ORDER BY id LIMIT $2";
pub(super) const CHANGES: &str =
    "SELECT seq, previous, body, tag FROM keyward.changes WHERE seq > $1 ORDER BY seq LIMIT $2";
pub(super) const LAST_CHANGE: &str = "SELECT seq, previous, body, tag FROM keyward.changes ORDER BY seq DESC LIMIT 1";
pub(super) const RING: &str =
    "SELECT h.name, h.generation, h.body, h.tag, k.id, k.purpose, k.parent, k.state, k.generation, k.body, k.tag, k.wraps
    FROM keyward.keyrings h LEFT JOIN keyward.keys k ON k.keyring = h.name WHERE h.name = $1 ORDER BY k.id";
/// The heads with the running sum of their keys; those within the limit, or the first alone.
pub(super) const RINGS: &str =
    "SELECT h.name, h.generation, h.body, h.tag, k.id, k.purpose, k.parent, k.state, k.generation, k.body, k.tag, k.wraps
    FROM (
        SELECT c.*, sum(c.keys) OVER (ORDER BY c.name) AS total, row_number() OVER (ORDER BY c.name) AS place
        FROM (
            SELECT r.*, (SELECT count(*) FROM keyward.keys WHERE keyring = r.name) AS keys
            FROM keyward.keyrings r WHERE r.name > $1 ORDER BY r.name LIMIT $3
        ) c
    ) h LEFT JOIN keyward.keys k ON k.keyring = h.name
    WHERE h.total <= $2::int8 OR h.place = 1 ORDER BY h.name, k.id";
pub(super) const PARTITION: &str = "SELECT keyring, name, parent, state, generation, body, wrap, tag
    FROM keyward.partitions WHERE keyring = $1 AND name = $2";
pub(super) const PARTITIONS: &str = "SELECT keyring, name, parent, state, generation, body, wrap, tag
    FROM keyward.partitions WHERE keyring = $1 AND name > $2 ORDER BY name LIMIT $3";
pub(super) const PARTITIONS_OF_PARENT: &str = "SELECT keyring, name, parent, state, generation, body, wrap, tag
    FROM keyward.partitions WHERE keyring = $1 AND name > $2 AND parent = $4 ORDER BY name LIMIT $3";
pub(super) const USAGE: &str = "SELECT key, sidecar, generation, body, tag FROM keyward.usage ORDER BY key, sidecar";
pub(super) const USAGE_OF_KEY: &str =
    "SELECT key, sidecar, generation, body, tag FROM keyward.usage WHERE key = $1 ORDER BY sidecar";
pub(super) const SIDECARS: &str = "SELECT id, generation, body, tag FROM keyward.sidecars ORDER BY id";
pub(super) const COUNTS: &str =
    "SELECT (SELECT count(*) FROM keyward.genesis), (SELECT count(*) FROM keyward.keyrings),
    (SELECT count(*) FROM keyward.keys), (SELECT count(*) FROM keyward.partitions),
    (SELECT count(*) FROM keyward.usage), (SELECT count(*) FROM keyward.sidecars),
    (SELECT count(*) FROM keyward.changes)";

pub(super) fn genesis(row: &Row) -> Result<GenesisRow, StoreError> {
    Ok(GenesisRow { generation: natural(row, 0)?, body: at(row, 1)?, tag: tag(row, 2)? })
}

pub(super) fn head(row: &Row) -> Result<KeyringRow, StoreError> {
    Ok(KeyringRow { name: at(row, 0)?, generation: natural(row, 1)?, body: at(row, 2)?, tag: tag(row, 3)? })
}

pub(super) fn key(row: &Row) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        id: KeyVersionId(bytes(row, 0)?),
        purpose: at(row, 1)?,
        keyring: at(row, 2)?,
        parent: at(row, 3)?,
        state: at(row, 4)?,
        generation: natural(row, 5)?,
        body: at(row, 6)?,
        tag: tag(row, 7)?,
    })
}

pub(super) fn change(row: &Row) -> Result<ChangeRow, StoreError> {
    Ok(ChangeRow { seq: natural(row, 0)?, previous: bytes(row, 1)?, body: at(row, 2)?, tag: tag(row, 3)? })
}

pub(super) fn partition(row: &Row) -> Result<PartitionRow, StoreError> {
    Ok(PartitionRow {
        keyring: at(row, 0)?,
        name: PartitionName(bytes(row, 1)?),
        parent: KeyVersionId(bytes(row, 2)?),
        state: at(row, 3)?,
        generation: natural(row, 4)?,
        body: at(row, 5)?,
        wrap: at(row, 6)?,
        tag: tag(row, 7)?,
    })
}

pub(super) fn usage(row: &Row) -> Result<UsageRow, StoreError> {
    Ok(UsageRow {
        key: KeyVersionId(bytes(row, 0)?),
        sidecar: SidecarId(bytes(row, 1)?),
        generation: natural(row, 2)?,
        body: at(row, 3)?,
        tag: tag(row, 4)?,
    })
}

pub(super) fn sidecar(row: &Row) -> Result<SidecarRow, StoreError> {
    Ok(SidecarRow { id: SidecarId(bytes(row, 0)?), generation: natural(row, 1)?, body: at(row, 2)?, tag: tag(row, 3)? })
}

pub(super) fn all_counts(found: &[Row]) -> Result<Counts, StoreError> {
    found.first().ok_or_else(|| StoreError::Corrupt("no counts".to_owned())).and_then(counts)
}

fn counts(row: &Row) -> Result<Counts, StoreError> {
    Ok(Counts {
        genesis: natural(row, 0)?,
        keyrings: natural(row, 1)?,
        keys: natural(row, 2)?,
        partitions: natural(row, 3)?,
        usage: natural(row, 4)?,
        sidecars: natural(row, 5)?,
        changes: natural(row, 6)?,
    })
}

/// Rows of `RING` or `RINGS`, which come head by head: a head is repeated for each of its keys.
pub(super) fn rings(rows: &[Row]) -> Result<Vec<RingRows>, StoreError> {
    let mut rings: Vec<RingRows> = Vec::new();
    for row in rows {
        let name: &str = at(row, 0)?;
        let key = key_of_ring(row, name)?;
        match rings.last_mut().filter(|ring| ring.head.name == name) {
            Some(ring) => ring.keys.extend(key),
            None => rings.push(RingRows { head: head(row)?, keys: key.into_iter().collect() }),
        }
    }
    Ok(rings)
}

/// None for the one row of a head without keys.
fn key_of_ring(row: &Row, keyring: &str) -> Result<Option<SealedKey>, StoreError> {
    if at::<Option<&[u8]>>(row, 4)?.is_none() {
        return Ok(None);
    }
    let key = KeyRow {
        id: KeyVersionId(bytes(row, 4)?),
        purpose: at(row, 5)?,
        keyring: keyring.to_owned(),
        parent: at(row, 6)?,
        state: at(row, 7)?,
        generation: natural(row, 8)?,
        body: at(row, 9)?,
        tag: tag(row, 10)?,
    };
    Ok(Some(SealedKey { row: key, wraps: at(row, 11)? }))
}

fn at<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], StoreError> {
    let found: &[u8] = at(row, column)?;
    found.try_into().map_err(|_| StoreError::Corrupt(format!("{} bytes stand where {N} belong", found.len())))
}

fn tag(row: &Row, column: usize) -> Result<Tag, StoreError> {
    bytes(row, column).map(Tag)
}

fn natural(row: &Row, column: usize) -> Result<u64, StoreError> {
    let value: i64 = at(row, column)?;
    u64::try_from(value).map_err(|_| StoreError::Corrupt("a number is negative".to_owned()))
}

/// PostgreSQL counts to 2^63 - 1; a generation that large was never reached by counting.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Conflict)
}
