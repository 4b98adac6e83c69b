//! What callers ask for and get.

use serde_json::{Value, json};

use crate::support::{KEYWARD, Setup, keyward, keyward_ok, post};

const SEAL: &str = "/v1/keyrings/patients/seal";

fn place(path: &str) -> Value {
    json!({ "resource": "Patient/1", "path": path })
}

/// The newest records of the log, read through the control socket.
pub fn records(setup: &Setup) -> Vec<Value> {
    let text = keyward_ok(&["audit", "tail", "--json", "--lines", "1000", "--config", &setup.config()]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_sealed_value_opens_in_its_place_and_nowhere_else() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let (status, sealed) = post(&setup.data(), SEAL, &json!({ "context": place("name"), "text": "Ada" }).to_string());
    assert_eq!(status, 200, "{sealed}");
    let value = sealed["sealed"].as_str().unwrap();
    assert!(value.starts_with("kw1."));
    let open = |context: Value, value: &str| {
        post(&setup.data(), "/v1/open", &json!({ "sealed": value, "context": context, "purpose": "TREAT" }).to_string())
    };
    assert_eq!(open(place("name"), value), (200, json!({ "text": "Ada" })));
    for other in [place("birthDate"), json!({ "resource": "Patient/2", "path": "name" })] {
        let (status, problem) = open(other, value);
        assert_eq!((status, problem["code"].as_str()), (422, Some("cannot_open")), "{problem}");
    }
    let mut altered = value.to_owned().into_bytes();
    let at = altered.len() - 8;
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let (status, problem) = open(place("name"), std::str::from_utf8(&altered).unwrap());
    assert_eq!((status, problem["code"].as_str()), (422, Some("cannot_open")));
}

#[test]
fn one_bad_item_of_a_batch_fails_alone_and_in_its_place() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let items = json!({ "items": [
        { "context": place("a"), "text": "first" },
        { "context": { "resource": "Patient/1" }, "text": "no path" },
        { "context": place("c"), "bytes": "not base64!" },
        { "context": place("d"), "bytes": "AAEC" },
    ] });
    let (status, answer) = post(&setup.data(), SEAL, &items.to_string());
    assert_eq!(status, 200, "{answer}");
    let code = |index: usize| answer["items"][index]["error"]["code"].as_str();
    assert_eq!([code(0), code(1), code(2), code(3)], [None, Some("context_missing"), Some("malformed_item"), None]);
    let sealed = |index: usize| answer["items"][index]["sealed"].clone();
    let open = json!({ "purpose": "TREAT", "items": [
        { "sealed": sealed(3), "context": place("d"), "as": "bytes" },
        { "sealed": sealed(0), "context": place("b") },
        { "sealed": "kw1.AAAA", "context": place("a") },
        { "sealed": sealed(0), "context": place("a") },
    ] });
    let (status, answer) = post(&setup.data(), "/v1/open", &open.to_string());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["items"][0], json!({ "bytes": "AAEC" }));
    assert_eq!(answer["items"][1]["error"]["code"], "cannot_open");
    assert_eq!(answer["items"][2]["error"]["code"], "malformed_value");
    assert_eq!(answer["items"][3], json!({ "text": "first" }));
}

#[test]
fn every_request_has_one_record_without_any_plaintext_or_context_value() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let context = json!({ "resource": "Patient/canary-resource", "path": "canary-path" });
    let body = json!({ "context": context, "text": "canary-plaintext" }).to_string();
    let sealed = post(&setup.data(), SEAL, &body).1["sealed"].clone();
    post(&setup.data(), "/v1/open", &json!({ "sealed": sealed, "context": context, "purpose": "TREAT" }).to_string());
    post(&setup.data(), "/v1/open", &json!({ "sealed": sealed, "context": context }).to_string());
    let records = records(&setup);
    let of = |event: &str| records.iter().filter(|record| record["event"] == event).collect::<Vec<_>>();
    assert_eq!((of("data.sealed").len(), of("data.opened").len(), of("data.denied").len()), (1, 1, 1));
    assert_eq!(of("data.opened")[0]["purpose"], "TREAT");
    assert_eq!(of("data.opened")[0]["subjects"], of("data.sealed")[0]["subjects"], "one patient has one pseudonym");
    assert_eq!(of("data.denied")[0]["reason"], "purpose_missing");
    let everything = setup.log_bytes();
    let said = std::fs::read(setup.dir.path().join("stderr")).unwrap();
    for secret in ["canary-plaintext", "canary-resource", "canary-path", sealed.as_str().unwrap()] {
        let inside = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!inside(&everything), "{secret} is in the log");
        assert!(!inside(&said), "{secret} is in the output");
    }
}

#[test]
fn bytes_that_are_not_text_are_given_back_only_as_bytes() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let body = json!({ "context": place("x"), "bytes": "/w==" }).to_string();
    let sealed = post(&setup.data(), SEAL, &body).1["sealed"].clone();
    let open = |form: &str| {
        let body = json!({ "sealed": sealed, "context": place("x"), "purpose": "TREAT", "as": form });
        post(&setup.data(), "/v1/open", &body.to_string())
    };
    assert_eq!(open("bytes"), (200, json!({ "bytes": "/w==" })));
    let (status, problem) = open("text");
    assert_eq!((status, problem["code"].as_str()), (422, Some("not_text")));
}

#[test]
fn the_command_line_seals_and_opens_what_standard_input_gives() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let config = setup.config();
    let shared = ["--context", "resource=Patient/1", "--context", "path=photo", "--config", &config];
    let pipe = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new(KEYWARD);
        command.args(arguments).args(shared).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        done.stdout
    };
    let plaintext: Vec<u8> = (0..=255).collect();
    let sealed = pipe(&["seal", "--keyring", "patients"], &plaintext);
    assert_eq!(pipe(&["open", "--purpose", "TREAT"], &sealed), plaintext);
}

#[test]
fn a_keyring_is_made_once_with_intent_and_outcome_in_the_log() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let again = keyward(&["keyring", "create", "patients", "--config", &setup.config()]);
    assert_eq!(again.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&again.stderr).contains("keyring_exists"));
    let records = records(&setup);
    let created: Vec<&Value> = records.iter().filter(|record| record["event"] == "key.created").collect();
    let outcomes: Vec<&str> = created.iter().filter_map(|record| record["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["intent", "done", "failed"]);
    assert_eq!(created[1]["intent"], created[0]["index"]);
    let shown = keyward_ok(&["keyring", "show", "patients", "--json", "--config", &setup.config()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["versions"][0]["state"], "active");
    assert_eq!(shown["required_context"], json!(["path", "resource"]));
}

#[test]
fn data_verbs_are_not_served_on_the_control_socket_nor_control_verbs_on_the_data_socket() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let (status, _) = post(&setup.control(), SEAL, &json!({ "context": place("x"), "text": "x" }).to_string());
    assert!(status == 404 || status == 405, "{status}");
    let (status, _) = post(&setup.data(), "/v1/keyrings", &json!({ "name": "more" }).to_string());
    assert!(status == 404 || status == 405, "{status}");
}

#[test]
fn loopback_tcp_takes_a_token_and_refuses_browsers_and_foreign_hosts() {
    let setup = Setup::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let token = "k".repeat(43);
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    setup.edit_config(|text| {
        let listening = text.replace("[listen]", &format!("[listen]\ntcp = \"127.0.0.1:{port}\""));
        listening.replace("name = \"demo\"", &format!("name = \"demo\"\ntoken_sha256 = [\"{}\"]", hex::encode(hash)))
    });
    let _serving = setup.serve();
    setup.keyring();
    let body = json!({ "context": place("x"), "text": "x" }).to_string();
    let send = |host: &str, extra: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(
            stream,
            "POST {SEAL} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        crate::support::parse_http(&answer).0
    };
    let good = format!("authorization: Bearer {token}\r\n");
    let host = format!("127.0.0.1:{port}");
    assert_eq!(send(&host, &good), 200);
    assert_eq!(send(&host, ""), 401);
    assert_eq!(send(&host, &format!("authorization: Bearer {}\r\n", "x".repeat(43))), 401);
    assert_eq!(send("portal.example", &good), 403);
    assert_eq!(send(&host, &format!("{good}origin: http://127.0.0.1:{port}\r\n")), 403);
    let reasons: Vec<Value> = records(&setup).iter().map(|record| record["reason"].clone()).collect();
    assert!(reasons.contains(&json!("forbidden_origin")) && reasons.contains(&json!("unauthenticated")), "{reasons:?}");
}
