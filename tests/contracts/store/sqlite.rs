//! What SQLite promises of its file, beside what every store promises.

use std::path::Path;
use std::time::Duration;

use keyward::store::{StoreError, sqlite};

use super::{Halves, change, head, key};

/// A file of its own.
struct File {
    settings: sqlite::Settings,
    _dir: tempfile::TempDir,
}

async fn fresh() -> (File, Halves) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let opened = sqlite::create(&settings).await.unwrap();
    (File { settings, _dir: dir }, Halves::of(opened))
}

/// A file in this directory.
pub(super) fn settings(dir: &Path) -> sqlite::Settings {
    sqlite::Settings { path: dir.join("store.sqlite"), busy_timeout: Duration::from_secs(10) }
}

impl File {
    async fn reopen(&self) -> Halves {
        Halves::of(sqlite::open(&self.settings).await.unwrap())
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    /// The file as anybody with the right to edit it would open it.
    fn edit(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn creates_a_file_for_its_owner_alone_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt;
    let (place, store) = fresh().await;
    store.writer.commit(vec![head("default/a", 1)]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", place.path().display());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "{file}");
    }
    let again = sqlite::create(&place.settings).await.err();
    assert_eq!(again, Some(StoreError::Exists(place.path().to_owned())));
    assert_eq!(place.reopen().await.reader.keyrings(None, 1_000).await.unwrap().len(), 1);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test opens the file to others on purpose")]
async fn refuses_a_file_that_others_may_read_and_a_place_without_one() {
    use std::os::unix::fs::PermissionsExt;
    let (place, _store) = fresh().await;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = sqlite::open(&place.settings).await.err();
    assert_eq!(refused, Some(StoreError::Exposed { path: place.path().to_owned(), mode: 0o640 }));
    let nowhere = sqlite::Settings { path: place.path().with_extension("other"), ..place.settings.clone() };
    assert_eq!(sqlite::open(&nowhere).await.err(), Some(StoreError::Missing(nowhere.path.clone())));
    assert!(!nowhere.path.exists());
}

#[tokio::test]
async fn refuses_a_newer_schema_and_names_the_keyward_it_needs() {
    let (place, store) = fresh().await;
    drop(store);
    place.edit("UPDATE needs SET keyward = '7.1.0'; PRAGMA user_version = 8;");
    let refused = sqlite::open(&place.settings).await.err().unwrap();
    assert_eq!(refused, StoreError::NewerSchema { found: 8, known: 3, needs: "7.1.0".to_owned() });
    assert!(refused.to_string().contains("run keyward 7.1.0 or newer"));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test makes a file of an older keyward")]
async fn a_file_of_an_older_schema_keeps_every_row_when_its_tables_are_made_anew() {
    use std::os::unix::fs::PermissionsExt;
    let (place, store) = fresh().await;
    drop(store);
    let old = sqlite::Settings { path: place.path().with_extension("old"), ..place.settings.clone() };
    let connection = rusqlite::Connection::open(&old.path).unwrap();
    std::fs::set_permissions(&old.path, std::fs::Permissions::from_mode(0o600)).unwrap();
    connection.execute_batch(include_str!("../../../src/store/migrations/sqlite/0001_tables.sql")).unwrap();
    connection.execute_batch(include_str!("../../../src/store/migrations/sqlite/0002_life.sql")).unwrap();
    connection.execute_batch("PRAGMA application_id = 0x6b777264; PRAGMA user_version = 2").unwrap();
    for keyring in ["default/b", "default/a"] {
        let sql = "INSERT INTO keyrings VALUES (?1, 1, '{}', zeroblob(32))";
        connection.execute(sql, [keyring]).unwrap();
    }
    for number in 1..=9_u8 {
        let keyring = if number % 2 == 0 { "default/a" } else { "default/b" };
        let sql = "INSERT INTO keys VALUES (?1, 'data', ?2, 'kek:main', 'active', ?3, '{}', ?1, zeroblob(32))";
        connection.execute(sql, rusqlite::params![[number; 8], keyring, number]).unwrap();
    }
    drop(connection);
    // Whoever only looks changes nothing, and says what there is to do.
    let looked = sqlite::look(&old).await.err();
    assert!(matches!(&looked, Some(StoreError::Unavailable(why)) if why.contains("its schema is 2")), "{looked:?}");
    let store = Halves::of(sqlite::open(&old).await.unwrap());
    let rings = store.writer.rings(None, 1_000).await.unwrap();
    let found: Vec<(&str, Vec<u64>)> =
        rings.iter().map(|ring| (&*ring.head.name, ring.keys.iter().map(|key| key.row.generation).collect())).collect();
    assert_eq!(found, [("default/a", vec![2, 4, 6, 8]), ("default/b", vec![1, 3, 5, 7, 9])]);
    assert!(rings.iter().flat_map(|ring| &ring.keys).all(|key| key.wraps == key.row.id.0));
    let taken = store.writer.commit(vec![key(2, "default/b", 1, b"another of the same id")]).await;
    assert_eq!(taken, Err(StoreError::Conflict));
}

#[tokio::test]
async fn refuses_a_foreign_database_and_a_changed_schema() {
    let edits = [
        "PRAGMA application_id = 1;",
        "CREATE TRIGGER quiet AFTER INSERT ON keys BEGIN UPDATE keys SET state = 'x' WHERE id = new.id; END;",
        "DROP TRIGGER changes_are_not_deleted;",
        "CREATE TABLE more (one INTEGER) STRICT;",
    ];
    for edit in edits {
        let (place, store) = fresh().await;
        drop(store);
        place.edit(edit);
        assert!(matches!(sqlite::open(&place.settings).await.err(), Some(StoreError::Corrupt(_))), "{edit}");
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the file on purpose")]
async fn refuses_a_damaged_file() {
    let (place, store) = fresh().await;
    for seq in 1..200 {
        store.writer.commit(vec![change(seq)]).await.unwrap();
    }
    drop(store);
    place.edit("PRAGMA wal_checkpoint(TRUNCATE);");
    let mut bytes = std::fs::read(place.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    std::fs::write(place.path(), bytes).unwrap();
    assert!(matches!(sqlite::open(&place.settings).await.err(), Some(StoreError::Corrupt(_))));
    std::fs::write(place.path(), b"not a database, just a text that somebody put here").unwrap();
    assert!(matches!(sqlite::open(&place.settings).await.err(), Some(StoreError::Corrupt(_))));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test makes the file that a cut-short creation leaves")]
async fn finishes_a_creation_that_was_cut_short() {
    use std::os::unix::fs::PermissionsExt;
    let (place, store) = fresh().await;
    drop(store);
    let settings = sqlite::Settings { path: place.path().with_extension("half"), ..place.settings.clone() };
    std::fs::write(&settings.path, b"").unwrap();
    std::fs::set_permissions(&settings.path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = Halves::of(sqlite::open(&settings).await.unwrap());
    store.writer.commit(vec![head("default/a", 1)]).await.unwrap();
}

#[tokio::test]
async fn overwrites_a_replaced_wrap_in_its_file() {
    let (place, store) = fresh().await;
    let wrap = b"THE-OLD-WRAP-OF-THIS-KEY";
    let present = |path: &Path| std::fs::read(path).unwrap().windows(wrap.len()).any(|window| window == wrap);
    store.writer.commit(vec![head("default/a", 1), key(1, "default/a", 1, wrap)]).await.unwrap();
    place.edit("PRAGMA wal_checkpoint(TRUNCATE);");
    let found_first = present(place.path());
    store.writer.commit(vec![key(1, "default/a", 2, b"")]).await.unwrap();
    drop(store);
    place.edit("PRAGMA wal_checkpoint(TRUNCATE);");
    assert!(found_first, "the check would see it");
    assert!(!present(place.path()));
}
