//! Is this file a keyward store of a schema that we know? Migrations go forward only, each in one transaction.
//!
//! Why not a migration library: the one at hand panics on an edited history table, and the schema number that SQLite
//! itself keeps (`user_version`) is all the history that a forward-only list of files needs.

use rusqlite::{Connection, TransactionBehavior};

use super::wrong;
use crate::store::StoreError;

/// `kwrd`: tells a store from any other SQLite file.
const APPLICATION_ID: u32 = 0x6b77_7264;

/// Migration n is the n-th file.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/sqlite/0001_tables.sql"),
    include_str!("../migrations/sqlite/0002_life.sql"),
    include_str!("../migrations/sqlite/0003_keys_by_keyring.sql"),
];

/// Brings a store to the newest schema, or refuses it.
pub(super) fn admit(connection: &mut Connection) -> Result<(), StoreError> {
    recognise(connection)?;
    migrate(connection)?;
    compare(connection)?;
    check_integrity(connection)
}

pub(super) fn recognise(connection: &Connection) -> Result<(), StoreError> {
    let found = pragma(connection, "user_version")?;
    let known = known();
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(wrong)?;
    let application = pragma(connection, "application_id")?;
    // Crash state: a file without any table is one whose creation was cut short; it is finished, not refused.
    if application != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(StoreError::Corrupt("it is a database of another program".to_owned()));
    }
    if found > known {
        let needs = connection.query_row("SELECT keyward FROM needs", [], |row| row.get(0));
        return Err(StoreError::NewerSchema { found, known, needs: needs.unwrap_or_else(|_| "(unknown)".to_owned()) });
    }
    Ok(())
}

/// A store of an older schema belongs to an older keyward that runs on it, or to nobody: only who opens it migrates it.
pub(super) fn current(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (pragma(connection, "user_version")?, known());
    if found == known {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "its schema is {found} and this keyward knows {known}: restart the sidecar that has it open with this keyward"
    )))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    loop {
        // Two processes may open an old store at once: the number is read inside the transaction that raises it.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
        let done = pragma(&transaction, "user_version")?;
        let Some(next) = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done)) else { return Ok(()) };
        transaction.execute_batch(next).map_err(wrong)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrong)?;
        transaction.pragma_update(None, "user_version", done.saturating_add(1)).map_err(wrong)?;
        transaction.commit().map_err(wrong)?;
    }
}

/// A trigger or view put into the file could rewrite what keyward writes: the schema must be exactly the migrations'.
pub(super) fn compare(connection: &Connection) -> Result<(), StoreError> {
    let reference = Connection::open_in_memory().map_err(wrong)?;
    for migration in MIGRATIONS {
        reference.execute_batch(migration).map_err(wrong)?;
    }
    if objects(connection)? == objects(&reference)? {
        return Ok(());
    }
    Err(StoreError::Corrupt("its tables or triggers are not those of this schema number".to_owned()))
}

fn objects(connection: &Connection) -> Result<Vec<(String, String, Option<String>)>, StoreError> {
    // SQLite keeps statistics in tables of its own when somebody runs ANALYZE; they change nothing.
    let query = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name";
    let mut statement = connection.prepare(query).map_err(wrong)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(wrong)?;
    rows.collect::<Result<_, _>>().map_err(wrong)
}

fn check_integrity(connection: &Connection) -> Result<(), StoreError> {
    let first: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(wrong)?;
    if first == "ok" { Ok(()) } else { Err(StoreError::Corrupt(first)) }
}

fn pragma(connection: &Connection, name: &str) -> Result<u32, StoreError> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(wrong)
}

fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}
