//! How do sealed rows rest in an embedded database? SQLite in WAL mode: one thread writes, one reads, nobody blocks the runtime.
//! This module never opens a file that others may read, and never goes on after a write that failed.

pub(super) mod mirror;
mod rows;
mod schema;
mod snapshot;
mod worker;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use self::snapshot::Moment;
use self::worker::Worker;
use super::{
    ChangeRow, Counts, GenesisRow, KeyRow, KeyringRow, Opened, PartitionName, PartitionRow, Reader, RingRows,
    SidecarRow, Snapshot, StoreError, UsageRow, Write, Writer,
};
use crate::clock::{BoxFuture, Clock, SystemClock};
use crate::durable::{Disk, DurableError};
use crate::names::KeyVersionId;

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
    open_after(settings, Duration::ZERO).await
}

/// The same, for who has time: another process that reads the file, a backup say, may end first.
pub async fn open_after_readers(settings: &Settings) -> Result<Opened, StoreError> {
    open_after(settings, READERS).await
}

/// How long a start waits for a reader: most backups end sooner, and one that hangs shall not keep it for ever.
const READERS: Duration = Duration::from_secs(600);

async fn open_after(settings: &Settings, patience: Duration) -> Result<Opened, StoreError> {
    check_mode(&settings.path)?;
    let (for_writer, for_reader) = (settings.clone(), settings.clone());
    let writer = Worker::start("keyward-store", move || {
        let mut connection = connect(&for_writer)?;
        schema::admit(&mut connection)?;
        settle_wal(&connection, patience)?;
        Ok(connection)
    });
    let writer = writer.await?;
    let reader = Worker::start("keyward-reader", move || {
        let connection = connect(&for_reader)?;
        connection.pragma_update(None, "query_only", true).map_err(wrong)?;
        Ok(connection)
    });
    Ok(Opened::new(
        Arc::new(SqliteReader(reader.await?)),
        Arc::new(SqliteWriter { worker: writer, settings: settings.clone() }),
    ))
}

/// The store as it is now, beside the process that has it open, which has migrated and checked it.
pub async fn look(settings: &Settings) -> Result<Box<dyn Snapshot>, StoreError> {
    check_mode(&settings.path)?;
    Ok(Box::new(Moment::begin(settings.clone()).await?))
}

/// A database's file with those that SQLite keeps beside it, the file itself last.
pub fn files(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", ""].map(|end| PathBuf::from(format!("{}{end}", path.display())))
}

/// Removes a database that is of no use any more: a mirror, a working copy.
pub fn remove(disk: &Disk, path: &Path) -> Result<(), DurableError> {
    for file in files(path) {
        match disk.remove_file(&file) {
            Ok(()) | Err(DurableError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves what the WAL holds into the database and syncs it. After a failed sync the pages of the WAL may be in the page
/// cache and nowhere else: what is believed from here on is on the disk.
fn settle_wal(connection: &Connection, patience: Duration) -> Result<(), StoreError> {
    let until = SystemClock.mono().plus(patience);
    let mut told = false;
    // Each look waits as long as any statement does for another process.
    while is_read(connection)? {
        if SystemClock.mono() >= until {
            return Err(StoreError::Unavailable("another process reads the store, a backup say".to_owned()));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("another process reads the store, a backup say: its end is waited for");
        }
    }
    Ok(())
}

/// Moves what can be moved; whether a reader kept some of it back.
fn is_read(connection: &Connection) -> Result<bool, StoreError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(wrong)?;
    Ok(busy != 0)
}

struct SqliteReader(Worker);

impl Reader for SqliteReader {
    fn genesis(&self) -> BoxFuture<'_, Result<Option<GenesisRow>, StoreError>> {
        self.0.read(|connection| rows::genesis(connection))
    }

    fn keyrings(&self, after: Option<String>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyringRow>, StoreError>> {
        self.0.read(move |connection| page(connection, limit, |it| rows::keyrings(it, after.as_deref(), limit)))
    }

    fn keys(&self, after: Option<KeyVersionId>, limit: u32) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>> {
        self.0.read(move |connection| page(connection, limit, |it| rows::keys(it, after, limit)))
    }

    fn changes(&self, after: u64, limit: u32) -> BoxFuture<'_, Result<Vec<ChangeRow>, StoreError>> {
        self.0.read(move |connection| page(connection, limit, |it| rows::changes(it, after, limit)))
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        // One row, and it looks at all there are.
        self.0.read(|connection| Ok(page(connection, 2, |it| Ok(vec![rows::counts(it)?]))?.pop().unwrap_or_default()))
    }
}

struct SqliteWriter {
    worker: Worker,
    settings: Settings,
}

impl Writer for SqliteWriter {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.worker.write(move |connection| all_or_none(connection, &batch, rows::write))
    }

    fn import(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.worker.write(move |connection| all_or_none(connection, &batch, rows::insert))
    }

    fn last_change(&self) -> BoxFuture<'_, Result<Option<ChangeRow>, StoreError>> {
        self.worker.read(|connection| rows::last_change(connection))
    }

    fn ring(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.worker.read(move |connection| {
            let moment = connection.transaction().map_err(wrong)?;
            rows::ring(&moment, &name)
        })
    }

    fn ring_now(&self, name: String) -> BoxFuture<'_, Result<Option<RingRows>, StoreError>> {
        self.ring(name)
    }

    fn rings(&self, after: Option<String>, keys: u32) -> BoxFuture<'_, Result<Vec<RingRows>, StoreError>> {
        self.worker.read(move |connection| {
            // However few keys are asked for, a page has a keyring: only the end has none.
            page(connection, 1, |it| {
                let moment = it.transaction().map_err(wrong)?;
                rows::rings(&moment, after.as_deref(), keys)
            })
        })
    }

    fn partition(
        &self,
        keyring: String,
        name: PartitionName,
    ) -> BoxFuture<'_, Result<Option<PartitionRow>, StoreError>> {
        self.worker.read(move |connection| rows::partition(connection, &keyring, name))
    }

    fn partitions(
        &self,
        keyring: String,
        parent: Option<KeyVersionId>,
        after: Option<PartitionName>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<PartitionRow>, StoreError>> {
        self.worker
            .read(move |connection| page(connection, limit, |it| rows::partitions(it, &keyring, parent, after, limit)))
    }

    fn usage(&self, key: Option<KeyVersionId>) -> BoxFuture<'_, Result<Vec<UsageRow>, StoreError>> {
        self.worker.read(move |connection| rows::usage(connection, key))
    }

    fn sidecars(&self) -> BoxFuture<'_, Result<Vec<SidecarRow>, StoreError>> {
        self.worker.read(|connection| rows::sidecars(connection))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Box<dyn Snapshot>, StoreError>> {
        let moment = Moment::begin(self.settings.clone());
        Box::pin(async move { Ok(Box::new(moment.await?) as Box<dyn Snapshot>) })
    }

    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        // A commit ends with its process; one of this process stands in the queue before us.
        self.worker.read(|_| Ok(()))
    }

    fn hint(&self) -> BoxFuture<'_, ()> {
        // One process has the file at a time (`state/lock`): nobody else changes it.
        Box::pin(std::future::pending())
    }
}

/// How much a connection keeps of the file, in SQLite's negative KiB: the upper levels of the trees, since most reads are
/// at random. And how much while many rows change at once, so that none of them is written before the commit.
const AT_REST: i32 = -512;
const IN_A_RUN: i32 = -2_000;
/// Rows of a batch that may need more than the first.
const MANY: usize = 64;

/// Reads a page of a scan. One that comes to its end leaves nothing behind: most of what it read is not read again.
fn page<T>(
    connection: &mut Connection,
    full: u32,
    read: impl FnOnce(&mut Connection) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let rows = read(connection)?;
    if u32::try_from(rows.len()).is_ok_and(|rows| rows < full) {
        connection.pragma_update(None, "cache_size", AT_REST).map_err(wrong)?;
        connection.release_memory().map_err(wrong)?;
    }
    Ok(rows)
}

fn all_or_none(
    connection: &mut Connection,
    batch: &[Write],
    one: impl Fn(&Transaction<'_>, &Write) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if batch.len() >= MANY {
        connection.pragma_update(None, "cache_size", IN_A_RUN).map_err(wrong)?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
    for write in batch {
        one(&transaction, write)?;
    }
    // Crash state: until this returns, the rows are either all in the WAL behind a commit mark or not there.
    transaction.commit().map_err(wrong)
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
    // Without it SQLite compiles a statement anew for each new parameter, to look at statistics that there are none of.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(wrong)?;
    connection.pragma_update(None, "cache_size", AT_REST).map_err(wrong)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// More than there are in `rows`, so that none is parsed twice.
const STATEMENTS: usize = 64;

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

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_compiled_once_whatever_its_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        drop(Disk::real().create_new(&path, 0o600).unwrap());
        let connection = connect(&Settings { path, busy_timeout: std::time::Duration::ZERO }).unwrap();
        connection.execute_batch("CREATE TABLE t (a TEXT, b TEXT); CREATE INDEX i ON t (a, b)").unwrap();
        for name in ["one", "two", "three"] {
            let mut read = connection.prepare_cached("SELECT b FROM t WHERE a = ?1 ORDER BY b").unwrap();
            assert!(read.query([name]).unwrap().next().unwrap().is_none());
            assert_eq!(read.get_status(StatementStatus::RePrepare), 0, "{name}");
        }
    }

    #[test]
    fn a_run_of_writes_has_more_pages_until_a_scan_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        drop(Disk::real().create_new(&path, 0o600).unwrap());
        let mut connection = connect(&Settings { path, busy_timeout: Duration::ZERO }).unwrap();
        let kept = |connection: &Connection| -> i32 {
            connection.pragma_query_value(None, "cache_size", |row| row.get(0)).unwrap()
        };
        assert_eq!(kept(&connection), AT_REST);
        let row = |seq| ChangeRow { seq, previous: [0; 32], body: String::new(), tag: crate::store::Tag([0; 32]) };
        let batch: Vec<Write> = (0..64).map(|seq| Write::Change(row(seq))).collect();
        all_or_none(&mut connection, batch.get(..63).unwrap(), |_, _| Ok(())).unwrap();
        assert_eq!(kept(&connection), AT_REST);
        all_or_none(&mut connection, &batch, |_, _| Ok(())).unwrap();
        assert_eq!(kept(&connection), IN_A_RUN);
        page(&mut connection, 2, |_| Ok(vec![(), ()])).unwrap();
        assert_eq!(kept(&connection), IN_A_RUN);
        page(&mut connection, 2, |_| Ok(vec![()])).unwrap();
        assert_eq!(kept(&connection), AT_REST);
    }

    #[tokio::test]
    async fn a_start_waits_for_who_reads_the_file_and_a_command_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let settings = Settings { path, busy_timeout: Duration::from_millis(10) };
        drop(create(&settings).await.unwrap());
        let reads = look(&settings).await.unwrap();
        let writes = connect(&settings).unwrap();
        writes.execute_batch("CREATE TABLE t (a TEXT); DROP TABLE t").unwrap();
        assert!(matches!(open(&settings).await, Err(StoreError::Unavailable(_))));
        let ends = async {
            SystemClock.sleep_until(SystemClock.mono().plus(Duration::from_millis(200))).await;
            drop(reads);
        };
        let (opened, ()) = tokio::join!(open_after_readers(&settings), ends);
        assert!(opened.is_ok());
    }
}
