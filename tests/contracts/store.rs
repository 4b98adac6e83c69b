//! What every store promises. One suite; each implementation runs it on a fresh place.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::path::Path;
use std::time::Duration;

use keyward::names::KeyVersionId;
use keyward::store::{
    ChangeRow, GenesisRow, KeyRow, KeyringRow, Opened, Reader, SealedKey, StoreError, Tag, Write, Writer, sqlite,
};
use std::sync::Arc;

/// Opens the store at its place again, as a restart or a second sidecar would.
struct Place {
    settings: sqlite::Settings,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn fresh() -> (Self, Halves) {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            sqlite::Settings { path: dir.path().join("store.sqlite"), busy_timeout: Duration::from_secs(10) };
        let opened = sqlite::create(&settings).await.unwrap();
        (Self { settings, _dir: dir }, Halves::of(opened))
    }

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

struct Halves {
    reader: Arc<dyn Reader>,
    writer: Arc<dyn Writer>,
}

impl Halves {
    fn of(opened: Opened) -> Self {
        Self { reader: opened.reader(), writer: opened.into_writer() }
    }

    async fn image(&self) -> Result<keyward::store::Image, StoreError> {
        keyward::store::image(&*self.reader, &*self.writer).await
    }
}

fn head(name: &str, generation: u64) -> Write {
    Write::Keyring(KeyringRow {
        name: name.to_owned(),
        generation,
        body: format!("{{\"g\":{generation}}}"),
        tag: tag(1),
    })
}

fn key(id: u8, keyring: &str, generation: u64, wraps: &[u8]) -> Write {
    let row = KeyRow {
        id: KeyVersionId([id; 8]),
        purpose: "data".to_owned(),
        keyring: keyring.to_owned(),
        parent: "kek:primary".to_owned(),
        state: "active".to_owned(),
        generation,
        body: "{}".to_owned(),
        tag: tag(2),
    };
    Write::Key(SealedKey { row, wraps: wraps.to_vec() })
}

fn change(seq: u64) -> Write {
    Write::Change(ChangeRow { seq, previous: [0; 32], body: format!("{{\"n\":{seq}}}"), tag: tag(3) })
}

fn tag(byte: u8) -> Tag {
    Tag([byte; 32])
}

#[tokio::test]
async fn a_new_store_is_empty() {
    let (_place, store) = Place::fresh().await;
    assert_eq!(store.reader.genesis().await.unwrap(), None);
    assert_eq!(store.reader.keyrings(None, 1_000).await.unwrap(), []);
    assert_eq!(store.reader.keys(None, 1_000).await.unwrap(), []);
    assert_eq!(store.reader.changes(0, 10).await.unwrap(), []);
    assert_eq!(store.image().await.unwrap(), keyward::store::Image::default());
}

#[tokio::test]
async fn a_committed_batch_reads_back_as_it_was_given_also_after_reopening() {
    let (place, store) = Place::fresh().await;
    let genesis = GenesisRow { generation: 1, body: "{\"é\":\"\u{1f511}\"}".to_owned(), tag: tag(9) };
    let batch = vec![Write::Genesis(genesis.clone()), key(7, "default/a", 1, b"wrap"), head("default/a", 1), change(1)];
    store.writer.commit(batch).await.unwrap();
    let before = store.image().await.unwrap();
    assert_eq!(before.genesis, Some(genesis));
    let [Write::Key(sealed), Write::Keyring(keyring), Write::Change(link)] =
        [key(7, "default/a", 1, b"wrap"), head("default/a", 1), change(1)]
    else {
        panic!("the helpers give these variants")
    };
    assert_eq!(before.keys, [sealed]);
    assert_eq!(before.keyrings, [keyring]);
    assert_eq!(before.changes, [link]);
    drop(store);
    assert_eq!(place.reopen().await.image().await.unwrap(), before);
}

#[tokio::test]
async fn a_row_that_exists_is_not_created_again() {
    let (_place, store) = Place::fresh().await;
    store.writer.commit(vec![head("default/a", 1), key(1, "default/a", 1, b"first")]).await.unwrap();
    for again in [head("default/a", 1), key(1, "default/a", 1, b"second")] {
        assert_eq!(store.writer.commit(vec![again]).await, Err(StoreError::Conflict));
    }
    let genesis = || Write::Genesis(GenesisRow { generation: 1, body: String::new(), tag: tag(0) });
    store.writer.commit(vec![genesis()]).await.unwrap();
    assert_eq!(store.writer.commit(vec![genesis()]).await, Err(StoreError::Conflict));
    assert_eq!(store.image().await.unwrap().keys[0].wraps, b"first");
}

#[tokio::test]
async fn a_row_is_replaced_only_by_its_next_generation() {
    let (_place, store) = Place::fresh().await;
    store.writer.commit(vec![head("default/a", 1), key(1, "default/a", 1, b"one")]).await.unwrap();
    for wrong in [3, 0, u64::MAX] {
        assert_eq!(store.writer.commit(vec![head("default/a", wrong)]).await, Err(StoreError::Conflict), "{wrong}");
        assert_eq!(store.writer.commit(vec![key(1, "default/a", wrong, b"no")]).await, Err(StoreError::Conflict));
    }
    store.writer.commit(vec![head("default/a", 2), key(1, "default/a", 2, b"two")]).await.unwrap();
    assert_eq!(store.writer.commit(vec![head("default/a", 2)]).await, Err(StoreError::Conflict));
    let image = store.image().await.unwrap();
    assert_eq!((image.keyrings[0].generation, image.keys[0].wraps.as_slice()), (2, b"two".as_slice()));
}

#[tokio::test]
async fn a_key_never_moves_to_another_keyring() {
    let (_place, store) = Place::fresh().await;
    store.writer.commit(vec![head("default/a", 1), head("default/b", 1), key(1, "default/a", 1, b"")]).await.unwrap();
    assert_eq!(store.writer.commit(vec![key(1, "default/b", 2, b"")]).await, Err(StoreError::Conflict));
}

#[tokio::test]
async fn a_key_without_its_keyring_is_refused() {
    let (_place, store) = Place::fresh().await;
    assert_eq!(store.writer.commit(vec![key(1, "default/nowhere", 1, b"")]).await, Err(StoreError::Conflict));
    assert_eq!(store.reader.keys(None, 1_000).await.unwrap(), []);
}

#[tokio::test]
async fn one_conflict_in_a_batch_writes_nothing_of_it() {
    let (_place, store) = Place::fresh().await;
    store.writer.commit(vec![head("default/a", 1), change(1)]).await.unwrap();
    let before = store.image().await.unwrap();
    let batches = [
        vec![head("default/b", 1), key(1, "default/b", 1, b""), change(2), head("default/a", 1)],
        vec![head("default/a", 2), key(1, "default/a", 1, b""), change(3)],
    ];
    for batch in batches {
        assert_eq!(store.writer.commit(batch).await, Err(StoreError::Conflict));
        assert_eq!(store.image().await.unwrap(), before);
    }
}

#[tokio::test]
async fn the_chain_grows_by_one_link_at_a_time_and_reads_in_order() {
    let (_place, store) = Place::fresh().await;
    assert_eq!(store.writer.commit(vec![change(2)]).await, Err(StoreError::Conflict));
    for seq in 1..=12 {
        store.writer.commit(vec![change(seq)]).await.unwrap();
    }
    for wrong in [12, 14, 1] {
        assert_eq!(store.writer.commit(vec![change(wrong)]).await, Err(StoreError::Conflict));
    }
    let page: Vec<u64> = store.reader.changes(3, 4).await.unwrap().iter().map(|row| row.seq).collect();
    assert_eq!(page, [4, 5, 6, 7]);
}

#[tokio::test]
async fn of_many_writers_at_one_generation_exactly_one_wins() {
    let (place, store) = Place::fresh().await;
    store.writer.commit(vec![head("default/a", 1)]).await.unwrap();
    for generation in 2..6 {
        let mut writers = Vec::new();
        for _ in 0..4 {
            let store = place.reopen().await;
            writers.push(tokio::spawn(async move { store.writer.commit(vec![head("default/a", generation)]).await }));
        }
        let mut won = 0;
        for writer in writers {
            match writer.await.unwrap() {
                Ok(()) => won += 1,
                Err(error) => assert_eq!(error, StoreError::Conflict),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn a_reader_sees_what_another_opening_of_the_store_committed() {
    let (place, store) = Place::fresh().await;
    let other = place.reopen().await;
    other.writer.commit(vec![head("default/a", 1)]).await.unwrap();
    assert_eq!(store.reader.keyrings(None, 1_000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_reader_never_shows_a_wrap() {
    let (_place, store) = Place::fresh().await;
    let wrap = b"WRAPPED-KEY-MATERIAL";
    store.writer.commit(vec![head("default/a", 1), key(1, "default/a", 1, wrap), change(1)]).await.unwrap();
    let shown = format!(
        "{:?}{:?}{:?}",
        store.reader.keys(None, 1_000).await.unwrap(),
        store.reader.keyrings(None, 1_000).await.unwrap(),
        store.reader.changes(0, 10).await.unwrap()
    );
    assert!(!shown.contains(&format!("{:?}", wrap.as_slice()).replace(['[', ']'], "")));
    assert!(format!("{:?}", store.image().await.unwrap()).contains("87, 82, 65, 80"), "the check would see it");
}

#[tokio::test]
async fn work_that_was_queued_is_done_when_its_caller_has_gone() {
    let (_place, store) = Place::fresh().await;
    let mut commit = store.writer.commit(vec![head("default/a", 1)]);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(commit.as_mut().poll(cx).is_pending())).await;
    drop(commit);
    // The writer's own queue orders the image behind the commit.
    assert_eq!(store.image().await.unwrap().keyrings.len(), 1, "pending at the first poll: {polled}");
}

#[tokio::test]
async fn sqlite_creates_a_file_for_its_owner_alone_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt;
    let (place, store) = Place::fresh().await;
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
async fn sqlite_refuses_a_file_that_others_may_read_and_a_place_without_one() {
    use std::os::unix::fs::PermissionsExt;
    let (place, _store) = Place::fresh().await;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = sqlite::open(&place.settings).await.err();
    assert_eq!(refused, Some(StoreError::Exposed { path: place.path().to_owned(), mode: 0o640 }));
    let nowhere = sqlite::Settings { path: place.path().with_extension("other"), ..place.settings.clone() };
    assert_eq!(sqlite::open(&nowhere).await.err(), Some(StoreError::Missing(nowhere.path.clone())));
    assert!(!nowhere.path.exists());
}

#[tokio::test]
async fn sqlite_refuses_a_newer_schema_and_names_the_keyward_it_needs() {
    let (place, store) = Place::fresh().await;
    drop(store);
    place.edit("UPDATE needs SET keyward = '7.1.0'; PRAGMA user_version = 8;");
    let refused = sqlite::open(&place.settings).await.err().unwrap();
    assert_eq!(refused, StoreError::NewerSchema { found: 8, known: 1, needs: "7.1.0".to_owned() });
    assert!(refused.to_string().contains("run keyward 7.1.0 or newer"));
}

#[tokio::test]
async fn sqlite_refuses_a_foreign_database_and_a_changed_schema() {
    let edits = [
        "PRAGMA application_id = 1;",
        "CREATE TRIGGER quiet AFTER INSERT ON keys BEGIN UPDATE keys SET state = 'x' WHERE id = new.id; END;",
        "DROP TRIGGER changes_are_not_deleted;",
        "CREATE TABLE more (one INTEGER) STRICT;",
    ];
    for edit in edits {
        let (place, store) = Place::fresh().await;
        drop(store);
        place.edit(edit);
        assert!(matches!(sqlite::open(&place.settings).await.err(), Some(StoreError::Corrupt(_))), "{edit}");
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the file on purpose")]
async fn sqlite_refuses_a_damaged_file() {
    let (place, store) = Place::fresh().await;
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
async fn sqlite_finishes_a_creation_that_was_cut_short() {
    use std::os::unix::fs::PermissionsExt;
    let (place, store) = Place::fresh().await;
    drop(store);
    let settings = sqlite::Settings { path: place.path().with_extension("half"), ..place.settings.clone() };
    std::fs::write(&settings.path, b"").unwrap();
    std::fs::set_permissions(&settings.path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = Halves::of(sqlite::open(&settings).await.unwrap());
    store.writer.commit(vec![head("default/a", 1)]).await.unwrap();
}

#[tokio::test]
async fn sqlite_overwrites_a_replaced_wrap_in_its_file() {
    let (place, store) = Place::fresh().await;
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
