//! What a store keeps when its process is killed in the middle of a transaction or its disk is full.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod fate;
mod fleet;
mod moving;
mod postgresql;
mod set_back;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyward::names::KeyVersionId;
use keyward::store::{ChangeRow, Image, KeyRow, KeyringRow, SealedKey, Settings, StoreError, Tag, Write, sqlite};

const ROUNDS: usize = 20;
const DIR: &str = "KEYWARD_TEST_STORE_CHILD_DIR";
const NAME: &str = "KEYWARD_TEST_STORE_CHILD_NAME";
/// The port of a server and the name of a database, if it is not a file.
const DATABASE: &str = "KEYWARD_TEST_STORE_CHILD_DATABASE";

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a child finds its place in the environment")]
async fn a_killed_process_loses_no_committed_row_and_leaves_no_half_batch() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child_that_commits(dir).await;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(sqlite::create(&settings(dir.path())).await.unwrap());
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut children = [spawn(dir.path(), round, "a"), spawn(dir.path(), round, "b")];
        // Both compete for the same chain; the first is killed wherever it happens to be after so many commits.
        acknowledged.extend(lines(&mut children[0], 1 + round * 7 % 23));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for child in &mut children {
            acknowledged.extend(lines(child, usize::MAX));
        }
        check(&image(dir.path()).await, &acknowledged);
    }
    assert!(acknowledged.iter().any(|id| id.contains("-b-")), "two processes took turns");
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_an_error_that_closes_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(sqlite::create(&settings(dir.path())).await.unwrap());
    // In units of 512 bytes: the database fits, the WAL soon does not.
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
    let mut child = start(command, dir.path(), 0, "limited");
    let said = lines(&mut child, usize::MAX);
    assert!(child.wait().unwrap().success());
    let acknowledged: BTreeSet<String> = said.iter().filter(|line| line.contains("-limited-")).cloned().collect();
    assert!(acknowledged.len() > 5, "{said:?}");
    assert!(said.iter().any(|line| line == "failed: unsettled"), "{said:?}");
    assert!(said.iter().any(|line| line == "then: closed"), "{said:?}");
    check(&image(dir.path()).await, &acknowledged);
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_loses_nothing_and_ends_with_the_shortage() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::small(dir.path()) else {
        println!("not run: mounting a small file system needs root");
        return;
    };
    let (reader, writer) = {
        let opened = sqlite::create(&settings(dir.path())).await.unwrap();
        (opened.reader(), opened.into_writer())
    };
    let mut acknowledged = BTreeSet::new();
    let ballast = dir.path().join("ballast");
    fill(&ballast, 512 * 1024);
    let refused = loop {
        let (id, batch) = batch("0-full", acknowledged.len(), 1 + acknowledged.len() as u64);
        match writer.commit(batch).await {
            Ok(()) => acknowledged.insert(id),
            Err(error) => break error,
        };
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert_eq!(reader.keys(None, 10_000).await.unwrap().len(), acknowledged.len());
    empty(&ballast);
    let (id, batch) = batch("0-full", acknowledged.len(), 1 + acknowledged.len() as u64);
    writer.commit(batch).await.unwrap();
    acknowledged.insert(id);
    check(&keyward::store::image(&*reader, &*writer).await.unwrap(), &acknowledged);
    drop((reader, writer));
    check(&image(dir.path()).await, &acknowledged);
}

/// The process that the tests above kill or limit: the first of them, started with a place in its environment.
#[expect(clippy::disallowed_methods, reason = "the parent passes its place in the environment")]
#[expect(clippy::print_stdout, reason = "what the parent reads")]
async fn child_that_commits(dir: std::ffi::OsString) {
    let name = std::env::var(NAME).unwrap();
    let dir = Path::new(&dir);
    let settings = match std::env::var(DATABASE) {
        Ok(place) => postgresql::of_child(dir, &place),
        Err(_) => Settings::Sqlite(settings(dir)),
    };
    let writer = keyward::store::open(&settings).await.unwrap().into_writer();
    // Far more than any round waits for, so that a child never ends by itself unless the store fails.
    for n in 0..1_000_000 {
        let next = loop {
            let seq = writer.last_change().await.unwrap().map_or(1, |link| link.seq + 1);
            let (id, batch) = batch(&name, n, seq);
            match writer.commit(batch).await {
                Err(StoreError::Conflict) => {}
                other => break other.map(|()| id),
            }
        };
        match next {
            Ok(id) => println!("\n{id}"),
            Err(error) => {
                println!("\nfailed: {}", if matches!(error, StoreError::Unsettled(_)) { "unsettled" } else { "else" });
                let again = writer.commit(vec![]).await;
                println!("then: {}", if matches!(again, Err(StoreError::Unavailable(_))) { "closed" } else { "open" });
                return;
            }
        }
    }
}

fn spawn(dir: &Path, round: usize, name: &str) -> Child {
    start(Command::new(std::env::current_exe().unwrap()), dir, round, name)
}

fn start(mut command: Command, dir: &Path, round: usize, name: &str) -> Child {
    command.args([
        "--exact",
        "store::a_killed_process_loses_no_committed_row_and_leaves_no_half_batch",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(DIR, dir).env(NAME, format!("{round}-{name}")).stdout(Stdio::piped()).spawn().unwrap()
}

/// At most so many lines of the child that say something.
fn lines(child: &mut Child, most: usize) -> Vec<String> {
    let mut said = Vec::new();
    let mut from = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while said.len() < most && from.read_line(&mut line).unwrap() > 0 {
        // A line without its end was cut by the kill: the parent was not told.
        if line.ends_with('\n') && (line.matches('-').count() == 2 || line.contains(": ")) && !line.contains("test ") {
            said.push(line.trim().to_owned());
        }
        line.clear();
    }
    said
}

/// One keyring, one key and one link: all of it or nothing must be found again.
fn batch(name: &str, n: usize, seq: u64) -> (String, Vec<Write>) {
    let id = format!("{name}-{n}");
    let tag = Tag([1; 32]);
    let mut key = [0; 8];
    key.copy_from_slice(&seq.to_be_bytes());
    let row = KeyRow {
        id: KeyVersionId(key),
        purpose: "data".to_owned(),
        keyring: id.clone(),
        parent: "kek:primary".to_owned(),
        state: "active".to_owned(),
        generation: 1,
        body: "{}".to_owned(),
        tag,
    };
    let writes = vec![
        Write::Keyring(KeyringRow { name: id.clone(), generation: 1, body: "{}".to_owned(), tag }),
        Write::Key(SealedKey { row, wraps: vec![7; 2000] }),
        Write::Change(ChangeRow { seq, previous: [0; 32], body: id.clone(), tag }),
    ];
    (id, writes)
}

fn check(image: &Image, acknowledged: &BTreeSet<String>) {
    let links: BTreeSet<String> = image.changes.iter().map(|row| row.body.clone()).collect();
    assert_eq!(links.len(), image.changes.len(), "no batch is there twice");
    assert!(acknowledged.is_subset(&links), "lost: {:?}", acknowledged.difference(&links).collect::<Vec<_>>());
    assert_eq!(links, image.keyrings.iter().map(|row| row.name.clone()).collect());
    assert_eq!(links, image.keys.iter().map(|key| key.row.keyring.clone()).collect());
    assert!(image.changes.iter().zip(1..).all(|(row, seq)| row.seq == seq));
}

/// Opening checks the integrity of the file.
async fn image(dir: &Path) -> Image {
    let opened = sqlite::open(&settings(dir)).await.unwrap();
    let (reader, writer) = (opened.reader(), opened.into_writer());
    keyward::store::image(&*reader, &*writer).await.unwrap()
}

fn settings(dir: &Path) -> sqlite::Settings {
    sqlite::Settings { path: dir.join("store.sqlite"), busy_timeout: Duration::from_secs(30) }
}

#[expect(clippy::disallowed_methods, reason = "the test takes the space of its own small disk")]
fn fill(path: &Path, bytes: usize) {
    std::fs::write(path, vec![1; bytes]).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test gives the space of its own small disk back")]
fn empty(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// A file system of one mebibyte, gone when the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn small(at: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=700", "none"]).arg(at).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the store's threads may still be closing their files.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
