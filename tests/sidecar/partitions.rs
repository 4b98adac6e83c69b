//! A key for each patient, through the real service: made on first use, once under a race, shredded for good.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, keyward, keyward_ok, post};

const SEAL: &str = "/v1/keyrings/charts/seal";

pub fn charts(setup: &Setup) {
    keyward_ok(&[
        "keyring",
        "create",
        "charts",
        "--require",
        "patient",
        "--subject",
        "patient",
        "--partition",
        "patient",
        "--config",
        &setup.config(),
    ]);
}

fn seal(setup: &Setup, patient: &str) -> (u16, Value) {
    let body = json!({ "context": { "patient": patient, "path": "note" }, "text": format!("about {patient}") });
    post(&setup.data(), SEAL, &body.to_string())
}

fn open(setup: &Setup, patient: &str, sealed: &Value) -> (u16, Value) {
    let body = json!({ "sealed": sealed, "context": { "patient": patient, "path": "note" }, "purpose": "TREAT" });
    post(&setup.data(), "/v1/open", &body.to_string())
}

fn shred(setup: &Setup, patient: &str, extra: &[&str]) -> Value {
    let file = setup.dir.path().join("value");
    std::fs::write(&file, format!("{patient}\n")).unwrap();
    let file = file.display().to_string();
    let config = setup.config();
    let fixed =
        ["partition", "shred", "charts", "--value-file", &file, "--reason", "policy", "--json", "--config", &config];
    serde_json::from_str(&keyward_ok(&[&fixed[..], extra].concat())).unwrap()
}

pub fn store(setup: &Setup) -> rusqlite::Connection {
    let state = setup.root().join("state");
    let found: Vec<PathBuf> = std::fs::read_dir(&state)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sqlite" || extension == "db"))
        .collect();
    rusqlite::Connection::open(&found[0]).unwrap()
}

fn rows(setup: &Setup) -> i64 {
    store(setup).query_row("SELECT count(*) FROM partitions", [], |row| row.get(0)).unwrap()
}

#[test]
fn two_patients_have_keys_of_their_own_and_one_of_them_can_be_shredded() {
    let setup = Setup::new();
    let serving = setup.serve();
    charts(&setup);
    let (ada, bob) = (seal(&setup, "patient-ada").1["sealed"].clone(), seal(&setup, "patient-bob").1["sealed"].clone());
    assert_eq!(rows(&setup), 2);
    assert_eq!(open(&setup, "patient-ada", &ada), (200, json!({ "text": "about patient-ada" })));
    assert_eq!(open(&setup, "patient-eve", &ada).1["code"], "cannot_open");
    assert_eq!(rows(&setup), 2, "opening makes no partition");

    let certificate = shred(&setup, "patient-ada", &["--backup-retention", "35d"]);
    assert_eq!(certificate["keyring"], "default/charts", "{certificate}");
    assert_eq!(certificate["shredded_before"], false);
    assert!(certificate["backups"]["gone_by"].is_string() && certificate["survives"].as_array().unwrap().len() >= 3);
    assert!(certificate["other_sidecars"]["that_do_not_until"].is_string());
    let gone = |(status, problem): (u16, Value)| {
        assert_eq!((status, &problem["code"]), (409, &json!("key_state")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("shredded"), "{problem}");
    };
    gone(open(&setup, "patient-ada", &ada));
    gone(seal(&setup, "patient-ada"));
    assert_eq!(open(&setup, "patient-bob", &bob), (200, json!({ "text": "about patient-bob" })));

    assert_eq!(serving.stop(), Some(0));
    let serving = setup.serve();
    gone(open(&setup, "patient-ada", &ada));
    assert_eq!(open(&setup, "patient-bob", &bob), (200, json!({ "text": "about patient-bob" })));
    let again = shred(&setup, "patient-ada", &[]);
    assert_eq!(again["shredded_before"], true);
    for same in ["partition", "shredded", "by", "reason", "intent_record", "log"] {
        assert_eq!(again[same], certificate[same], "{same}");
    }
    keyward_ok(&["keyring", "rotate", "charts", "--trigger", "personnel", "--config", &setup.config()]);
    assert_eq!(open(&setup, "patient-bob", &bob), (200, json!({ "text": "about patient-bob" })));
    let told = keyward_ok(&["partition", "rewrap", "charts", "--trigger", "personnel", "--config", &setup.config()]);
    assert!(told.starts_with("1 partitions") && told.contains("none remains"), "{told}");
    let newer = seal(&setup, "patient-bob").1["sealed"].clone();
    for value in [&bob, &newer] {
        assert_eq!(open(&setup, "patient-bob", value), (200, json!({ "text": "about patient-bob" })));
    }
    gone(open(&setup, "patient-ada", &ada));

    let all = records(&setup);
    let intent = &all[usize::try_from(certificate["intent_record"].as_u64().unwrap()).unwrap()];
    assert_eq!((&intent["event"], &intent["outcome"]), (&json!("partition.shredded"), &json!("intent")), "{intent}");
    assert_eq!(intent["facts"]["partition"], certificate["partition"]);
    let of = |event: &str, outcome: &str| {
        all.iter().filter(|record| record["event"] == event && record["outcome"] == outcome).count()
    };
    assert_eq!((of("partition.created", "intent"), of("partition.created", "done")), (2, 2));
    assert_eq!((of("partition.shredded", "intent"), of("partition.shredded", "done")), (2, 2));
    assert_eq!(serving.stop(), Some(0));
    let verified = keyward_ok(&["audit", "verify", &setup.log()]);
    assert!(verified.contains("complete"), "{verified}");
    let log = setup.log_bytes();
    assert!(!log.windows(8).any(|window| window == b"patient-"), "no record names a patient");
}

#[test]
fn partitions_move_past_an_edited_one_and_the_exit_code_says_so() {
    let setup = Setup::new();
    // Nobody moves them before the command does.
    setup.edit_config(|text| text + "\n[rotation]\nenabled = false\n");
    let _serving = setup.serve();
    charts(&setup);
    for patient in ["ada", "bob", "cid"] {
        assert_eq!(seal(&setup, patient).0, 200);
    }
    let config = setup.config();
    keyward_ok(&["keyring", "rotate", "charts", "--trigger", "personnel", "--config", &config]);
    store(&setup)
        .execute("UPDATE partitions SET wrap = x'00' WHERE name = (SELECT min(name) FROM partitions)", [])
        .unwrap();
    let done = keyward(&["partition", "rewrap", "charts", "--trigger", "personnel", "--config", &config]);
    let (said, shown) = (String::from_utf8(done.stderr).unwrap(), String::from_utf8(done.stdout).unwrap());
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("1 partitions remain under an older version: their rows were edited in the store"), "{said}");
    assert_eq!(shown, "2 partitions were wrapped under the active version\n");
    let records = crate::requests::records(&setup);
    let moved = records.iter().find(|one| one["event"] == "key.rewrapped" && one["outcome"] == "done").unwrap();
    assert_eq!((&moved["facts"]["rewrapped"], &moved["facts"]["failed"]), (&json!("2"), &json!("1")), "{moved}");
}

#[test]
fn a_moving_that_nobody_asked_for_and_that_moves_nothing_is_recorded_as_failed() {
    let setup = Setup::new();
    setup.edit_config(|text| text + "\n[rotation]\ncheck = \"1s\"\n");
    let _serving = setup.serve();
    charts(&setup);
    assert_eq!(seal(&setup, "ada").0, 200);
    store(&setup).execute("UPDATE partitions SET wrap = x'00'", []).unwrap();
    let config = setup.config();
    keyward_ok(&["keyring", "rotate", "charts", "--trigger", "personnel", "--config", &config]);
    let ended = |one: &Value| one["event"] == "key.rewrapped" && one["outcome"] != "intent";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let record = loop {
        if let Some(record) = records(&setup).into_iter().find(ended) {
            break record;
        }
        assert!(std::time::Instant::now() < until, "nobody moves them");
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("key_damaged")), "{record}");
    assert_eq!((&record["facts"]["rewrapped"], &record["facts"]["failed"]), (&json!("0"), &json!("1")), "{record}");
}

#[test]
fn fifty_first_sealings_of_one_patient_make_one_partition() {
    let setup = Setup::new();
    let serving = setup.serve();
    charts(&setup);
    let sealed: Vec<Value> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(|| seal(&setup, "patient-new"))).collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .map(|(status, answer)| {
                assert_eq!(status, 200, "{answer}");
                answer["sealed"].clone()
            })
            .collect()
    });
    assert_eq!(rows(&setup), 1);
    for value in &sealed {
        assert_eq!(open(&setup, "patient-new", value).0, 200);
    }
    drop(serving);
    let _serving = setup.serve();
    for value in sealed.iter().take(5) {
        assert_eq!(open(&setup, "patient-new", value).0, 200);
    }
}

#[test]
fn a_batch_of_many_new_patients_is_one_transaction_for_each_five_hundred() {
    let setup = Setup::new();
    let _serving = setup.serve();
    charts(&setup);
    let items: Vec<Value> =
        (0..1_000).map(|n| json!({ "context": { "patient": format!("p{n}"), "path": "x" }, "text": "x" })).collect();
    let (status, answer) = post(&setup.data(), SEAL, &json!({ "items": items }).to_string());
    assert_eq!(status, 200, "{answer}");
    assert!(answer["items"].as_array().unwrap().iter().all(|item| item["sealed"].is_string()));
    assert_eq!(rows(&setup), 1_000);
    let made = records(&setup).iter().filter(|record| record["event"] == "partition.created").count();
    assert_eq!(made, 4, "an intent and an outcome for each of two");
}

#[test]
fn more_new_partitions_than_a_principal_may_bring_about_are_refused_and_none_of_them_is_made() {
    let setup = Setup::new();
    let _serving = setup.serve();
    charts(&setup);
    for batch in 0..20 {
        let items: Vec<Value> = (0..1_000)
            .map(|n| json!({ "context": { "patient": format!("p{batch}-{n}"), "path": "x" }, "text": "x" }))
            .collect();
        let (status, answer) = post(&setup.data(), SEAL, &json!({ "items": items }).to_string());
        if status == 429 {
            assert_eq!(answer["code"], "rate_limited");
            assert!(batch >= 9, "{batch} thousand were allowed");
            assert_eq!(rows(&setup), batch * 1_000);
            assert_eq!(seal(&setup, "p0-0").0, 200, "what exists is not limited");
            return;
        }
        assert_eq!(status, 200, "{answer}");
    }
    panic!("nothing limits the number of new partitions");
}

#[test]
fn a_partition_key_must_be_required_and_a_shredding_needs_a_keyring_with_partitions() {
    let setup = Setup::new();
    let _serving = setup.serve();
    let refused = keyward(&["keyring", "create", "x", "--partition", "patient", "--config", &setup.config()]);
    assert_eq!(refused.status.code(), Some(65), "{}", String::from_utf8_lossy(&refused.stderr));
    setup.keyring();
    let control = |path: &str, body: &str| post(&setup.control(), path, body);
    let shred = json!({ "value": "p", "reason": "policy" }).to_string();
    assert_eq!(control("/v1/keyrings/patients/partitions/shred", &shred).1["code"], "malformed_request");
    assert_eq!(control("/v1/keyrings/nowhere/partitions/shred", &shred).1["code"], "denied");
    for bad in
        ["{}", r#"{"value":"p"}"#, r#"{"value":"p","reason":"created"}"#, r#"{"value":"p","reason":"policy","x":"y"}"#]
    {
        assert_eq!(control("/v1/keyrings/patients/partitions/shred", bad).1["code"], "malformed_request", "{bad}");
    }
    assert_eq!(post(&setup.data(), "/v1/keyrings/patients/partitions/shred", &shred).0, 404);
}
