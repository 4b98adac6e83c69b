//! People come and go: the roster's generations, how many may be lost, and what is to be rotated because somebody left.

use keyward::policy::approval::Word;
use keyward::policy::roster::Roster;
use serde_json::{Value, json};

use super::{Ceremony, Place, key};

const ROTATE: &str = "keyring.rotate";

fn rotation() -> Value {
    json!({ "keyring": "patients", "trigger": "personnel" })
}

/// Every generation, after looking that each names the one before it.
fn rosters(place: &Place) -> Vec<Roster> {
    let export = place.get("/v1/roster");
    let texts = export["rosters"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let rosters: Vec<Roster> = texts.map(|text| Roster::parse(text).unwrap()).collect();
    assert_eq!(rosters[0].previous, None);
    for pair in rosters.windows(2) {
        assert_eq!(pair[1].previous, Some(pair[0].digest()));
        assert_eq!(pair[1].generation, pair[0].generation + 1);
    }
    rosters
}

fn stands(place: &Place, generation: u64, margin: i64) -> Value {
    let view = place.get("/v1/custody");
    assert_eq!((&view["roster"]["generation"], &view["margin"]), (&json!(generation), &json!(margin)), "{view}");
    view
}

#[test]
fn a_custodian_joins_and_another_leaves_and_what_she_could_reach_is_to_be_rotated() {
    let place = Place::new();
    place.carry_out("keyring.create", &json!({ "keyring": "untouched" }), &["bob"]);
    place.carry_out("keyring.create", &json!({ "keyring": "patients" }), &["carol"]);
    let joined = place.carry_out("custodian.enrol", &place.enrolling("dave", &key("dave")), &["alice", "bob"]);
    stands(&place, 2, 2);
    let pending = place.propose(ROTATE, &rotation());
    place.approve(&pending, &["carol"]);

    let leaving = place.propose("custodian.remove", &json!({ "person": "carol", "reason": "leaving" }));
    let hers = place.hand_over(&leaving, &leaving.signed(Word::Approve, "carol"));
    place.refused(&hers, "not_approved", "concerned");
    place.approve(&leaving, &["bob", "dave"]);
    assert_eq!(place.execute(&leaving).0, 200);
    let view = stands(&place, 3, 1);
    assert_eq!(place.record("custodian.removed", "done")["facts"]["person"], "carol");
    let made_by: Vec<String> = rosters(&place).into_iter().map(|roster| roster.made_by).collect();
    assert_eq!(made_by, ["genesis", joined.id.as_str(), leaving.id.as_str()]);

    let duties = view["duties"].as_array().unwrap();
    assert_eq!((duties.len(), &duties[0]["keyring"]), (1, &json!("default/patients")), "{view}");
    assert_eq!(
        (&duties[0]["because"], &duties[0]["overdue"]),
        (&json!("carol left (leaving)"), &json!(false)),
        "{view}"
    );
    super::eventually("readiness tells it", || {
        place.health("/readyz?verbose").contains("a rotation of default/patients is due by")
    });
    let listed = crate::support::keyward_ok(&["ceremony", "list", "--config", &place.setup.config()]);
    assert!(listed.contains("to rotate   default/patients, because carol left (leaving): due "), "{listed}");
    assert!(listed.contains("keyward ceremony propose keyring.rotate --set keyring=default/patients"), "{listed}");
    place.refused(&place.execute(&pending), "ceremony_state", "superseded");
    let rotate = place.propose(ROTATE, &rotation());
    let hers = place.hand_over(&rotate, &rotate.signed(Word::Approve, "carol"));
    place.refused(&hers, "not_approved", "revoked_key");
    place.approve(&rotate, &["dave"]);
    assert_eq!(place.execute(&rotate).0, 200);
    assert_eq!(stands(&place, 3, 1)["duties"], json!([]));
}

#[test]
fn a_duty_that_nobody_does_is_overdue() {
    let place = Place::new();
    place.carry_out("keyring.create", &json!({ "keyring": "patients" }), &["carol"]);
    assert_eq!(place.post("/v1/custodians/carol/revoke", &json!({ "reason": "lost-token" })).0, 200);
    assert_eq!(place.get("/v1/custody")["duties"][0]["overdue"], false);
    place.advance(25 * 3600);
    assert_eq!(place.get("/v1/custody")["duties"][0]["overdue"], true);
}

#[test]
fn one_person_ends_a_key_at_once_and_every_open_ceremony_with_it() {
    let place = Place::new();
    place.keyring();
    let open: Vec<Ceremony> =
        [ROTATE, "keyring.rotate"].iter().map(|action| place.propose(action, &rotation())).collect();
    place.approve(&open[0], &["carol"]);
    let fingerprint = super::second_key().key().fingerprint();
    let revoke = |body: Value| place.post("/v1/custodians/alice/revoke", &body);
    assert_eq!(revoke(json!({ "reason": "bored" })).1["code"], "malformed_request");
    assert_eq!(revoke(json!({ "reason": "lost-token", "fingerprint": "SHA256:none" })).1["code"], "no_such_key");
    let (status, view) = revoke(json!({ "reason": "lost-token", "fingerprint": fingerprint }));
    assert_eq!((status, &view["margin"]), (200, &json!(1)), "alice has another key: {view}");
    for ceremony in &open {
        assert_eq!(place.state(ceremony), "superseded");
        place.refused(&place.execute(ceremony), "ceremony_state", "superseded");
    }
    let record = place.record("custodian.revoked", "done");
    let facts = (&record["facts"]["fingerprint"], &record["facts"]["person"], &record["facts"]["key_reason"]);
    assert_eq!(facts, (&json!(fingerprint), &json!("alice"), &json!("lost-token")), "{record}");
    assert_eq!(rosters(&place).last().unwrap().made_by, "revocation");

    let (_, view) = revoke(json!({ "reason": "suspicion" }));
    assert_eq!((&view["margin"], &view["roster"]["generation"]), (&json!(0), &json!(3)), "{view}");
    assert_eq!(place.post("/v1/custodians/alice/revoke", &json!({ "reason": "leaving" })).1["code"], "no_such_key");
    super::eventually("readiness tells it", || place.health("/readyz?verbose").contains("a margin of 0"));
    super::eventually("metrics tell it", || place.health("/metrics").contains("\nkeyward_custody_margin 0\n"));
    assert_eq!(place.versions().len(), 1, "nothing was rotated");
}

#[test]
fn a_key_that_somebody_has_proves_nobody_else() {
    let place = Place::new();
    for (person, key, why) in [("dave", "bob", "share the key"), ("zoe", "dan", "zoe is not in the separation file")] {
        let parameters = place.enrolling(person, &super::key(key));
        let ask =
            json!({ "action": "custodian.enrol", "parameters": parameters, "reason": "test", "initiator": "kim" });
        let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
        assert_eq!((status, &problem["code"]), (409, &json!("separation")), "nobody is asked to sign it: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    stands(&place, 1, 1);
}

#[test]
fn a_suspended_version_is_not_opened_again_by_deactivating_it() {
    let place = Place::new();
    place.keyring();
    let version = place.versions()[0]["id"].as_str().unwrap().to_owned();
    let parameters = json!({ "keyring": "patients", "version": version, "reason": "suspicion" });
    place.carry_out("key.suspend", &parameters, &["bob"]);
    let ask = json!({ "action": "key.deactivate", "parameters": parameters, "reason": "test", "initiator": "kim" });
    let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
    assert_eq!((status, &problem["code"]), (409, &json!("key_state")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("key.resume"), "{problem}");
    place.carry_out("key.resume", &parameters, &["bob", "carol"]);
    place.carry_out("key.deactivate", &parameters, &["bob"]);
    assert_eq!(place.versions()[0]["state"], "deactivated");
}

#[test]
fn cer_25_nobody_is_enrolled_with_a_key_that_is_not_in_their_hands() {
    let place = Place::new();
    let good = place.enrolling("dave", &key("dave"));
    let of_another = place.enrolling("dave", &key("dan"));
    let as_another = place.enrolling("carol", &key("dave"));
    let mut other_duties = good.clone();
    other_duties["acknowledgement"] = json!("ab".repeat(32));
    let with = |proof: &Value| {
        let mut parameters = good.clone();
        parameters["proof"] = proof.clone();
        parameters
    };
    for parameters in [with(&of_another["proof"]), with(&as_another["proof"]), other_duties] {
        let ask =
            json!({ "action": "custodian.enrol", "parameters": parameters, "reason": "test", "initiator": "kim" });
        let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
        assert_eq!((status, &problem["code"]), (403, &json!("not_approved")), "{problem}");
    }
    place.carry_out("custodian.enrol", &good, &["alice", "bob"]);
    stands(&place, 2, 2);
}
