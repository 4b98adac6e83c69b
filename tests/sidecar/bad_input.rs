//! Bad input: a code, a record, no panic, nothing lost.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, http, post};

const SEAL: &str = "/v1/keyrings/patients/seal";
const PLACE: &str = r#""context":{"resource":"Patient/1","path":"x"}"#;

/// Path, body, status, code.
fn cases() -> Vec<(&'static str, String, u16, &'static str)> {
    let mut all = sealing();
    all.extend(opening());
    all
}

fn sealing() -> Vec<(&'static str, String, u16, &'static str)> {
    let many: Vec<Value> = (0..1001).map(|_| json!({ "text": "x" })).collect();
    let large = json!({ "context": {"resource": "a", "path": "b"}, "text": "x".repeat(2 << 20) });
    let deep = format!("{{{PLACE},\"text\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    vec![
        (SEAL, "{".into(), 400, "malformed_request"),
        (SEAL, "[]".into(), 400, "malformed_request"),
        (SEAL, String::new(), 400, "malformed_request"),
        (SEAL, deep, 400, "malformed_request"),
        (SEAL, format!("{{{PLACE},\"text\":\"x\"}} trailing"), 400, "malformed_request"),
        (SEAL, format!("{{{PLACE},\"text\":\"x\",\"surprise\":1}}"), 400, "malformed_request"),
        (SEAL, format!("{{{PLACE},\"text\":\"x\",\"text\":\"y\"}}"), 400, "malformed_request"),
        (SEAL, r#"{"context":{"resource":"a","resource":"a","path":"x"},"text":"x"}"#.into(), 400, "malformed_request"),
        (SEAL, format!("{{{PLACE},\"text\":7}}"), 400, "malformed_request"),
        (SEAL, format!("{{{PLACE}}}"), 400, "malformed_item"),
        (SEAL, format!("{{{PLACE},\"text\":\"x\",\"bytes\":\"AA==\"}}"), 400, "malformed_item"),
        (SEAL, format!("{{{PLACE},\"bytes\":\"A\"}}"), 400, "malformed_item"),
        (SEAL, format!("{{{PLACE},\"bytes\":\"AB==\"}}"), 400, "malformed_item"),
        (SEAL, r#"{"context":{"kw.keyring":"x","resource":"a","path":"x"},"text":"x"}"#.into(), 400, "invalid_context"),
        (SEAL, r#"{"context":{"":"x","resource":"a","path":"x"},"text":"x"}"#.into(), 400, "invalid_context"),
        (SEAL, r#"{"context":{"resource":"a"},"text":"x"}"#.into(), 400, "context_missing"),
        (SEAL, json!({ "items": many }).to_string(), 413, "too_many_items"),
        (SEAL, large.to_string(), 413, "too_large"),
        (SEAL, "x".repeat(9 << 20), 413, "too_large"),
        ("/v1/keyrings/unknown/seal", format!("{{{PLACE},\"text\":\"x\"}}"), 403, "denied"),
        ("/v1/nowhere", "{}".into(), 404, "not_found"),
    ]
}

fn opening() -> Vec<(&'static str, String, u16, &'static str)> {
    let open = |sealed: &str, purpose: &str| format!("{{{PLACE},\"sealed\":\"{sealed}\",\"purpose\":\"{purpose}\"}}");
    vec![
        ("/v1/open", open("", "TREAT"), 400, "malformed_value"),
        ("/v1/open", open("kw1.", "TREAT"), 400, "malformed_value"),
        ("/v1/open", open("kw2.AAAA", "TREAT"), 400, "malformed_value"),
        ("/v1/open", open("vault:v1:AAAA", "TREAT"), 400, "malformed_value"),
        ("/v1/open", open(&foreign(2), "TREAT"), 400, "malformed_value"),
        ("/v1/open", open(&foreign(1), "TREAT"), 403, "denied"),
        ("/v1/open", open(&foreign(1), "FUN"), 400, "malformed_request"),
    ]
}

/// A value of a key version that this sidecar never had, well-formed if the format version is 1.
fn foreign(format_version: u8) -> String {
    let mut bytes = vec![format_version, 9, 9, 9, 9, 9, 9, 9, 9, 2, 1, 0];
    bytes.extend([7; 24 + 32 + 16 + 3]);
    format!("kw1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn every_bad_request_has_its_code_and_a_record_and_the_sidecar_serves_on() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let before = refusals(&setup);
    let mut wrong: Vec<String> = Vec::new();
    for (path, body, status, code) in cases() {
        let (got, problem) = post(&setup.data(), path, &body);
        let shown: String = body.chars().take(90).collect();
        if (got, problem["code"].as_str()) != (status, Some(code)) {
            wrong.push(format!("{path} {shown}: expected {status} {code}, got {got} {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refusals(&setup) - before, cases().len(), "each has a record or stands in a summary");
    let good = json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string();
    assert_eq!(post(&setup.data(), SEAL, &good).0, 200);
    assert_eq!(serving.stop(), Some(0));
}

/// Refused requests of the log, with those counted in summaries.
fn refusals(setup: &Setup) -> usize {
    let records = records(setup);
    let single =
        records.iter().filter(|record| record["event"] == "data.denied" || record["outcome"] == "failed").count();
    let summaries = records.iter().filter(|record| record["event"] == "data.denied_summary");
    single + summaries.map(|summary| usize::try_from(counted(summary)).unwrap()).sum::<usize>()
}

/// Every number that stands behind a key `count` in a record.
fn counted(value: &Value) -> u64 {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, inner)| if key == "count" { inner.as_u64().unwrap_or(0) } else { counted(inner) })
            .sum(),
        Value::Array(items) => items.iter().map(counted).sum(),
        _ => 0,
    }
}

#[test]
fn wrong_methods_and_media_types_are_named() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let raw = |text: &str| http(&setup.data(), text.as_bytes()).0;
    assert_eq!(raw("PUT /v1/open HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), 405);
    let plain = "POST /v1/open HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(raw(plain), 415);
    assert_eq!(raw("GARBAGE\r\n\r\n"), 400);
}

#[test]
fn a_flood_of_refusals_is_answered_429_and_counted_in_a_summary() {
    let setup = Setup::new();
    setup.edit_config(|text| format!("{text}\n[audit]\nrefusals_per_second = 1\n"));
    let _serving = setup.serve();
    setup.keyring();
    let data = setup.data();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..40).map(|_| scope.spawn(|| post(&data, "/v1/open", "{").0)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let of = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert!(of(400) >= 1 && of(429) >= 2 && of(400) + of(429) == 40, "{statuses:?}");
    assert_eq!(refusals(&setup), 40, "each refusal is in the log or counted in a summary");
}
