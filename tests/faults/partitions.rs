//! The real sidecar killed while it makes and shreds partitions: what it acknowledged is there, what it certified is gone,
//! and the sum over all rows is right at every start.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Caller, Setup, keyward, keyward_ok};

/// Kills of a usual run.
const ROUNDS: u64 = 12;
const CLIENTS: usize = 4;

/// What one client was told.
#[derive(Default)]
struct Told {
    /// Patients with a value of each.
    sealed: Vec<(String, Value)>,
    /// Of those, the ones whose shredding was certified.
    shredded: Vec<(String, Value)>,
    /// The last one asked for, whose answer never came.
    unknown: Option<(String, Value)>,
}

#[test]
fn a_kill_while_partitions_are_made_and_shredded_leaves_what_was_acknowledged_and_nothing_else() {
    let setup = Setup::new();
    let mut serving = setup.serve();
    keyward_ok(&[
        "keyring",
        "create",
        "charts",
        "--require",
        "patient",
        "--partition",
        "patient",
        "--config",
        &setup.config(),
    ]);
    let (mut made, mut gone) = (0, 0);
    for round in 0..ROUNDS {
        let told: Vec<Told> = std::thread::scope(|scope| {
            let setup = &setup;
            let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || load(setup, round, client))).collect();
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 230));
            serving.kill();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        // Ready means admitted: every row was read, and the sums are right.
        serving = setup.serve();
        let mut data = Caller::connect(&setup.data()).unwrap();
        for Told { sealed, shredded, unknown } in &told {
            for (patient, value) in sealed {
                assert_eq!(open(&mut data, patient, value), (200, json!({ "text": patient })), "round {round}");
            }
            for (patient, value) in shredded {
                assert_eq!(open(&mut data, patient, value).1["code"], "key_state", "round {round}: {patient}");
            }
            if let Some((patient, value)) = unknown {
                let (status, answer) = open(&mut data, patient, value);
                assert!(status == 200 || answer["code"] == "key_state", "round {round}: {answer}");
            }
            (made, gone) = (made + sealed.len(), gone + shredded.len());
        }
        let verified = keyward(&["audit", "verify", &setup.log()]);
        assert!(verified.status.success(), "round {round}: {}", String::from_utf8_lossy(&verified.stderr));
    }
    assert_eq!(serving.stop(), Some(0));
    println!("{ROUNDS} kills, {made} patients sealed for, {gone} shredded");
    assert!(made > 20 && gone > 5, "there was no load: {made} made, {gone} shredded");
}

/// Seals for one new patient after the other, and shreds every third, until the sidecar is gone.
fn load(setup: &Setup, round: u64, client: usize) -> Told {
    let mut told = Told::default();
    let (Ok(mut data), Ok(mut control)) = (Caller::connect(&setup.data()), Caller::connect(&setup.control())) else {
        return told;
    };
    for number in 0.. {
        let patient = format!("patient-{round}-{client}-{number}");
        let body = json!({ "context": { "patient": patient }, "text": patient }).to_string();
        let Some(answer) = answered(data.ask("POST", "/v1/keyrings/charts/seal", &patient, &body)) else { break };
        let value = answer["sealed"].clone();
        if number % 3 != 0 {
            told.sealed.push((patient, value));
            continue;
        }
        let body = json!({ "value": patient, "reason": "policy" }).to_string();
        let name = format!("{patient}-shred");
        match answered(control.ask("POST", "/v1/keyrings/charts/partitions/shred", &name, &body)) {
            Some(certificate) => {
                assert_eq!(certificate["shredded_before"], false);
                told.shredded.push((patient, value));
            }
            None => {
                told.unknown = Some((patient, value));
                break;
            }
        }
    }
    told
}

fn open(data: &mut Caller, patient: &str, value: &Value) -> (u16, Value) {
    let body = json!({ "sealed": value, "context": { "patient": patient }, "purpose": "TREAT" }).to_string();
    loop {
        let answer = data.ask("POST", "/v1/open", &format!("{patient}-open"), &body).unwrap();
        if answer.1["code"] != "rate_limited" {
            return answer;
        }
        // So many refusals a second are recorded one by one; the others wait.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A whole answer, nothing if the sidecar went away; any other answer than yes is a failure.
fn answered(answer: std::io::Result<(u16, Value)>) -> Option<Value> {
    match answer {
        Ok((200, answer)) => Some(answer),
        Ok((status, problem)) => panic!("{status} {problem}"),
        Err(gone) => {
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&gone.kind()), "{gone}");
            None
        }
    }
}
