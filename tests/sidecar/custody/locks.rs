//! One person stops a principal, a keyring or the sidecar at once; only several people together lift it again.

use keyward::policy::approval::Word;
use serde_json::{Value, json};

use super::{Place, eventually};
use crate::requests::records;
use crate::support::{Caller, Setup, post};

fn engage(place: &Place, lock: &str, level: &str) -> (u16, Value) {
    place.post("/v1/locks/engage", &json!({ "lock": lock, "level": level, "reason": "suspicion" }))
}

fn lock(place: &Place, lock: &str, level: &str) {
    let (status, answer) = engage(place, lock, level);
    assert_eq!(status, 200, "{answer}");
    let record = place.record("lock.engaged", "done");
    let facts = (&record["facts"]["lock"], &record["facts"]["lock_level"]);
    assert_eq!(facts, (&json!(lock), &json!(level)), "{record}");
    let intent = &records(&place.setup)[usize::try_from(record["intent"].as_u64().unwrap()).unwrap()];
    assert_eq!((&intent["event"], &intent["outcome"]), (&json!("lock.engaged"), &json!("intent")), "{intent}");
}

fn code_of(place: &Place, sealed: &Value) -> String {
    let context = json!({ "resource": "Patient/1", "path": "name" });
    let body = json!({ "sealed": sealed["sealed"], "context": context, "purpose": "TREAT" });
    let (_, problem) = post(&place.setup.data(), "/v1/open", &body.to_string());
    problem["code"].as_str().unwrap_or("opened").to_owned()
}

#[test]
fn a_locked_keyring_opens_nothing_goes_on_sealing_and_is_unlocked_by_a_quorum_alone() {
    let mut place = Place::new();
    place.keyring();
    let (_, sealed) = place.seal();
    lock(&place, "keyring/default/patients", "opening");
    assert_eq!((place.open(&sealed, "TREAT"), code_of(&place, &sealed).as_str()), (423, "locked"));
    assert_eq!(place.seal().0, 200, "nothing that is written is lost");
    let failed = place.record("data.opened", "failed");
    assert_eq!(
        (&failed["reason"], &failed["groups"][0]["failed"]["locked"]),
        (&json!("locked"), &json!(1)),
        "{failed}"
    );
    let again = engage(&place, "keyring/default/patients", "opening");
    assert_eq!((again.0, &again.1["code"]), (409, &json!("conflict")), "{again:?}");
    eventually("readiness tells it", || place.health("/readyz?verbose").contains("keyring/default/patients is locked"));
    eventually("metrics tell it", || place.health("/metrics").contains("\nkeyward_locks_in_force 1\n"));

    // One person does not lift it, and a restart neither.
    let body = json!({ "lock": "keyring/default/patients" });
    let alone = place.post("/v1/locks/release", &body);
    assert_eq!((alone.0, &alone.1["code"]), (409, &json!("ceremony_required")), "{alone:?}");
    place.restart();
    assert_eq!(place.open(&sealed, "TREAT"), 423);
    let unlock = place.propose("sidecar.unlock", &json!({ "keyring": "patients" }));
    place.approve(&unlock, &["bob"]);
    assert_ne!(place.execute(&unlock).0, 200, "one approval is not enough");
    assert_eq!(place.open(&sealed, "TREAT"), 423);
    place.approve(&unlock, &["carol"]);
    let (status, view) = place.execute(&unlock);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    assert_eq!(place.open(&sealed, "TREAT"), 200);
    let released = place.record("lock.released", "done");
    assert_eq!(released["facts"]["ceremony"], unlock.id.as_str(), "{released}");
}

#[test]
fn a_wider_lock_stops_sealing_too_and_an_unlocking_is_of_the_lock_that_people_saw() {
    let place = Place::new();
    place.keyring();
    let (_, sealed) = place.seal();
    lock(&place, "sidecar", "opening");
    assert_eq!((place.open(&sealed, "TREAT"), place.seal().0), (423, 200));
    let unlock = place.propose("sidecar.unlock", &json!({}));
    place.approve(&unlock, &["bob", "carol"]);
    lock(&place, "sidecar", "everything");
    assert_eq!((place.open(&sealed, "TREAT"), place.seal().0), (423, 423));
    let superseded = place.execute(&unlock);
    assert_eq!((superseded.0, &superseded.1["code"]), (409, &json!("ceremony_state")), "{superseded:?}");
    assert_eq!(place.seal().0, 423);
    place.carry_out("sidecar.unlock", &json!({}), &["bob", "carol"]);
    assert_eq!((place.open(&sealed, "TREAT"), place.seal().0), (200, 200));
    let none = json!({ "action": "sidecar.unlock", "parameters": {}, "reason": "test", "initiator": "kim" });
    let (status, answer) = place.post("/v1/ceremonies/draft", &none);
    assert_eq!((status, &answer["code"]), (404, &json!("no_such_key")), "nobody signs what cannot be done: {answer}");
}

#[test]
fn a_locked_principal_is_stopped_whatever_it_asks_and_does_not_decide_about_it() {
    let place = Place::new();
    place.keyring();
    let (_, sealed) = place.seal();
    lock(&place, "principal/demo", "everything");
    assert_eq!((place.open(&sealed, "TREAT"), place.seal().0), (423, 423));
    let record = place.record("data.denied", "denied");
    assert_eq!((&record["reason"], &record["actor"]["name"]), (&json!("locked"), &json!("demo")), "{record}");
    place.carry_out("sidecar.unlock", &json!({ "principal": "demo" }), &["bob", "carol"]);
    assert_eq!(place.open(&sealed, "TREAT"), 200);

    // Alice stands at the control socket: what one person may do there stops, ceremonies go on.
    lock(&place, "principal/alice", "everything");
    let mut caller = Caller::connect(&place.setup.control()).unwrap();
    let (status, answer) = caller.ask("GET", "/v1/keyrings/patients", "locked", "").unwrap();
    assert_eq!((status, &answer["code"]), (423, &json!("locked")), "{answer}");
    let unlock = place.propose("sidecar.unlock", &json!({ "principal": "alice" }));
    let concerned = place.hand_over(&unlock, &unlock.signed(Word::Approve, "alice"));
    assert!(concerned.0 >= 400, "{concerned:?}");
    place.approve(&unlock, &["bob", "carol"]);
    assert_eq!(place.execute(&unlock).0, 200);
    assert_eq!(caller.ask("GET", "/v1/keyrings/patients", "free", "").unwrap().0, 200);
}

#[test]
fn before_there_are_custodians_one_person_lifts_a_lock_and_bad_ones_are_refused() {
    let setup = Setup::new();
    let _serving = setup.serve();
    let ask = |path: &str, body: &str| post(&setup.control(), path, body);
    assert_eq!(ask("/v1/keyrings", r#"{"name":"patients"}"#).0, 201);
    let seal = || post(&setup.data(), "/v1/keyrings/patients/seal", r#"{"text":"Ada","context":{}}"#).0;
    for (body, status) in [
        (r#"{"lock":"keyring/default/nobody","level":"opening","reason":"incident"}"#, 404),
        (r#"{"lock":"grant/x","level":"opening","reason":"incident"}"#, 400),
        (r#"{"lock":"sidecar","level":"much","reason":"incident"}"#, 400),
        (r#"{"lock":"sidecar","level":"opening","reason":"because"}"#, 400),
        (r#"{"lock":"sidecar","level":"opening"}"#, 400),
    ] {
        assert_eq!(ask("/v1/locks/engage", body).0, status, "{body}");
    }
    assert_eq!(seal(), 200);
    let lock = r#"{"lock":"keyring/default/patients","level":"everything","reason":"exercise"}"#;
    assert_eq!((ask("/v1/locks/engage", lock).0, seal()), (200, 423));
    let lift = r#"{"lock":"keyring/default/patients"}"#;
    assert_eq!((ask("/v1/locks/release", lift).0, seal()), (200, 200));
    assert_eq!(ask("/v1/locks/release", lift).0, 404);
}
