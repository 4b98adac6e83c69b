//! Is this database a keyward store of a schema that we know, on a server that keeps what it says it keeps?
//! Migrations go forward only, each in one transaction; the role that serves needs no right to carry them out.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Row;

use super::fault::Fault;
use super::pool::Lease;
use super::settings::Settings;
use crate::store::StoreError;

/// Migration n is the n-th file.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("../migrations/postgres/0001_tables.sql")];

/// What the migrations make, as [`OBJECTS`] lists it.
const EXPECTED: &str = include_str!("../migrations/postgres/objects.txt");

/// A migration may rewrite a table.
const MIGRATION: Duration = Duration::from_secs(600);

/// The oldest server whose statement timeout is a statement's even where several are sent at once.
const OLDEST_SERVER: i32 = 130_000;

/// What is in the database.
pub(super) enum Found {
    Nothing,
    Schema(usize),
}

/// Refuses a server that would lose, garble or misorder rows.
pub(super) async fn check_server(lease: &Lease<'_>) -> Result<(), Fault> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'),
        current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let rows = lease.timed(lease.query(sql, &[])).await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the server has no settings".to_owned()))?;
    let version: i32 = row.try_get(0).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    if version < OLDEST_SERVER {
        return refuse(format!("PostgreSQL 13 or newer is needed (server_version_num is {version})"));
    }
    if text(row, 1)? != "UTF8" {
        return refuse(format!("its encoding is {}: make it with ENCODING 'UTF8'", text(row, 1)?));
    }
    check_durability(row, 2)
}

/// `fsync`, `full_page_writes` and `synchronous_commit`, from this column on.
fn check_durability(row: &Row, from: usize) -> Result<(), Fault> {
    for (at, name) in (from..).zip(["fsync", "full_page_writes"]) {
        if text(row, at)? != "on" {
            return refuse(format!("{name} is {}: a power cut could lose keys that were acknowledged", text(row, at)?));
        }
    }
    let commit = text(row, from.saturating_add(2))?;
    if !["on", "remote_apply"].contains(&commit.as_str()) {
        return refuse(format!("synchronous_commit stays {commit} for this role"));
    }
    Ok(())
}

fn text(row: &Row, at: usize) -> Result<String, Fault> {
    Ok(row.try_get(at).map_err(|error| StoreError::Corrupt(error.to_string()))?)
}

fn refuse(why: String) -> Result<(), Fault> {
    Err(Fault::Refused(StoreError::Unsuitable(why)))
}

/// Whether a new connection leads to what was looked at before: since then another keyward may have migrated the schema,
/// or another server have taken over. One statement.
pub(super) async fn look_again(lease: &Lease<'_>) -> Result<(), Fault> {
    let sql = "SELECT schema, keyward, current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit') FROM keyward.needs";
    let rows = lease.timed(lease.query(sql, &[])).await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the schema keyward has no number".to_owned()))?;
    match known(row)? {
        found if found == MIGRATIONS.len() => check_durability(row, 2),
        found => refuse(format!("its schema is {found} and was newer before: was an older database put back?")),
    }
}

/// Which schema there is.
pub(super) async fn find(lease: &Lease<'_>) -> Result<Found, Fault> {
    let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'keyward')";
    let there = lease.timed(lease.query(sql, &[])).await?.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
    if !there {
        return Ok(Found::Nothing);
    }
    let rows = lease.timed(lease.query("SELECT schema, keyward FROM keyward.needs", &[])).await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the schema keyward has no number".to_owned()))?;
    known(row).map(Found::Schema)
}

/// The number of the schema, if this keyward knows it.
fn known(row: &Row) -> Result<usize, Fault> {
    let found: i32 = row.try_get(0).map_err(|_| StoreError::Corrupt("the schema keyward has no number".to_owned()))?;
    let newer = |found| StoreError::NewerSchema {
        found,
        known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        needs: row.try_get(1).unwrap_or_else(|_| "(unknown)".to_owned()),
    };
    match usize::try_from(found) {
        Ok(number) if number <= MIGRATIONS.len() => Ok(number),
        _ => Err(newer(u32::try_from(found).unwrap_or(u32::MAX)).into()),
    }
}

/// Whether somebody founded a store here.
pub(super) async fn is_founded(lease: &Lease<'_>) -> Result<bool, Fault> {
    let rows = lease.timed(lease.query("SELECT EXISTS (SELECT FROM keyward.genesis)", &[])).await?;
    Ok(rows.first().is_some_and(|row| row.try_get(0).unwrap_or(true)))
}

/// Brings the schema to the newest number, and looks whether it is what the migrations make.
pub(super) async fn admit(lease: &Lease<'_>, settings: &Settings) -> Result<(), Fault> {
    loop {
        let found = match find(lease).await? {
            Found::Nothing => 0,
            Found::Schema(number) => number,
        };
        let Some(next) = MIGRATIONS.get(found) else { return compare(lease).await };
        if let Err(fault) = migrate(lease, found, next).await {
            return Err(without_right(fault, settings));
        }
    }
}

/// One migration, unless another process has done it in the meantime.
async fn migrate(lease: &Lease<'_>, from: usize, migration: &str) -> Result<(), Fault> {
    lease.set_broken(true);
    let begin = format!("BEGIN; SET LOCAL statement_timeout = 0; {}", super::lock(super::Lock::Migration));
    lease.timed_for(MIGRATION, lease.run(&begin)).await?;
    let found = match find(lease).await? {
        Found::Nothing => 0,
        Found::Schema(number) => number,
    };
    if found == from {
        lease.timed_for(MIGRATION, lease.run(migration)).await?;
    }
    lease.timed_for(MIGRATION, lease.run("COMMIT")).await?;
    lease.set_broken(false);
    Ok(())
}

fn without_right(fault: Fault, settings: &Settings) -> Fault {
    match fault {
        Fault::Refused(StoreError::Unsuitable(why)) => Fault::Refused(StoreError::Unsuitable(format!(
            "the role {} may not change the schema ({why}): its owner runs what `keyward store schema` prints",
            settings.user
        ))),
        other => other,
    }
}

/// A trigger, rule or view in the schema could rewrite what keyward writes: its objects must be the migrations'.
async fn compare(lease: &Lease<'_>) -> Result<(), Fault> {
    let found = objects(lease).await?;
    let expected: Vec<&str> = EXPECTED.lines().collect();
    let strange = found.iter().find(|line| !expected.contains(&line.as_str()));
    let missing = expected.iter().find(|line| !found.iter().any(|found| found == *line));
    match (strange, missing) {
        (None, None) => Ok(()),
        (Some(line), _) => Err(StoreError::Corrupt(format!("its schema has what keyward did not make: {line}")).into()),
        (None, Some(line)) => Err(StoreError::Corrupt(format!("its schema lacks what keyward made: {line}")).into()),
    }
}

async fn objects(lease: &Lease<'_>) -> Result<Vec<String>, Fault> {
    let rows = lease.timed(lease.query(OBJECTS, &[])).await?;
    let line = |row: &tokio_postgres::Row| row.try_get(0).map_err(|error| StoreError::Corrupt(error.to_string()));
    Ok(rows.iter().map(line).collect::<Result<_, _>>()?)
}

/// What can change the meaning of a statement, in words that no version of the server spells differently. An index or a
/// comment of the database's owner is nobody's harm and does not stand here.
const OBJECTS: &str = "
    WITH of AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'keyward')
    SELECT line FROM (
        SELECT 'table ' || relname || ' ' || relkind::text || relpersistence::text
            || CASE WHEN relrowsecurity THEN ' with row security' ELSE '' END AS line
        FROM of WHERE relkind NOT IN ('i', 't', 'c')
        UNION ALL
        SELECT 'column ' || of.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
            || coalesce(' ' || l.collname, '') || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
            || CASE WHEN a.atthasdef THEN ' with default' ELSE '' END
        FROM of JOIN pg_attribute a ON a.attrelid = of.oid LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE of.relkind NOT IN ('i', 't', 'c') AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'constraint ' || of.relname || ' ' || k.contype::text || ' ' || array_to_string(k.conkey, ',')
            || CASE WHEN k.condeferred THEN ' deferred' ELSE '' END
        FROM of JOIN pg_constraint k ON k.conrelid = of.oid WHERE k.contype IN ('p', 'u', 'x', 'f')
        UNION ALL
        SELECT 'trigger ' || of.relname || ' ' || t.tgname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' '
            || p.proname || CASE WHEN t.tgqual IS NULL THEN '' ELSE ' with condition' END
        FROM of JOIN pg_trigger t ON t.tgrelid = of.oid JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal
        UNION ALL
        SELECT 'rule ' || of.relname || ' ' || r.rulename FROM of JOIN pg_rewrite r ON r.ev_class = of.oid
        UNION ALL
        SELECT 'function ' || p.proname || ' ' || encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex')
            || CASE WHEN p.prosecdef THEN ' as owner' ELSE '' END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'keyward'
    ) lines ORDER BY line COLLATE \"C\"";

/// The rights of the role that serves: it owns nothing, deletes nothing and edits no link of the chain. Run by the owner.
pub(super) fn grants(role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "GRANT USAGE ON SCHEMA keyward TO {role};\n\
         GRANT SELECT ON keyward.needs TO {role};\n\
         GRANT SELECT, INSERT ON keyward.changes TO {role};\n\
         GRANT SELECT, INSERT, UPDATE ON keyward.genesis, keyward.keyrings, keyward.keys, keyward.partitions,\n    \
         keyward.usage, keyward.sidecars TO {role};\n"
    )
}

/// Where the store is, in the words of a path: errors name places.
pub(super) fn place(settings: &Settings) -> PathBuf {
    PathBuf::from(settings.to_string())
}
