//! What ends by itself: keys are rotated when they are used up, and a start says how long a revocation may take.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, post};

const SEAL: &str = "/v1/keyrings/patients/seal";

fn place() -> Value {
    json!({ "resource": "Patient/1", "path": "name" })
}

fn seal(setup: &Setup) -> String {
    let body = json!({ "context": place(), "text": "Ada" });
    let (status, sealed) = post(&setup.data(), SEAL, &body.to_string());
    assert_eq!(status, 200, "{sealed}");
    sealed["sealed"].as_str().unwrap().to_owned()
}

fn opens(setup: &Setup, sealed: &str) {
    let open = json!({ "sealed": sealed, "context": place(), "purpose": "TREAT" });
    assert_eq!(post(&setup.data(), "/v1/open", &open.to_string()), (200, json!({ "text": "Ada" })));
}

fn events(setup: &Setup, event: &str) -> Vec<Value> {
    records(setup).into_iter().filter(|record| record["event"] == event).collect()
}

/// Nobody asks for it, nobody waits for it, and what was sealed before opens after it.
#[test]
fn a_key_that_is_used_up_is_rotated_and_the_record_says_why() {
    let setup = Setup::new();
    setup.edit_config(|text| text + "\n[rotation]\nmessages = 40\ncheck = \"1s\"\n");
    let serving = setup.serve();
    setup.keyring();
    let old = seal(&setup);
    let until = Instant::now() + Duration::from_secs(60);
    while events(&setup, "key.rotated").len() < 2 {
        assert!(Instant::now() < until, "no rotation");
        seal(&setup);
    }
    let rotated = events(&setup, "key.rotated");
    let told: Vec<_> = rotated.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
    assert_eq!(told[..2], ["intent", "done"]);
    for record in &rotated[..2] {
        assert_eq!((&record["facts"]["trigger"], &record["facts"]["authority"]), (&json!("usage"), &json!("standing")));
        assert_eq!(record["actor"]["kind"], "sidecar", "{record}");
    }
    let new = seal(&setup);
    assert_ne!(old[..16], new[..16], "another version stands in the header");
    opens(&setup, &old);
    opens(&setup, &new);
    assert_eq!(serving.stop(), Some(0));
    let _serving = setup.serve();
    opens(&setup, &old);
    opens(&setup, &new);
}

#[test]
fn a_start_records_how_long_a_revocation_may_take() {
    let setup = Setup::new();
    setup.edit_config(|text| text + "\n[cache]\nttl = \"2m\"\noffline_max = \"3m\"\n");
    let _serving = setup.serve();
    let started = events(&setup, "sidecar.started");
    assert_eq!(started[0]["facts"]["revocation_seconds"], "310", "two and three minutes, and a request");
}
