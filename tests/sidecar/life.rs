//! The life of keys as an operator leads it: each verb of the command line, what it refuses, what the log says of both,
//! and what a restart keeps.

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Caller, Setup, keyward, post};

const SEAL: &str = "/v1/keyrings/patients/seal";

fn context() -> Value {
    json!({ "resource": "Patient/1", "path": "name" })
}

fn seal(setup: &Setup) -> (u16, Value) {
    post(&setup.data(), SEAL, &json!({ "context": context(), "text": "Ada" }).to_string())
}

fn open(setup: &Setup, sealed: &Value) -> (u16, Value) {
    let body = json!({ "sealed": sealed, "context": context(), "purpose": "TREAT" });
    post(&setup.data(), "/v1/open", &body.to_string())
}

/// `keyward keyring VERB patients ...`: the exit code, the answer as JSON, and what it said.
fn keyring(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let config = setup.config();
    let done = keyward(&[&["keyring"], arguments, &["--json", "--config", &config]].concat());
    let answer = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (done.status.code(), answer, String::from_utf8(done.stderr).unwrap())
}

fn done(setup: &Setup, arguments: &[&str]) -> Value {
    let (code, answer, said) = keyring(setup, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    answer
}

/// The id of the one version in a state.
fn in_state(answer: &Value, state: &str) -> String {
    let versions = answer["versions"].as_array().unwrap();
    let mut found = versions.iter().filter(|version| version["state"] == state);
    let id = found.next().unwrap_or_else(|| panic!("no {state} version in {answer}"))["id"].as_str().unwrap();
    assert!(found.next().is_none(), "{answer}");
    id.to_owned()
}

/// The intent and the outcome of the newest change of this kind.
fn change(setup: &Setup, event: &str) -> (Value, Value) {
    let records = records(setup);
    let newest = |outcome: &dyn Fn(&Value) -> bool| {
        let of = records.iter().rev().find(|record| record["event"] == event && outcome(&record["outcome"]));
        of.unwrap_or_else(|| panic!("no {event}")).clone()
    };
    let (intent, outcome) = (newest(&|outcome| outcome == "intent"), newest(&|outcome| outcome != "intent"));
    assert_eq!(outcome["intent"], intent["index"], "{outcome}");
    assert!(intent["facts"]["authority"] == "founding" && intent["actor"]["name"] == "operator", "{intent}");
    (intent, outcome)
}

#[test]
fn a_rotation_keeps_every_value_open_and_says_why_it_was_made() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let old = seal(&setup).1["sealed"].clone();
    let rotated = done(&setup, &["rotate", "patients", "--trigger", "personnel"]);
    let (first, second) = (in_state(&rotated, "deactivated"), in_state(&rotated, "active"));
    let new = seal(&setup).1["sealed"].clone();
    let (_, outcome) = change(&setup, "key.rotated");
    assert_eq!(outcome["outcome"], "done");
    assert_eq!(outcome["facts"]["trigger"], "personnel");
    assert_eq!(outcome["facts"]["retired_version"], first.as_str());
    assert_eq!(outcome["groups"][0]["version"], second.as_str());
    assert_eq!(serving.stop(), Some(0));
    let _serving = setup.serve();
    for sealed in [&old, &new] {
        assert_eq!(open(&setup, sealed), (200, json!({ "text": "Ada" })));
    }
    let shown = done(&setup, &["show", "patients"]);
    let version = |id: &str| shown["versions"].as_array().unwrap().iter().find(|v| v["id"] == id).unwrap().clone();
    assert_eq!((&version(&first)["reason"], &version(&first)["by"]), (&json!("personnel"), &json!("operator")));
    assert_eq!(version(&second)["expires"], shown["rotation_due"]);
    let (code, _, said) = keyring(&setup, &["rotate", "patients", "--trigger", "personnel", "--expect", &first]);
    assert!(code == Some(65) && said.contains("(conflict)") && said.contains(&second), "{said}");
    assert_eq!(change(&setup, "key.rotated").1["reason"], "conflict");
}

#[test]
fn a_suspended_key_serves_nobody_until_it_is_resumed_also_after_a_restart() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let sealed = seal(&setup).1["sealed"].clone();
    let id = in_state(&done(&setup, &["show", "patients"]), "active");
    done(&setup, &["suspend", "patients", &id, "--reason", "suspicion"]);
    let refused = || {
        for (status, problem) in [seal(&setup), open(&setup, &sealed)] {
            assert_eq!((status, problem["code"].as_str()), (409, Some("key_state")), "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(detail, "the key version is suspended: to seal or open, it must be resumed");
        }
    };
    refused();
    assert_eq!(serving.stop(), Some(0));
    let _serving = setup.serve();
    refused();
    let (_, outcome) = change(&setup, "key.suspended");
    let facts = &outcome["facts"];
    assert_eq!((&facts["from_state"], &facts["to_state"]), (&json!("active"), &json!("suspended")));
    assert_eq!((&facts["key_reason"], &facts["key_version"]), (&json!("suspicion"), &json!(id)));
    done(&setup, &["resume", "patients", &id, "--reason", "cleared"]);
    assert_eq!(open(&setup, &sealed), (200, json!({ "text": "Ada" })));
    assert_eq!(change(&setup, "key.resumed").1["facts"]["to_state"], "active");
}

#[test]
fn after_an_incident_sealing_goes_on_and_the_compromised_key_stays_closed() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let sealed = seal(&setup).1["sealed"].clone();
    let id = in_state(&done(&setup, &["show", "patients"]), "active");
    done(&setup, &["compromise", "patients", &id, "--reason", "disclosure"]);
    assert_eq!(seal(&setup).0, 409);
    done(&setup, &["rotate", "patients", "--trigger", "incident"]);
    let new = seal(&setup).1["sealed"].clone();
    assert_eq!(open(&setup, &new).0, 200);
    let (status, problem) = open(&setup, &sealed);
    assert_eq!((status, problem["code"].as_str()), (409, Some("key_state")), "{problem}");
    assert_eq!(change(&setup, "key.compromised").1["facts"]["to_state"], "compromised");
}

#[test]
fn every_forbidden_attempt_is_refused_with_what_would_be_needed_and_recorded() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let sealed = seal(&setup).1["sealed"].clone();
    let rotated = done(&setup, &["rotate", "patients", "--trigger", "schedule"]);
    let (old, active) = (in_state(&rotated, "deactivated"), in_state(&rotated, "active"));
    assert_eq!(open(&setup, &sealed).0, 200);
    let destroy = ["--reason", "retired", "--after", "7d", "--statement", "all values were rewrapped"];
    let with = |verb: &'static str, id: &str, rest: &[&str]| -> Vec<String> {
        [verb, "patients", id].into_iter().chain(rest.iter().copied()).map(str::to_owned).collect()
    };
    let cases = [
        (with("destroy", &active, &destroy), "key.destroy_scheduled", "key_state", "rotate the keyring or deactivate"),
        (with("resume", &active, &["--reason", "cleared"]), "key.resumed", "key_state", "it must be suspended"),
        (with("suspend", &old, &["--reason", "policy"]), "key.suspended", "key_state", "the version is deactivated"),
        (
            with("finish-destroy", &old, &[]),
            "key.destroyed",
            "key_state",
            "no destruction of this version is scheduled",
        ),
        (
            with("cancel-destroy", &old, &["--reason", "mistake"]),
            "key.destroy_cancelled",
            "key_state",
            "no destruction",
        ),
        (
            with("suspend", "0123456789abcdef", &["--reason", "policy"]),
            "key.suspended",
            "no_such_key",
            "the keyring has no version 0123456789abcdef",
        ),
    ];
    for (arguments, event, reason, detail) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, _, said) = keyring(&setup, &arguments);
        assert!(code == Some(65) && said.contains(&format!("({reason})")) && said.contains(detail), "{said}");
        let (_, outcome) = change(&setup, event);
        assert_eq!((&outcome["outcome"], &outcome["reason"]), (&json!("failed"), &json!(reason)), "{outcome}");
    }
    // The day of the opening is noted beside the request, within a second.
    let mut refused = String::new();
    for _ in 0..100 {
        let arguments = with("destroy", &old, &destroy);
        let (code, _, said) = keyring(&setup, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        if code == Some(65) {
            refused = said;
            break;
        }
        done(&setup, &["cancel-destroy", "patients", &old, "--reason", "mistake"]);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(refused.contains("(in_use)") && refused.contains("values were opened with the version on"), "{refused}");
    assert_eq!(change(&setup, "key.destroy_scheduled").1["reason"], "in_use");
}

#[test]
fn a_destruction_waits_is_withheld_and_cancelled_and_the_statement_leaves_its_digest() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let sealed = seal(&setup).1["sealed"].clone();
    let old = in_state(&done(&setup, &["rotate", "patients", "--trigger", "usage"]), "deactivated");
    let statement = "every value was rewrapped by the migration of May";
    // In a file, so that it is in no list of processes; an editor ends the line.
    let file = setup.root().join("statement").display().to_string();
    std::fs::write(&file, format!("{statement}\n")).unwrap();
    let destroy = |after: &'static str| {
        let arguments =
            ["destroy", "patients", &old, "--reason", "retired", "--after", after, "--statement-file", &file];
        keyring(&setup, &arguments)
    };
    for after in ["6d", "31d", "0d"] {
        let (code, _, said) = destroy(after);
        assert!(code == Some(65) && said.contains("(malformed_request)"), "{said}");
    }
    let (code, planned, said) = destroy("30d");
    assert_eq!(code, Some(0), "{said}");
    let version = planned["versions"].as_array().unwrap().iter().find(|version| version["id"] == *old).unwrap();
    assert!(version["destroy_at"].is_string() && version["state"] == "deactivated", "{version}");
    let (_, outcome) = change(&setup, "key.destroy_scheduled");
    assert!(outcome["facts"]["destroy_at"].is_string(), "{outcome}");
    let digest = outcome["facts"]["statement_digest"].as_str().unwrap();
    // `printf %s "..." | sha256sum`
    assert_eq!(digest, "3d7eea9fd9db78453b85534fe9e95c45898daac10b8a5f7aa8afefd8433a66a9", "{outcome}");
    assert!(!outcome.to_string().contains("migration"), "{outcome}");
    assert_eq!(serving.stop(), Some(0));
    let _serving = setup.serve();
    assert_eq!(open(&setup, &sealed).1["code"], "key_state");
    let (code, _, said) = keyring(&setup, &["finish-destroy", "patients", &old]);
    assert!(code == Some(65) && said.contains("(not_due)") && said.contains("of the wait are left"), "{said}");
    assert_eq!(change(&setup, "key.destroyed").1["reason"], "not_due");
    done(&setup, &["cancel-destroy", "patients", &old, "--reason", "mistake"]);
    assert_eq!(open(&setup, &sealed), (200, json!({ "text": "Ada" })));
}

#[test]
fn the_inventory_lists_every_version_page_by_page() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    done(&setup, &["create", "default/notes"]);
    assert_eq!(seal(&setup).0, 200);
    done(&setup, &["rotate", "patients", "--trigger", "usage"]);
    done(&setup, &["configure", "patients", "--cryptoperiod", "30d", "--messages", "1000"]);
    let (_, outcome) = change(&setup, "keyring.configured");
    assert_eq!(outcome["facts"]["limits"], "cryptoperiod=2592000s,messages=1000");
    let (code, inventory, said) = keyring(&setup, &["inventory"]);
    assert_eq!(code, Some(0), "{said}");
    let names: Vec<&str> =
        inventory["keyrings"].as_array().unwrap().iter().map(|k| k["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default/notes", "default/patients"]);
    let patients = &inventory["keyrings"][1];
    assert_eq!(patients["limits"], json!({ "cryptoperiod_days": 30, "messages": 1000 }));
    let old = patients["versions"].as_array().unwrap().iter().find(|v| v["state"] == "deactivated").unwrap();
    assert!(old["messages"].as_u64().unwrap() >= 1 && old.get("days_left").is_none(), "{old}");
    let active = patients["versions"].as_array().unwrap().iter().find(|v| v["state"] == "active").unwrap();
    assert_eq!(active["days_left"], 29, "{active}");
    let mut caller = Caller::connect(&setup.control()).unwrap();
    let (status, page) = caller.ask("GET", "/v1/inventory?limit=1", "one", "").unwrap();
    assert_eq!((status, &page["next"]), (200, &json!("default/notes")));
    let (_, page) = caller.ask("GET", "/v1/inventory?after=default/notes&limit=1", "two", "").unwrap();
    assert_eq!(page["keyrings"][0]["name"], "default/patients");
    let (_, page) = caller.ask("GET", "/v1/inventory?after=default/patients", "three", "").unwrap();
    assert_eq!(page, json!({ "keyrings": [] }));
    for bad in ["?limit=0", "?limit=1001", "?after=A/", "?after=a&after=b", "?x=1", "?limit"] {
        let (status, _) = caller.ask("GET", &format!("/v1/inventory{bad}"), "bad", "").unwrap();
        assert_eq!(status, 400, "{bad}");
    }
    let csv =
        String::from_utf8(keyward(&["keyring", "inventory", "--csv", "--config", &setup.config()]).stdout).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("keyring,version,suite,state,created,") && lines.len() == 4, "{csv}");
    assert!(lines[1].ends_with(",0,,") && lines[2].ends_with(",\"path, resource\""), "{csv}");
    let cells = |line: &str| line.replace("\"path, resource\"", "").matches(',').count();
    assert!(lines.iter().all(|line| cells(line) == cells(lines[0])), "{csv}");
}
