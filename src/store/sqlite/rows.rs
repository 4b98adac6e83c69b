//! How does each row type lie in its table? The only SQL that touches rows.

use rusqlite::{Connection, Row, ToSql, Transaction, params};

use super::wrong;
use crate::names::KeyVersionId;
use crate::store::{
    ChangeRow, Counts, GenesisRow, KeyRow, KeyringRow, PartitionName, PartitionRow, RingRows, SealedKey, SidecarId,
    SidecarRow, StoreError, Tag, UsageRow, Write,
};

/// Carries out one write; a row that is not at the expected generation is a conflict.
pub(super) fn write(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let (insert, update) = statements(write);
    let first = write.generation() == Some(1);
    once(transaction, if first { insert } else { update }, write)
}

/// Adds one row as it is; one that exists is a conflict.
pub(super) fn insert(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let (insert, _) = statements(write);
    once(transaction, insert, write)
}

/// To add a row, and to replace the one of the generation before. A change is never replaced: its second statement
/// asks that it is the next one.
const fn statements(write: &Write) -> (&'static str, &'static str) {
    match write {
        Write::Genesis(_) => (
            "INSERT INTO genesis (one, generation, body, tag) VALUES (1, ?1, ?2, ?3) ON CONFLICT DO NOTHING",
            "UPDATE genesis SET generation = ?1, body = ?2, tag = ?3 WHERE generation = ?1 - 1",
        ),
        Write::Keyring(_) => (
            "INSERT INTO keyrings (name, generation, body, tag) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            "UPDATE keyrings SET generation = ?2, body = ?3, tag = ?4 WHERE name = ?1 AND generation = ?2 - 1",
        ),
        Write::Key(_) => (
            "INSERT INTO keys (id, purpose, keyring, parent, state, generation, body, wraps, tag)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            "UPDATE keys SET parent = ?4, state = ?5, generation = ?6, body = ?7, wraps = ?8, tag = ?9
             WHERE keyring = ?3 AND id = ?1 AND purpose = ?2 AND generation = ?6 - 1",
        ),
        Write::Partition(_) => (
            "INSERT INTO partitions (keyring, name, parent, state, generation, body, wrap, tag)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            "UPDATE partitions SET parent = ?3, state = ?4, generation = ?5, body = ?6, wrap = ?7, tag = ?8
             WHERE keyring = ?1 AND name = ?2 AND generation = ?5 - 1",
        ),
        Write::Usage(_) => (
            "INSERT INTO usage (key, sidecar, generation, body, tag) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            "UPDATE usage SET generation = ?3, body = ?4, tag = ?5
             WHERE key = ?1 AND sidecar = ?2 AND generation = ?3 - 1",
        ),
        Write::Sidecar(_) => (
            "INSERT INTO sidecars (id, generation, body, tag) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            "UPDATE sidecars SET generation = ?2, body = ?3, tag = ?4 WHERE id = ?1 AND generation = ?2 - 1",
        ),
        Write::Change(_) => (
            "INSERT INTO changes (seq, previous, body, tag) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            "INSERT INTO changes (seq, previous, body, tag) SELECT ?1, ?2, ?3, ?4
             WHERE ?1 = (SELECT coalesce(max(seq), 0) + 1 FROM changes)",
        ),
    }
}

fn once(transaction: &Transaction<'_>, sql: &str, write: &Write) -> Result<(), StoreError> {
    let touched = match write {
        Write::Genesis(row) => execute(transaction, sql, params![integer(row.generation)?, row.body, row.tag.0]),
        Write::Keyring(row) => {
            execute(transaction, sql, params![row.name, integer(row.generation)?, row.body, row.tag.0])
        }
        Write::Key(SealedKey { row, wraps }) => {
            let KeyRow { id, purpose, keyring, parent, state, generation, body, tag } = row;
            let generation = integer(*generation)?;
            let values = params![id.0, purpose, keyring, parent, state, generation, body, wraps, tag.0];
            execute(transaction, sql, values)
        }
        Write::Partition(row) => {
            let PartitionRow { keyring, name, parent, state, generation, body, wrap, tag } = row;
            let generation = integer(*generation)?;
            execute(transaction, sql, params![keyring, name.0, parent.0, state, generation, body, wrap, tag.0])
        }
        Write::Usage(UsageRow { key, sidecar, generation, body, tag }) => {
            execute(transaction, sql, params![key.0, sidecar.0, integer(*generation)?, body, tag.0])
        }
        Write::Sidecar(SidecarRow { id, generation, body, tag }) => {
            execute(transaction, sql, params![id.0, integer(*generation)?, body, tag.0])
        }
        Write::Change(row) => execute(transaction, sql, params![integer(row.seq)?, row.previous, row.body, row.tag.0]),
    }?;
    if touched == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

fn execute(transaction: &Transaction<'_>, sql: &str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
    transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(wrong)
}

/// The genesis row.
pub(super) fn genesis(connection: &Connection) -> Result<Option<GenesisRow>, StoreError> {
    let read = |row: &Row<'_>| Ok(GenesisRow { generation: natural(row, 0)?, body: row.get(1)?, tag: tag(row, 2)? });
    Ok(select(connection, "SELECT generation, body, tag FROM genesis", params![], read)?.pop())
}

/// At most `limit` heads after a name.
pub(super) fn keyrings(
    connection: &Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<KeyringRow>, StoreError> {
    let sql = "SELECT name, generation, body, tag FROM keyrings WHERE name > ?1 ORDER BY name LIMIT ?2";
    // No name is empty.
    select(connection, sql, params![after.unwrap_or_default(), limit], head)
}

/// At most `limit` keys after an id, without their wraps: the statement does not even read them.
pub(super) fn keys(
    connection: &Connection,
    after: Option<KeyVersionId>,
    limit: u32,
) -> Result<Vec<KeyRow>, StoreError> {
    let sql = "SELECT id, purpose, keyring, parent, state, generation, body, tag FROM keys
               WHERE id > ?1 ORDER BY id LIMIT ?2";
    // Every id is longer than no bytes.
    select(connection, sql, params![after.map_or(Vec::new(), |id| id.0.to_vec()), limit], key)
}

/// At most `limit` links after `after`.
pub(super) fn changes(connection: &Connection, after: u64, limit: u32) -> Result<Vec<ChangeRow>, StoreError> {
    let sql = "SELECT seq, previous, body, tag FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    select(connection, sql, params![integer(after)?, limit], change)
}

/// The last link.
pub(super) fn last_change(connection: &Connection) -> Result<Option<ChangeRow>, StoreError> {
    let sql = "SELECT seq, previous, body, tag FROM changes ORDER BY seq DESC LIMIT 1";
    Ok(select(connection, sql, params![], change)?.pop())
}

/// A head and its keys; the caller has begun a transaction, so that they belong together.
pub(super) fn ring(moment: &Connection, name: &str) -> Result<Option<RingRows>, StoreError> {
    let sql = "SELECT name, generation, body, tag FROM keyrings WHERE name = ?1";
    let Some(head) = select(moment, sql, params![name], head)?.pop() else { return Ok(None) };
    Ok(Some(RingRows { keys: keys_of(moment, name)?, head }))
}

/// Whole keyrings after a name, with at most `most` keys together, and at least one keyring; likewise.
pub(super) fn rings(moment: &Connection, after: Option<&str>, most: u32) -> Result<Vec<RingRows>, StoreError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut rings, mut keys) = (Vec::new(), 0_usize);
    // A keyring has a key: more heads than keys are never needed.
    for head in keyrings(moment, after, u32::try_from(most.max(1)).unwrap_or(u32::MAX))? {
        let ring = RingRows { keys: keys_of(moment, &head.name)?, head };
        keys = keys.saturating_add(ring.keys.len());
        if keys > most && !rings.is_empty() {
            break;
        }
        rings.push(ring);
    }
    Ok(rings)
}

fn keys_of(moment: &Connection, keyring: &str) -> Result<Vec<SealedKey>, StoreError> {
    let sql = "SELECT id, purpose, keyring, parent, state, generation, body, tag, wraps FROM keys
               WHERE keyring = ?1 ORDER BY id";
    select(moment, sql, params![keyring], |row| Ok(SealedKey { row: key(row)?, wraps: row.get(8)? }))
}

/// One partition.
pub(super) fn partition(
    connection: &Connection,
    keyring: &str,
    name: PartitionName,
) -> Result<Option<PartitionRow>, StoreError> {
    let sql = "SELECT keyring, name, parent, state, generation, body, wrap, tag FROM partitions
               WHERE keyring = ?1 AND name = ?2";
    Ok(select(connection, sql, params![keyring, name.0], a_partition)?.pop())
}

/// At most `limit` partitions after a name.
pub(super) fn partitions(
    connection: &Connection,
    keyring: &str,
    parent: Option<KeyVersionId>,
    after: Option<PartitionName>,
    limit: u32,
) -> Result<Vec<PartitionRow>, StoreError> {
    let after = after.map_or(Vec::new(), |name| name.0.to_vec());
    let all = "SELECT keyring, name, parent, state, generation, body, wrap, tag FROM partitions
               WHERE keyring = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
    let of_parent = "SELECT keyring, name, parent, state, generation, body, wrap, tag FROM partitions
               WHERE keyring = ?1 AND parent = ?4 AND name > ?2 ORDER BY name LIMIT ?3";
    match parent {
        None => select(connection, all, params![keyring, after, limit], a_partition),
        Some(parent) => select(connection, of_parent, params![keyring, after, limit, parent.0], a_partition),
    }
}

/// What the sidecars counted.
pub(super) fn usage(connection: &Connection, key: Option<KeyVersionId>) -> Result<Vec<UsageRow>, StoreError> {
    let all = "SELECT key, sidecar, generation, body, tag FROM usage ORDER BY key, sidecar";
    let of_key = "SELECT key, sidecar, generation, body, tag FROM usage WHERE key = ?1 ORDER BY sidecar";
    let read = |row: &Row<'_>| {
        Ok(UsageRow {
            key: KeyVersionId(row.get(0)?),
            sidecar: SidecarId(row.get(1)?),
            generation: natural(row, 2)?,
            body: row.get(3)?,
            tag: tag(row, 4)?,
        })
    };
    match key {
        None => select(connection, all, params![], read),
        Some(key) => select(connection, of_key, params![key.0], read),
    }
}

/// The fleet.
pub(super) fn sidecars(connection: &Connection) -> Result<Vec<SidecarRow>, StoreError> {
    let sql = "SELECT id, generation, body, tag FROM sidecars ORDER BY id";
    select(connection, sql, params![], |row| {
        Ok(SidecarRow {
            id: SidecarId(row.get(0)?),
            generation: natural(row, 1)?,
            body: row.get(2)?,
            tag: tag(row, 3)?,
        })
    })
}

/// The size of each table.
pub(super) fn counts(connection: &Connection) -> Result<Counts, StoreError> {
    let sql = "SELECT (SELECT count(*) FROM genesis), (SELECT count(*) FROM keyrings), (SELECT count(*) FROM keys),
                      (SELECT count(*) FROM partitions), (SELECT count(*) FROM usage),
                      (SELECT count(*) FROM sidecars), (SELECT count(*) FROM changes)";
    let read = |row: &Row<'_>| {
        Ok(Counts {
            genesis: natural(row, 0)?,
            keyrings: natural(row, 1)?,
            keys: natural(row, 2)?,
            partitions: natural(row, 3)?,
            usage: natural(row, 4)?,
            sidecars: natural(row, 5)?,
            changes: natural(row, 6)?,
        })
    };
    connection.query_row(sql, params![], read).map_err(wrong)
}

fn head(row: &Row<'_>) -> rusqlite::Result<KeyringRow> {
    Ok(KeyringRow { name: row.get(0)?, generation: natural(row, 1)?, body: row.get(2)?, tag: tag(row, 3)? })
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: KeyVersionId(row.get(0)?),
        purpose: row.get(1)?,
        keyring: row.get(2)?,
        parent: row.get(3)?,
        state: row.get(4)?,
        generation: natural(row, 5)?,
        body: row.get(6)?,
        tag: tag(row, 7)?,
    })
}

fn change(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
    Ok(ChangeRow { seq: natural(row, 0)?, previous: row.get(1)?, body: row.get(2)?, tag: tag(row, 3)? })
}

fn a_partition(row: &Row<'_>) -> rusqlite::Result<PartitionRow> {
    Ok(PartitionRow {
        keyring: row.get(0)?,
        name: PartitionName(row.get(1)?),
        parent: KeyVersionId(row.get(2)?),
        state: row.get(3)?,
        generation: natural(row, 4)?,
        body: row.get(5)?,
        wrap: row.get(6)?,
        tag: tag(row, 7)?,
    })
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(wrong)?;
    let rows = statement.query_map(values, |row| read(row)).map_err(wrong)?;
    rows.collect::<Result<_, _>>().map_err(wrong)
}

fn tag(row: &Row<'_>, at: usize) -> rusqlite::Result<Tag> {
    row.get(at).map(Tag)
}

fn natural(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    // SQLite counts to 2^63 - 1; a generation that large was never reached by counting.
    i64::try_from(value).map_err(|_| StoreError::Conflict)
}
