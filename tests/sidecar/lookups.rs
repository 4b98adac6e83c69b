//! Look-up keys as an operator leads them: what each verb does and refuses, what the log says, what a restart keeps.

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, keyward, keyward_ok, post};

/// `keyward keyring ...`: the exit code, the answer as JSON, and what it said.
fn keyring(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let config = setup.config();
    let done = keyward(&[&["keyring"], arguments, &["--json", "--config", &config]].concat());
    let answer = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (done.status.code(), answer, String::from_utf8(done.stderr).unwrap())
}

#[track_caller]
fn done(setup: &Setup, arguments: &[&str]) -> Value {
    let (code, answer, said) = keyring(setup, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    answer
}

#[track_caller]
fn refused(setup: &Setup, arguments: &[&str], code: &str, detail: &str) {
    let (exit, _, said) = keyring(setup, arguments);
    let because = said.contains(&format!("({code})")) && said.contains(detail);
    assert!(exit == Some(65) && because, "{arguments:?}: {exit:?} {said}");
}

/// Number, state and role of each version of the first look-up key.
fn versions(answer: &Value) -> Vec<(u64, String, Value)> {
    let versions = answer["lookups"][0]["versions"].as_array().unwrap();
    let told = |version: &Value| {
        let state = version["state"].as_str().unwrap().to_owned();
        (version["number"].as_u64().unwrap(), state, version["role"].clone())
    };
    versions.iter().map(told).collect()
}

fn version(number: u64, state: &str, role: Option<&str>) -> (u64, String, Value) {
    (number, state.to_owned(), json!(role))
}

/// The newest outcome of an event, whose intent is there.
fn outcome(setup: &Setup, event: &str) -> Value {
    let all = records(setup);
    let newest = all.iter().rev().find(|record| record["event"] == event && record["outcome"] != "intent");
    let newest = newest.unwrap_or_else(|| panic!("no {event}")).clone();
    let intent = all.iter().find(|record| record["index"] == newest["intent"]).unwrap();
    assert!(intent["facts"]["authority"] == "founding" && intent["event"] == event, "{intent}");
    newest
}

const LOOKUP: [&str; 2] = ["patients", "index/mrn"];

#[test]
fn a_look_up_key_is_made_rotated_and_retired_and_the_rotation_of_its_keyring_leaves_it_alone() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let made = done(&setup, &["lookup", "create", LOOKUP[0], LOOKUP[1]]);
    let one = vec![version(1, "active", Some("current"))];
    assert_eq!(versions(&made), one);
    let created = outcome(&setup, "lookup.created");
    assert_eq!((&created["outcome"], &created["facts"]["lookup"]), (&json!("done"), &json!("index/mrn")));
    assert_eq!(created["facts"]["lookup_version"], "index/mrn v1");
    let id = made["lookups"][0]["versions"][0]["id"].clone();
    assert_eq!(created["groups"][0]["version"], id);

    let rotated = done(&setup, &["rotate", "patients", "--trigger", "personnel"]);
    assert_eq!((versions(&rotated), &rotated["lookups"]), (one, &made["lookups"]), "as it was, to the last field");
    done(&setup, &["lookup", "rotate", LOOKUP[0], LOOKUP[1], "--trigger", "personnel", "--expect", "1"]);
    let both = vec![version(1, "active", Some("previous")), version(2, "active", Some("current"))];
    assert_eq!(versions(&done(&setup, &["lookup", "list", "patients"])), both);
    let facts = outcome(&setup, "lookup.rotated")["facts"].clone();
    assert_eq!((&facts["trigger"], &facts["lookup_version"]), (&json!("personnel"), &json!("index/mrn v2")));
    assert_eq!(serving.stop(), Some(0));

    let serving = setup.serve();
    assert_eq!(versions(&done(&setup, &["show", "patients"])), both);
    let retired = done(&setup, &["lookup", "retire", LOOKUP[0], LOOKUP[1], "--reason", "retired"]);
    assert_eq!(versions(&retired), [version(1, "deactivated", None), version(2, "active", Some("current"))]);
    let facts = outcome(&setup, "key.deactivated")["facts"].clone();
    assert_eq!((&facts["key_version"], &facts["lookup_version"]), (&id, &json!("index/mrn v1")));
    let shown = keyward_ok(&["keyring", "lookup", "list", "patients", "--config", &setup.config()]);
    assert!(shown.contains("index/mrn") && shown.contains("current") && shown.contains("deactivated"), "{shown}");
    let csv = keyward_ok(&["keyring", "inventory", "--csv", "--config", &setup.config()]);
    assert_eq!(csv.lines().count(), 5, "a header, two data keys, two versions of the look-up key: {csv}");
    assert!(csv.contains(",index/mrn v1,,") && csv.contains(",index/mrn v2,current,"), "{csv}");
    let inventory = done(&setup, &["inventory"]);
    let current = &inventory["keyrings"][0]["lookups"][0]["versions"][1];
    assert!(current["days_left"] == 364 && current["messages"] == 0, "{current}");
    let table = keyward_ok(&["keyring", "inventory", "--config", &setup.config()]);
    assert!(table.contains("index/mrn v2"), "{table}");
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}

#[test]
fn what_a_look_up_key_must_not_do_is_refused_with_what_would_be_needed_and_recorded() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let rotate = ["lookup", "rotate", LOOKUP[0], LOOKUP[1], "--trigger", "usage"];
    let retire = ["lookup", "retire", LOOKUP[0], LOOKUP[1], "--reason", "retired"];
    refused(&setup, &rotate, "no_such_key", "has no look-up key index/mrn: create it");
    refused(&setup, &retire, "no_such_key", "has no look-up key index/mrn");
    let made = done(&setup, &["lookup", "create", LOOKUP[0], LOOKUP[1]]);
    let first = made["lookups"][0]["versions"][0]["id"].as_str().unwrap().to_owned();
    refused(&setup, &["lookup", "create", LOOKUP[0], LOOKUP[1]], "conflict", "has a look-up key index/mrn: rotate it");
    refused(&setup, &["lookup", "create", "staff", "index/mrn"], "no_such_key", "there is no keyring default/staff");
    for bad in ["mrn", "data/mrn", "index/", "index/A", "index/a/b"] {
        refused(&setup, &["lookup", "create", "patients", bad], "malformed_request", "deterministic/NAME, index/NAME");
    }
    refused(&setup, &retire, "key_state", "no version beside the newest");
    let newest = "without it nothing could be written: rotate the look-up key";
    refused(&setup, &[&retire[..], &["--number", "1"]].concat(), "key_state", newest);
    refused(&setup, &[&retire[..], &["--number", "7"]].concat(), "key_state", "has no version 7");
    refused(&setup, &["deactivate", "patients", &first, "--reason", "retired"], "key_state", newest);
    assert_eq!(outcome(&setup, "key.deactivated")["reason"], "key_state");
    let destroy = ["--reason", "retired", "--after", "7d", "--statement", "nothing is looked up"];
    refused(&setup, &[&["destroy", "patients", &first], &destroy[..]].concat(), "key_state", "the version is active");
    refused(&setup, &[&rotate[..], &["--expect", "2"]].concat(), "conflict", "is 1, not 2");
    done(&setup, &rotate);
    refused(&setup, &rotate, "key_state", "retire version 1 first");
    let (was, is) = (outcome(&setup, "lookup.rotated"), ("failed", "key_state"));
    assert_eq!((was["outcome"].as_str(), was["reason"].as_str()), (Some(is.0), Some(is.1)), "{was}");
    // The id of a look-up key seals and opens nothing: it is as unknown as any.
    let bad = ["{}", "[]", r#"{"keyring":"patients","lookup":"index/mrn","x":1}"#, r#"{"lookup":"index/mrn"}"#];
    for body in bad {
        assert_eq!(post(&setup.control(), "/v1/lookup-keys", body).0, 400, "{body}");
    }
    let body = json!({ "keyring": "patients", "lookup": "index/ssn" }).to_string();
    assert_eq!(post(&setup.data(), "/v1/lookup-keys", &body).0, 404, "not on the data listener");
    assert_eq!(post(&setup.control(), "/v1/lookup-keys", &body).0, 201);
}

#[test]
fn a_suspended_version_of_a_look_up_key_is_resumed_and_a_lost_one_is_replaced() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    done(&setup, &["lookup", "create", LOOKUP[0], LOOKUP[1]]);
    let rotate = ["lookup", "rotate", LOOKUP[0], LOOKUP[1], "--trigger", "incident"];
    let second = done(&setup, &rotate)["lookups"][0]["versions"][1]["id"].as_str().unwrap().to_owned();
    let suspended = done(&setup, &["suspend", "patients", &second, "--reason", "suspicion"]);
    assert_eq!(versions(&suspended), [version(1, "active", Some("previous")), version(2, "suspended", None)]);
    let resumed = done(&setup, &["resume", "patients", &second, "--reason", "cleared"]);
    assert_eq!(versions(&resumed)[1], version(2, "active", Some("current")));
    done(&setup, &["compromise", "patients", &second, "--reason", "disclosure"]);
    let third = done(&setup, &rotate);
    assert_eq!(versions(&third)[2], version(3, "active", Some("current")));
    let facts = outcome(&setup, "key.compromised")["facts"].clone();
    assert_eq!((&facts["lookup_version"], &facts["to_state"]), (&json!("index/mrn v2"), &json!("compromised")));
}
