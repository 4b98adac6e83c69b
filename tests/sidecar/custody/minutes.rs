//! Minutes as a sidecar gives them, verified from what it gave and nothing else; and not any more after one character was
//! changed.

use keyward::ceremony::minutes::{Pinned, verify};
use keyward::policy::approval::Word;
use serde_json::{Value, json};

use super::{Ceremony, Place, key};

fn minutes(place: &Place, ceremony: &Ceremony) -> String {
    place.text(&format!("/v1/ceremonies/{}/minutes", ceremony.id))
}

/// The text with another character at a place.
fn flipped(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = match bytes[at] {
        b'0' => b'1',
        b'a' => b'b',
        b'A' => b'B',
        digit if digit.is_ascii_digit() => b'0',
        lower if lower.is_ascii_lowercase() => b'a',
        upper if upper.is_ascii_uppercase() => b'A',
        ascii if ascii.is_ascii() => b'x',
        // The checkpoint's signature begins with a dash that is several bytes.
        part => part,
    };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn minutes_verify_from_the_file_and_the_roster_alone() {
    let place = Place::new();
    let genesis = place.get("/v1/custody")["roster"]["digest"].as_str().unwrap().to_owned();
    let created = place.keyring();
    let refused = place.hand_over(&created, &created.signed(Word::Approve, "carol"));
    place.refused(&refused, "ceremony_state", "spent");
    let enrolled = place.carry_out("custodian.enrol", &place.enrolling("dave", &key("dave")), &["alice", "bob"]);
    let denied = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    assert_eq!(place.hand_over(&denied, &denied.signed(Word::Deny, "carol")).0, 200);
    let open = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    let approved = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    place.approve(&approved, &["dave"]);
    let told: Vec<String> =
        [&created, &enrolled, &denied, &open, &approved].map(|ceremony| minutes(&place, ceremony)).into();
    let export = place.text("/v1/roster");
    let pinned = Pinned { genesis: Some(&genesis), ..Pinned::default() };
    for text in &told {
        let report = verify(text, &export, &pinned);
        assert!(report.is_ok(), "{:?}", report.checks);
    }
    let other = "ab".repeat(32);
    let report = verify(&told[0], &export, &Pinned { genesis: Some(&other), ..Pinned::default() });
    assert_eq!(report.failed(), ["genesis"]);
    let report = verify(&told[0], &export, &Pinned { log_key: Some("another"), ..pinned });
    assert_eq!(report.failed(), ["log_key"]);
    // Minutes of one store say nothing about another's people.
    let elsewhere = Place::new();
    assert!(!verify(&told[0], &elsewhere.text("/v1/roster"), &Pinned::default()).is_ok());
    let record = place.record("ceremony.minuted", "done");
    assert_eq!(record["facts"]["ceremony"], approved.id.as_str(), "{record}");
}

#[test]
fn one_changed_character_and_they_do_not_verify() {
    let place = Place::new();
    let ceremony = place.keyring();
    let (text, export) = (minutes(&place, &ceremony), place.text("/v1/roster"));
    let fine = |text: &str, export: &str| verify(text, export, &Pinned::default()).is_ok();
    assert!(fine(&text, &export));
    let mut unseen = Vec::new();
    for (name, whole) in [("minutes", &text), ("export", &export)] {
        // A step that is no divisor of anything in it.
        for at in (0..whole.len()).step_by(whole.len() / 211 + 1) {
            let changed = flipped(whole, at);
            let believed = if name == "minutes" { fine(&changed, &export) } else { fine(&text, &changed) };
            if changed != *whole && believed {
                let around = &whole[at.saturating_sub(40)..(at + 40).min(whole.len())];
                unseen.push(format!("{name} at {at}: {around}"));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn attempts_that_were_refused_make_no_minutes_longer() {
    let place = Place::new();
    let ceremony = place.propose("keyring.create", &json!({ "keyring": "patients" }));
    for _ in 0..3 {
        place.refused(&place.execute(&ceremony), "ceremony_state", "not_ready");
        let foreign = ceremony.signed(Word::Approve, "dan");
        place.refused(&place.hand_over(&ceremony, &foreign), "not_approved", "unknown_key");
    }
    place.approve(&ceremony, &["bob"]);
    assert_eq!(place.execute(&ceremony).0, 200);
    let text = minutes(&place, &ceremony);
    let report = verify(&text, &place.text("/v1/roster"), &Pinned::default());
    assert!(report.is_ok(), "{:?}", report.checks);
    let told: Value = serde_json::from_str(&text).unwrap();
    let records = told["log"]["records"].as_array().unwrap();
    let records = records.iter().map(|one| serde_json::from_str::<Value>(one["record"].as_str().unwrap()).unwrap());
    let of = |record: Value| format!("{} {}", record["event"].as_str().unwrap(), record["outcome"].as_str().unwrap());
    let course: Vec<String> = records.map(of).collect();
    let expected = [
        "ceremony.proposed intent",
        "ceremony.proposed done",
        "ceremony.decided intent",
        "ceremony.decided done",
        "key.created intent",
        "key.created done",
        "ceremony.minuted done",
    ];
    assert_eq!(course, expected);
}

#[test]
fn reading_minutes_makes_them_no_longer() {
    let place = Place::new();
    let created = place.keyring();
    let minuted = |text: &str| text.matches("ceremony.minuted").count();
    for _ in 0..4 {
        let told = minutes(&place, &created);
        assert_eq!(minuted(&told), 1, "{told}");
        let report = verify(&told, &place.text("/v1/roster"), &Pinned { genesis: None, log_key: None, now: None });
        assert!(report.is_ok(), "{:?}", report.failed());
    }
}

#[test]
fn the_key_that_signs_the_log_is_changed_by_a_ceremony_and_minutes_verify_by_both_keys() {
    let mut place = Place::new();
    // At tier 3 keys count that have been there for a day.
    place.advance(25 * 3600);
    let created = place.keyring();
    let proposal: Value =
        serde_json::from_str(place.get(&format!("/v1/ceremonies/{}", created.id))["proposal"].as_str().unwrap())
            .unwrap();
    let log = proposal["log"]["origin"].as_str().unwrap().to_owned();
    let foreign = json!({ "action": "log.rotate-key", "parameters": { "log": "keyward/other" }, "reason": "test", "initiator": "kim" });
    assert_eq!(place.post("/v1/ceremonies/draft", &foreign).0, 400);
    let before = minutes(&place, &created);
    let change = place.propose("log.rotate-key", &json!({ "log": log }));
    place.approve(&change, &["bob", "carol"]);
    place.advance(25 * 3600);
    let (status, view) = place.execute(&change);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    let rotated = place.record("log.key_rotated", "done");
    assert_eq!(rotated["facts"]["ceremony"], change.id.as_str(), "{rotated}");
    let approved = place.record("log.key_approved", "done");
    assert_eq!(approved["facts"]["proposal"], hex::encode(change.digest), "{approved}");
    assert_eq!(place.execute(&change).1["code"], "ceremony_state");
    // What was written before and after verifies, while both keys sign and after a restart.
    let export = place.text("/v1/roster");
    let any = Pinned::default();
    for text in [&before, &minutes(&place, &created), &minutes(&place, &change)] {
        let report = verify(text, &export, &any);
        assert!(report.is_ok(), "{:?}", report.failed());
    }
    place.restart();
    assert!(verify(&minutes(&place, &change), &export, &any).is_ok());
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "schedule" }), &["bob"]);
    place.stop();
    let done = crate::support::keyward(&["audit", "verify", &place.setup.log()]);
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
