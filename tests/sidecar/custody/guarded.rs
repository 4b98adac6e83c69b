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
    assert!(told.contains("propose settings.change --settings-of CONFIG"), "{told}");
    let change = running(&place);
    let digest = change["settings"].as_str().unwrap().to_owned();
    place.advance(26 * 3600);
    // While it is held no keys change, whoever agrees.
    let rotate = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
    place.approve(&rotate, &["bob"]);
    assert_eq!(place.execute(&rotate).1["code"], "unavailable");

    let change = place.propose("settings.change", &change);
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

/// What would have to be approved for the sidecar to serve as it runs.
pub fn running(place: &Place) -> Value {
    let settings = place.get("/v1/custody")["settings"].clone();
    let of = |which: &str| settings[which].as_object().unwrap().clone();
    let (approved, found) = (of("approved"), of("running"));
    let mut changes = serde_json::Map::new();
    for (name, value) in &found {
        if approved.get(name) != Some(value) {
            changes.insert(name.clone(), value.clone());
        }
    }
    for name in approved.keys().filter(|name| !found.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    json!({ "settings": settings["running_digest"], "changes": Value::Object(changes).to_string() })
}

#[test]
fn other_rules_of_separation_decide_nothing_not_even_about_themselves() {
    let mut place = place();
    let rules = place.setup.root().join("separation.toml");
    let approved = std::fs::read_to_string(&rules).unwrap();
    // By these alice alone would be enough for everything.
    std::fs::write(&rules, approved.replace("[person.bob]", "[person.robert]")).unwrap();
    held(&mut place, "custody.separation: ");
    let create = place.propose("keyring.create", &json!({ "keyring": "a" }));
    place.approve(&create, &["bob"]);
    assert_eq!(
        place.execute(&create).1["code"],
        "unavailable",
        "approved by the rules that hold, and held all the same"
    );
    std::fs::write(&rules, approved).unwrap();
    place.restart();
    assert_eq!(place.seal().0, 200);
    assert_eq!(refusals(&place).len(), 1);
}

/// Of the rules in force, with other words in them.
fn proposed_rules(place: &Place, from: &str, to: &str) -> (String, Value) {
    let text = std::fs::read_to_string(place.setup.root().join("separation.toml")).unwrap();
    let next = text.replace(from, to);
    assert_ne!(text, next);
    let rules = keyward::policy::separation::Separation::load(&next).unwrap();
    let separation = hex::encode(rules.digest());
    let known = place.get("/v1/custody")["settings"]["approved"].clone();
    let mut known: std::collections::BTreeMap<String, String> = serde_json::from_value(known).unwrap();
    known.insert("custody.separation".to_owned(), separation.clone());
    let lines: String = known.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let settings = hex::encode(keyward::keyring::documents::digest(&["keyward/settings/v1\0", &lines]));
    let changes = json!({ "custody.separation": separation }).to_string();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &next);
    (next, json!({ "settings": settings, "changes": changes, "separation": separation, "rules": encoded }))
}

#[test]
fn custodians_change_the_rules_themselves_and_old_and_new_rules_must_both_agree() {
    let mut place = place();
    place.advance(25 * 3600);
    // A developer becomes a custodian.
    let (next, change) = proposed_rules(
        &place,
        "[person.dan]\nroles = [\"developer\"]",
        "[person.dan]\nroles = [\"custodian\"]\ngroup = \"privacy\"\nmanager = \"peter\"",
    );
    let ceremony = place.propose("settings.change", &change);
    place.approve(&ceremony, &["bob", "carol"]);
    place.advance(25 * 3600);
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    let record = place.record("settings.approved", "done");
    assert_eq!(record["facts"]["separation"], change["separation"], "{record}");
    // At once, without the file: dan is enrolled and decides.
    let enrol = place.enrolling("dan", &super::key("dan"));
    place.carry_out("custodian.enrol", &enrol, &["bob", "carol"]);
    let create = place.propose("keyring.create", &json!({ "keyring": "by-dan" }));
    place.approve(&create, &["dan"]);
    assert_eq!(place.execute(&create).0, 200);
    // The file of before is held now, the approved one serves; the minutes verify with both rules.
    held(&mut place, "custody.separation: ");
    std::fs::write(place.setup.root().join("separation.toml"), next).unwrap();
    place.restart();
    assert_eq!(place.seal().0, 200);
    let minutes = place.text(&format!("/v1/ceremonies/{}/minutes", ceremony.id));
    let roster = place.text("/v1/roster");
    let report = keyward::ceremony::minutes::verify(&minutes, &roster, &Default::default());
    assert!(report.is_ok(), "{:?}", report.failed());
}

#[test]
fn rules_under_which_nobody_could_go_on_are_refused_before_anybody_signs() {
    let place = place();
    for (from, to, why) in [
        ("[person.carol]", "[person.karola]", "carol"),
        ("[tier.3]\napprovals = 2", "[tier.3]\napprovals = 3", "margin"),
    ] {
        let (_, change) = proposed_rules(&place, from, to);
        let ask = json!({ "action": "settings.change", "parameters": change, "reason": "test", "initiator": "kim" });
        let (status, problem) = place.post("/v1/ceremonies/draft", &ask);
        assert_eq!((status, &problem["code"]), (409, &json!("separation")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    }
    let ask = |action: &str, parameters: Value| {
        let ask = json!({ "action": action, "parameters": parameters, "reason": "test", "initiator": "kim" });
        place.post("/v1/ceremonies/draft", &ask)
    };
    let durability = json!({ "settings": "ab".repeat(32), "changes": r#"{"audit.durability":"Written"}"# });
    let (status, problem) = ask("settings.change", durability);
    assert_eq!(status, 400, "a digest that the changes do not lead to: {problem}");
    let more = json!({ "sink": "siem", "change": "add", "settings": "ab".repeat(32),
        "changes": r#"{"policy":"ab","sink.siem.kind":"file"}"# });
    let (status, problem) = ask("sink.change", more);
    assert!(status == 400 && problem["detail"].as_str().unwrap().contains("does not change policy"), "{problem}");
}

#[test]
fn what_was_approved_before_is_served_at_once_and_a_stricter_setting_needs_nobody() {
    let mut place = place();
    place.setup.edit_config(|text| text + "\n[cache]\nttl = \"60s\"\n");
    place.restart();
    assert_eq!(place.seal().0, 200);
    let running = running(&place);
    assert_eq!(running["changes"], r#"{"cache.ttl":"60s"}"#);
    let record = place.record("settings.stricter", "done");
    assert_eq!(record["facts"]["settings"], running["settings"], "{record}");
    place.setup.edit_config(|text| text.replace("ttl = \"60s\"", "ttl = \"1h\""));
    held(&mut place, "cache.ttl: ");
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
