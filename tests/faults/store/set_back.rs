//! A database that lost acknowledged changes: a standby promoted without them, a dump put back. No sidecar serves it before
//! an operator has declared it, and each sidecar of a fleet is told by its own log what it gives up.

#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it moves addresses and waits")]

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::{another, check, head, join};
use super::postgresql::{opens, seal, set_up};
use crate::postgres::Postgres;
use crate::support::{KEYWARD, Setup, keyward, keyward_ok};

/// Far above any poll and pause.
const SOON: Duration = Duration::from_secs(40);

const DECLARE: &str = "keyward restore --store-only --in-place";

/// Waits until a sidecar said this on its standard error.
#[track_caller]
pub(super) fn says(setup: &Setup, words: &str) -> String {
    let began = Instant::now();
    loop {
        let said = std::fs::read_to_string(setup.dir.path().join("stderr")).unwrap();
        if said.contains(words) {
            return said;
        }
        assert!(began.elapsed() < SOON, "never said {words:?}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A start that must be refused with these words, and that the way out is among them.
#[track_caller]
pub(super) fn refuses_to_start(setup: &Setup, words: &str) {
    let errors = std::fs::File::create(setup.dir.path().join("stderr")).unwrap();
    let serve = ["serve", "--config", &setup.config()];
    let mut child = Command::new(KEYWARD).args(serve).stderr(errors).stdout(Stdio::null()).spawn().unwrap();
    let said = says(setup, "the store is refused");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains(words) && said.contains(DECLARE), "{said}");
}

pub(super) fn declare(setup: &Setup, accept: Option<u64>) -> (bool, String) {
    let (config, number) = (setup.config(), accept.map(|number| number.to_string()));
    let mut arguments = vec!["restore", "--store-only", "--in-place", "--config", &config];
    if let Some(number) = &number {
        arguments.extend(["--accept-lost-changes", number]);
    }
    let done = keyward(&arguments);
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

/// Asks what would be given up, is refused for any other number, and declares.
#[track_caller]
fn give_up(setup: &Setup) -> u64 {
    let (done, said) = declare(setup, None);
    assert!(!done && said.contains("look for a newer copy"), "{said}");
    let number = said.rsplit("--accept-lost-changes ").next().unwrap().trim().parse().unwrap();
    let (done, said) = declare(setup, Some(number + 1));
    assert!(!done, "{said}");
    let (done, said) = declare(setup, Some(number));
    assert!(done && said.contains(&format!("{number} changes were given up")), "{said}");
    let (done, said) = declare(setup, None);
    assert!(done && said.contains("nothing had to be declared"), "{said}");
    number
}

pub(super) fn create(setup: &Setup, name: &str) -> bool {
    keyward(&["keyring", "create", name, "--require", "x", "--config", &setup.config()]).status.success()
}

fn rebased(setup: &Setup) -> Vec<Value> {
    let tail = keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &setup.config()]);
    let records = tail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["event"] == "store.rebased").collect()
}

/// An address that moves from one server to another, as a name or a proxy would.
struct Address(PathBuf);

impl Address {
    fn of(server: &Postgres, setups: &[&Setup]) -> Self {
        let address = Self(setups[0].dir.path().join("database"));
        symlink(server.socket_dir(), &address.0).unwrap();
        let (there, here) = (server.socket_dir().display().to_string(), address.0.display().to_string());
        for setup in setups {
            setup.edit_config(|text| text.replace(&there, &here));
        }
        address
    }

    fn move_to(&self, server: &Postgres) {
        std::fs::remove_file(&self.0).unwrap();
        symlink(server.socket_dir(), &self.0).unwrap();
    }
}

fn changes(server: &Postgres, dbname: &str) -> String {
    server.sql(dbname, "SELECT max(seq) FROM keyward.changes")
}

#[test]
fn a_standby_promoted_without_the_last_changes_is_refused_by_each_sidecar_until_it_is_declared_there() {
    let primary = Postgres::new();
    let dbname = primary.database();
    let one = set_up(&primary, &dbname);
    let serving = one.serve();
    one.keyring();
    let (sealed, context) = seal(&one);
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    assert_eq!(serving.stop(), Some(0));
    let address = Address::of(&primary, &[&one, &two]);
    let serving = [one.serve(), two.serve()];
    let standby = primary.standby();
    assert_eq!(changes(&standby, &dbname), changes(&primary, &dbname), "it streams");
    // Asynchronous, and behind from now on: both changes are acknowledged and never reach the standby.
    standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    standby.sql("postgres", "SELECT pg_reload_conf()");
    let began = Instant::now();
    while primary.sql("postgres", "SELECT count(*) FROM pg_stat_replication") != "0" {
        assert!(began.elapsed() < SOON, "the standby goes on streaming");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(create(&one, "lost-one") && create(&two, "lost-two"));
    opens(&two, &sealed, context);
    primary.kill();
    address.move_to(&standby);
    // Not promoted yet: nothing that it says is believed, and no change is made.
    says(&one, "the store is out of reach");
    assert!(!create(&one, "on-a-standby"));
    opens(&one, &sealed, context);
    standby.sql("postgres", "SELECT pg_promote()");
    for setup in [&one, &two] {
        let said = says(setup, "it has become shorter");
        assert!(said.contains(DECLARE), "{said}");
    }
    for serving in serving {
        assert_eq!(serving.stop(), Some(0));
    }
    refuses_to_start(&one, "older than the audit log knows it");
    assert!(one.root().join("state/mirror.sqlite").exists());
    let given_up = give_up(&one);
    assert!(!one.root().join("state/mirror.sqlite").exists(), "it showed keyrings that were given up");
    let serving = one.serve();
    opens(&one, &sealed, context);
    let record = rebased(&one);
    assert_eq!(record.len(), 1);
    let (first, last) = record[0]["facts"]["generation"].as_str().unwrap().split_once("..").unwrap();
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    assert_eq!((first, last - first + 1), (changes(&standby, &dbname).parse::<u64>().unwrap() + 1, given_up));
    // The store goes on, so that to the other sidecar it is not shorter but another one.
    assert!(create(&one, "a") && create(&one, "b") && create(&one, "c"));
    refuses_to_start(&two, "went another way");
    assert!(give_up(&two) >= 1);
    let second = two.serve();
    opens(&two, &sealed, context);
    assert_eq!((serving.stop(), second.stop()), (Some(0), Some(0)));
    for setup in [&one, &two] {
        keyward_ok(&["audit", "verify", &setup.log()]);
    }
    // The old primary comes back: what was given up is not in force, for nobody.
    standby.stop();
    primary.start();
    address.move_to(&primary);
    for setup in [&one, &two] {
        let (done, said) = declare(setup, Some(3));
        assert!(!done && said.contains("abandoned"), "{said}");
    }
}

#[test]
fn a_dump_that_was_put_back_serves_only_once_it_is_declared() {
    let server = Postgres::new();
    let dbname = server.database();
    let setup = set_up(&server, &dbname);
    let serving = setup.serve();
    setup.keyring();
    let (sealed, context) = seal(&setup);
    let older = server.dump(&dbname);
    assert!(create(&setup, "since"));
    assert_eq!(serving.stop(), Some(0));
    let newer = server.dump(&dbname);
    server.put_back(&dbname, &older);
    refuses_to_start(&setup, "older than the audit log knows it");
    // The newest copy is put back after all: nothing is lost, and nothing is to be declared.
    server.put_back(&dbname, &newer);
    let (done, said) = declare(&setup, Some(1));
    assert!(done && said.contains("nothing had to be declared"), "{said}");
    server.put_back(&dbname, &older);
    assert_eq!(give_up(&setup), 1);
    let serving = setup.serve();
    opens(&setup, &sealed, context);
    assert_eq!(rebased(&setup).len(), 1, "a declaration of nothing is no record");
    assert_eq!(serving.stop(), Some(0));
    server.put_back(&dbname, &newer);
    let (done, said) = declare(&setup, Some(1));
    assert!(!done && said.contains("abandoned"), "{said}");
}
