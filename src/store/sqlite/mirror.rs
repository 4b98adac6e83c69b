//! How are keyrings of a database elsewhere kept in a file of this machine? As the rows that were last read, whole.
//! This module never keeps a partition, and never a keyring over a newer one. What it keeps is nobody's proof: `keyring`
//! verifies every row, wherever it comes from. The file may be lost at any time, so it is never waited for on the disk.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::worker::Worker;
use super::{check_mode, rows, wrong};
use crate::durable::Disk;
use crate::store::{RingRows, SealedKey, StoreError};

/// `kwmr`: a mirror is no store, and is not opened as one.
const APPLICATION_ID: u32 = 0x6b77_6d72;

/// Another number is another layout, and the file is begun again.
const LAYOUT: u32 = 1;

const TABLES: &str = "
    CREATE TABLE keyrings (
        name TEXT PRIMARY KEY NOT NULL, generation INTEGER NOT NULL, body TEXT NOT NULL, tag BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        id BLOB PRIMARY KEY NOT NULL, purpose TEXT NOT NULL, keyring TEXT NOT NULL, parent TEXT NOT NULL,
        state TEXT NOT NULL, generation INTEGER NOT NULL, body TEXT NOT NULL, wraps BLOB NOT NULL, tag BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_keyring ON keys (keyring, id);";

/// The file, on a thread of its own.
pub(in crate::store) struct MirrorFile(Worker);

impl MirrorFile {
    /// Opens the file, and begins it again if it cannot be used.
    pub(in crate::store) async fn open(path: PathBuf) -> Result<Self, StoreError> {
        let worker = Worker::start("keyward-mirror", move || match existing(&path) {
            Ok(connection) => Ok(connection),
            Err(error) => {
                tracing::info!(%error, "the local mirror of the store is begun anew");
                begin(&path)
            }
        });
        Ok(Self(worker.await?))
    }

    /// Keeps keyrings; those of which a newer generation is kept are left as they are.
    pub(in crate::store) async fn keep(&self, rings: Vec<RingRows>) -> Result<(), StoreError> {
        let keep = move |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
            for ring in &rings {
                keep(&transaction, ring)?;
            }
            transaction.commit().map_err(wrong)
        };
        self.0.write(keep).await
    }

    /// A keyring as it was last kept.
    pub(in crate::store) async fn ring(&self, name: String) -> Result<Option<RingRows>, StoreError> {
        let read = move |connection: &mut Connection| {
            let moment = connection.transaction().map_err(wrong)?;
            rows::ring(&moment, &name)
        };
        self.0.read(read).await
    }
}

fn keep(transaction: &Transaction<'_>, ring: &RingRows) -> Result<(), StoreError> {
    let head = &ring.head;
    let put_head = "INSERT INTO keyrings (name, generation, body, tag) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (name) DO UPDATE SET generation = ?2, body = ?3, tag = ?4 WHERE generation <= ?2";
    let values = params![head.name, rows::integer(head.generation)?, head.body, head.tag.0];
    let kept = transaction.prepare_cached(put_head).and_then(|mut put| put.execute(values)).map_err(wrong)?;
    if kept == 0 {
        return Ok(());
    }
    let put_key = "INSERT INTO keys (id, purpose, keyring, parent, state, generation, body, wraps, tag)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE
        SET purpose = ?2, keyring = ?3, parent = ?4, state = ?5, generation = ?6, body = ?7, wraps = ?8, tag = ?9
        WHERE tag <> ?9";
    let mut put = transaction.prepare_cached(put_key).map_err(wrong)?;
    for SealedKey { row, wraps } in &ring.keys {
        let generation = rows::integer(row.generation)?;
        let (id, tag) = (row.id.0, row.tag.0);
        put.execute(params![id, row.purpose, row.keyring, row.parent, row.state, generation, row.body, wraps, tag])
            .map_err(wrong)?;
    }
    Ok(())
}

fn existing(path: &Path) -> Result<Connection, StoreError> {
    check_mode(path)?;
    let connection = connect(path)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).map_err(wrong);
    if (number("application_id")?, number("user_version")?) != (APPLICATION_ID, LAYOUT) {
        return Err(StoreError::Corrupt("it is no mirror of this layout".to_owned()));
    }
    let first: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(wrong)?;
    if first == "ok" { Ok(connection) } else { Err(StoreError::Corrupt(first)) }
}

fn begin(path: &Path) -> Result<Connection, StoreError> {
    let disk = Disk::real();
    super::remove(&disk, path)?;
    drop(disk.create_new(path, 0o600)?);
    let connection = connect(path)?;
    connection.execute_batch(TABLES).map_err(wrong)?;
    connection.pragma_update(None, "user_version", LAYOUT).map_err(wrong)?;
    // Last: a file that was cut short has no such number and is begun again.
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrong)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(wrong)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(wrong)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(wrong)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(wrong)?;
    // Whole after a crash of the process, and after a power cut as it was some commits ago: it is a mirror.
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(wrong)?;
    // A replaced wrap is overwritten in the file, not left in a free page.
    connection.pragma_update(None, "secure_delete", true).map_err(wrong)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(wrong)?;
    Ok(connection)
}
