//! What custodians approved is what a sidecar serves with: other settings, other policies and other rules are held back, and
//! readiness and the log say so.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Place, eventually, records};
use crate::support::{keyward, post};

const NO_SEALING: &str = "\n@id(\"closed\")\nforbid (principal, action == Action::\"seal\", resource);\n";

/// A sidecar with custodians, who have been there for a day, and a keyring.
fn place() -> Place {
    let place = Place::new();
    place.keyring();
    assert_eq!(place.seal().0, 200);
    place
}

fn policies(place: &Place) -> PathBuf {
    place.setup.root().join("policies/development.cedar")
}

/// Starts with what differs, and looks that nothing but ceremonies and the log is served. What readiness says.
fn held(place: &mut Place, difference: &str) -> String {
    let before = refusals(place).len();
    place.stop();
    place.start_unready();
    eventually("readiness tells it", || place.health("/readyz?verbose").contains(difference));
    let told = place.health("/readyz?verbose");
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    let (status, problem) = place.seal();
    assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    let (status, problem) = place.post("/v1/keyrings/patients/rotate", &json!({ "trigger": "incident" }));
    assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    let refusals = refusals(place);
    assert_eq!(refusals.len(), before + 1, "{refusals:?}");
    assert_eq!(refusals.last().unwrap()["facts"]["error"], "guarded_settings");
    told
}

/// Records of starts that were refused.
fn refusals(place: &Place) -> Vec<Value> {
    records(&place.setup).into_iter().filter(|record| record["event"] == "sidecar.refused").collect()
}

#[test]
fn a_sidecar_with_settings_that_nobody_approved_serves_nothing_until_they_are_put_back() {
    let mut place = place();
    place.setup.edit_config(|text| text + "\n[audit]\ndurability = \"written\"\n");
    held(&mut place, "audit.durability: Synced -> Written");
    place.setup.edit_config(|text| text.replace("\"written\"", "\"synced\""));
    place.restart();
    assert_eq!(place.seal().0, 200);

    let approved = std::fs::read_to_string(policies(&place)).unwrap();
    std::fs::write(policies(&place), approved.clone() + NO_SEALING).unwrap();
    held(&mut place, "policy: ");
    std::fs::write(policies(&place), approved).unwrap();
    place.restart();
    assert_eq!(place.seal().0, 200);
}

#[test]
fn another_policy_set_is_not_put_in_force_while_a_sidecar_serves() {
    let place = place();
    let approved = std::fs::read_to_string(policies(&place)).unwrap();
    std::fs::write(policies(&place), approved.clone() + NO_SEALING).unwrap();
    let (_, problem) = place.post("/v1/policy/reload", &json!({}));
    assert_eq!(problem["code"], "ceremony_required", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("and approved is set"), "{problem}");
    assert_eq!(place.record("policy.loaded", "failed")["reason"], "ceremony_required");
    assert_eq!(place.seal().0, 200);
    std::fs::write(policies(&place), approved).unwrap();
    assert_eq!(place.post("/v1/policy/reload", &json!({})).0, 200);
}

#[test]
fn custodians_approve_other_settings_on_the_sidecar_that_is_held_for_them() {
    let mut place = place();
    // At tier 3 keys count that have been there for a day.
    place.advance(25 * 3600);
    place.carry_out("keyring.rotate", &json!({ "keyring": "patients", "trigger": "schedule" }), &["bob"]);
    place.setup.edit_config(|text| text + "\n[audit]\ndurability = \"written\"\n");
    let told = held(&mut place, "audit.durability: Synced -> Written");
    let digest = told.split("settings.change with settings=").nth(1).unwrap()[..64].to_owned();
    place.advance(26 * 3600);
    // While it is held no keys change, whoever agrees.
    let rotate = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    place.approve(&rotate, &["bob"]);
    assert_eq!(place.execute(&rotate).1["code"], "unavailable");

    let change = place.propose("settings.change", &json!({ "settings": digest }));
    place.approve(&change, &["bob", "carol"]);
    place.refused(&place.execute(&change), "not_due", "cooling_off");
    assert_eq!(place.seal().0, 503);
    place.advance(25 * 3600);
    let (status, view) = place.execute(&change);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    assert_eq!(place.record("settings.approved", "done")["facts"]["settings"], digest.as_str());
    eventually("it serves", || place.seal().0 == 200);
    assert_eq!(place.state(&rotate), "expired");
    place.restart();
    assert_eq!(place.seal().0, 200);
}

#[test]
fn other_rules_of_separation_decide_nothing_not_even_about_themselves() {
    let mut place = place();
    let rules = place.setup.root().join("separation.toml");
    let approved = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, approved.replace("[tier.3]\n", "[tier.1]\napprovals = 2\n[tier.3]\n")).unwrap();
    place.stop();
    place.start_unready();
    let words = "put the separation file back that they approved";
    eventually("readiness tells it", || place.health("/readyz?verbose").contains(words));
    let ask =
        json!({ "action": "keyring.create", "parameters": { "keyring": "a" }, "reason": "r", "initiator": "kim" });
    let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
    assert!(status >= 400, "{problem}");
    assert_eq!(place.seal().0, 503);
    std::fs::write(&rules, approved).unwrap();
    place.restart();
    assert_eq!(place.seal().0, 200);
    assert_eq!(refusals(&place).len(), 1);
}

#[test]
fn rules_with_cycles_or_unknown_people_start_no_sidecar_and_all_that_is_wrong_is_told() {
    let mut place = place();
    place.stop();
    let rules = place.setup.root().join("separation.toml");
    let approved = std::fs::read_to_string(&rules).unwrap();
    let cycle = approved.replace("[person.sofia]\nroles = []", "[person.sofia]\nroles = []\nmanager = \"alice\"");
    let wrong = cycle.replace("manager = \"peter\"", "manager = \"nobody\"");
    std::fs::write(&rules, wrong).unwrap();
    let done = keyward(&["serve", "--config", &place.setup.config()]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success(), "{said}");
    assert!(said.contains("sofia") && said.contains("nobody"), "{said}");
    // Nor may somebody stand at the control socket whom the rules do not know.
    std::fs::write(&rules, approved.replace("person.alice", "person.alicia")).unwrap();
    let done = keyward(&["serve", "--config", &place.setup.config()]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("[person.alice]"), "{said}");
    std::fs::write(&rules, approved).unwrap();
    place.serving = Some(place.setup.serve());
    let body = json!({ "context": { "resource": "Patient/1", "path": "name" }, "text": "Ada" }).to_string();
    assert_eq!(post(&place.setup.data(), "/v1/keyrings/patients/seal", &body).0, 200);
}
