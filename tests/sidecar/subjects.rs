//! What does the log have about one patient? Who may ask is told, everybody else is refused, and the question is in the log
//! under the same pseudonym as the answers.

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, keyward, keyward_ok, post};

fn lookup(setup: &Setup, subject: &str) -> Vec<Value> {
    let words = ["audit", "lookup", "--json", "--subject", subject, "--config", &setup.config()];
    keyward_ok(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_question_about_a_subject_is_answered_from_the_log_and_is_itself_recorded_about_that_subject() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let context = |number: u32| json!({ "resource": format!("Patient/{number}"), "path": "name" });
    let seal = |number: u32| {
        let body = json!({ "context": context(number), "text": "Ada" }).to_string();
        post(&setup.data(), "/v1/keyrings/patients/seal", &body).1["sealed"].clone()
    };
    let open = |sealed: &Value, number: u32| {
        let body = json!({ "sealed": sealed, "context": context(number), "purpose": "TREAT" }).to_string();
        post(&setup.data(), "/v1/open", &body).0
    };
    let (first, second) = (seal(1), seal(2));
    assert_eq!((open(&first, 1), open(&second, 2), open(&first, 1)), (200, 200, 200));
    let found = lookup(&setup, "Patient/1");
    let events: Vec<&str> = found.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["data.sealed", "data.opened", "data.opened"]);
    let asked = records(&setup).into_iter().find(|one| one["event"] == "audit.looked_up").unwrap();
    assert_eq!(asked["subjects"], found[0]["subjects"], "{asked}");
    assert_eq!((asked["actor"]["name"].as_str(), asked["outcome"].as_str()), (Some("operator"), Some("done")));
    // The second time the first question is among the answers.
    let events: Vec<Value> = lookup(&setup, "Patient/1").iter().map(|record| record["event"].clone()).collect();
    assert_eq!(events.last(), Some(&json!("audit.looked_up")), "{events:?}");
    assert!(lookup(&setup, "Patient/3").is_empty());
    let other =
        keyward_ok(&["audit", "lookup", "--subject", "Patient/1", "--tenant", "clinic", "--config", &setup.config()]);
    assert!(other.contains("0 records name the subject"), "another tenant has other pseudonyms: {other}");
    assert!(!setup.log_bytes().windows(9).any(|window| window == b"Patient/1"), "the name itself is nowhere");

    for (body, code) in [
        (json!({}), "malformed_request"),
        (json!({ "subject": "" }), "malformed_request"),
        (json!({ "subject": "x", "tenant": "A B" }), "malformed_request"),
        (json!({ "subject": "x", "since": 1 }), "malformed_request"),
    ] {
        let (status, answer) = post(&setup.control(), "/v1/audit/lookup", &body.to_string());
        assert_eq!((status, answer["code"].as_str()), (400, Some(code)), "{body}: {answer}");
    }
    let (status, _) = post(&setup.data(), "/v1/audit/lookup", &json!({ "subject": "Patient/1" }).to_string());
    assert_eq!(status, 404, "a service reaches it nowhere");
    assert_eq!(serving.stop(), Some(0));

    // Nobody may by default.
    let policies = setup.root().join("policies/development.cedar");
    let text = std::fs::read_to_string(&policies).unwrap();
    std::fs::write(&policies, text.replace(",\n      Action::\"auditLookup\"", "")).unwrap();
    let serving = setup.serve();
    let denied = keyward(&["audit", "lookup", "--subject", "Patient/1", "--config", &setup.config()]);
    assert_eq!(denied.status.code(), Some(77), "{}", String::from_utf8_lossy(&denied.stderr));
    let asked =
        records(&setup).into_iter().rfind(|one| one["event"] == "data.denied" || one["outcome"] == "denied").unwrap();
    assert_eq!(asked["outcome"], "denied", "{asked}");
    assert_eq!(serving.stop(), Some(0));
}
