//! What the local mirror of a shared store promises while the database is away.
#![allow(clippy::disallowed_methods, reason = "the tests damage the file on purpose")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use keyward::store::{self, MirrorState, Settings, StoreError, Write, postgres};

use super::{Halves, change, head, key, partition};
use crate::postgres::Postgres;

async fn open(settings: &postgres::Settings, mirror: &Path) -> (Halves, Arc<MirrorState>) {
    let settings = postgres::Settings { mirror: Some(mirror.to_owned()), ..settings.clone() };
    let opened = store::open(&Settings::Postgresql(Box::new(settings))).await.unwrap();
    let state = opened.mirror().unwrap();
    (Halves::of(opened), state)
}

/// A server with the keyrings a, b and c of generation 1, and where a mirror will be.
async fn three() -> (Postgres, postgres::Settings, tempfile::TempDir) {
    let server = Postgres::new();
    let settings = server.settings(&server.database());
    let store = Halves::of(postgres::create(&settings).await.unwrap());
    let rows = ["a", "b", "c"].into_iter().zip(1..).flat_map(|(name, id)| [head(name, 1), key(id, name, 1, b"WRAP-1")]);
    store.commit(rows.chain([partition("a", 1, 1, 1), change(1)]).collect()).await;
    (server, settings, tempfile::tempdir().unwrap())
}

/// Waits until the file has a keyring at a generation: it is written behind the reader's back.
async fn kept(mirror: &Path, name: &str, generation: i64) {
    let sql = "SELECT count(*) FROM keyrings WHERE name = ?1 AND generation = ?2";
    for _ in 0..1_000 {
        let file = rusqlite::Connection::open(mirror).unwrap();
        if file.query_row(sql, rusqlite::params![name, generation], |row| row.get::<_, u32>(0)) == Ok(1) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{name} of generation {generation} is not kept");
}

async fn ring(store: &Halves, name: &str) -> Result<Option<store::RingRows>, StoreError> {
    store.writer.ring(name.to_owned()).await
}

#[tokio::test]
async fn keyrings_that_were_read_or_changed_are_there_and_nothing_else() {
    let (server, settings, dir) = three().await;
    let mirror = dir.path().join("mirror.sqlite");
    let (store, state) = open(&settings, &mirror).await;
    let read = ring(&store, "a").await.unwrap();
    kept(&mirror, "a", 1).await;
    store.commit(vec![head("b", 2), key(2, "b", 2, b"WRAP-2"), change(2)]).await;
    kept(&mirror, "b", 2).await;
    let changed = ring(&store, "b").await.unwrap();
    assert_eq!((state.served(), state.is_kept()), (0, true));
    server.stop();
    assert_eq!(ring(&store, "a").await.unwrap(), read);
    assert_eq!(ring(&store, "b").await.unwrap(), changed);
    assert_eq!(state.served(), 2);
    assert!(matches!(ring(&store, "c").await, Err(StoreError::Unavailable(_))), "it was never read");
    assert!(matches!(store.writer.rings(None, 10).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.writer.last_change().await, Err(StoreError::Unavailable(_))));
    let one = store.writer.partition("a".to_owned(), keyward::store::PartitionName([1; 16])).await;
    assert!(matches!(one, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.writer.commit(vec![head("a", 2)]).await, Err(StoreError::Unavailable(_))));
    let mode = std::fs::metadata(&mirror).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'";
    let file = rusqlite::Connection::open(&mirror).unwrap();
    assert_eq!(file.query_row(tables, [], |row| row.get::<_, String>(0)).unwrap(), "keyrings,keys");
}

#[tokio::test]
async fn reading_page_by_page_fills_the_mirror_and_an_older_keyring_never_replaces_a_newer() {
    let (server, settings, dir) = three().await;
    let mirror = dir.path().join("mirror.sqlite");
    let (store, _state) = open(&settings, &mirror).await;
    assert_eq!(store.writer.rings(None, 2).await.unwrap().len(), 2);
    kept(&mirror, "b", 1).await;
    let newer = "UPDATE keyrings SET generation = 9 WHERE name = 'a'";
    rusqlite::Connection::open(&mirror).unwrap().execute(newer, []).unwrap();
    assert_eq!(ring(&store, "a").await.unwrap().unwrap().head.generation, 1);
    assert_eq!(store.writer.rings(Some("b".to_owned()), 2).await.unwrap().len(), 1);
    kept(&mirror, "c", 1).await;
    server.stop();
    assert_eq!(ring(&store, "a").await.unwrap().unwrap().head.generation, 9);
}

#[tokio::test]
async fn a_mirror_outlives_a_restart_and_one_that_is_damaged_is_begun_again() {
    let (server, settings, dir) = three().await;
    let mirror = dir.path().join("mirror.sqlite");
    let (store, _state) = open(&settings, &mirror).await;
    let read = ring(&store, "a").await.unwrap();
    kept(&mirror, "a", 1).await;
    drop(store);
    let (store, state) = open(&settings, &mirror).await;
    assert!(state.is_kept());
    kept(&mirror, "a", 1).await;
    drop(store);
    std::fs::write(&mirror, b"no database").unwrap();
    let (store, state) = open(&settings, &mirror).await;
    assert!(state.is_kept());
    assert_eq!(ring(&store, "b").await.unwrap().unwrap().head.name, "b");
    kept(&mirror, "b", 1).await;
    server.stop();
    assert!(matches!(ring(&store, "a").await, Err(StoreError::Unavailable(_))), "{read:?} went with the old file");
    assert!(ring(&store, "b").await.is_ok());
}

#[tokio::test]
async fn a_mirror_that_cannot_be_written_fails_no_read() {
    let (_server, settings, dir) = three().await;
    let (store, state) = open(&settings, &dir.path().join("nowhere/mirror.sqlite")).await;
    assert!(!state.is_kept());
    assert!(ring(&store, "a").await.unwrap().is_some());
    let mirror = dir.path().join("mirror.sqlite");
    let (store, state) = open(&settings, &mirror).await;
    rusqlite::Connection::open(&mirror).unwrap().execute_batch("DROP TABLE keyrings").unwrap();
    for _ in 0..1_000 {
        assert!(ring(&store, "a").await.unwrap().is_some());
        if !state.is_kept() {
            break;
        }
    }
    assert!(!state.is_kept());
    for _ in 0..1_000 {
        if !mirror.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!mirror.exists(), "what is not kept any more must not keep wraps");
    store.commit(vec![head("a", 2), change(2)]).await;
    let Write::Keyring(expected) = head("a", 2) else { panic!("it is a head") };
    assert_eq!(ring(&store, "a").await.unwrap().unwrap().head, expected);
}
