//! The words of others, held against their published schemas: every event with every outcome and actor, and nothing lost.

#![allow(clippy::unwrap_used, reason = "a line that cannot be read must fail its test")]

use keyward::audit::{Event, leaf};
use keyward::sinks::{Format, Leaving};
use serde_json::{Value, json};

const OCSF: &str = include_str!("../data/formats/ocsf-1.8.0.schema.json");
const FHIR: &str = include_str!("../data/formats/fhir-r4-auditevent.schema.json");
const ORIGIN: &str = "keyward/01/02";

/// Records of all kinds, as the log spells them.
fn records() -> Vec<Value> {
    let actors = [
        json!({ "kind": "sidecar" }),
        json!({ "kind": "unknown" }),
        json!({ "kind": "service", "name": "portal", "proof": "peer", "uid": 1000 }),
        json!({ "kind": "custodian", "name": "alice", "proof": "token" }),
        json!({ "kind": "auditor", "name": "audit", "proof": "mtls", "spiffe": "spiffe://a/b" }),
        json!({ "kind": "operator", "name": "ops", "proof": "jwt", "provider": "idp", "subject": "a|b=c\\\"d" }),
    ];
    let mut all = Vec::new();
    for (at, event) in Event::ALL.iter().enumerate() {
        for (number, outcome) in ["intent", "done", "refused", "denied", "failed"].into_iter().enumerate() {
            let mut record = json!({
                "actor": actors[(at + number) % actors.len()],
                "clock": "unverified",
                "event": event.name(),
                "index": all.len(),
                "outcome": outcome,
                "schema": 1,
                "source": "data-socket",
                "time": 1_795_000_000_123_456_u64,
            });
            if number > 1 {
                record["reason"] = json!("cannot_open");
                record["request"] = json!("a=b|c");
                record["purpose"] = json!("TREAT");
                record["groups"] = json!([{ "done": 3, "keyring": "default/patients", "version": "ab" }]);
                record["facts"] = json!({ "ceremony": "c-1", "kek": "primary" });
            }
            all.push(record);
        }
    }
    all
}

fn line(format: Format, record: &Value) -> String {
    let bytes = record.to_string().into_bytes();
    let index = record["index"].as_u64().unwrap();
    let leaving = Leaving { origin: ORIGIN, index, leaf: leaf(&bytes), record: &bytes };
    let mut out = Vec::new();
    format.write(&leaving, &mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    assert!(!line.contains('\n'), "{line}");
    line
}

/// Each line holds what proves the record, and the record.
fn proves(id: &str, hash: &str, found: &Value, record: &Value) {
    assert_eq!(id, format!("{ORIGIN}#{}", record["index"]));
    assert_eq!(hash, hex::encode(leaf(record.to_string().as_bytes())));
    assert_eq!(found, record);
}

fn errors(validator: &jsonschema::Validator, line: &Value) -> Vec<String> {
    validator.iter_errors(line).map(|error| error.to_string().chars().take(400).collect()).collect()
}

#[test]
fn every_record_is_ocsf_by_the_published_schema() {
    let validator = jsonschema::validator_for(&serde_json::from_str(OCSF).unwrap()).unwrap();
    for record in records() {
        let line: Value = serde_json::from_str(&line(Format::Ocsf, &record)).unwrap();
        assert!(errors(&validator, &line).is_empty(), "{:?}: {line}", errors(&validator, &line));
        let (id, hash) = (line["metadata"]["uid"].as_str().unwrap(), line["raw_data_hash"]["value"].as_str().unwrap());
        proves(id, hash, &line["unmapped"]["record"], &record);
        assert_eq!(line["time"], 1_795_000_000_123_u64);
    }
    // The schema notices what is wrong.
    let good: Value = serde_json::from_str(&line(Format::Ocsf, &records()[1])).unwrap();
    for (field, value) in
        [("class_uid", json!(3005)), ("activity_id", json!(77)), ("time", json!("now")), ("strange", json!(1))]
    {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!validator.is_valid(&bad), "{field}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("metadata");
    assert!(!validator.is_valid(&bad));
}

#[test]
fn every_record_is_an_audit_event_of_fhir_by_the_published_schema() {
    let validator = jsonschema::validator_for(&serde_json::from_str(FHIR).unwrap()).unwrap();
    for record in records() {
        let line: Value = serde_json::from_str(&line(Format::Fhir, &record)).unwrap();
        assert!(errors(&validator, &line).is_empty(), "{:?}: {line}", errors(&validator, &line));
        let entity = &line["entity"][0];
        let detail = |at: usize| entity["detail"][at]["valueString"].as_str().unwrap();
        let id = entity["what"]["identifier"]["value"].as_str().unwrap();
        proves(id, detail(0), &serde_json::from_str(detail(1)).unwrap(), &record);
    }
    let good: Value = serde_json::from_str(&line(Format::Fhir, &records()[1])).unwrap();
    for (field, value) in
        [("outcome", json!("5")), ("action", json!("X")), ("recorded", json!("today")), ("strange", json!(1))]
    {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!validator.is_valid(&bad), "{field}");
    }
}

/// The allowed values of `event.category` and `event.type` in ECS 9.0 that are used here.
const CATEGORIES: &[&str] = &["configuration", "database", "host", "iam", "process"];
const TYPES: &[&str] =
    &["access", "admin", "change", "creation", "deletion", "denied", "end", "error", "info", "start", "user"];

#[test]
fn every_record_is_ecs_with_allowed_values() {
    for record in records() {
        let line: Value = serde_json::from_str(&line(Format::Ecs, &record)).unwrap();
        let event = &line["event"];
        proves(event["id"].as_str().unwrap(), event["hash"].as_str().unwrap(), &line["keyward"]["record"], &record);
        let all = |field: &str, allowed: &[&str]| {
            event[field].as_array().unwrap().iter().all(|one| allowed.contains(&one.as_str().unwrap()))
        };
        assert!(all("category", CATEGORIES) && all("type", TYPES), "{line}");
        assert!(["success", "failure", "unknown"].contains(&event["outcome"].as_str().unwrap()));
        assert!(["event", "alert"].contains(&event["kind"].as_str().unwrap()));
        assert_eq!(line["@timestamp"], "2026-11-18T11:06:40.123456Z");
    }
}

/// Takes a line apart as a receiver does: a header of bars, then pairs.
fn read_cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (mut fields, mut field, mut letters) = (Vec::new(), String::new(), line.chars());
    while fields.len() < 7 {
        match letters.next().unwrap() {
            '\\' => field.push(letters.next().unwrap()),
            '|' => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    // A pair begins after the last space before an equals sign that is not escaped.
    let rest: Vec<char> = letters.collect();
    let equals: Vec<usize> = (0..rest.len())
        .filter(|at| {
            rest[*at] == '=' && rest[..*at].iter().rev().take_while(|letter| **letter == '\\').count() % 2 == 0
        })
        .collect();
    let start = |at: usize| rest[..at].iter().rposition(|letter| *letter == ' ').map_or(0, |space| space + 1);
    let mut pairs = Vec::new();
    for (number, at) in equals.iter().enumerate() {
        let end = equals.get(number + 1).map_or(rest.len(), |next| start(*next) - 1);
        let (mut value, mut raw) = (String::new(), rest[at + 1..end].iter());
        while let Some(letter) = raw.next() {
            value.push(if *letter == '\\' { *raw.next().unwrap() } else { *letter });
        }
        pairs.push((rest[start(*at)..*at].iter().collect(), value));
    }
    (fields, pairs)
}

#[test]
fn every_record_is_cef_and_reads_back() {
    for record in records() {
        let (fields, pairs) = read_cef(&line(Format::Cef, &record));
        assert_eq!(fields[0], "CEF:0");
        assert_eq!(fields[4], record["event"].as_str().unwrap());
        assert!(fields[6].parse::<u8>().unwrap() <= 10);
        let value =
            |name: &str| pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap();
        assert_eq!(value("cs6Label"), "record");
        proves(value("externalId"), value("fileHash"), &serde_json::from_str(value("cs6")).unwrap(), &record);
        assert_eq!(value("outcome"), record["outcome"].as_str().unwrap());
    }
}

#[test]
fn what_is_no_record_is_not_written_in_the_words_of_others() {
    for record in ["rubbish", "{}", r#"{"event":"key.invented"}"#] {
        for format in Format::ALL.iter().filter(|format| **format != Format::Native) {
            let leaving = Leaving { origin: ORIGIN, index: 0, leaf: [0; 32], record: record.as_bytes() };
            assert!(format.write(&leaving, &mut Vec::new()).is_err(), "{record} {}", format.name());
        }
    }
}
