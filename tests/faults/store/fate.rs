//! What is said of a commit that nobody answered? A proxy before a real server breaks exactly there.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::store::postgres::{Settings, Tls, create, hold, open};
use keyward::store::{PartitionName, PartitionRow, StoreError, Tag, UsageRow, Write, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::batch;
use crate::postgres::Postgres;

/// What the proxy does with the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Break {
    Nothing,
    /// The server never hears of it.
    Before,
    /// The server carries it out, the client hears nothing but the end of the connection.
    After,
    /// The server carries it out, the client hears nothing at all.
    Silence,
}

/// The end of a commit's message, and of no other.
const COMMIT: &[u8] = b"statement_timeout = 0; COMMIT";

struct Proxy {
    port: u16,
    next: Arc<AtomicU8>,
    /// While somebody holds it, nobody gets through.
    gate: Arc<tokio::sync::Mutex<()>>,
    connections: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    dir: tempfile::TempDir,
}

impl Proxy {
    async fn before(server: &Postgres) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            next: Arc::new(AtomicU8::new(Break::Nothing as u8)),
            gate: Arc::default(),
            connections: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
        });
        let (this, to) = (Arc::clone(&proxy), server.port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let one = Arc::clone(&this);
                let carried = tokio::spawn(async move { one.carry(client, to).await });
                this.connections.lock().unwrap().push(carried);
            }
        });
        proxy
    }

    fn on_next_commit(&self, next: Break) {
        self.next.store(next as u8, Ordering::SeqCst);
    }

    async fn until_broken(&self) {
        while self.next.load(Ordering::SeqCst) != Break::Nothing as u8 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn carry(&self, client: TcpStream, to: u16) {
        drop(self.gate.lock().await);
        let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let deaf = AtomicBool::new(false);
        tokio::select! {
            () = pass(from_server, to_client, &deaf) => {}
            broken = self.listen(from_client, to_server, &deaf) => {
                if broken == Break::Silence {
                    // As long as the client likes.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Carries what the client says until it ends or is to be broken.
    async fn listen(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: &AtomicBool) -> Break {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let Ok(read @ 1..) = from.read(&mut bytes).await else { return Break::Nothing };
            let said = &bytes[..read];
            let now = self.next.load(Ordering::SeqCst);
            if now == Break::Nothing as u8 || !said.windows(COMMIT.len()).any(|window| window == COMMIT) {
                to.write_all(said).await.unwrap();
                continue;
            }
            self.next.store(Break::Nothing as u8, Ordering::SeqCst);
            if now != Break::Before as u8 {
                deaf.store(true, Ordering::SeqCst);
                to.write_all(said).await.unwrap();
                // Long enough for the server; where it is not, the lock shows it.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            return if now == Break::Silence as u8 { Break::Silence } else { Break::After };
        }
    }
}

/// Carries what the server says, and swallows it once the client is to hear nothing.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: &AtomicBool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !deaf.load(Ordering::SeqCst) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A store behind a proxy, and the same store without one.
async fn broken() -> (Arc<Proxy>, Arc<dyn Writer>, Settings) {
    let (proxy, settings, direct) = behind().await;
    (proxy, open(&settings).await.unwrap().into_writer(), direct)
}

/// The way to a store through a proxy, and the way without one.
async fn behind() -> (Arc<Proxy>, Settings, Settings) {
    let server = Postgres::shared();
    let direct = server.settings(&server.database());
    drop(create(&direct).await.unwrap());
    let proxy = Proxy::before(server).await;
    let over_tcp = server.over_tcp(&direct.dbname, "127.0.0.1", Tls::Off, proxy.dir.path());
    let place = keyward::store::postgres::Place::Tcp { host: "127.0.0.1".to_owned(), port: proxy.port, tls: Tls::Off };
    let settings = Settings { place, statement_timeout: Duration::from_millis(1_500), ..over_tcp };
    let settings = Settings { connect_timeout: Duration::from_secs(1), ..settings };
    (proxy, settings, direct)
}

async fn chain(direct: &Settings) -> Vec<String> {
    let reader = open(direct).await.unwrap().reader();
    reader.changes(0, 100).await.unwrap().into_iter().map(|link| link.body).collect()
}

#[tokio::test]
async fn a_commit_that_is_there_is_acknowledged_although_its_answer_was_lost() {
    for how in [Break::After, Break::Silence] {
        let (proxy, writer, direct) = broken().await;
        proxy.on_next_commit(how);
        assert_eq!(writer.commit(batch("0-a", 0, 1).1).await, Ok(()), "{how:?}");
        assert_eq!(chain(&direct).await, ["0-a-0"]);
        assert_eq!(writer.commit(batch("0-a", 1, 2).1).await, Ok(()), "the store goes on");
    }
}

#[tokio::test]
async fn a_commit_that_is_not_there_is_refused_and_may_be_made_again() {
    let (proxy, writer, direct) = broken().await;
    proxy.on_next_commit(Break::Before);
    let refused = writer.commit(batch("0-a", 0, 1).1).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(chain(&direct).await, [""; 0]);
    assert_eq!(writer.commit(batch("0-a", 0, 1).1).await, Ok(()));
}

#[tokio::test]
async fn a_commit_whose_place_was_taken_meanwhile_is_a_conflict() {
    let (proxy, writer, direct) = broken().await;
    proxy.on_next_commit(Break::Before);
    let closed = proxy.gate.lock().await;
    let commit = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { writer.commit(batch("0-a", 0, 1).1).await }
    });
    proxy.until_broken().await;
    open(&direct).await.unwrap().into_writer().commit(batch("0-b", 0, 1).1).await.unwrap();
    drop(closed);
    assert_eq!(commit.await.unwrap(), Err(StoreError::Conflict));
    assert_eq!(chain(&direct).await, ["0-b-0"]);
}

#[tokio::test]
async fn a_commit_is_unsettled_only_if_the_database_stays_away_and_the_store_goes_on_when_it_is_back() {
    let (proxy, writer, direct) = broken().await;
    proxy.on_next_commit(Break::After);
    let closed = proxy.gate.lock().await;
    let unsettled = writer.commit(batch("0-a", 0, 1).1).await;
    assert!(matches!(unsettled, Err(StoreError::Unsettled(_))), "{unsettled:?}");
    drop(closed);
    while writer.last_change().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(writer.last_change().await.unwrap().unwrap().body, "0-a-0");
    assert_eq!(writer.commit(batch("0-a", 1, 2).1).await, Ok(()));
    assert_eq!(chain(&direct).await, ["0-a-0", "0-a-1"]);
}

/// The lock went with the connection: whoever asks for the fate takes one of its own, and nothing is changed any more.
#[tokio::test]
async fn whoever_held_the_store_alone_learns_the_fate_of_its_commit_and_changes_nothing_after_it() {
    for (how, there) in [(Break::After, true), (Break::Before, false)] {
        let (proxy, settings, direct) = behind().await;
        let holder = hold(&settings).await.unwrap().into_writer();
        let hasty = Settings { statement_timeout: Duration::from_millis(300), ..direct.clone() };
        let kept_out = open(&hasty).await.unwrap().into_writer().commit(batch("0-b", 0, 1).1).await;
        assert!(matches!(kept_out, Err(StoreError::Unavailable(_))), "{kept_out:?}");
        proxy.on_next_commit(how);
        let told = holder.commit(batch("0-a", 0, 1).1).await;
        assert_eq!(told.is_ok(), there, "{how:?}: {told:?}");
        assert!(there || matches!(told, Err(StoreError::Unavailable(_))), "nothing is unsettled: {told:?}");
        let next = usize::from(there);
        assert_eq!(chain(&direct).await.len(), next, "{how:?}");
        let after = |name| batch(name, next, u64::from(there) + 1).1;
        let lost = |why: &str| why.contains("the connection that kept others from changing the store was lost");
        for _ in 0..2 {
            let refused = holder.commit(after("0-a")).await;
            assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if lost(why)), "{refused:?}");
        }
        let other = open(&direct).await.unwrap().into_writer();
        assert_eq!(other.commit(after("0-a")).await, Ok(()), "nobody is kept out any more");
    }
}

/// A host that is gone closes nothing: only the server can notice it. The kernel shows when it asks next.
#[tokio::test]
async fn the_server_asks_soon_whether_the_host_that_holds_the_store_is_there() {
    let (server, dir) = (Postgres::shared(), tempfile::tempdir().unwrap());
    let direct = server.settings(&server.database());
    drop(create(&direct).await.unwrap());
    let over_tcp = server.over_tcp(&direct.dbname, "127.0.0.1", Tls::Off, dir.path());
    let usual = open(&over_tcp).await.unwrap();
    usual.reader().genesis().await.unwrap();
    let _held = hold(&over_tcp).await.unwrap();
    let holder = "SELECT client_port FROM pg_stat_activity WHERE datname = current_database() AND client_port > 0 AND";
    let locks = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)";
    let port = |which: &str| server.sql(&direct.dbname, &format!("{holder} {which} {locks} LIMIT 1")).parse().unwrap();
    let (held, other) = (keepalive(server.port(), port("")).await, keepalive(server.port(), port("NOT")).await);
    assert!(held <= 10 * TICKS && other > 10 * TICKS, "the holder's in {held} ticks, another one's in {other}");
}

/// Of the times in `/proc/net/tcp`, a second.
const TICKS: u64 = 100;

/// When the server's end of a connection sends its next keepalive, in ticks.
async fn keepalive(server: u16, client: u16) -> u64 {
    let (local, remote) = (format!("0100007F:{server:04X}"), format!("0100007F:{client:04X}"));
    for _ in 0..500 {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut of_it = rows.filter(|row| row.len() > 5 && row[1] == local && row[2] == remote);
        // Another timer comes first while something is on its way.
        if let Some(left) = of_it.find_map(|row| row[5].strip_prefix("02:").map(str::to_owned)) {
            return u64::from_str_radix(&left, 16).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server keeps no connection to {client} alive");
}

fn partition(generation: u64, body: &str) -> Write {
    Write::Partition(PartitionRow {
        keyring: "a".to_owned(),
        name: PartitionName([1; 16]),
        parent: keyward::names::KeyVersionId([2; 8]),
        state: "active".to_owned(),
        generation,
        body: body.to_owned(),
        wrap: vec![3; 60],
        tag: Tag([4; 32]),
    })
}

#[tokio::test]
async fn the_fate_of_a_single_row_is_read_from_the_row() {
    let (proxy, writer, direct) = broken().await;
    let other = open(&direct).await.unwrap().into_writer();
    proxy.on_next_commit(Break::After);
    assert_eq!(writer.commit(vec![partition(1, "one")]).await, Ok(()));
    proxy.on_next_commit(Break::Before);
    let refused = writer.commit(vec![partition(2, "two")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Overtaken by one change: a conflict. By two: nobody can tell any more.
    for (changes, conflict) in [(1, true), (2, false)] {
        let from = other.partition("a".to_owned(), PartitionName([1; 16])).await.unwrap().unwrap().generation;
        proxy.on_next_commit(Break::Before);
        let closed = proxy.gate.lock().await;
        let commit = tokio::spawn({
            let writer = Arc::clone(&writer);
            async move { writer.commit(vec![partition(from + 1, "ours")]).await }
        });
        proxy.until_broken().await;
        for n in 1..=changes {
            // The lost transaction holds the row until the server hears that its client is gone.
            other.commit(vec![partition(from + n, "theirs")]).await.unwrap();
        }
        drop(closed);
        let told = commit.await.unwrap();
        assert_eq!(told == Err(StoreError::Conflict), conflict, "{told:?}");
        assert_eq!(matches!(told, Err(StoreError::Unsettled(_))), !conflict, "{told:?}");
    }
}

#[tokio::test]
async fn the_fate_of_every_kind_of_row_is_found() {
    let (proxy, writer, direct) = broken().await;
    let usage = Write::Usage(UsageRow {
        key: keyward::names::KeyVersionId([1; 8]),
        sidecar: keyward::store::SidecarId([2; 16]),
        generation: 1,
        body: "{}".to_owned(),
        tag: Tag([3; 32]),
    });
    let sidecar = Write::Sidecar(keyward::store::SidecarRow {
        id: keyward::store::SidecarId([2; 16]),
        generation: 1,
        body: "{}".to_owned(),
        tag: Tag([3; 32]),
    });
    let genesis =
        Write::Genesis(keyward::store::GenesisRow { generation: 1, body: "{}".to_owned(), tag: Tag([3; 32]) });
    let (_, rows) = batch("0-a", 0, 1);
    let [head, key, _] = &rows[..] else { panic!("a head, a key, a link") };
    for first in [usage, sidecar, genesis, head.clone(), key.clone()] {
        for how in [Break::Before, Break::After] {
            proxy.on_next_commit(how);
            let told = writer.commit(vec![first.clone()]).await;
            match how {
                Break::Before => assert!(matches!(told, Err(StoreError::Unavailable(_))), "{first:?}: {told:?}"),
                _ => assert_eq!(told, Ok(()), "{first:?}"),
            }
        }
    }
    let counts = open(&direct).await.unwrap().reader().counts().await.unwrap();
    let all = [counts.usage, counts.sidecars, counts.genesis, counts.keyrings, counts.keys, counts.changes];
    assert_eq!(all, [1, 1, 1, 1, 1, 0]);
}
