//! What a sidecar does by itself for the life of keys, what it shows of it, and what policy may except.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Caller, Setup, keyward_ok, post};

fn command(setup: &Setup, arguments: &[&str]) -> Value {
    let config = setup.config();
    serde_json::from_str(&keyward_ok(&[arguments, &["--json", "--config", &config]].concat())).unwrap()
}

fn get(setup: &Setup, path: &str) -> (u16, Value) {
    Caller::connect(&setup.control()).unwrap().ask("GET", path, "reads", "").unwrap()
}

#[test]
fn partitions_follow_a_rotation_without_a_person_and_the_records_say_why() {
    let setup = Setup::new();
    setup.edit_config(|text| text + "\n[rotation]\ncheck = \"1s\"\n");
    let serving = setup.serve();
    let config = setup.config();
    keyward_ok(&["keyring", "create", "charts", "--require", "patient", "--partition", "patient", "--config", &config]);
    let body = |patient: &str| json!({ "context": { "patient": patient }, "text": patient }).to_string();
    let seal = |patient: &str| post(&setup.data(), "/v1/keyrings/charts/seal", &body(patient)).1["sealed"].clone();
    let values: Vec<(&str, Value)> =
        ["ada", "bob", "eve"].into_iter().map(|patient| (patient, seal(patient))).collect();
    keyward_ok(&["keyring", "rotate", "charts", "--trigger", "personnel", "--config", &config]);
    let moved = || {
        let all = records(&setup);
        all.into_iter().find(|record| record["event"] == "key.rewrapped" && record["outcome"] == "done")
    };
    let until = Instant::now() + Duration::from_secs(120);
    let done = loop {
        match moved() {
            Some(done) => break done,
            None => assert!(Instant::now() < until, "nothing was moved"),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let facts = &done["facts"];
    assert_eq!((&facts["rewrapped"], &facts["remaining"]), (&json!("3"), &json!("0")), "{done}");
    assert_eq!((&facts["authority"], &facts["trigger"]), (&json!("standing"), &json!("personnel")), "{done}");
    assert_eq!((&done["actor"]["kind"], &done["groups"][0]["keyring"]), (&json!("sidecar"), &json!("default/charts")));
    for (patient, sealed) in &values {
        let open = json!({ "sealed": sealed, "context": { "patient": patient }, "purpose": "TREAT" });
        assert_eq!(post(&setup.data(), "/v1/open", &open.to_string()), (200, json!({ "text": patient })));
    }
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}

#[test]
fn policy_opens_what_is_suspended_or_compromised_only_where_it_says_so_and_the_record_tells() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let context = json!({ "resource": "Patient/1", "path": "name" });
    let body = json!({ "context": context, "text": "Ada" }).to_string();
    let sealed = post(&setup.data(), "/v1/keyrings/patients/seal", &body).1["sealed"].clone();
    let open = |setup: &Setup| {
        let body = json!({ "sealed": sealed, "context": context, "purpose": "TREAT" });
        post(&setup.data(), "/v1/open", &body.to_string())
    };
    let id = command(&setup, &["keyring", "show", "patients"])["versions"][0]["id"].as_str().unwrap().to_owned();
    let answer = command(&setup, &["keyring", "suspend", "patients", &id, "--reason", "suspicion"]);
    assert_eq!((&answer["other_sidecars"], &answer["not_followed"]), (&json!(0), &json!([])), "{answer}");
    let (status, refused) = open(&setup);
    assert_eq!((status, &refused["code"]), (409, &json!("key_state")), "no policy says so");
    assert_eq!(serving.stop(), Some(0));
    let file = setup.root().join("policies/development.cedar");
    let text = std::fs::read_to_string(&file).unwrap();
    let rule = "permit (principal == Service::\"demo\", action == Action::\"openSuspended\", resource in Tenant::\"default\");";
    std::fs::write(&file, format!("{text}\n{rule}\n")).unwrap();
    let serving = setup.serve();
    assert_eq!(open(&setup), (200, json!({ "text": "Ada" })));
    let opened = records(&setup).into_iter().rfind(|record| record["event"] == "data.opened").unwrap();
    assert_eq!((&opened["outcome"], &opened["facts"]["key_state"]), (&json!("done"), &json!("suspended")), "{opened}");
    let (status, refused) = post(&setup.data(), "/v1/keyrings/patients/seal", &body);
    assert_eq!((status, &refused["code"]), (409, &json!("key_state")), "nothing seals under it");
    command(&setup, &["keyring", "compromise", "patients", &id, "--reason", "disclosure"]);
    let (status, refused) = open(&setup);
    assert_eq!((status, &refused["code"]), (409, &json!("key_state")), "the rule is for another state");
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}

#[test]
fn what_comes_due_is_shown_where_an_operator_looks() {
    let setup = Setup::new();
    let serving = setup.serve();
    for name in ["a", "b", "c"] {
        keyward_ok(&["keyring", "create", name, "--config", &setup.config()]);
    }
    let inventory = command(&setup, &["keyring", "inventory"]);
    let kek = &inventory["keks"][0];
    assert_eq!((&kek["kek"], &kek["version"], &kek["wraps"]), (&json!("primary"), &json!(1), &json!(true)));
    assert_eq!((&kek["days_left"], &kek["period"]), (&json!(364), &json!("within")), "{kek}");
    let shown = keyward_ok(&["kek", "show", "--config", &setup.config()]);
    assert!(shown.contains("364 d of its cryptoperiod left"), "{shown}");
    let listed = command(&setup, &["keyring", "list"]);
    let first = &listed["keyrings"][0];
    let (next, due) = (first["next_rotation"].as_str().unwrap(), first["rotation_due"].as_str().unwrap());
    assert!(next < due, "{next} {due}");
    let (status, page) = get(&setup, "/v1/keyrings?limit=2");
    assert_eq!((status, page["keyrings"].as_array().unwrap().len(), &page["next"]), (200, 2, &json!("default/b")));
    let (_, rest) = get(&setup, "/v1/keyrings?after=default/b&limit=2");
    assert_eq!((&rest["keyrings"][0]["name"], rest.get("next")), (&json!("default/c"), None));
    let (status, all) = get(&setup, "/v1/sidecars");
    assert_eq!((status, &all["other_sidecars"], &all["not_followed"]), (200, &json!(0), &json!([])), "{all}");
    let change = all["change"].as_u64().unwrap();
    assert_eq!(get(&setup, &format!("/v1/sidecars?change={}", change + 1)).0, 400);
    assert_eq!(serving.stop(), Some(0));
}
