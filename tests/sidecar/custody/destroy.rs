//! A destruction waits where somebody may still say no, and neither a restart nor another clock shortens that.

use keyward::policy::approval::Word;
use serde_json::{Value, json};

use super::{Ceremony, DAY, Place};

/// A version that only opens, and keys that have been on the roster for a day.
fn prepared() -> (Place, String) {
    let place = Place::new();
    place.keyring();
    let version = place.versions()[0]["id"].as_str().unwrap().to_owned();
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "schedule" }), &["bob"]);
    place.advance(25 * 3600);
    (place, version)
}

fn destroy(place: &Place, version: &str) -> Ceremony {
    let statement = "ab".repeat(32);
    let parameters = json!({
        "keyring": "patients", "version": version, "reason": "retired", "after_days": "7", "statement": statement
    });
    place.propose("key.destroy", &parameters)
}

/// When a version is to be destroyed; null while nobody has decided that.
fn planned(place: &Place, version: &str) -> Value {
    let version = place.versions().into_iter().find(|one| one["id"] == version).unwrap();
    assert_eq!(version["state"], "deactivated", "{version}");
    version["destroy_at"].clone()
}

#[test]
fn a_destruction_is_scheduled_after_it_has_cooled_off_and_not_before_also_across_a_restart() {
    let (mut place, version) = prepared();
    let ceremony = destroy(&place, &version);
    let view = place.approve(&ceremony, &["bob", "carol"]);
    assert_eq!(view["state"], "cooling_off", "{view}");
    assert!(view["cool_off_until"].is_string(), "{view}");
    place.refused(&place.execute(&ceremony), "not_due", "cooling_off");
    place.advance(23 * 3600);
    place.refused(&place.execute(&ceremony), "not_due", "cooling_off");

    // The clock of a rehearsal begins at the machine's time again, behind the newest change: until it has caught up it is
    // believed by nobody. What it was ahead is lost, and nothing else.
    place.restart();
    let view = place.get(&format!("/v1/ceremonies/{}", ceremony.id));
    assert_eq!(
        (view["state"].as_str(), view["decisions"].as_array().unwrap().len()),
        (Some("quorum_met"), 3),
        "{view}"
    );
    place.refused(&place.execute(&ceremony), "not_due", "clock_unsynchronised");
    assert_eq!(planned(&place, &version), Value::Null);
    let again = place.hand_over(&ceremony, &ceremony.signed(Word::Approve, "bob"));
    place.refused(&again, "not_approved", "approval_replayed");

    place.advance(3 * DAY);
    assert_eq!(place.state(&ceremony), "ready");
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    assert!(planned(&place, &version).is_string());
    let record = place.record("key.destroy_scheduled", "done");
    assert_eq!(record["facts"]["ceremony"], ceremony.id.as_str(), "{record}");
    place.refused(&place.execute(&ceremony), "ceremony_state", "spent");

    place.restart();
    assert!(planned(&place, &version).is_string());
    place.refused(&place.execute(&ceremony), "ceremony_state", "spent");
}

#[test]
fn somebody_says_no_while_it_cools_off() {
    let (place, version) = prepared();
    let ceremony = destroy(&place, &version);
    place.approve(&ceremony, &["bob", "carol"]);
    let (status, view) = place.hand_over(&ceremony, &ceremony.signed(Word::Deny, "alice"));
    assert_eq!((status, view["state"].as_str()), (200, Some("denied")), "{view}");
    place.advance(25 * 3600);
    place.refused(&place.execute(&ceremony), "ceremony_state", "already_denied");
    assert_eq!(planned(&place, &version), Value::Null);
}

#[test]
fn at_tier_three_a_key_counts_only_when_it_has_been_on_the_roster_for_a_day() {
    let place = Place::new();
    place.keyring();
    let version = place.versions()[0]["id"].as_str().unwrap().to_owned();
    let ceremony = destroy(&place, &version);
    let answer = place.hand_over(&ceremony, &ceremony.signed(Word::Approve, "bob"));
    place.refused(&answer, "not_approved", "does_not_count");
}
