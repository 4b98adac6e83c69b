//! The rotation of a key-encryption key as an operator leads it: made, rewrapped, proven complete, retired; and killed in
//! the middle.

use std::time::Duration;

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, keyward, keyward_ok, post};

fn kek(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let config = setup.config();
    let done = keyward(&[&["kek"], arguments, &["--json", "--config", &config]].concat());
    let answer = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (done.status.code(), answer, String::from_utf8(done.stderr).unwrap())
}

/// A value of each keyring, and what opens it.
fn sealed(setup: &Setup, keyrings: usize) -> Vec<String> {
    let seal = |number| {
        let name = format!("k{number:03}");
        keyward_ok(&["keyring", "create", &name, "--config", &setup.config()]);
        let body = json!({ "context": {}, "text": name }).to_string();
        let (status, answer) = post(&setup.data(), &format!("/v1/keyrings/{name}/seal"), &body);
        assert_eq!(status, 200, "{answer}");
        json!({ "sealed": answer["sealed"], "context": {}, "purpose": "TREAT" }).to_string()
    };
    (0..keyrings).map(seal).collect()
}

fn all_open(setup: &Setup, values: &[String]) {
    for (number, value) in values.iter().enumerate() {
        let (status, answer) = post(&setup.data(), "/v1/open", value);
        assert_eq!((status, &answer["text"]), (200, &json!(format!("k{number:03}"))), "{answer}");
    }
}

#[test]
fn a_rotated_key_takes_over_every_key_and_its_old_version_is_retired_only_then() {
    let setup = Setup::new();
    let serving = setup.serve();
    let values = sealed(&setup, 5);
    keyward_ok(&["kek", "rotate", "--to", "2", "--config", &setup.config()]);
    let (code, dry, said) = kek(&setup, &["rewrap", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&dry["keys"], &dry["behind"], &dry["complete"]), (&json!(7), &json!(7), &json!(false)));
    let (code, _, said) = kek(&setup, &["retire", "--kek", "primary", "--key-version", "1", "--reason", "retired"]);
    assert!(code != Some(0) && said.contains("in_use") && said.contains("7 keys are wrapped by primary v1"), "{said}");
    let (code, report, said) = kek(&setup, &["rewrap", "--trigger", "personnel"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["wraps"], json!([{ "kek": "primary", "version": 2, "keys": 7 }]));
    assert_eq!((&report["rewrapped"], &report["behind"], &report["complete"]), (&json!(7), &json!(0), &json!(true)));
    all_open(&setup, &values);
    let (code, _, said) = kek(&setup, &["retire", "--kek", "primary", "--key-version", "1", "--reason", "retired"]);
    assert_eq!(code, Some(0), "{said}");
    for (version, why) in [("2", "first `keyward kek rotate --kek primary`"), ("7", "only older ones can be retired")] {
        let (code, _, said) =
            kek(&setup, &["retire", "--kek", "primary", "--key-version", version, "--reason", "retired"]);
        assert_eq!(code, Some(65), "{said}");
        assert!(said.contains("(in_use): primary wraps new keys by version 2") && said.contains(why), "{said}");
    }
    let told = |event: &str, outcome: &str| {
        let all = records(&setup);
        all.into_iter().rfind(|record| record["event"] == event && record["outcome"] == outcome).unwrap()
    };
    let (intent, done) = (told("key.rewrapped", "intent"), told("key.rewrapped", "done"));
    assert_eq!((&done["intent"], &done["facts"]["rewrapped"]), (&intent["index"], &json!("7")));
    assert_eq!((&intent["facts"]["trigger"], &done["facts"]["trigger"]), (&json!("personnel"), &json!("personnel")));
    let retired = told("kek.retired", "done");
    assert_eq!(
        (&retired["facts"]["kek_key_version"], &retired["facts"]["key_reason"]),
        (&json!("1"), &json!("retired"))
    );
    told("kek.retired", "failed");
    assert_eq!(serving.stop(), Some(0));
    let serving = setup.serve();
    all_open(&setup, &values);
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}

/// Crash states: before the intent, between pages, in a transaction, before the outcome.
#[test]
fn a_kill_in_the_middle_of_a_rewrapping_loses_no_key_and_the_next_run_does_the_rest() {
    let setup = Setup::new();
    let mut serving = setup.serve();
    let values = sealed(&setup, 40);
    for (version, wait) in (2..).zip([0, 2, 5, 9, 14, 20, 30, 45]) {
        keyward_ok(&["kek", "rotate", "--to", &version.to_string(), "--config", &setup.config()]);
        std::thread::scope(|scope| {
            let control = setup.control();
            let asked = scope.spawn(move || {
                std::panic::catch_unwind(|| post(&control, "/v1/keys/rewrap", r#"{"trigger":"schedule"}"#))
            });
            std::thread::sleep(Duration::from_millis(wait));
            serving.kill();
            // Answered or not: whatever was answered is checked below like the rest.
            let _answer = asked.join();
        });
        serving = setup.serve();
        all_open(&setup, &values);
    }
    let (code, report, said) = kek(&setup, &["rewrap", "--trigger", "personnel"]);
    assert_eq!((code, &report["complete"], &report["keys"]), (Some(0), &json!(true), &json!(42)), "{said}");
    all_open(&setup, &values);
    assert_eq!(serving.stop(), Some(0));
    keyward_ok(&["audit", "verify", &setup.log()]);
}
