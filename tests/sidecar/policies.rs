//! Policy files that change while a sidecar serves: at a signal, by a verb, and with mistakes in them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::requests::records;
use crate::support::{Setup, keyward, post};

const SEAL: &str = "/v1/keyrings/patients/seal";
const NO_SEALING: &str = "\n@id(\"closed\")\nforbid (principal, action == Action::\"seal\", resource);\n";

fn file(setup: &Setup) -> std::path::PathBuf {
    setup.root().join("policies/development.cedar")
}

fn write(setup: &Setup, text: &str) {
    std::fs::write(file(setup), text).unwrap();
}

fn read(setup: &Setup) -> String {
    std::fs::read_to_string(file(setup)).unwrap()
}

fn seal(setup: &Setup) -> u16 {
    let context = json!({ "resource": "Patient/1", "path": "name" });
    post(&setup.data(), SEAL, &json!({ "context": context, "text": "Ada" }).to_string()).0
}

fn reload(setup: &Setup) -> (Option<i32>, String, String) {
    let done = keyward(&["policy", "reload", "--config", &setup.config()]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

fn digest(setup: &Setup) -> String {
    let done = keyward(&["check", "--config", &setup.config()]);
    let shown = String::from_utf8(done.stdout).unwrap();
    let line = shown.lines().find_map(|line| line.strip_prefix("policy set     ")).unwrap();
    line.split(' ').next().unwrap().to_owned()
}

/// Every record about policy sets so far.
fn loaded(setup: &Setup) -> Vec<Value> {
    records(setup).into_iter().filter(|record| record["event"] == "policy.loaded").collect()
}

/// The outcome of the signal that is the `nth` record about policy sets to have one.
fn after_signal(setup: &Setup, nth: usize) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let outcomes = loaded(setup).into_iter().filter(|record| record["outcome"] != "intent");
        if let Some(record) = outcomes.skip(nth).last() {
            return record;
        }
        assert!(Instant::now() < until, "the signal has come to nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_reloaded_policy_set_decides_and_its_digest_stands_in_the_records() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(seal(&setup), 200);
    let (before, old) = (digest(&setup), read(&setup));
    assert_eq!(reload(&setup), (Some(0), format!("policy set {before} (1 files)\nas before\n"), String::new()));

    write(&setup, &(old.clone() + NO_SEALING));
    assert_eq!(seal(&setup), 200, "a file that nobody has loaded decides nothing");
    let now = digest(&setup);
    assert_ne!(before, now);
    let told = format!("policy set {now} (1 files)\nbefore     {before}\n");
    assert_eq!(reload(&setup), (Some(0), told, String::new()));
    assert_eq!(seal(&setup), 403, "no decision of the set before is left");

    let of_sets = loaded(&setup);
    let [.., intent, outcome] = of_sets.as_slice() else { panic!("{of_sets:?}") };
    assert_eq!((&intent["outcome"], &outcome["outcome"]), (&json!("intent"), &json!("done")));
    assert_eq!(outcome["intent"], intent["index"]);
    for record in [intent, outcome] {
        assert_eq!(record["actor"]["name"], "operator");
        assert_eq!(record["policy"], json!(before), "it was decided by the set before");
        assert_eq!(record["facts"], json!({ "policy_digest": now, "policy_files": "1" }));
    }
    let all = records(&setup);
    let denied = all.iter().rev().find(|record| record["event"] == "data.denied").unwrap();
    assert_eq!((&denied["policy"], &denied["reason"]), (&json!(now), &json!("forbidden")));

    // Who starts with the files has the same set in force.
    assert_eq!(serving.stop(), Some(0));
    let _serving = setup.serve();
    assert_eq!(seal(&setup), 403);
}

#[test]
fn a_bad_policy_set_keeps_the_old_one_and_hears_every_reason() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let (old, before) = (read(&setup), digest(&setup));
    write(
        &setup,
        &format!(
            "{old}\npermit (principal, action == Action::\"sael\", resource);\npermit (principal action, resource);"
        ),
    );
    std::fs::write(setup.root().join("policies/b.cedar"), "permit (principal == Service::\"x\", action, resource);")
        .unwrap();
    let (code, shown, said) = reload(&setup);
    assert_eq!((code, shown.as_str()), (Some(78), ""), "{said}");
    let begin = "error: the policy files are refused; the set before stays in force (policy_refused): ";
    assert!(said.starts_with(begin) && said.contains("\nhint: correct what the detail names"), "{said}");
    assert!(said.contains("b.cedar:1: Service::\"x\" is not configured"), "{said}");
    assert!(said.contains("development.cedar:"), "{said}");
    assert_eq!(seal(&setup), 200);

    let record = loaded(&setup).pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("policy_refused")));
    assert_eq!((&record["policy"], &record["actor"]["name"]), (&json!(before), &json!("operator")));

    // Nor can a set be loaded that locks everybody out, or none at all.
    std::fs::remove_file(setup.root().join("policies/b.cedar")).unwrap();
    for (text, lost) in [
        (old.replace("Action::\"policyReload\"", "Action::\"auditRead\""), "policyReload"),
        (format!("{old}\nforbid (principal, action == Action::\"ceremonyExecute\", resource);"), "ceremonyExecute"),
        (String::new(), "policyReload"),
    ] {
        write(&setup, &text);
        let (code, _, said) = reload(&setup);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(&format!("nobody would be permitted {lost} any more")), "{said}");
        assert_eq!(seal(&setup), 200);
    }
    std::fs::remove_dir_all(setup.root().join("policies")).unwrap();
    let (code, _, said) = reload(&setup);
    assert!(code == Some(78) && said.contains("cannot read "), "{said}");
    assert_eq!(seal(&setup), 200);
}

#[test]
fn a_signal_puts_the_policy_files_in_force_or_keeps_the_set_and_is_recorded_either_way() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let (old, before) = (read(&setup), digest(&setup));
    write(&setup, "this is no policy");
    serving.signal("HUP");
    let record = after_signal(&setup, 0);
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("policy_refused")));
    assert_eq!((&record["actor"]["kind"], &record["facts"]), (&json!("sidecar"), &json!({ "trigger": "signal" })));
    assert_eq!(seal(&setup), 200);
    assert!(std::fs::read_to_string(setup.dir.path().join("stderr")).unwrap().contains("development.cedar:1:"));

    write(&setup, &(old + NO_SEALING));
    let now = digest(&setup);
    serving.signal("HUP");
    let record = after_signal(&setup, 1);
    assert_eq!((&record["outcome"], &record["policy"]), (&json!("done"), &json!(before)));
    assert_eq!(record["facts"], json!({ "policy_digest": now, "policy_files": "1", "trigger": "signal" }));
    let announced = loaded(&setup).into_iter().find(|record| record["outcome"] == "intent").unwrap();
    assert_eq!(record["intent"], announced["index"]);
    assert_eq!(seal(&setup), 403);
    assert_eq!(serving.stop(), Some(0), "it serves on until it is asked to stop");
}

#[test]
fn who_may_not_reload_policies_is_denied() {
    let setup = Setup::new();
    write(&setup, &read(&setup).replace("Action::\"policyReload\"", "Action::\"auditRead\""));
    let _serving = setup.serve();
    setup.keyring();
    let before = digest(&setup);
    write(&setup, &(read(&setup) + NO_SEALING));
    let (code, shown, said) = reload(&setup);
    assert_eq!((code, shown.as_str()), (Some(77), ""), "{said}");
    assert_eq!(seal(&setup), 200);
    assert!(loaded(&setup).is_empty());
    let all = records(&setup);
    let denied = all.iter().rev().find(|record| record["event"] == "data.denied").unwrap();
    assert_eq!((&denied["reason"], &denied["policy"]), (&json!("no_permit"), &json!(before)));
    assert_eq!(post(&setup.data(), "/v1/policy/reload", "{}").0, 404, "no data listener has it");
    assert_eq!(post(&setup.control(), "/v1/policy/reload", "{\"file\":\"x\"}").0, 400);
}

#[test]
fn a_value_stays_where_it_is_if_a_grant_may_let_its_mover_read_it() {
    let granted = "context has grant && context.grant == \"break-glass\"";
    let named = "context.fields has path && context.fields.path == \"name\"";
    for (rule, code) in [(format!("{granted} && {named}"), 403), (granted.to_owned(), 200)] {
        let setup = Setup::new();
        let policy = format!(
            "permit (principal == Operator::\"operator\", action, resource);
             permit (principal == Service::\"demo\", action in [Action::\"seal\", Action::\"rewrap\"], resource);
             permit (principal == Service::\"demo\", action == Action::\"open\", resource) when {{ {rule} }};"
        );
        write(&setup, &policy);
        setup.edit_config(|text| text.replace("[policy]\n", "[policy]\ncontext_keys = [\"path\"]\n"));
        let _serving = setup.serve();
        setup.keyring();
        let place = |path: &str| json!({ "resource": "Patient/1", "path": path });
        let sealed = post(&setup.data(), SEAL, &json!({ "context": place("note"), "text": "Ada" }).to_string()).1;
        let moving = json!({ "sealed": sealed["sealed"], "context": place("note"), "new_context": place("name") });
        let (status, told) = post(&setup.data(), "/v1/rewrap", &moving.to_string());
        assert_eq!(status, code, "{rule}: {told}");
    }
}
