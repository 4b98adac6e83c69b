//! A backup, the loss of everything, and the way back: with two real tokens, of which the first is lost too.

mod damaged;
mod drills;
mod escrow;
mod in_place;
mod killed;
mod live;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::failover::{Pair, section};
use crate::postgres::Postgres;
use crate::requests::records;
use crate::support::{KEYWARD, Setup, keyward, keyward_ok, post};

/// A name in the test's own directory.
pub fn at(setup: &Setup, name: &str) -> PathBuf {
    setup.dir.path().join(name)
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

fn backup(setup: &Setup, name: &str) -> String {
    let to = text(&at(setup, name));
    keyward_ok(&["backup", "--to", &to, "--config", &setup.config()]);
    to
}

/// What a command that fails says.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let done = keyward(arguments);
    assert!(!done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8(done.stderr).unwrap()
}

fn seal(setup: &Setup, text: &str) -> String {
    let body = json!({ "context": { "resource": "Patient/1", "path": "name" }, "text": text }).to_string();
    let (status, sealed) = post(&setup.data(), "/v1/keyrings/patients/seal", &body);
    assert_eq!(status, 200, "{sealed}");
    sealed["sealed"].as_str().unwrap().to_owned()
}

fn open(setup: &Setup, sealed: &str) -> (u16, Value) {
    let context = json!({ "resource": "Patient/1", "path": "name" });
    post(&setup.data(), "/v1/open", &json!({ "sealed": sealed, "context": context, "purpose": "TREAT" }).to_string())
}

pub fn state(setup: &Setup) -> PathBuf {
    setup.root().join("state")
}

/// A sidecar with one keyring and one sealed value, stopped.
fn stopped() -> (Setup, String) {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let value = seal(&setup, "Ada");
    assert_eq!(serving.stop(), Some(0));
    (setup, value)
}

pub fn manifest(backup: &str) -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(backup).join("manifest.json")).unwrap()).unwrap()
}

/// Every file of a backup but the manifest.
fn files(backup: &str) -> Vec<PathBuf> {
    let listed = manifest(backup);
    let listed = listed["files"].as_array().unwrap();
    listed.iter().map(|file| Path::new(backup).join(file["path"].as_str().unwrap())).collect()
}

fn events(setup: &Setup, event: &str) -> Vec<Value> {
    let _serving = setup.serve();
    records(setup).into_iter().filter(|record| record["event"] == event).collect()
}

#[test]
fn with_state_and_primary_lost_a_backup_and_the_escrow_alone_open_what_was_sealed_before() {
    let pair = Pair::new();
    let serving = pair.setup.serve();
    pair.setup.keyring();
    let value = seal(&pair.setup, "Ada");
    assert_eq!(serving.stop(), Some(0));
    let from = backup(&pair.setup, "backup");
    // The building burns.
    std::fs::remove_dir_all(state(&pair.setup)).unwrap();
    pair.primary.pull();
    let report = text(&at(&pair.setup, "report.json"));
    let drill = ["drill", "restore", "--from", &from, "--signed-off-by", "ciso", "--config", &pair.setup.config()];
    let said = refused(&drill);
    assert!(said.contains("no production log on this machine") && said.contains("--report FILE"), "{said}");
    let shown = keyward_ok(&[&drill[..], &["--report", &report]].concat());
    assert!(shown.contains("PASSED") && shown.contains("backup alone") && shown.contains("1 of 1 opened"), "{shown}");
    assert!(!state(&pair.setup).exists(), "a drill leaves the production state alone");

    keyward_ok(&["restore", "--from", &from, "--config", &pair.setup.config()]);
    let serving = pair.setup.serve();
    assert_eq!(open(&pair.setup, &value), (200, json!({ "text": "Ada" })));
    assert_eq!(serving.stop(), Some(0));
    let recorded = keyward_ok(&["drill", "record", &report, "--config", &pair.setup.config()]);
    assert!(recorded.contains("in the production log"), "{recorded}");
    let said = refused(&["drill", "record", &report, "--config", &pair.setup.config()]);
    assert!(said.contains("recorded already"), "{said}");

    // Without the lost key in the configuration, too.
    pair.setup.edit_config(|text| {
        let text = text.replace("primary = \"primary\"\nescrow = \"backup\"", "primary = \"backup\"");
        text.replace(&section("primary", &pair.primary), "")
    });
    let _serving = pair.setup.serve();
    assert_eq!(open(&pair.setup, &value).0, 200);
    let all = records(&pair.setup);
    let drilled = all.iter().find(|record| record["event"] == "drill.done").unwrap();
    assert_eq!((&drilled["outcome"], &drilled["facts"]["signed_off_by"]), (&json!("done"), &json!("ciso")));
    assert_eq!(drilled["facts"]["keys_opened"], "3 of 3");
    let restored = all.iter().find(|record| record["event"] == "store.restored").unwrap();
    assert_eq!(restored["facts"]["old_origin"], manifest(&from)["log"]["origin"]);
    assert_ne!(all[0]["facts"]["origin"], restored["facts"]["old_origin"], "a log of its own");
    let older = std::fs::read_dir(state(&pair.setup).join("logs")).unwrap().next().unwrap().unwrap().path();
    for log in [pair.setup.log(), text(&older)] {
        assert!(keyward_ok(&["audit", "verify", &log]).contains("complete"));
    }
}

#[test]
fn a_backup_is_private_lacks_the_log_key_is_recorded_and_is_never_written_over() {
    let (setup, _) = stopped();
    let to = backup(&setup, "backup");
    let said = refused(&["backup", "--to", &to, "--config", &setup.config()]);
    assert!(said.contains("exists already"), "{said}");
    for file in files(&to).iter().chain([&Path::new(&to).join("manifest.json")]) {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
    }
    assert!(!Path::new(&to).join("audit/checkpoint.key").exists());
    let key = std::fs::read(state(&setup).join("log/checkpoint.key")).unwrap();
    let leaks = |path: &PathBuf| std::fs::read(path).unwrap().windows(key.len()).any(|window| window == key);
    assert!(!files(&to).iter().any(leaks));
    let digest =
        String::from_utf8(Command::new("sha256sum").arg(format!("{to}/manifest.json")).output().unwrap().stdout);
    let recorded = events(&setup, "store.backed_up");
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["facts"]["backup_digest"], digest.unwrap()[..64]);
    assert_eq!(recorded[0]["facts"]["store_head"], manifest(&to)["head"]);
}

#[test]
fn nothing_that_exists_is_written_over_by_a_restore() {
    let (setup, value) = stopped();
    let from = backup(&setup, "backup");
    let before = setup.log_bytes();
    let config = setup.config();
    let restore = ["restore", "--from", &from, "--config", &config];
    assert!(refused(&restore).contains("there is a store already"));
    assert!(refused(&[&restore[..], &["--store-only"]].concat()).contains("there is a store already"));
    std::fs::rename(state(&setup).join("store.db"), at(&setup, "aside")).unwrap();
    let said = refused(&restore);
    assert!(said.contains("there is a log already") && said.contains("--store-only"), "{said}");
    assert!(setup.log_bytes() == before, "the log was touched");
    std::fs::rename(at(&setup, "aside"), state(&setup).join("store.db")).unwrap();
    let _serving = setup.serve();
    assert_eq!(open(&setup, &value).0, 200);
}

/// Only the store is lost: the log knows what the backup lacks, and no older store slips in beside it.
#[test]
fn a_lost_store_comes_back_beside_its_log_only_for_the_number_of_changes_that_was_accepted() {
    let (setup, value) = stopped();
    let from = backup(&setup, "backup");
    let serving = setup.serve();
    let config = setup.config();
    keyward_ok(&["keyring", "create", "staff", "--require", "path", "--config", &config]);
    assert_eq!(serving.stop(), Some(0));
    let newer = at(&setup, "newer.db");
    settle(&state(&setup).join("store.db"));
    std::fs::rename(state(&setup).join("store.db"), &newer).unwrap();
    let restore = ["restore", "--store-only", "--from", &from, "--config", &config];
    let said = refused(&restore);
    assert!(said.contains("restoring it loses 1 changes") && said.contains("--accept-lost-changes 1"), "{said}");
    assert!(refused(&[&restore[..], &["--accept-lost-changes", "2"]].concat()).contains("loses 1 changes"));
    let done = keyward_ok(&[&restore[..], &["--accept-lost-changes", "1"]].concat());
    assert!(done.contains("1 changes were given up"), "{done}");
    let serving = setup.serve();
    assert_eq!(open(&setup, &value), (200, json!({ "text": "Ada" })));
    let rebased: Vec<Value> = records(&setup).into_iter().filter(|one| one["event"] == "store.rebased").collect();
    assert_eq!(rebased.len(), 1);
    let head = manifest(&from)["head"].as_str().unwrap().to_owned();
    assert_eq!(rebased[0]["facts"]["store_head"], head);
    assert_eq!(rebased[0]["facts"]["generation"], "3..3");
    assert!(rebased[0]["facts"]["abandoned_head"].as_str().unwrap().starts_with("3:"));
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
    // The abandoned store turns up again.
    settle(&state(&setup).join("store.db"));
    std::fs::rename(&newer, state(&setup).join("store.db")).unwrap();
    let _serving = start(&setup);
    let said = eventually(&setup);
    assert!(said.contains("abandoned"), "{said}");
}

/// Everything that a database's WAL holds into its file, so that it can be moved.
pub fn settle(store: &Path) {
    let database = rusqlite::Connection::open(store).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Starts the sidecar without waiting for it to be ready.
fn start(setup: &Setup) -> Running {
    let errors = std::fs::File::create(at(setup, "stderr")).unwrap();
    let serve = ["serve", "--config", &setup.config()];
    Running(Command::new(KEYWARD).args(serve).stderr(errors).stdout(Stdio::null()).spawn().unwrap())
}

struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until the process has refused the store, or for a minute; everything it said.
fn eventually(setup: &Setup) -> String {
    let said = || std::fs::read_to_string(at(setup, "stderr")).unwrap();
    for _ in 0..600 {
        if said().contains("the store is refused") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    said()
}

#[test]
fn a_drill_by_a_key_that_has_not_wrapped_every_key_fails_and_that_is_recorded() {
    let pair = Pair::unfounded();
    let both = std::fs::read_to_string(pair.setup.config()).unwrap();
    pair.setup
        .edit_config(|text| text.replace("escrow = \"backup\"\n", "").replace(&section("backup", &pair.backup), ""));
    keyward_ok(&["init", "--config", &pair.setup.config()]);
    let from = backup(&pair.setup, "backup");
    let config = pair.setup.config();
    let drill = ["drill", "restore", "--from", &from, "--signed-off-by", "ciso", "--config", &config];
    assert!(refused(&drill).contains("no escrow is configured"));
    pair.setup.edit_config(|_| both);
    let said = refused(&drill);
    assert!(said.contains("the store does not open by backup alone") && said.contains("primary"), "{said}");
    let outcomes = || {
        let serving = pair.setup.serve();
        let all = crate::requests::records(&pair.setup);
        assert_eq!(serving.stop(), Some(0));
        let of = all.into_iter().filter(|record| record["event"] == "drill.done");
        of.map(|record| (record["outcome"].clone(), record["facts"]["kek"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(), [(serde_json::json!("failed"), serde_json::json!("backup"))]);
    let shown = keyward_ok(&[&drill[..], &["--kek", "primary"]].concat());
    assert_eq!(outcomes().len(), 2);
    assert!(shown.contains("PASSED") && shown.contains("in the production log"), "{shown}");
}

/// A configuration of the same sidecar, with its own state directory, whose store is this database.
fn in_postgresql(setup: &Setup, name: &str, dbname: &str) -> String {
    let server = Postgres::shared();
    let store = format!(
        "[store]\nkind = \"postgresql\"\nsocket = \"{}\"\nport = {}\ndbname = \"{dbname}\"\nuser = \"postgres\"\n\n",
        server.socket_dir().display(),
        server.port(),
    );
    let old = std::fs::read_to_string(setup.config()).unwrap();
    let (before, after) = old.split_once("[policy]").unwrap();
    let new = format!("{before}{store}[policy]{after}").replace(&text(&state(setup)), &text(&at(setup, name)));
    let config = at(setup, &format!("{name}.toml"));
    std::fs::write(&config, new).unwrap();
    text(&config)
}

#[test]
fn a_backup_of_a_file_is_restored_into_a_database_and_a_backup_of_that_into_a_file() {
    let (setup, value) = stopped();
    let first = backup(&setup, "first");
    let dbname = Postgres::shared().database();
    let database = in_postgresql(&setup, "shared", &dbname);
    keyward_ok(&["restore", "--from", &first, "--config", &database]);
    let said = refused(&["restore", "--from", &first, "--config", &database]);
    assert!(said.contains("there is a store already"), "{said}");
    let elsewhere = in_postgresql(&setup, "elsewhere", &dbname);
    let said = refused(&["restore", "--from", &first, "--config", &elsewhere]);
    assert!(said.contains("there is a store already") && !said.contains("DROP"), "{said}");
    assert!(!at(&setup, "elsewhere/state/restoring").exists(), "nothing was begun");
    let second = text(&at(&setup, "second"));
    keyward_ok(&["backup", "--to", &second, "--config", &database]);
    keyward_ok(&[
        "drill",
        "restore",
        "--kek",
        "primary",
        "--signed-off-by",
        "a",
        "--from",
        &second,
        "--config",
        &database,
    ]);
    assert_eq!(manifest(&first)["rows"], manifest(&second)["rows"]);
    assert_eq!(manifest(&first)["head"], manifest(&second)["head"]);
    assert_ne!(manifest(&first)["log"]["origin"], manifest(&second)["log"]["origin"]);
    std::fs::remove_dir_all(state(&setup)).unwrap();
    keyward_ok(&["restore", "--from", &second, "--config", &setup.config()]);
    for gone in ["store.db", "log"] {
        std::fs::rename(state(&setup).join(gone), at(&setup, gone)).unwrap();
    }
    let said = refused(&["restore", "--from", &first, "--config", &setup.config()]);
    assert!(said.contains("there is a log already") && said.contains("state/logs"), "{said}");
    for back in ["store.db", "log"] {
        std::fs::rename(at(&setup, back), state(&setup).join(back)).unwrap();
    }
    assert_eq!(std::fs::read_dir(state(&setup).join("logs")).unwrap().count(), 2, "both logs before this one");
    let _serving = setup.serve();
    assert_eq!(open(&setup, &value), (200, json!({ "text": "Ada" })));
}

#[test]
fn a_drill_in_which_a_canary_does_not_open_fails_and_the_log_says_so() {
    let (setup, _) = stopped();
    let from = backup(&setup, "backup");
    let config = setup.config();
    let report = text(&at(&setup, "report.json"));
    let drill =
        ["drill", "restore", "--kek", "primary", "--signed-off-by", "ciso", "--from", &from, "--config", &config];
    keyward_ok(&[&drill[..], &["--sample", "2", "--reason", "incident", "--report", &report]].concat());
    let shown: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&shown["keys"], &shown["asked"], &shown["opened"]), (&json!(3), &json!(2), &json!(2)));
    assert_eq!(
        (&shown["passed"], &shown["recorded"], &shown["canaries_opened"]),
        (&json!(true), &json!(true), &json!(1))
    );
    let mut edited = manifest(&from);
    let sealed = edited["canaries"][0]["sealed"].as_str().unwrap();
    let other = if sealed.ends_with('A') { 'Q' } else { 'A' };
    edited["canaries"][0]["sealed"] = json!(format!("{}{other}", &sealed[..sealed.len() - 1]));
    std::fs::write(Path::new(&from).join("manifest.json"), edited.to_string()).unwrap();
    let done = keyward(&drill);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("FAILED") && said.contains("the canary of default/patients: CannotOpen"), "{said}");
    let drills = events(&setup, "drill.done");
    let outcomes: Vec<&Value> = drills.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, [&json!("done"), &json!("failed")]);
    assert_eq!(drills[1]["facts"]["canaries"], "0 of 1");
}

#[test]
fn without_any_key_encryption_key_a_backup_is_unverified_and_says_so() {
    let (setup, value) = stopped();
    let config = setup.config();
    let (kek, aside) = (setup.root().join("kek"), at(&setup, "kek-aside"));
    std::fs::rename(&kek, &aside).unwrap();
    let to = text(&at(&setup, "refused"));
    let said = refused(&["backup", "--to", &to, "--config", &config]);
    assert!(said.contains("key-encryption key"), "{said}");
    assert!(!Path::new(&to).join("manifest.json").exists());
    let to = text(&at(&setup, "unverified"));
    let shown = keyward_ok(&["backup", "--without-kek", "--to", &to, "--config", &config]);
    assert!(shown.contains("NOT VERIFIED"), "{shown}");
    std::fs::rename(&aside, &kek).unwrap();
    let verified = backup(&setup, "verified");
    assert_eq!(manifest(&to)["head"], manifest(&verified)["head"], "the head needs no key");
    let said =
        refused(&["drill", "restore", "--kek", "primary", "--signed-off-by", "a", "--from", &to, "--config", &config]);
    assert!(said.contains("the drill FAILED"), "{said}");
    std::fs::remove_dir_all(state(&setup)).unwrap();
    keyward_ok(&["restore", "--from", &to, "--config", &config]);
    let _serving = setup.serve();
    assert_eq!(open(&setup, &value).0, 200);
}

#[test]
fn a_store_is_not_moved_out_of_a_restore_or_a_joining_that_was_cut_short() {
    let (setup, _) = stopped();
    let to = in_postgresql(&setup, "moved", &Postgres::shared().database());
    let marker = state(&setup).join("restoring");
    for (mark, said_of_it, advice) in [
        ("--digest ab", "a restore was cut short", "run the same `keyward restore` again"),
        ("init --join", "an `init --join` was cut short", "join again"),
    ] {
        std::fs::write(&marker, mark).unwrap();
        let said = refused(&["store", "migrate", "--config", &setup.config(), "--to", &to]);
        assert!(said.contains(said_of_it) && said.contains(advice), "{said}");
    }
    std::fs::remove_file(&marker).unwrap();
    keyward_ok(&["store", "migrate", "--config", &setup.config(), "--to", &to]);
}
