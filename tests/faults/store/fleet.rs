//! Several sidecars on one database: what one changes the others know, and nobody joins a store that was put back.

#![allow(clippy::disallowed_methods, reason = "a test plays the operator: it copies files and waits")]

use std::time::{Duration, Instant};

use serde_json::Value;

use super::postgresql::{opens, seal, set_up};
use crate::postgres::Postgres;
use crate::support::{Setup, keyward, keyward_ok, post};

/// Far above the poll; what is waited for comes by a hint within milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// The newest head that a sidecar's log names.
pub(super) fn head(setup: &Setup) -> String {
    let tail = keyward_ok(&["audit", "tail", "--json", "--lines", "100", "--config", &setup.config()]);
    let heads = tail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let heads = heads.filter_map(|record| record["facts"]["store_head"].as_str().map(str::to_owned));
    heads.reduce(|_, newer| newer).unwrap()
}

/// One more host for the same database and the same key-encryption key, without a state directory.
pub(super) fn another(first: &Setup) -> Setup {
    let setup = Setup::new();
    std::fs::remove_dir_all(setup.root().join("state")).unwrap();
    std::fs::copy(first.root().join("kek"), setup.root().join("kek")).unwrap();
    let (there, here) = (first.root().display().to_string(), setup.root().display().to_string());
    let text = std::fs::read_to_string(first.config()).unwrap().replace(&there, &here);
    setup.edit_config(|_| text);
    setup
}

/// What `init` of the first one printed.
pub(super) fn check(first: &Setup) -> String {
    let record = keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &first.config()]);
    let genesis: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    genesis["facts"]["store_key_check"].as_str().unwrap().to_owned()
}

pub(super) fn join(setup: &Setup, head: &str, check: &str) -> (bool, String) {
    let done = keyward(&["init", "--join", head, "--store-key-check", check, "--config", &setup.config()]);
    (done.status.success(), String::from_utf8(done.stderr).unwrap())
}

fn active(setup: &Setup) -> String {
    let shown = keyward_ok(&["keyring", "show", "patients", "--json", "--config", &setup.config()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let versions = shown["versions"].as_array().unwrap().iter();
    versions.clone().find(|version| version["state"] == "active").unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_sidecar_joins_opens_what_the_first_sealed_and_learns_of_its_changes() {
    let server = Postgres::new();
    let one = set_up(&server, &server.database());
    let first = one.serve();
    one.keyring();
    let (sealed, context) = seal(&one);
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    assert!(!two.root().join("state/restoring").exists());
    let second = two.serve();
    opens(&two, &sealed, context);
    keyward_ok(&["keyring", "rotate", "patients", "--trigger", "personnel", "--config", &one.config()]);
    let (rotated, began) = (active(&one), Instant::now());
    while active(&two) != rotated {
        assert!(began.elapsed() < SOON, "the second sidecar does not learn of the rotation");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Both ways, and without a second version: what the one sealed the other opens.
    let (sealed, context) = seal(&two);
    opens(&one, &sealed, context);
    assert_eq!((first.stop(), second.stop()), (Some(0), Some(0)));
    for setup in [&one, &two] {
        keyward_ok(&["audit", "verify", &setup.log()]);
    }
}

#[test]
fn nobody_joins_a_store_that_is_older_went_another_way_or_is_another_one() {
    let server = Postgres::new();
    let one = set_up(&server, &server.database());
    let first = one.serve();
    one.keyring();
    let (head, check) = (head(&one), check(&one));
    let (changes, digest) = head.split_once(':').unwrap();
    let changes: u64 = changes.parse().unwrap();
    let newer = format!("{}:{digest}", changes + 1);
    let elsewhere = format!("{changes}:{}", "0".repeat(64));
    let foreign = "0".repeat(32);
    for (head, check, why) in
        [(&newer, &check, "older than"), (&elsewhere, &check, "went another way"), (&head, &foreign, "not the store")]
    {
        let two = another(&one);
        let (joined, said) = join(&two, head, check);
        assert!(!joined && said.contains(why), "{said}");
        assert!(!two.root().join("state/log").exists(), "no log of a sidecar that did not join");
    }
    let two = another(&one);
    let (joined, said) = join(&two, &head, &check);
    assert!(joined, "{said}");
    let (status, _) = post(&one.data(), "/v1/open", "{}");
    assert_eq!((status, first.stop()), (400, Some(0)));
}

#[test]
fn who_suspends_a_key_hears_which_sidecar_has_not_followed_and_until_when() {
    let server = Postgres::new();
    let one = set_up(&server, &server.database());
    let first = one.serve();
    one.keyring();
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    let second = two.serve();
    let told = |setup: &Setup, arguments: &[&str]| {
        let config = setup.config();
        let done = keyward(&[arguments, &["--json", "--config", &config]].concat());
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
        (done.status.code(), answer)
    };
    let suspended = told(&one, &["keyring", "suspend", "patients", &active(&one), "--reason", "suspicion"]).1;
    let change = suspended["change"].as_u64().unwrap().to_string();
    assert_eq!(suspended["other_sidecars"], 1, "{suspended}");
    let followed = |setup: &Setup, change: &str| told(setup, &["keyring", "followed", "--change", change]);
    let began = Instant::now();
    while followed(&one, &change).0 != Some(0) {
        assert!(began.elapsed() < SOON, "the second sidecar does not say that it followed");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(second.stop(), Some(0));
    let version = suspended["versions"][0]["id"].as_str().unwrap();
    let (_, compromised) = told(&one, &["keyring", "compromise", "patients", version, "--reason", "disclosure"]);
    let behind = &compromised["not_followed"][0];
    assert!(behind["followed"].as_u64().unwrap() < compromised["change"].as_u64().unwrap(), "{compromised}");
    assert!(behind["until"].as_str() > behind["heard"].as_str(), "{compromised}");
    let change = compromised["change"].as_u64().unwrap().to_string();
    assert_eq!(followed(&one, &change).0, Some(1), "a finding");
    let record = keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &one.config()]);
    let record = record.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let record = record
        .filter(|record| record["event"] == "key.compromised" && record["outcome"] == "done")
        .reduce(|_, newest| newest);
    assert_eq!(record.unwrap()["facts"]["sidecars_behind"], "1");
    let third = two.serve();
    let began = Instant::now();
    while followed(&one, &change).0 != Some(0) {
        assert!(began.elapsed() < SOON, "a sidecar that starts has followed");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((first.stop(), third.stop()), (Some(0), Some(0)));
}

#[test]
fn a_join_that_was_cut_short_starts_no_sidecar_and_a_file_is_joined_by_nobody() {
    let server = Postgres::new();
    let one = set_up(&server, &server.database());
    let first = one.serve();
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    // Killed before the log named the head.
    std::fs::write(two.root().join("state/restoring"), "init --join").unwrap();
    let started = keyward(&["serve", "--config", &two.config()]);
    let said = String::from_utf8(started.stderr).unwrap();
    assert!(!started.status.success() && said.contains("restoring"), "{said}");
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(!joined && said.contains("exists already"), "{said}");
    let alone = Setup::new();
    std::fs::remove_dir_all(alone.root().join("state")).unwrap();
    let (joined, said) = join(&alone, &head(&one), &check(&one));
    assert!(!joined && said.contains("a file of this host alone") && said.contains("postgresql.md"), "{said}");
    assert!(!alone.root().join("state").exists(), "nothing was made");
    assert_eq!(first.stop(), Some(0));
}

/// A mirror of an earlier life on the host would keep wraps that have left the store.
#[test]
fn a_sidecar_that_joins_begins_with_an_empty_mirror() {
    let server = Postgres::new();
    let one = set_up(&server, &server.database());
    let first = one.serve();
    let two = another(&one);
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    let state = two.root().join("state");
    let mirror = || rusqlite::Connection::open(state.join("mirror.sqlite")).unwrap();
    mirror().execute("INSERT INTO keyrings VALUES ('default/earlier', 1, '{}', x'00')", []).unwrap();
    for entry in std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            std::fs::remove_dir_all(entry).unwrap();
        }
    }
    let (joined, said) = join(&two, &head(&one), &check(&one));
    assert!(joined, "{said}");
    let left = "SELECT count(*) FROM keyrings WHERE name = 'default/earlier'";
    assert_eq!(mirror().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(first.stop(), Some(0));
}
