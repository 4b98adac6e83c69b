//! A backup of what runs: values are sealed, patients get their keys and keyrings are rotated while it is made.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{at, events, manifest, state, stopped, text};
use crate::postgres::Postgres;
use crate::support::{KEYWARD, Setup, keyward_ok, post};

/// What was acknowledged, in order: the patient, and the sealed value.
type Sealed = Mutex<Values>;
type Values = Vec<(usize, String)>;
/// A backup, and how many values had been acknowledged before it began.
type Backup = (String, usize);

const KEYRINGS: [&str; 2] = ["patients", "charts"];

fn context(patient: usize) -> Value {
    json!({ "resource": format!("Patient/{patient}"), "path": "name" })
}

/// Seals values of ever new patients into both keyrings, in one of which each patient has a key of his own.
fn seal_on(setup: &Setup, sealed: &Sealed, end: &AtomicBool) {
    for patient in (0..).take_while(|_| !end.load(Ordering::Relaxed)) {
        for keyring in KEYRINGS {
            let body = json!({ "context": context(patient), "text": format!("{keyring} {patient}") }).to_string();
            let (status, answer) = post(&setup.data(), &format!("/v1/keyrings/{keyring}/seal"), &body);
            assert_eq!(status, 200, "nobody waits for a backup: {answer}");
            sealed.lock().unwrap().push((patient, answer["sealed"].as_str().unwrap().to_owned()));
        }
    }
}

fn rotate_on(setup: &Setup, rotations: &AtomicUsize, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        for keyring in KEYRINGS {
            keyward_ok(&["keyring", "rotate", keyring, "--trigger", "personnel", "--config", &setup.config()]);
            rotations.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until this is true.
fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Backups of a sidecar that is at work; for each, how many values had been acknowledged before it began.
fn backups(setup: &Setup) -> (Vec<Backup>, Values) {
    let create = ["keyring", "create", "charts", "--require", "resource", "--require", "path"];
    keyward_ok(&[&create[..], &["--partition", "resource", "--config", &setup.config()]].concat());
    let (sealed, rotations, end) = (Sealed::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let mut made = Vec::new();
    std::thread::scope(|threads| {
        threads.spawn(|| seal_on(setup, &sealed, &end));
        threads.spawn(|| rotate_on(setup, &rotations, &end));
        for name in ["first", "second"] {
            let (before, rotated) = (sealed.lock().unwrap().len(), rotations.load(Ordering::Relaxed));
            until(|| sealed.lock().unwrap().len() > before + 10 && rotations.load(Ordering::Relaxed) > rotated);
            let before = sealed.lock().unwrap().len();
            let to = text(&at(setup, name));
            let shown = keyward_ok(&["backup", "--to", &to, "--config", &setup.config()]);
            assert!(shown.contains("it stands in the log"), "{shown}");
            assert!(sealed.lock().unwrap().len() > before, "sealing went on");
            made.push((to, before));
        }
        end.store(true, Ordering::Relaxed);
    });
    (made, sealed.into_inner().unwrap())
}

/// Puts a backup back with nothing of the old state, and opens what was acknowledged before it began.
fn comes_back(setup: &Setup, (from, before): &Backup, sealed: &[(usize, String)]) {
    let config = setup.config();
    let drill = ["drill", "restore", "--kek", "primary", "--signed-off-by", "a", "--from", from, "--config", &config];
    let shown = keyward_ok(&[&drill[..], &["--report", &format!("{from}.report")]].concat());
    assert!(shown.contains("PASSED") && shown.contains("2 of 2 opened"), "{shown}");
    keyward_ok(&["restore", "--from", from, "--config", &config]);
    let serving = setup.serve();
    for (at, (patient, value)) in sealed.iter().enumerate().take(*before) {
        let body = json!({ "sealed": value, "context": context(*patient), "purpose": "TREAT" }).to_string();
        let (status, answer) = post(&setup.data(), "/v1/open", &body);
        assert_eq!(status, 200, "value {at} of {before}, patient {patient}: {answer}");
    }
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}

fn recorded(setup: &Setup, made: &[Backup]) {
    let records = events(setup, "store.backed_up");
    assert_eq!(records.len(), made.len());
    for ((to, _), record) in made.iter().zip(&records) {
        assert_eq!(record["facts"]["backup_head"], manifest(to)["head"]);
        assert!(record["facts"]["store_head"].is_null(), "the sidecar alone says where its store ends");
    }
    let left = std::fs::read_dir(state(setup)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_str().unwrap().starts_with("backed-up")));
}

#[test]
fn a_backup_of_a_running_sidecar_lacks_nothing_that_was_acknowledged_before_and_stops_nobody() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let (made, sealed) = backups(&setup);
    assert_eq!(serving.stop(), Some(0));
    recorded(&setup, &made);
    for (count, one) in made.iter().enumerate() {
        std::fs::rename(state(&setup), at(&setup, &format!("aside{count}"))).unwrap();
        comes_back(&setup, one, &sealed);
    }
}

/// The backup reads its policies from a pipe that nobody has written into yet: so long it is not done.
#[test]
fn a_backup_that_began_while_the_sidecar_was_stopped_does_not_keep_it_from_starting() {
    let (setup, _) = stopped();
    let (policies, config, to) = (at(&setup, "slow"), at(&setup, "slow.toml"), at(&setup, "backup"));
    std::fs::create_dir(&policies).unwrap();
    let pipe = policies.join("slow.cedar");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let known = std::fs::read_to_string(setup.config()).unwrap();
    let dir = |path: &Path| format!("dir = \"{}\"", path.display());
    let slow = known.replace(&dir(&setup.root().join("policies")), &dir(&policies));
    assert_ne!(slow, known);
    std::fs::write(&config, slow).unwrap();
    let mut command = Command::new(KEYWARD);
    command.args(["backup", "--to", &text(&to), "--config", &text(&config)]);
    let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| to.join("store.sqlite").exists());
    let serving = setup.serve();
    assert!(!to.join("manifest.json").exists(), "it is under way");
    std::fs::write(&pipe, "").unwrap();
    let done = backup.wait_with_output().unwrap();
    let (shown, said) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert!(done.status.success() && shown.contains("it stands in the log"), "{shown}{said}");
    assert_eq!(serving.stop(), Some(0));
    recorded(&setup, &[(text(&to), 0)]);
}

#[test]
fn a_fleet_that_serves_from_a_database_is_backed_up_as_of_one_moment() {
    let setup = Setup::new();
    std::fs::remove_dir_all(state(&setup)).unwrap();
    let server = Postgres::shared();
    let (first, plain) = (server.database(), std::fs::read_to_string(setup.config()).unwrap());
    let in_database = |dbname: &str| {
        let (dir, port) = (server.socket_dir().display(), server.port());
        let section = format!(
            "[store]\nkind = \"postgresql\"\nsocket = \"{dir}\"\nport = {port}\ndbname = \"{dbname}\"\n\
             user = \"postgres\"\n\n[policy]"
        );
        setup.edit_config(|_| plain.replace("[policy]", &section));
    };
    in_database(&first);
    keyward_ok(&["init", "--config", &setup.config()]);
    let serving = setup.serve();
    setup.keyring();
    let (made, sealed) = backups(&setup);
    assert_eq!(serving.stop(), Some(0));
    recorded(&setup, &made);
    for (count, one) in made.iter().enumerate() {
        std::fs::rename(state(&setup), at(&setup, &format!("aside{count}"))).unwrap();
        in_database(&server.database());
        comes_back(&setup, one, &sealed);
    }
    assert!(Path::new(&made[0].0).join("store.sqlite").exists());
}
