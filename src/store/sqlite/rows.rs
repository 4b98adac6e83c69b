//! How does each row type lie in its table? The only SQL that touches rows.

use rusqlite::{Connection, Row, ToSql, Transaction, params};

use super::wrong;
use crate::names::KeyVersionId;
use crate::store::{ChangeRow, GenesisRow, KeyRow, KeyringRow, SealedKey, StoreError, Tag, Write};

/// Carries out one write; a row that is not at the expected generation is a conflict.
pub(super) fn write(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let touched = match write {
        Write::Genesis(row) => write_genesis(transaction, row),
        Write::Keyring(row) => write_keyring(transaction, row),
        Write::Key(key) => write_key(transaction, key),
        Write::Change(row) => append_change(transaction, row),
    }?;
    if touched == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

fn write_genesis(transaction: &Transaction<'_>, row: &GenesisRow) -> Result<usize, StoreError> {
    let (insert, update) = (
        "INSERT INTO genesis (one, generation, body, tag) VALUES (1, ?1, ?2, ?3) ON CONFLICT DO NOTHING",
        "UPDATE genesis SET generation = ?1, body = ?2, tag = ?3 WHERE generation = ?1 - 1",
    );
    let sql = if row.generation == 1 { insert } else { update };
    execute(transaction, sql, params![integer(row.generation)?, row.body, row.tag.0])
}

fn write_keyring(transaction: &Transaction<'_>, row: &KeyringRow) -> Result<usize, StoreError> {
    let (insert, update) = (
        "INSERT INTO keyrings (name, generation, body, tag) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        "UPDATE keyrings SET generation = ?2, body = ?3, tag = ?4 WHERE name = ?1 AND generation = ?2 - 1",
    );
    let sql = if row.generation == 1 { insert } else { update };
    execute(transaction, sql, params![row.name, integer(row.generation)?, row.body, row.tag.0])
}

fn write_key(transaction: &Transaction<'_>, SealedKey { row, wraps }: &SealedKey) -> Result<usize, StoreError> {
    let (insert, update) = (
        "INSERT INTO keys (id, purpose, keyring, parent, state, generation, body, wraps, tag)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        "UPDATE keys SET parent = ?4, state = ?5, generation = ?6, body = ?7, wraps = ?8, tag = ?9
         WHERE id = ?1 AND purpose = ?2 AND keyring = ?3 AND generation = ?6 - 1",
    );
    let sql = if row.generation == 1 { insert } else { update };
    let KeyRow { id, purpose, keyring, parent, state, generation, body, tag } = row;
    let generation = integer(*generation)?;
    execute(transaction, sql, params![id.0, purpose, keyring, parent, state, generation, body, wraps, tag.0])
}

fn append_change(transaction: &Transaction<'_>, row: &ChangeRow) -> Result<usize, StoreError> {
    let sql = "INSERT INTO changes (seq, previous, body, tag) SELECT ?1, ?2, ?3, ?4
               WHERE ?1 = (SELECT coalesce(max(seq), 0) + 1 FROM changes)";
    execute(transaction, sql, params![integer(row.seq)?, row.previous, row.body, row.tag.0])
}

fn execute(transaction: &Transaction<'_>, sql: &str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
    transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(wrong)
}

/// The genesis row.
pub(super) fn genesis(connection: &Connection) -> Result<Option<GenesisRow>, StoreError> {
    let read = |row: &Row<'_>| Ok(GenesisRow { generation: natural(row, 0)?, body: row.get(1)?, tag: tag(row, 2)? });
    Ok(select(connection, "SELECT generation, body, tag FROM genesis", params![], read)?.pop())
}

/// Every head, by name.
pub(super) fn keyrings(connection: &Connection) -> Result<Vec<KeyringRow>, StoreError> {
    let sql = "SELECT name, generation, body, tag FROM keyrings ORDER BY name";
    select(connection, sql, params![], |row| {
        Ok(KeyringRow { name: row.get(0)?, generation: natural(row, 1)?, body: row.get(2)?, tag: tag(row, 3)? })
    })
}

/// Every key without its wraps, by id: the statement does not even read them.
pub(super) fn keys(connection: &Connection) -> Result<Vec<KeyRow>, StoreError> {
    let sql = "SELECT id, purpose, keyring, parent, state, generation, body, tag FROM keys ORDER BY id";
    select(connection, sql, params![], key)
}

/// Every key with its wraps, by id.
pub(super) fn sealed_keys(connection: &Connection) -> Result<Vec<SealedKey>, StoreError> {
    let sql = "SELECT id, purpose, keyring, parent, state, generation, body, tag, wraps FROM keys ORDER BY id";
    select(connection, sql, params![], |row| Ok(SealedKey { row: key(row)?, wraps: row.get(8)? }))
}

/// At most `limit` links after `after`.
pub(super) fn changes(connection: &Connection, after: u64, limit: u32) -> Result<Vec<ChangeRow>, StoreError> {
    let sql = "SELECT seq, previous, body, tag FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    select(connection, sql, params![integer(after)?, limit], |row| {
        Ok(ChangeRow { seq: natural(row, 0)?, previous: row.get(1)?, body: row.get(2)?, tag: tag(row, 3)? })
    })
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

fn integer(value: u64) -> Result<i64, StoreError> {
    // SQLite counts to 2^63 - 1; a generation that large was never reached by counting.
    i64::try_from(value).map_err(|_| StoreError::Conflict)
}
