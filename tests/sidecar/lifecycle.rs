//! Starting, stopping, hanging up, being late.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::requests::records;
use crate::support::{KEYWARD, Setup, http, keyward, keyward_ok, parse_http, post};

const SEAL: &str = "/v1/keyrings/patients/seal";

fn seal_body() -> String {
    json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string()
}

fn head(length: usize, extra: &str) -> String {
    format!(
        "POST {SEAL} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{extra}content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[test]
fn a_second_sidecar_on_one_state_directory_is_refused_and_the_first_serves_on() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let second = keyward(&["serve", "--config", &setup.config()]);
    assert_eq!(second.status.code(), Some(69));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("error:") && said.contains("hint:"), "{said}");
    assert_eq!(post(&setup.data(), SEAL, &seal_body()).0, 200);
}

#[test]
fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    serving.kill();
    assert!(setup.data().exists(), "a killed sidecar leaves its socket");
    let serving = setup.serve();
    assert_eq!(post(&setup.data(), SEAL, &seal_body()).0, 200);
    assert_eq!(serving.stop(), Some(0));
    assert!(!setup.data().exists(), "a stopped sidecar removes its socket");
    let _other = std::os::unix::net::UnixListener::bind(setup.data()).unwrap();
    let refused = keyward(&["serve", "--config", &setup.config()]);
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(setup.data().exists());
}

#[test]
fn values_open_after_a_restart_and_the_log_verifies() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let sealed = post(&setup.data(), SEAL, &seal_body()).1["sealed"].clone();
    assert_eq!(serving.stop(), Some(0));
    let verified = keyward_ok(&["audit", "verify", &setup.log()]);
    assert!(verified.contains("complete"), "{verified}");
    let _serving = setup.serve();
    let open = json!({ "sealed": sealed, "context": { "resource": "Patient/1", "path": "x" }, "purpose": "TREAT" });
    assert_eq!(post(&setup.data(), "/v1/open", &open.to_string()), (200, json!({ "text": "x" })));
}

#[test]
fn a_client_that_hangs_up_at_any_byte_leaves_a_sidecar_that_serves() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let body = seal_body();
    let request = format!("{}{body}", head(body.len(), ""));
    for cut in (0..=request.len()).step_by(7) {
        let mut stream = UnixStream::connect(setup.data()).unwrap();
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
    }
    let mut deaf = UnixStream::connect(setup.data()).unwrap();
    deaf.write_all(request.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(deaf);
    assert_eq!(post(&setup.data(), SEAL, &body).0, 200);
    // The request that was read whole was answered to nobody, and is in the log all the same.
    let sealed = records(&setup).iter().filter(|record| record["event"] == "data.sealed").count();
    assert!(sealed >= 2, "{sealed}");
}

#[test]
fn a_request_past_its_deadline_is_refused_and_recorded() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let mut stream = UnixStream::connect(setup.data()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The body never comes.
    stream.write_all(head(100, "x-request-timeout-ms: 50\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let (status, body) = parse_http(&answer);
    assert_eq!(status, 504, "{}", String::from_utf8_lossy(&body));
    assert!(records(&setup).iter().any(|record| record["reason"] == "deadline_exceeded"));
}

/// Seals until the sidecar is gone; how many were answered.
fn load(data: &std::path::Path) -> usize {
    let body = seal_body();
    let request = format!("{}{body}", head(body.len(), ""));
    let mut answered = 0;
    while let Ok(mut stream) = UnixStream::connect(data) {
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_err() || stream.read_to_end(&mut answer).is_err() {
            break;
        }
        match parse_http(&answer).0 {
            200 => answered += 1,
            _ => break,
        }
    }
    answered
}

#[test]
fn a_stop_answers_what_is_in_work_and_records_the_end() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let data = setup.data();
    let loaders: Vec<_> =
        (0..4).map(|_| (data.clone(), ())).map(|(data, ())| std::thread::spawn(move || load(&data))).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(serving.stop(), Some(0));
    let answered: usize = loaders.into_iter().map(|loader| loader.join().unwrap()).sum();
    let text = String::from_utf8_lossy(&setup.log_bytes()).into_owned();
    let sealed = text.matches("\"event\":\"data.sealed\"").count();
    assert!(answered > 0 && sealed >= answered, "{sealed} records for {answered} answers");
    assert!(text.contains("\"event\":\"sidecar.stopped\""));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
}

#[test]
fn without_an_init_the_start_is_refused_with_a_way_out() {
    let setup = Setup::new();
    std::fs::rename(setup.root().join("state"), setup.root().join("elsewhere")).unwrap();
    let refused = keyward(&["serve", "--config", &setup.config()]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keyward init"));
    assert!(!setup.root().join("state").exists(), "nothing is made as a side effect");
}

fn sql(setup: &Setup, statement: &str) {
    let done = Command::new("sqlite3").arg(setup.root().join("state/store.db")).arg(statement).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_store_of_a_newer_schema_is_refused_with_the_version_needed() {
    let setup = Setup::new();
    sql(&setup, "PRAGMA user_version = 999");
    let refused = keyward(&["serve", "--config", &setup.config()]);
    assert_eq!(refused.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("999"), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn a_database_edited_behind_its_back_unlocks_nothing_and_the_refusal_is_recorded() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    serving.stop();
    sql(&setup, "UPDATE keys SET state = 'deactivated' WHERE purpose = 'data'");
    let mut child = Command::new(KEYWARD).args(["serve", "--config", &setup.config()]).spawn().unwrap();
    let refused =
        |_| setup.control().exists() && records(&setup).iter().any(|record| record["event"] == "sidecar.refused");
    let waited = (0..200).any(|turn| {
        std::thread::sleep(Duration::from_millis(50));
        refused(turn)
    });
    let (status, problem) = post(&setup.data(), SEAL, &seal_body());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(waited, "no sidecar.refused in the log");
    assert_ne!(status, 200, "{problem}");
}

#[test]
fn a_store_that_is_set_back_to_an_older_copy_is_refused() {
    let setup = Setup::new();
    let database = setup.root().join("state/store.db");
    let old = std::fs::read(&database).unwrap();
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(serving.stop(), Some(0));
    for rest in ["store.db-wal", "store.db-shm"] {
        let _absent = std::fs::remove_file(setup.root().join("state").join(rest));
    }
    std::fs::write(&database, old).unwrap();
    let mut child = Command::new(KEYWARD).args(["serve", "--config", &setup.config()]).spawn().unwrap();
    let waited = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        setup.control().exists() && records(&setup).iter().any(|record| record["event"] == "sidecar.refused")
    });
    let again = keyward(&["keyring", "create", "patients", "--config", &setup.config()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(waited, "no sidecar.refused in the log");
    assert!(!again.status.success(), "a lost keyring must not be made anew under its name");
}

/// Nobody without rights may learn which keyrings and keys there are.
#[test]
fn unknown_and_forbidden_keyrings_and_keys_answer_alike() {
    let setup = Setup::new();
    let policy = setup.root().join("policies/development.cedar");
    let text = std::fs::read_to_string(&policy).unwrap();
    let narrowed = text.replace("Action::\"open\", ", "");
    assert_ne!(narrowed, text);
    std::fs::write(&policy, narrowed).unwrap();
    let _serving = setup.serve();
    setup.keyring();
    let sealed = post(&setup.data(), SEAL, &seal_body()).1["sealed"].as_str().unwrap().to_owned();
    let mut other = sealed.clone().into_bytes();
    other[8] = if other[8] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other).unwrap();
    let place = json!({ "resource": "Patient/1", "path": "x" });
    let one = |value: &str, purpose: Option<&str>| {
        let mut body = json!({ "sealed": value, "context": place });
        if let Some(purpose) = purpose {
            body["purpose"] = json!(purpose);
        }
        let (status, problem) = post(&setup.data(), "/v1/open", &body.to_string());
        (status, problem["code"].clone())
    };
    assert_eq!(one(&sealed, Some("TREAT")), (403, json!("denied")));
    assert_eq!(one(&sealed, Some("TREAT")), one(&other, Some("TREAT")));
    assert_eq!(one(&sealed, None), (400, json!("purpose_missing")));
    assert_eq!(one(&sealed, None), one(&other, None));
    let batch = |value: &str| {
        let body = json!({ "items": [{ "sealed": value }], "context": place, "purpose": "TREAT" });
        post(&setup.data(), "/v1/open", &body.to_string()).0
    };
    assert_eq!((batch(&sealed), batch(&other)), (403, 403));
    let denied =
        records(&setup).into_iter().rfind(|record| record["event"] == "data.denied" && !record["groups"].is_null());
    assert!(denied.is_some_and(|record| record["subjects"].is_array()), "the record says what was asked for");
}

#[test]
fn liveness_readiness_and_metrics_are_on_their_own_listener() {
    let setup = Setup::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    setup.edit_config(|text| text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    let _serving = setup.serve();
    setup.keyring();
    post(&setup.data(), SEAL, &seal_body());
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (status, body) = parse_http(&answer);
        (status, String::from_utf8(body).unwrap())
    };
    assert_eq!(get("/livez").0, 200);
    let ready = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        get("/readyz").0 == 200
    });
    let verbose = get("/readyz?verbose").1;
    assert!(ready && verbose.contains("audit") && verbose.contains("kek"), "{verbose}");
    let metrics = get("/metrics").1;
    assert!(metrics.contains("keyward_requests_total") && !metrics.contains("Patient/1"), "{metrics}");
    assert_eq!(http(&setup.data(), b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").0, 404);
}
