//! How custody begins, and what one person can do from then on.

use keyward::policy::approval::Word;
use serde_json::json;

use super::{FOUNDERS, Place, key};

const CREATE: &str = "{\"name\":\"patients\",\"required_context\":[\"path\",\"resource\"]}";

#[test]
fn genesis_needs_the_signature_of_everybody_on_the_roster_and_happens_once() {
    let place = Place::unfounded();
    let (roster, signatures) = place.founding();
    let found = |signatures: &[serde_json::Value]| {
        place.post("/v1/custody/genesis", &json!({ "roster": roster, "signatures": signatures }))
    };
    for (missing, person) in FOUNDERS.iter().enumerate() {
        let mut some = signatures.clone();
        some.remove(missing);
        let (status, problem) = found(&some);
        assert!(status >= 400 && problem["code"] == "not_approved", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(person), "{problem}");
    }
    // Somebody else's signature in the place of one's own.
    let mut borrowed = signatures.clone();
    borrowed[1]["signature"] = signatures[0]["signature"].clone();
    assert_eq!(found(&borrowed).1["code"], "not_approved");
    // Over another text, and in the namespace of production.
    let mut foreign = signatures.clone();
    foreign[0]["signature"] = json!(key("alice").sign("keyward-ceremony", "keyward/roster/v1\n", 1));
    assert_eq!(found(&foreign).1["code"], "not_approved");
    // Nor with a roster that was changed after it was signed.
    let changed = roster.replace("\"victor\"", "\"walter\"");
    let (_, problem) = place.post("/v1/custody/genesis", &json!({ "roster": changed, "signatures": signatures }));
    assert!(["not_approved", "separation"].contains(&problem["code"].as_str().unwrap()), "{problem}");
    assert_eq!(place.get("/v1/custody")["founded"], false);

    let (status, view) = found(&signatures);
    assert_eq!((status, &view["founded"], &view["margin"]), (200, &json!(true), &json!(1)), "{view}");
    assert_eq!((&view["roster"]["generation"], &view["problems"]), (&json!(1), &json!([])), "{view}");
    let record = place.record("custody.founded", "done");
    assert_eq!(
        (&record["facts"]["authority"], &record["facts"]["roster"]),
        (&json!("founding"), &view["roster"]["digest"])
    );

    let (status, problem) = found(&signatures);
    assert_eq!((status, problem["code"].as_str()), (409, Some("conflict")), "{problem}");
    assert_eq!(place.record("custody.founded", "failed")["reason"], "conflict");
    assert_eq!(place.get("/v1/custody")["roster"]["generation"], 1);
}

#[test]
fn before_genesis_there_is_no_ceremony() {
    let place = Place::unfounded();
    let asked =
        json!({ "action": "keyring.create", "parameters": { "keyring": "a" }, "reason": "r", "initiator": "kim" });
    let (status, problem) = place.post("/v1/ceremonies/draft", &asked);
    assert_eq!((status, problem["code"].as_str()), (409, Some("no_custody")), "{problem}");
}

#[test]
fn from_genesis_on_one_person_suspends_and_makes_nothing() {
    let place = Place::new();
    let create = || crate::support::post(&place.setup.control(), "/v1/keyrings", CREATE);
    let (_, problem) = create();
    assert_eq!(problem["code"], "ceremony_required", "{problem}");
    assert!(!problem["advice"].as_str().unwrap().is_empty());
    assert_eq!(place.get("/v1/keyrings")["keyrings"], json!([]));
    assert_eq!(place.record("key.created", "failed")["reason"], "ceremony_required");

    place.keyring();
    let version = place.versions()[0]["id"].as_str().unwrap().to_owned();
    let step = |verb: &str, reason: &str| {
        place.post(&format!("/v1/keyrings/patients/versions/{version}/{verb}"), &json!({ "reason": reason })).1
    };
    let rotated = place.post("/v1/keyrings/patients/rotate", &json!({ "trigger": "personnel" })).1;
    assert_eq!(rotated["code"], "ceremony_required", "{rotated}");
    assert_eq!(place.seal().0, 200);
    let suspended = step("suspend", "suspicion");
    assert_eq!(suspended["versions"][0]["state"], "suspended", "{suspended}");
    assert_eq!(step("resume", "cleared")["code"], "ceremony_required");
    assert_eq!(place.seal().0, 409, "it is suspended still");
    assert_eq!(place.versions().len(), 1);
}

#[test]
fn a_ceremony_makes_a_keyring_once() {
    let place = Place::new();
    let ceremony =
        place.propose("keyring.create", &json!({ "keyring": "patients", "required_context": "path,resource" }));
    place.refused(&place.execute(&ceremony), "ceremony_state", "not_ready");
    assert_eq!(place.get("/v1/keyrings")["keyrings"], json!([]));
    let view = place.approve(&ceremony, &["bob"]);
    assert_eq!((view["state"].as_str(), &view["missing"]), (Some("ready"), &json!([])), "{view}");
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    assert_eq!(place.seal().0, 200);
    let record = place.record("key.created", "done");
    assert_eq!((&record["facts"]["ceremony"], &record["facts"]["authority"]), (&json!(ceremony.id), &json!("quorum")));
    assert_eq!(record["facts"]["people"], "bob");

    place.refused(&place.execute(&ceremony), "ceremony_state", "spent");
    place.refused(&place.hand_over(&ceremony, &ceremony.signed(Word::Approve, "carol")), "ceremony_state", "spent");
    let (_, problem) = place.hand_in(&ceremony, &ceremony.signed(Word::Propose, "kim"));
    assert!(problem["code"].is_string(), "the same proposal does not begin anew: {problem}");
    assert_eq!(place.versions().len(), 1);
}

#[test]
fn of_many_who_carry_it_out_at_the_same_moment_one_does() {
    let place = Place::new();
    place.keyring();
    let ceremony = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    place.approve(&ceremony, &["bob"]);
    let answers: Vec<(u16, serde_json::Value)> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| place.execute(&ceremony))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
    for (_, problem) in answers.iter().filter(|(status, _)| *status != 200) {
        assert!(["ceremony_state", "conflict"].contains(&problem["code"].as_str().unwrap()), "{problem}");
    }
    assert_eq!((place.versions().len(), place.state(&ceremony).as_str()), (2, "executed"));
}
