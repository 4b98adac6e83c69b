//! Nobody makes custody unusable alone, neither by what they write nor by whom they take away.

use keyward::policy::approval::{Decision, Word};
use serde_json::{Value, json};

use super::{DAY, Place, REHEARSAL, key, sealed};
use crate::requests::records;

/// The same signature in other line ends.
fn with_carriage_returns(mut signed: Value) -> Value {
    let text = signed["signature"].as_str().unwrap().replace('\n', "\r\n");
    signed["signature"] = json!(text);
    signed
}

#[test]
fn cer_26_a_signature_that_no_document_could_hold_is_refused_and_custody_goes_on() {
    let mut place = Place::new();
    place.keyring();
    let ceremony = place.draft("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }), "kim");
    let odd = with_carriage_returns(ceremony.signed(Word::Propose, "kim"));
    let (status, problem) = place.hand_in(&ceremony, &odd);
    assert!(status >= 400 && problem["code"] == "not_approved", "{problem}");
    let (status, view) = place.hand_in(&ceremony, &ceremony.signed(Word::Propose, "kim"));
    assert_eq!(status, 200, "{view}");
    let odd = with_carriage_returns(ceremony.signed(Word::Approve, "bob"));
    assert!(place.hand_over(&ceremony, &odd).0 >= 400);

    let parameters =
        json!({ "principal": "demo", "keyring": "patients", "minutes": "30", "reason": "outage", "ticket": "INC-9" });
    let glass = place.propose_by("rosa", "break-glass.open", &parameters);
    place.approve(&glass, &["bob"]);
    assert_eq!(place.execute(&glass).0, 200);
    let text = Decision {
        ceremony: glass.id.clone(),
        digest: glass.digest,
        word: Word::Review,
        person: "victor".parse().unwrap(),
        reason: "justified".to_owned(),
        expires_s: place.now() + DAY,
    };
    let review = sealed(&text.text(), &key("victor"), REHEARSAL);
    let path = format!("/v1/grants/{}/review", glass.id);
    assert!(place.post(&path, &with_carriage_returns(review.clone())).0 >= 400);
    assert_eq!(place.post(&path, &review).0, 200);
    place.restart();
    assert_eq!(place.get("/v1/custody")["problems"], json!([]));
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }), &["bob"]);
}

#[test]
fn nobody_takes_so_many_away_that_nobody_could_be_enrolled_again() {
    let place = Place::new();
    let revoke =
        |person: &str| place.post(&format!("/v1/custodians/{person}/revoke"), &json!({ "reason": "suspicion" }));
    assert_eq!(revoke("carol").0, 200);
    for person in ["bob", "alice"] {
        let (status, problem) = revoke(person);
        assert_eq!((status, &problem["code"]), (409, &json!("separation")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("keyward lock engage"), "{problem}");
    }
    // Without kim alice would have to propose, and bob alone could approve.
    assert_eq!(revoke("kim").1["code"], "separation");
    let all = records(&place.setup);
    assert_eq!(all.iter().filter(|one| one["event"] == "custodian.revoked" && one["outcome"] == "done").count(), 1);
}

#[test]
fn a_version_of_a_look_up_key_is_ended_by_no_action_that_says_something_else() {
    let place = Place::new();
    place.keyring();
    let lookup = json!({ "keyring": "patients", "lookup": "index/mrn" });
    place.carry_out("lookup.create", &lookup, &["bob"]);
    let view = place.get("/v1/keyrings/patients");
    let version = view["lookups"][0]["versions"][0]["version"].as_str();
    let version =
        version.or_else(|| view["lookups"][0]["versions"][0]["id"].as_str()).unwrap_or_else(|| panic!("{view}"));
    for action in ["key.deactivate", "key.destroy"] {
        let mut parameters = json!({ "keyring": "patients", "version": version, "reason": "retired" });
        if action == "key.destroy" {
            parameters["after_days"] = json!("7");
            parameters["statement"] = json!("ab".repeat(32));
        }
        let ask = json!({ "action": action, "parameters": parameters, "reason": "test", "initiator": "kim" });
        let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
        assert_eq!((status, &problem["code"]), (400, &json!("malformed_request")), "{action}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("lookup.retire"), "{problem}");
    }
}
