//! Copies of the store: backups are made as long as custodians let them, and a store that was put back serves nothing until
//! they say that it is the one. What had happened since its backup does not happen again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::guarded::running;
use super::{Ceremony, Place, eventually, key};
use crate::backup::{at, manifest, settle, state, text};
use crate::requests::records;
use crate::support::{keyward, keyward_ok};

const HOUR: u64 = 3_600;

/// Lets backups be made for so many days; takes two days of the sidecar's clock.
fn allow(place: &Place, days: u32) -> Ceremony {
    // At tier 3 keys count that have been there for a day.
    place.advance(25 * HOUR);
    let ceremony = place.propose("store.backup", &json!({ "place": "vault-7", "days": days.to_string() }));
    place.approve(&ceremony, &["bob", "carol"]);
    place.refused(&place.execute(&ceremony), "not_due", "cooling_off");
    place.advance(25 * HOUR);
    let (status, view) = place.execute(&ceremony);
    assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "{view}");
    ceremony
}

fn backup(place: &Place, name: &str, more: &[&str]) -> (Option<i32>, String) {
    let (to, config) = (text(&at(&place.setup, name)), place.setup.config());
    let done = keyward(&[&["backup", "--to", &to, "--config", &config], more].concat());
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[track_caller]
fn copied(place: &Place, name: &str, more: &[&str]) {
    let (code, said) = backup(place, name, more);
    assert_eq!(code, Some(0), "{said}");
}

#[track_caller]
fn not_allowed(place: &Place, why: &str) {
    for more in [&[][..], &["--without-kek"]] {
        let (code, said) = backup(place, "refused", more);
        assert_eq!(code, Some(77), "{said}");
        assert!(said.contains(why) && said.contains("keyward ceremony propose store.backup"), "{said}");
        assert!(!at(&place.setup, "refused").exists(), "nothing was copied");
    }
}

/// The ceremonies that the records of backups name, oldest first.
fn backed_up_by(place: &Place) -> Vec<Value> {
    let of = records(&place.setup).into_iter().filter(|record| record["event"] == "store.backed_up");
    of.map(|record| record["facts"]["ceremony"].clone()).collect()
}

#[test]
fn backups_of_a_store_with_custodians_are_made_as_long_as_they_let_them_and_name_the_ceremony() {
    let mut place = Place::new();
    not_allowed(&place, "the custodians of this store have not let it be copied");
    let ceremony = allow(&place, 1);
    let facts = place.record("backup.approved", "done")["facts"].clone();
    assert_eq!((&facts["place"], &facts["ceremony"]), (&json!("vault-7"), &json!(ceremony.id)), "{facts}");
    copied(&place, "running", &[]);
    place.stop();
    copied(&place, "stopped", &[]);
    copied(&place, "without", &["--without-kek"]);
    place.serving = Some(place.setup.serve());
    assert_eq!(backed_up_by(&place), [json!(ceremony.id), json!(ceremony.id), json!(ceremony.id)]);

    // The machine's clock has not moved; what the store last recorded has.
    place.advance(76 * HOUR);
    place.keyring();
    not_allowed(&place, "the custodians of this store let it be copied until");
    place.stop();
    not_allowed(&place, "the custodians of this store let it be copied until");
}

/// A store that was put back, with what had been decided before its backup and happened after it.
struct Past {
    place: Place,
    /// What custodians name.
    digest: String,
    /// Approved before, carried out after.
    joining: Ceremony,
    /// Given before, ended after.
    grant: Ceremony,
    sealed: Value,
}

/// Decides what is carried out after the copy was made.
fn before() -> Past {
    let place = Place::new();
    place.keyring();
    allow(&place, 30);
    let grant =
        json!({ "principal": "demo", "keyring": "patients", "purpose": "HRESCH", "minutes": "60", "reason": "study" });
    let grant = place.carry_out("grant.give", &grant, &["bob"]);
    let joining = place.enrolling("dave", &key("dave"));
    let joining = place.propose("custodian.enrol", &joining);
    place.approve(&joining, &["alice", "bob"]);
    let (_, sealed) = place.seal();
    assert_eq!(place.open(&sealed, "HRESCH"), 200);
    Past { place, digest: String::new(), joining, grant, sealed }
}

/// Carries it out, and stops.
fn after(past: &mut Past) {
    assert_eq!(past.place.execute(&past.joining).0, 200);
    assert_eq!(past.place.post(&format!("/v1/grants/{}/end", past.grant.id), &json!({})).0, 200);
    assert_eq!(past.place.open(&past.sealed, "HRESCH"), 403);
    past.place.stop();
}

impl Past {
    /// Starts, and looks that it is held for the restore. What readiness says.
    fn held(&mut self) {
        self.place.start_unready();
        let words = format!("keyward ceremony propose store.restore --set backup={}", self.digest);
        eventually("readiness tells it", || self.place.health("/readyz?verbose").contains(&words));
        assert!(self.place.health("/readyz?verbose").starts_with("HTTP/1.1 503"));
        let shown = self.place.get("/v1/custody")["problems"].to_string();
        assert!(shown.contains(&words), "{shown}");
        let (status, problem) = self.place.seal();
        assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
        assert_eq!(self.place.record("sidecar.refused", "done")["facts"]["error"], "restored");
    }

    #[track_caller]
    fn waits(&self, ceremony: &Ceremony) {
        let (status, problem) = self.place.execute(ceremony);
        assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("store.restore"), "{problem}");
    }

    /// The approval, and that nothing of before is left over from it.
    fn approved(&self) -> Ceremony {
        // A rehearsal's clock begins at the machine's again; the grant is good for another while.
        self.place.advance(50 * HOUR + 600);
        assert_eq!(self.place.state(&self.joining), "ready", "to the store it has not happened yet");
        assert_eq!(self.granted()["in_force"], true);
        self.waits(&self.joining);
        let restore = self.place.carry_out("store.restore", &json!({ "backup": self.digest }), &["bob", "carol"]);
        let facts = self.place.record("restore.approved", "done")["facts"].clone();
        assert_eq!((&facts["backup_digest"], &facts["ceremony"]), (&json!(self.digest), &json!(restore.id)), "{facts}");
        assert_eq!(facts["roster"], self.place.get("/v1/custody")["roster"]["digest"]);
        assert_eq!(self.place.state(&self.joining), "superseded");
        assert_eq!(self.granted()["in_force"], false);
        restore
    }

    fn granted(&self) -> Value {
        let all = self.place.get("/v1/grants")["grants"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["id"] == self.grant.id.as_str()).unwrap()
    }

    fn serves(&self) {
        eventually("it serves", || self.place.seal().0 == 200);
        self.place.refused(&self.place.execute(&self.joining), "ceremony_state", "superseded");
        assert_eq!(self.place.open(&self.sealed, "TREAT"), 200);
        assert_eq!(self.place.open(&self.sealed, "HRESCH"), 403, "the grant is over");
        let members = self.place.get("/v1/custody")["roster"]["members"].as_array().unwrap().clone();
        assert!(!members.iter().any(|member| member["person"] == "dave"), "what was approved did not happen again");
    }

    fn draft_refused(&self, digest: &str) {
        let asked =
            json!({ "action": "store.restore", "parameters": { "backup": digest }, "reason": "r", "initiator": "kim" });
        let (_, problem) = self.place.post("/v1/ceremonies/draft", &asked);
        assert_eq!(problem["code"], "ceremony_state", "{problem}");
    }
}

#[test]
fn a_store_that_was_restored_serves_nothing_until_its_custodians_say_so_and_nothing_of_before_happens_twice() {
    let mut past = before();
    copied(&past.place, "backup", &[]);
    after(&mut past);
    let (setup, from) = (&past.place.setup, text(&at(&past.place.setup, "backup")));
    std::fs::rename(state(setup), at(setup, "lost")).unwrap();
    let told = keyward_ok(&["restore", "--from", &from, "--config", &setup.config()]);
    let digest = told.split("--set backup=").nth(1).unwrap_or_else(|| panic!("{told}"))[..64].to_owned();
    assert!(told.contains(&format!("digest      {digest}")), "{told}");
    past.digest = digest;
    // Both holds at once: what was put back comes first.
    past.place.setup.edit_config(|text| text + "\n[audit]\ndurability = \"written\"\n");
    past.held();
    past.draft_refused(&"ab".repeat(32));
    let settings = past.place.propose("settings.change", &running(&past.place));
    past.place.approve(&settings, &["bob", "carol"]);
    past.waits(&settings);
    past.place.stop();
    past.held();
    past.waits(&settings);
    assert!(past.place.record("store.restored", "done")["facts"]["roster"].is_string());

    let restore = past.approved();
    eventually("the settings are next", || {
        past.place.health("/readyz?verbose").contains("audit.durability: Synced -> Written")
    });
    assert_eq!(past.place.seal().0, 503);
    assert_eq!(past.place.state(&settings), "superseded");
    past.draft_refused(&past.digest);
    past.place.stop();
    past.place.setup.edit_config(|text| text.replace("\n[audit]\ndurability = \"written\"\n", ""));
    past.place.serving = Some(past.place.setup.serve());
    past.serves();
    assert_eq!(past.place.execute(&restore).1["code"], "ceremony_state", "it is spent");
}

fn put_back(from: &Path, place: &Place) -> PathBuf {
    let store = state(&place.setup).join("store.db");
    for end in ["-wal", "-shm"] {
        let _gone = std::fs::remove_file(state(&place.setup).join(format!("store.db{end}")));
    }
    std::fs::copy(from, &store).unwrap();
    store
}

/// How many changes a refusal says are lost.
fn lost(said: &str) -> String {
    let number = said.split("--accept-lost-changes ").nth(1).unwrap_or_else(|| panic!("{said}"));
    number.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn a_store_that_was_set_back_beside_its_log_is_held_like_one_that_was_restored() {
    let mut past = before();
    copied(&past.place, "backup", &[]);
    let from = text(&at(&past.place.setup, "backup"));
    past.place.stop();
    let older = at(&past.place.setup, "older.db");
    settle(&state(&past.place.setup).join("store.db"));
    std::fs::copy(state(&past.place.setup).join("store.db"), &older).unwrap();
    past.place.serving = Some(past.place.setup.serve());
    past.place.advance(50 * HOUR + 600);
    after(&mut past);

    let config = past.place.setup.config();
    std::fs::rename(state(&past.place.setup).join("store.db"), at(&past.place.setup, "newer.db")).unwrap();
    for end in ["-wal", "-shm"] {
        let _gone = std::fs::remove_file(state(&past.place.setup).join(format!("store.db{end}")));
    }
    let restore = ["restore", "--store-only", "--from", &from, "--config", &config];
    let said = String::from_utf8(keyward(&restore).stderr).unwrap();
    let told = keyward_ok(&[&restore[..], &["--accept-lost-changes", &lost(&said)]].concat());
    past.digest = told.split("--set backup=").nth(1).unwrap_or_else(|| panic!("{told}"))[..64].to_owned();
    past.held();
    past.approved();
    past.serves();

    // The same again, of a file that was put back and is declared as it is: its newest change names it.
    let other = past.place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "usage" }));
    past.place.approve(&other, &["carol"]);
    past.place.stop();
    put_back(&older, &past.place);
    let declare = ["restore", "--store-only", "--in-place", "--config", &config];
    let said = String::from_utf8(keyward(&declare).stderr).unwrap();
    let told = keyward_ok(&[&declare[..], &["--accept-lost-changes", &lost(&said)]].concat());
    past.digest = told.split("--set backup=").nth(1).unwrap_or_else(|| panic!("{told}"))[..64].to_owned();
    assert_eq!(manifest(&from)["head"].as_str().unwrap().split(':').nth(1), Some(&*past.digest), "the older end");
    past.held();
    past.approved();
    past.serves();
}

#[test]
fn a_store_that_nobody_put_back_waits_for_no_approval() {
    let place = Place::new();
    let asked = json!({ "action": "store.restore", "parameters": { "backup": "ab".repeat(32) }, "reason": "r", "initiator": "kim" });
    let (_, problem) = place.post("/v1/ceremonies/draft", &asked);
    assert_eq!(problem["code"], "ceremony_state", "{problem}");
}
