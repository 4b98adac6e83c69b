//! What a fleet's store keeps when its server is killed, its connections are cut, its disk is full, its clients die.
#![allow(clippy::disallowed_methods, reason = "the tests play the operator: they write configurations")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use keyward::store::postgres::{Place, create, open};
use keyward::store::{Image, Opened, Settings, StoreError, Writer, postgres};

use super::{DATABASE, ROUNDS, batch, check, lines, start};
use crate::postgres::{OWNER, Postgres};
use crate::support::{Setup, keyward, keyward_ok, post};

/// What the committers were told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
    unsettled: BTreeSet<String>,
}

/// Commits one batch after the other, whatever happens, until it is told to end.
struct Committer {
    task: tokio::task::JoinHandle<Told>,
    commits: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
}

impl Committer {
    fn start(opened: Opened, name: &'static str) -> Self {
        let (commits, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&commits), Arc::clone(&end));
        let writer = opened.into_writer();
        let task = tokio::spawn(async move {
            let mut told = Told::default();
            for n in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                one(&*writer, &format!("0-{name}"), n, &mut told).await;
                count.store(told.acknowledged.len(), Ordering::Relaxed);
            }
            told
        });
        Self { task, commits, end }
    }

    /// Until it has so many more acknowledged commits.
    async fn reach(&self, more: usize) {
        let goal = self.commits.load(Ordering::Relaxed) + more;
        while self.commits.load(Ordering::Relaxed) < goal {
            assert!(!self.task.is_finished(), "it commits until it is told to end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(self) -> Told {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// One batch, tried until something other than a conflict is said of it.
async fn one(writer: &dyn Writer, name: &str, n: usize, told: &mut Told) {
    loop {
        let Ok(last) = writer.last_change().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (id, batch) = batch(name, n, last.map_or(1, |link| link.seq + 1));
        let heard = match writer.commit(batch).await {
            Err(StoreError::Conflict) => continue,
            Ok(()) => &mut told.acknowledged,
            Err(StoreError::Unavailable(_)) => &mut told.refused,
            Err(StoreError::Unsettled(_)) => &mut told.unsettled,
            Err(other) => panic!("{other:?}"),
        };
        heard.insert(id);
        return;
    }
}

/// Acknowledged is there, refused is not, nothing is there by half.
fn judge(image: &Image, told: &[Told]) {
    let of = |pick: fn(&Told) -> &BTreeSet<String>| told.iter().flat_map(pick).cloned().collect::<BTreeSet<_>>();
    check(image, &of(|told| &told.acknowledged));
    let there: BTreeSet<String> = image.changes.iter().map(|row| row.body.clone()).collect();
    let refused = of(|told| &told.refused);
    let wrong: Vec<_> = refused.intersection(&there).collect();
    assert!(wrong.is_empty(), "refused, and there: {wrong:?}");
    let known = of(|told| &told.acknowledged).union(&of(|told| &told.unsettled)).cloned().collect();
    assert!(there.is_subset(&known), "nobody's: {:?}", there.difference(&known).collect::<Vec<_>>());
}

async fn image(settings: &postgres::Settings) -> Image {
    let opened = open(settings).await.unwrap();
    let (reader, writer) = (opened.reader(), opened.into_writer());
    keyward::store::image(&*reader, &*writer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_acknowledged_commit_and_keeps_no_refused_one() {
    let server = Postgres::new();
    let settings = server.settings(&server.database());
    let committers = [
        Committer::start(create(&settings).await.unwrap(), "a"),
        Committer::start(open(&settings).await.unwrap(), "b"),
    ];
    for round in 0..6 {
        committers[round % 2].reach(3 + round * 7 % 11).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.start();
        });
    }
    let mut told = Vec::new();
    for committer in committers {
        committer.reach(1).await;
        told.push(committer.end().await);
    }
    judge(&image(&settings).await, &told);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_no_acknowledged_commit_and_keep_no_refused_one() {
    let server = Postgres::shared();
    let settings = server.settings(&server.database());
    let committers = [
        Committer::start(create(&settings).await.unwrap(), "a"),
        Committer::start(open(&settings).await.unwrap(), "b"),
    ];
    for _ in 0..40 {
        committers[0].reach(1).await;
        tokio::task::block_in_place(|| cut(&settings.dbname));
    }
    let mut told = Vec::new();
    for committer in committers {
        committer.reach(1).await;
        told.push(committer.end().await);
    }
    judge(&image(&settings).await, &told);
    assert!(told.iter().all(|told| told.unsettled.is_empty()), "the server is there: every fate can be known");
}

/// Ends every connection to a database.
fn cut(name: &str) {
    let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    Postgres::shared().sql(name, all);
}

/// What a child process is told of the server of its parent.
pub(super) fn of_child(dir: &Path, place: &str) -> Settings {
    let (port, dbname) = place.split_once(' ').unwrap();
    Settings::Postgresql(Box::new(postgres::Settings {
        place: Place::Socket { dir: dir.to_owned(), port: port.parse().unwrap() },
        dbname: dbname.to_owned(),
        user: OWNER.to_owned(),
        password_file: None,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(20),
        connections: 2,
        poll: Duration::from_secs(2),
        mirror: None,
    }))
}

#[tokio::test]
async fn killed_processes_lose_no_acknowledged_commit_and_leave_no_half_batch() {
    let server = Postgres::shared();
    let settings = server.settings(&server.database());
    drop(create(&settings).await.unwrap());
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS / 2 {
        let mut children = ["a", "b"].map(|name| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env(DATABASE, format!("{} {}", server.port(), settings.dbname));
            start(command, server.socket_dir(), round, name)
        });
        acknowledged.extend(lines(&mut children[0], 1 + round * 7 % 23));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for child in &mut children {
            acknowledged.extend(lines(child, usize::MAX));
        }
        check(&image(&settings).await, &acknowledged);
    }
    assert!(acknowledged.iter().any(|id| id.contains("-b-")), "two processes took turns");
}

#[tokio::test]
async fn a_server_that_turns_read_only_is_read_and_changed_again_when_it_turns_back() {
    let server = Postgres::new();
    let settings = server.settings(&server.database());
    let writer = create(&settings).await.unwrap().into_writer();
    let mut told = Told::default();
    one(&*writer, "0-a", 0, &mut told).await;
    for (n, read_only) in (1..).zip([true, false]) {
        server.sql("postgres", &format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}"));
        server.sql("postgres", "SELECT pg_reload_conf()");
        wait_for(&server, &settings.dbname, "SHOW default_transaction_read_only", if read_only { "on" } else { "off" });
        // A session learns of it when it is idle, which this read makes sure of.
        assert_eq!(writer.last_change().await.unwrap().unwrap().seq, 1);
        one(&*writer, "0-a", n, &mut told).await;
    }
    assert_eq!((told.acknowledged.len(), told.refused.len()), (2, 1));
    judge(&image(&settings).await, &[told]);
}

fn wait_for(server: &Postgres, dbname: &str, sql: &str, wanted: &str) {
    for _ in 0..1_000 {
        if server.sql(dbname, sql) == wanted {
            return;
        }
    }
    panic!("{sql} is never {wanted}");
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_loses_nothing_and_ends_with_the_shortage() {
    let server = Postgres::new();
    let Some(space) = server.small_disk("16m") else {
        println!("not run: mounting a small file system needs root");
        return;
    };
    let location = crate::postgres::quoted(&space.path().display().to_string());
    server.sql("postgres", &format!("CREATE TABLESPACE small LOCATION {location}"));
    server.sql("postgres", "CREATE DATABASE small TABLESPACE small");
    let settings = server.settings("small");
    let opened = create(&settings).await.unwrap();
    let (reader, writer) = (opened.reader(), opened.into_writer());
    let ballast = space.path().join("ballast");
    super::fill(&ballast, space.free() - 512 * 1024);
    let mut acknowledged = BTreeSet::new();
    let refused = loop {
        let (id, batch) = batch("0-full", acknowledged.len(), 1 + acknowledged.len() as u64);
        match writer.commit(batch).await {
            Ok(()) => acknowledged.insert(id),
            Err(error) => break error,
        };
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert_eq!(reader.keys(None, 1_000_000).await.unwrap().len(), acknowledged.len());
    super::empty(&ballast);
    let (id, batch) = batch("0-full", acknowledged.len(), 1 + acknowledged.len() as u64);
    writer.commit(batch).await.unwrap();
    acknowledged.insert(id);
    check(&image(&settings).await, &acknowledged);
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_to_be_and_found_again() {
    let server = Postgres::new();
    let settings = server.settings(&server.database());
    let opened = create(&settings).await.unwrap();
    let (reader, writer) = (opened.reader(), opened.into_writer());
    let mut told = Told::default();
    one(&*writer, "0-a", 0, &mut told).await;
    server.stop();
    for _ in 0..20 {
        assert!(matches!(reader.genesis().await, Err(StoreError::Unavailable(_))));
        let refused = writer.commit(batch("0-a", 1, 2).1).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert!(matches!(open(&settings).await.err(), Some(StoreError::Unavailable(_))));
    server.start();
    while reader.genesis().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one(&*writer, "0-a", 1, &mut told).await;
    assert_eq!(told.acknowledged.len(), 2);
    judge(&image(&settings).await, &[told]);
}

/// A value that was sealed, as JSON, and its context.
pub(super) fn seal(setup: &Setup) -> (String, &'static str) {
    let context = "{\"resource\":\"Patient/1\",\"path\":\"Patient.name\"}";
    let request = format!("{{\"context\":{context},\"text\":\"hello\"}}");
    let (status, answer) = post(&setup.data(), "/v1/keyrings/patients/seal", &request);
    assert_eq!(status, 200, "{answer}");
    (answer["sealed"].to_string(), context)
}

pub(super) fn opens(setup: &Setup, sealed: &str, context: &str) {
    let request = format!("{{\"context\":{context},\"sealed\":{sealed},\"purpose\":\"TREAT\"}}");
    let (status, answer) = post(&setup.data(), "/v1/open", &request);
    assert_eq!((status, answer["text"].as_str()), (200, Some("hello")), "{answer}");
}

/// A development set-up whose store is this database.
pub(super) fn set_up(server: &Postgres, dbname: &str) -> Setup {
    let setup = Setup::new();
    std::fs::remove_dir_all(setup.root().join("state")).unwrap();
    setup.edit_config(|text| with_database(&text, server, dbname));
    keyward_ok(&["check", "--config", &setup.config()]);
    keyward_ok(&["init", "--config", &setup.config()]);
    setup
}

/// A configuration whose store is this database.
pub(super) fn with_database(text: &str, server: &Postgres, dbname: &str) -> String {
    let (dir, port) = (server.socket_dir().display().to_string(), server.port());
    let section = format!(
        "[store]\nkind = \"postgresql\"\nsocket = \"{dir}\"\nport = {port}\ndbname = \"{dbname}\"\nuser = \"{OWNER}\"\n\
         connect_timeout = \"2s\"\nstatement_timeout = \"2s\"\n\n[policy]"
    );
    text.replace("[policy]", &section)
}

#[test]
fn a_sidecar_whose_database_is_gone_opens_what_it_has_refuses_changes_and_recovers() {
    let server = Postgres::new();
    let dbname = server.database();
    let setup = set_up(&server, &dbname);
    let serving = setup.serve();
    setup.keyring();
    let (sealed, context) = seal(&setup);
    server.kill();
    opens(&setup, &sealed, context);
    let refused = keyward(&["keyring", "create", "more", "--require", "x", "--config", &setup.config()]);
    assert!(!refused.status.success());
    server.start();
    let created = || keyward(&["keyring", "create", "more", "--require", "x", "--config", &setup.config()]);
    assert!((0..100).any(|_| created().status.success()), "{}", String::from_utf8_lossy(&created().stderr));
    assert_eq!(serving.stop(), Some(0));
    let again = setup.serve();
    opens(&setup, &sealed, context);
    assert_eq!(again.stop(), Some(0));
    // Started while the database is away, it waits and is ready when the database is.
    server.stop();
    let waiting = std::thread::scope(|scope| {
        let serving = scope.spawn(|| setup.serve());
        let said = || std::fs::read_to_string(setup.dir.path().join("stderr")).unwrap_or_default();
        while !said().contains("the keyrings are not open yet") {
            std::thread::sleep(Duration::from_millis(20));
        }
        server.start();
        serving.join().unwrap()
    });
    opens(&setup, &sealed, context);
    assert_eq!(waiting.stop(), Some(0));
}

#[test]
fn a_database_with_a_store_is_not_founded_again() {
    let server = Postgres::shared();
    let setup = set_up(server, &server.database());
    std::fs::remove_dir_all(setup.root().join("state")).unwrap();
    let again = keyward(&["init", "--config", &setup.config()]);
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && told.contains("exists already") && told.contains("[store]"), "{told}");
}

#[test]
fn a_store_that_moves_to_a_database_and_back_still_opens_what_was_sealed() {
    let server = Postgres::shared();
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let (sealed, context) = seal(&setup);
    let other = setup.root().join("other.toml").display().to_string();
    let file = std::fs::read_to_string(setup.config()).unwrap();
    let database = with_database(&file, server, &server.database());
    std::fs::write(&other, &database).unwrap();
    let migrate = |from: &str, to: &str| keyward(&["store", "migrate", "--config", from, "--to", to]);
    let refused = migrate(&setup.config(), &other);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("stop the sidecar first"), "{told}");
    assert_eq!(serving.stop(), Some(0));
    let moved = migrate(&setup.config(), &other);
    let told = String::from_utf8_lossy(&moved.stdout);
    assert!(moved.status.success() && told.contains("every row was read from both stores and is the same"), "{told}");
    assert!(told.contains("store.db.moved-1: no sidecar opens it"), "{told}");
    let refused = keyward(&["serve", "--config", &setup.config()]);
    assert!(!refused.status.success(), "the old configuration has no store any more");
    setup.edit_config(|_| database);
    let serving = setup.serve();
    opens(&setup, &sealed, context);
    assert_eq!(serving.stop(), Some(0));
    let same = migrate(&setup.config(), &other);
    assert!(String::from_utf8_lossy(&same.stderr).contains("both configurations name the same store"));
    std::fs::write(&other, &file).unwrap();
    let moved = migrate(&setup.config(), &other);
    let told = String::from_utf8_lossy(&moved.stdout);
    assert!(moved.status.success() && told.contains("closed: every sidecar that has it shuts by itself"), "{told}");
    let again = migrate(&setup.config(), &other);
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && told.contains("this store was moved to"), "{told}");
    setup.edit_config(|_| file);
    let serving = setup.serve();
    opens(&setup, &sealed, context);
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn a_move_that_is_killed_leaves_the_old_store_and_no_new_one() {
    let server = Postgres::shared();
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let (sealed, context) = seal(&setup);
    assert_eq!(serving.stop(), Some(0));
    let dbname = server.database();
    let other = setup.root().join("other.toml").display().to_string();
    let file = std::fs::read_to_string(setup.config()).unwrap();
    std::fs::write(&other, with_database(&file, server, &dbname)).unwrap();
    // A killed move stands wherever it was: here before the genesis row, at which nothing else can be waited for.
    keyward_ok(&["store", "schema"]);
    server.sql(&dbname, &keyward_ok(&["store", "schema", "--role", OWNER]));
    let mut blocker = server.session(&dbname, "BEGIN; LOCK TABLE keyward.genesis IN SHARE MODE");
    let arguments = ["store", "migrate", "--config", &setup.config(), "--to", &other];
    let mut child = Command::new(crate::support::KEYWARD).args(arguments).spawn().unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_for(server, &dbname, waits, "1");
    child.kill().unwrap();
    child.wait().unwrap();
    blocker.end();
    wait_for(server, &dbname, waits, "0");
    let again = keyward(&arguments);
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && told.contains("not empty") && told.contains("DROP SCHEMA"), "{told}");
    let serving = setup.serve();
    opens(&setup, &sealed, context);
    assert_eq!(serving.stop(), Some(0));
    server.sql(&dbname, "DROP SCHEMA keyward CASCADE");
    keyward_ok(&arguments);
}
