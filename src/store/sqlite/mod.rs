//! How do sealed rows rest in an embedded database? SQLite in WAL mode: one thread writes, one reads, nobody blocks the runtime.
//! This module never opens a file that others may read, and never goes on after a write that failed.

mod rows;
mod schema;
mod worker;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use self::worker::Worker;
use super::{ChangeRow, GenesisRow, Image, KeyRow, KeyringRow, Opened, Reader, StoreError, Write, Writer};
use crate::clock::BoxFuture;
use crate::durable::{Disk, DurableError};

/// The part's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The database file; SQLite keeps `-wal` and `-shm` beside it with the same mode.
    pub path: PathBuf,
    /// How long a statement waits for another process's transaction.
    pub busy_timeout: Duration,
}

/// Makes an empty store (mode 0600) and opens it. Never overwrites.
pub async fn create(settings: &Settings) -> Result<Opened, StoreError> {
    let disk = Disk::real();
    // SQLite's locks belong to the process: this descriptor must be gone before SQLite opens one of its own.
    drop(disk.create_new(&settings.path, 0o600)?);
    let opened = open(settings).await?;
    let directory = settings.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(directory.unwrap_or(Path::new(".")))?;
    Ok(opened)
}

/// Opens a store that exists: migrates it forward, checks its integrity. A newer schema is refused.
pub async fn open(settings: &Settings) -> Result<Opened, StoreError> {
    check_mode(&settings.path)?;
    let (for_writer, for_reader) = (settings.clone(), settings.clone());
    let writer = Worker::start("keyward-store", move || {
        let mut connection = connect(&for_writer)?;
        schema::admit(&mut connection)?;
        Ok(connection)
    });
    let writer = writer.await?;
    let reader = Worker::start("keyward-reader", move || {
        let connection = connect(&for_reader)?;
        connection.pragma_update(None, "query_only", true).map_err(wrong)?;
        Ok(connection)
    });
    Ok(Opened::new(Arc::new(SqliteReader(reader.await?)), Arc::new(SqliteWriter(writer))))
}

struct SqliteReader(Worker);

impl Reader for SqliteReader {
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>> {
        self.0.read(|connection| rows::genesis(connection))
    }

    fn keyrings(&self) -> BoxFuture<'_, Result<Vec<KeyringRow>, StoreError>> {
        self.0.read(|connection| rows::keyrings(connection))
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>> {
        self.0.read(|connection| rows::keys(connection))
    }

    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>> {
        self.0.read(move |connection| rows::changes(connection, after, limit))
    }
}

struct SqliteWriter(Worker);

impl Writer for SqliteWriter {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.write(move |connection| commit(connection, &batch))
    }

    fn image(&self) -> BoxFuture<'_, Result<Image, StoreError>> {
        self.0.read(image)
    }
}

fn commit(connection: &mut Connection, batch: &[Write]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
    for write in batch {
        rows::write(&transaction, write)?;
    }
    // Crash state: until this returns, the rows are either all in the WAL behind a commit mark or not there.
    transaction.commit().map_err(wrong)
}

fn image(connection: &mut Connection) -> Result<Image, StoreError> {
    let moment = connection.transaction().map_err(wrong)?;
    Ok(Image {
        genesis: rows::genesis(&moment)?,
        keyrings: rows::keyrings(&moment)?,
        keys: rows::sealed_keys(&moment)?,
        changes: rows::changes(&moment, 0, u32::MAX)?,
    })
}

fn connect(settings: &Settings) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&settings.path, flags).map_err(wrong)?;
    connection.busy_timeout(settings.busy_timeout).map_err(wrong)?;
    // A schema put into the file by somebody else must not run code or reach outside it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(wrong)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(wrong)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(wrong)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(wrong)?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!("the file system does not allow WAL mode (it stays {mode})")));
    }
    // FULL: the WAL is synced at each commit, so a commit that returned survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL").map_err(wrong)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(wrong)?;
    // A replaced wrap is overwritten in the file, not left in a free page.
    connection.pragma_update(None, "secure_delete", true).map_err(wrong)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(wrong)?;
    Ok(connection)
}

fn check_mode(path: &Path) -> Result<(), StoreError> {
    let facts = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
        _ => StoreError::Unavailable(format!("{}: {error}", path.display())),
    })?;
    let mode = facts.permissions().mode() & 0o7777;
    if mode & 0o177 == 0 { Ok(()) } else { Err(StoreError::Exposed { path: path.to_owned(), mode }) }
}

impl From<DurableError> for StoreError {
    fn from(error: DurableError) -> Self {
        match error {
            DurableError::Exists { path } => Self::Exists(path),
            DurableError::NoSpace { .. } => Self::Full(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Sorts SQLite's errors by who must act.
fn wrong(error: rusqlite::Error) -> StoreError {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        // A write or sync that failed (`Worker::read` says otherwise of a read): what the disk holds is known only
        // to the recovery of the next start.
        Some(ErrorCode::SystemIoFailure) => StoreError::Unsettled(detail),
        Some(ErrorCode::DiskFull) => StoreError::Full(detail),
        Some(ErrorCode::ConstraintViolation) => StoreError::Conflict,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => {
            StoreError::Corrupt(detail)
        }
        Some(_) => StoreError::Unavailable(detail),
        // Not from SQLite: a column did not convert, so somebody else wrote it.
        None => StoreError::Corrupt(detail),
    }
}
