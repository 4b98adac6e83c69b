//! What destroys or weakens waits, where that is asked for, until somebody outside knows that it is about to happen.

use serde_json::json;

use super::Place;
use crate::requests::records;
use crate::witnesses::Witness;

#[test]
fn what_weakens_waits_for_the_witnesses_and_is_still_ready_when_they_are_back() {
    let kept = std::cell::RefCell::new(None);
    let place = Place::unfounded_with(&|setup| {
        let witness = Witness::new(setup, "a");
        let path = setup.dir.path().join("policy");
        std::fs::write(&path, format!("{}quorum a\n", witness.line("a"))).unwrap();
        kept.replace(Some(witness));
        format!("[witness]\npolicy = \"{}\"\nevery = \"1s\"\nwithin = \"2s\"\ntier3 = \"require\"\n", path.display())
    });
    let place = place.founded();
    place.keyring();
    let version = place.versions()[0]["id"].as_str().unwrap().to_owned();
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "schedule" }), &["bob"]);
    place.advance(25 * 3600);
    let away = kept.take().unwrap().stop();

    // Nothing of the first tier waits.
    place.carry_out("keyring.create", &json!({ "keyring": "others" }), &["bob"]);
    let statement = "ab".repeat(32);
    let parameters = json!({
        "keyring": "patients", "version": version, "reason": "retired", "after_days": "7", "statement": statement
    });
    let ceremony = place.propose("key.destroy", &parameters);
    place.approve(&ceremony, &["bob", "carol"]);
    place.advance(25 * 3600);
    let (status, refused) = place.execute(&ceremony);
    assert_eq!((status, refused["code"].as_str()), (503, Some("unavailable")), "{refused}");
    assert!(refused.to_string().contains("witnesses"), "{refused}");
    assert_eq!(place.state(&ceremony), "ready");
    let record = place.record("key.destroy_scheduled", "failed");
    assert!(record["intent"].is_u64(), "{record}");

    let _witness = Witness::back(away);
    let (status, view) = (0..10).map(|_| place.execute(&ceremony)).find(|(status, _)| *status == 200).unwrap();
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    let done = place.record("key.destroy_scheduled", "done");
    let intent = done["intent"].as_u64().unwrap();
    let note = std::fs::read_to_string(format!("{}/checkpoint.witnessed", place.setup.log())).unwrap();
    let cosigned: u64 = note.lines().nth(1).unwrap().parse().unwrap();
    assert!(cosigned > intent, "{cosigned} {intent}");
    assert!(records(&place.setup).len() as u64 > intent);
}
