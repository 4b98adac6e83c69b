//! Sealed values brought under the active version and into other places: what callers get, what they never get, who may, and
//! what the log says of it.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::failover::Pair;
use crate::requests::records;
use crate::support::{KEYWARD, Setup, keyward_ok, post};

const SECRET: &str = "plaintext-of-ada";

fn place(path: &str) -> Value {
    json!({ "resource": "Patient/ada", "path": path })
}

fn seal_at(setup: &Setup, keyring: &str, context: &Value) -> String {
    let body = json!({ "context": context, "text": SECRET }).to_string();
    let (status, answer) = post(&setup.data(), &format!("/v1/keyrings/{keyring}/seal"), &body);
    assert_eq!(status, 200, "{answer}");
    answer["sealed"].as_str().unwrap().to_owned()
}

fn seal(setup: &Setup, path: &str) -> String {
    seal_at(setup, "patients", &place(path))
}

fn open(setup: &Setup, context: &Value, sealed: &str) -> (u16, Value) {
    let body = json!({ "sealed": sealed, "context": context, "purpose": "TREAT" });
    post(&setup.data(), "/v1/open", &body.to_string())
}

/// Rewraps, and looks for plaintext in whatever is answered.
fn rewrap(setup: &Setup, body: &Value) -> (u16, Value) {
    let (status, answer) = post(&setup.data(), "/v1/rewrap", &body.to_string());
    let said = answer.to_string();
    assert!(!said.contains(SECRET) && !said.contains(STANDARD.encode(SECRET).trim_end_matches('=')), "{said}");
    (status, answer)
}

fn rotate(setup: &Setup, keyring: &str) {
    keyward_ok(&["keyring", "rotate", keyring, "--trigger", "personnel", "--config", &setup.config()]);
}

/// The versions of a keyring, oldest first, by id and state.
fn versions(setup: &Setup, keyring: &str) -> Vec<(String, String)> {
    let shown = keyward_ok(&["keyring", "show", keyring, "--json", "--config", &setup.config()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> = shown["versions"].as_array().unwrap().iter().collect();
    all.sort_by_key(|version| text(&version["created"]));
    all.into_iter().map(|version| (text(&version["id"]), text(&version["state"]))).collect()
}

fn active(setup: &Setup, keyring: &str) -> String {
    let all = versions(setup, keyring);
    all.into_iter().find(|(_, state)| state == "active").unwrap().0
}

/// The key version that a value names in its first nine bytes.
fn version_of(sealed: &str) -> String {
    let head = URL_SAFE_NO_PAD.decode(&sealed["kw1.".len()..][..12]).unwrap();
    hex::encode(&head[1..9])
}

/// The outcomes of rewrapping values, oldest first.
fn rewrappings(setup: &Setup) -> Vec<Value> {
    records(setup).into_iter().filter(|record| record["event"] == "data.rewrapped").collect()
}

#[test]
fn values_come_under_the_active_version_and_nothing_shows_what_they_say() {
    let setup = Setup::new();
    let serving = setup.serve();
    setup.keyring();
    let (old, first) = (seal(&setup, "name"), active(&setup, "patients"));
    rotate(&setup, "patients");
    let second = active(&setup, "patients");
    let items = json!({ "context": place("name"), "items": [{ "sealed": old }, { "sealed": seal(&setup, "name") }] });
    let (status, answer) = rewrap(&setup, &items);
    assert_eq!(status, 200, "{answer}");
    let new = answer["items"][0]["sealed"].as_str().unwrap().to_owned();
    assert_eq!((version_of(&old), version_of(&new)), (first.clone(), second.clone()));
    assert_eq!((&answer["items"][0]["unchanged"], &answer["items"][1]["unchanged"]), (&json!(false), &json!(true)));
    for sealed in [&old, &new] {
        assert_eq!(open(&setup, &place("name"), sealed), (200, json!({ "text": SECRET })));
        assert_eq!(open(&setup, &place("alias"), sealed).1["code"], "cannot_open");
    }
    let again = rewrap(&setup, &json!({ "context": place("name"), "sealed": new, "purpose": "HSYSADMIN" }));
    assert_eq!(again, (200, json!({ "sealed": new, "unchanged": true })), "done once, it is done");

    let all = rewrappings(&setup);
    assert_eq!(all.len(), 2, "one record a request");
    let (done, repeated) = (&all[0], &all[1]);
    assert_eq!((&done["outcome"], &done["actor"]["name"]), (&json!("done"), &json!("demo")));
    assert_eq!(done["groups"].as_array().unwrap().len(), 2, "by the versions that values were under: {done}");
    for group in done["groups"].as_array().unwrap() {
        assert!(group["version"] == first.as_str() || group["version"] == second.as_str(), "{done}");
        assert_eq!((&group["done"], &group["keyring"]), (&json!(1), &json!("default/patients")), "{done}");
    }
    let facts = &done["facts"];
    assert_eq!((&facts["rewrapped"], &facts["unchanged"]), (&json!("1"), &json!("1")), "{done}");
    assert_eq!((&facts["to_version"], facts.get("moved")), (&json!(second), None), "{done}");
    assert_eq!((facts["sealed_digest"].as_str().unwrap().len(), done["items_digest"].is_string()), (64, true));
    assert_eq!(done["subjects"].as_array().unwrap().len(), 1, "{done}");
    let facts = repeated["facts"].as_object().unwrap();
    let told: Vec<&str> = facts.keys().map(String::as_str).filter(|name| !name.starts_with("caller_")).collect();
    assert_eq!((told, &repeated["facts"]["unchanged"]), (vec!["unchanged"], &json!("1")), "{repeated}");
    assert_eq!(repeated["purpose"], "HSYSADMIN", "{repeated}");
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
    let (log, said) = (setup.log_bytes(), std::fs::read(setup.dir.path().join("stderr")).unwrap());
    for secret in [SECRET, "Patient/ada", new.as_str()] {
        let inside = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!inside(&log) && !inside(&said), "{secret} is told");
    }
}

#[test]
fn each_item_that_cannot_be_rewrapped_fails_alone_with_its_reason() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let old = seal(&setup, "name");
    let first = active(&setup, "patients");
    rotate(&setup, "patients");
    let mut altered = old.clone().into_bytes();
    let at = altered.len() - 8;
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let mut foreign = URL_SAFE_NO_PAD.decode(&old[4..]).unwrap();
    foreign[3] ^= 1;
    let (status, answer) = rewrap(
        &setup,
        &json!({ "items": [
            { "sealed": old, "context": place("name") },
            { "sealed": old, "context": place("alias") },
            { "sealed": String::from_utf8(altered).unwrap(), "context": place("name") },
            { "sealed": "kw1.AAAA", "context": place("name") },
            { "sealed": format!("kw1.{}", URL_SAFE_NO_PAD.encode(foreign)), "context": place("name") },
            { "sealed": old, "context": { "resource": "Patient/ada" } },
            { "sealed": old, "context": place("name"), "new_context": { "path": "name" } },
            { "sealed": old, "context": place("name"), "new_context": { "kw.keyring": "x" } },
            { "sealed": old, "context": place("name"), "new_context": place("alias") },
        ] }),
    );
    assert_eq!(status, 200, "{answer}");
    let items = answer["items"].as_array().unwrap();
    let codes: Vec<Option<&str>> = items.iter().map(|item| item["error"]["code"].as_str()).collect();
    assert_eq!(
        codes,
        [
            None,
            Some("cannot_open"),
            Some("cannot_open"),
            Some("malformed_value"),
            Some("denied"),
            Some("context_missing"),
            Some("context_missing"),
            Some("invalid_context"),
            None
        ]
    );
    let sealed = |index: usize| items[index]["sealed"].as_str().unwrap();
    assert_eq!(open(&setup, &place("name"), sealed(0)), (200, json!({ "text": SECRET })));
    assert_eq!(open(&setup, &place("alias"), sealed(8)), (200, json!({ "text": SECRET })));
    assert_eq!(open(&setup, &place("name"), sealed(8)).1["code"], "cannot_open", "it has left its place");
    let record = rewrappings(&setup).pop().unwrap();
    let failed = json!({ "cannot_open": 2, "context_missing": 2 });
    let group = json!({ "keyring": "default/patients", "version": first, "done": 2, "failed": failed });
    assert_eq!(record["groups"], json!([group]), "{record}");
    assert_eq!(record["orphans"], json!({ "denied": 1, "invalid_context": 1, "malformed_value": 1 }), "{record}");
    assert_eq!((&record["facts"]["rewrapped"], &record["facts"]["moved"]), (&json!("2"), &json!("1")), "{record}");
    // A value alone has its error as the answer of the request.
    let (status, problem) = rewrap(&setup, &json!({ "sealed": old, "context": place("alias") }));
    assert_eq!((status, &problem["code"]), (422, &json!("cannot_open")));
    let record = rewrappings(&setup).pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("cannot_open")), "{record}");
    let (status, problem) = post(&setup.control(), "/v1/rewrap", "{}");
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}

/// Everything may be rewrapped and sealed but for two places, and four may be read.
const POLICY: &str = r#"
permit (principal == Operator::"operator", action, resource);
permit (principal == Service::"demo", action == Action::"seal", resource)
  when { context.fields has path && context.fields.path != "closed" };
permit (principal == Service::"demo", action == Action::"rewrap", resource)
  when { context.fields has path && context.fields.path != "frozen" };
permit (principal == Service::"demo", action == Action::"open", resource)
  when { context.purpose == "TREAT" && context.fields has path && ["name", "alias", "frozen", "closed"].contains(context.fields.path) };
"#;

#[test]
fn a_value_takes_a_new_context_only_where_both_places_and_its_readers_allow_it() {
    let setup = Setup::new();
    std::fs::write(setup.root().join("policies/development.cedar"), POLICY).unwrap();
    setup.edit_config(|text| text.replace("[policy]\n", "[policy]\ncontext_keys = [\"path\"]\n"));
    let _serving = setup.serve();
    setup.keyring();
    let moves = [
        ("name", "alias", None),
        ("name", "closed", Some("denied")),
        ("name", "frozen", Some("denied")),
        ("frozen", "name", Some("denied")),
        // Whoever moves it could read it there, and cannot read it here.
        ("note", "name", Some("denied")),
        ("note", "draft", None),
        ("alias", "note", None),
    ];
    let items: Vec<Value> = moves
        .iter()
        .map(|(from, to, _)| json!({ "sealed": seal(&setup, from), "context": place(from), "new_context": place(to) }))
        .collect();
    let (status, answer) = rewrap(&setup, &json!({ "items": items }));
    assert_eq!(status, 200, "{answer}");
    for ((from, to, code), item) in moves.iter().zip(answer["items"].as_array().unwrap()) {
        assert_eq!(item["error"]["code"].as_str(), *code, "{from} to {to}: {item}");
    }
    let moved = answer["items"][0]["sealed"].as_str().unwrap();
    assert_eq!(open(&setup, &place("alias"), moved), (200, json!({ "text": SECRET })));
    let record = rewrappings(&setup).pop().unwrap();
    assert_eq!(record["groups"][0]["failed"], json!({ "denied": 4 }), "{record}");
    // In its place it may be rewrapped wherever that is allowed, also where nobody may seal or read.
    let note = seal(&setup, "note");
    rotate(&setup, "patients");
    assert_eq!(rewrap(&setup, &json!({ "sealed": note, "context": place("note") })).1["unchanged"], false);
    // Nothing of it allowed: the whole request is denied, and the log says whom it was about.
    let (status, problem) = rewrap(&setup, &items[1]);
    assert_eq!((status, &problem["code"]), (403, &json!("denied")));
    let record = records(&setup).pop().unwrap();
    assert_eq!((&record["event"], &record["reason"]), (&json!("data.denied"), &json!("no_permit")), "{record}");
    assert!(record["subjects"].as_array().unwrap().len() == 1 && record["items_digest"].is_string(), "{record}");
}

#[test]
fn a_value_stays_where_it_is_if_what_its_mover_may_read_depends_on_time_or_proof() {
    for rule in ["context.proof == \"token\"", "context.now > datetime(\"2099-01-01\")"] {
        let setup = Setup::new();
        let policy = format!(
            "permit (principal == Operator::\"operator\", action, resource);
             permit (principal == Service::\"demo\", action in [Action::\"seal\", Action::\"rewrap\"], resource);
             permit (principal == Service::\"demo\", action == Action::\"open\", resource)
               when {{ context.fields has path && context.fields.path == \"name\" && {rule} }};"
        );
        std::fs::write(setup.root().join("policies/development.cedar"), policy).unwrap();
        setup.edit_config(|text| text.replace("[policy]\n", "[policy]\ncontext_keys = [\"path\"]\n"));
        let _serving = setup.serve();
        setup.keyring();
        let note = seal(&setup, "note");
        let moved = rewrap(&setup, &json!({ "sealed": note, "context": place("note"), "new_context": place("name") }));
        assert_eq!((moved.0, &moved.1["code"]), (403, &json!("denied")), "{rule}: tomorrow it could be read there");
        assert_eq!(rewrap(&setup, &json!({ "sealed": note, "context": place("note") })).0, 200, "{rule}");
    }
}

#[test]
fn values_move_between_patients_and_neither_from_nor_to_one_who_was_shredded() {
    let setup = Setup::new();
    let _serving = setup.serve();
    let config = setup.config();
    keyward_ok(&["keyring", "create", "charts", "--partition", "patient", "--require", "patient", "--config", &config]);
    let of = |patient: &str| json!({ "patient": patient });
    let value = seal_at(&setup, "charts", &of("ada"));
    rotate(&setup, "charts");
    let go =
        |from: &str, to: &str| rewrap(&setup, &json!({ "sealed": value, "context": of(from), "new_context": of(to) }));
    let made = || {
        let all = records(&setup);
        all.iter().filter(|record| record["event"] == "partition.created" && record["outcome"] == "done").count()
    };
    let (status, moved) = go("ada", "bob");
    assert_eq!(status, 200, "{moved}");
    let moved = moved["sealed"].as_str().unwrap();
    assert_eq!(version_of(moved), active(&setup, "charts"));
    assert_eq!(open(&setup, &of("bob"), moved), (200, json!({ "text": SECRET })));
    assert_eq!(open(&setup, &of("ada"), moved).1["code"], "cannot_open");
    assert_eq!(
        open(&setup, &of("ada"), &value),
        (200, json!({ "text": SECRET })),
        "the old one is the caller's to drop"
    );
    assert_eq!(made(), 2, "bob's key was made for him");
    let stays = rewrap(&setup, &json!({ "sealed": value, "context": of("ada") }));
    assert_eq!(open(&setup, &of("ada"), stays.1["sealed"].as_str().unwrap()).0, 200);

    assert_eq!(go("bob", "carl").1["code"], "cannot_open");
    assert_eq!(go("eve", "carl").1["code"], "cannot_open");
    assert_eq!(made(), 2, "who is given nothing gets no key");
    let shred = |patient: &str| {
        let file = setup.dir.path().join("value");
        std::fs::write(&file, patient).unwrap();
        let file = file.display().to_string();
        keyward_ok(&["partition", "shred", "charts", "--value-file", &file, "--reason", "policy", "--config", &config]);
    };
    shred("bob");
    let refused = |(status, problem): (u16, Value)| {
        assert_eq!((status, &problem["code"]), (409, &json!("key_state")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("shredded"), "{problem}");
    };
    refused(go("ada", "bob"));
    assert_eq!(go("ada", "carl").0, 200, "others can still be moved to");
    shred("ada");
    refused(go("ada", "dora"));
    refused(rewrap(&setup, &json!({ "sealed": value, "context": of("ada") })));
    assert_eq!(made(), 3, "a patient whose value is gone brings about no key: carl has the third");
}

#[test]
fn a_version_that_does_not_open_is_not_rewrapped_from_either() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let value = seal(&setup, "name");
    let first = active(&setup, "patients");
    let keyring = |arguments: &[&str]| keyward_ok(&[&["keyring"], arguments, &["--config", &setup.config()]].concat());
    let ask = || rewrap(&setup, &json!({ "sealed": value, "context": place("name") }));
    let same_as_opening = |state: &str| {
        let (asked, mut opened) = (ask(), open(&setup, &place("name"), &value));
        opened.1["request_id"] = asked.1["request_id"].clone();
        assert_eq!(asked, opened, "{state}");
        assert_eq!((asked.0, &asked.1["code"]), (409, &json!("key_state")), "{state}");
        assert!(asked.1["detail"].as_str().unwrap().contains(state), "{asked:?}");
    };
    keyring(&["suspend", "patients", &first, "--reason", "suspicion"]);
    same_as_opening("suspended");
    rotate(&setup, "patients");
    same_as_opening("suspended");
    keyring(&["deactivate", "patients", &first, "--reason", "cleared"]);
    assert_eq!(ask().0, 200, "a deactivated version is what values move away from");
    keyring(&["compromise", "patients", &first, "--reason", "disclosure"]);
    same_as_opening("compromised");
    let record = rewrappings(&setup).pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("key_state")), "{record}");
    assert_eq!(record["groups"][0]["version"], first.as_str(), "{record}");
}

#[test]
fn without_an_active_version_nothing_is_rewrapped_and_values_open() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let value = seal(&setup, "name");
    rotate(&setup, "patients");
    let config = setup.config();
    let second = active(&setup, "patients");
    keyward_ok(&["keyring", "suspend", "patients", &second, "--reason", "suspicion", "--config", &config]);
    let (status, problem) = rewrap(&setup, &json!({ "sealed": value, "context": place("name") }));
    assert_eq!((status, &problem["code"]), (409, &json!("key_state")), "{problem}");
    assert_eq!(open(&setup, &place("name"), &value).0, 200);
}

#[test]
fn while_no_key_can_be_unwrapped_rewrapping_is_unavailable_and_recorded() {
    let pair = Pair::new();
    let setup = &pair.setup;
    let _serving = setup.serve();
    setup.keyring();
    let value = seal(setup, "name");
    let body = json!({ "items": [{ "sealed": value, "context": place("name") }] });
    pair.primary.pull();
    pair.backup.pull();
    // The key leaves the cache after a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (status, answer) = rewrap(setup, &body);
    assert_eq!((status, &answer["items"][0]["error"]["code"]), (200, &json!("unavailable")), "{answer}");
    let record = rewrappings(setup).pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("failed"), &json!("unavailable")), "{record}");
    assert_eq!(record["groups"][0]["failed"], json!({ "unavailable": 1 }), "{record}");
    let (code, printed, said) = lines(setup, &["--context", "resource=Patient/ada", "--context", "path=name"], &value);
    assert_eq!((code, printed.as_str()), (Some(69), ""), "{said}");
    assert!(said.contains("go on with line 1"), "{said}");
}

/// `keyward rewrap` with this input: exit code, standard output, standard error.
fn lines(setup: &Setup, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(KEYWARD);
    command.arg("rewrap").args(arguments).args(["--config", &setup.config()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let done = child.wait_with_output().unwrap();
    let _all_of_it = writing.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_command_line_rewraps_line_by_line_and_a_bad_line_stays_as_it_was() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let (name, note) = (seal(&setup, "name"), seal(&setup, "note"));
    rotate(&setup, "patients");
    let second = active(&setup, "patients");
    let shared = ["--context", "resource=Patient/ada"];
    let row = |id: usize, sealed: &str, more: Value| {
        let mut row = json!({ "id": id, "sealed": sealed, "context": { "path": "name" } });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row.to_string()
    };
    // More than two requests' worth, with every kind of line that cannot be rewrapped among them.
    let mut input: Vec<String> = (0..1_100).map(|id| row(id, &name, json!({}))).collect();
    input[3] = row(3, &note, json!({}));
    input[5] = "{\"sealed\":7}".to_owned();
    input[7] = String::new();
    input[700] = row(700, &name, json!({ "new_context": { "resource": "Patient/ada", "path": "alias" } }));
    input[900] = "not a value".to_owned();
    let (code, printed, said) = lines(&setup, &shared, &(input.join("\n") + "\n"));
    assert_eq!(code, Some(1), "{said}");
    let printed: Vec<&str> = printed.strip_suffix('\n').unwrap().split('\n').collect();
    assert_eq!(printed.len(), input.len());
    for (number, (before, after)) in input.iter().zip(&printed).enumerate() {
        if [5, 7, 900].contains(&number) {
            assert_eq!(before, after);
            continue;
        }
        let after: Value = serde_json::from_str(after).unwrap();
        assert_eq!(after["id"], number, "in their order");
        if number == 3 {
            assert_eq!((&after["sealed"], &after["error"]["code"]), (&json!(note), &json!("cannot_open")));
        } else {
            assert_eq!(
                (version_of(after["sealed"].as_str().unwrap()), &after["unchanged"]),
                (second.clone(), &json!(false))
            );
        }
    }
    let moved: Value = serde_json::from_str(printed[700]).unwrap();
    assert_eq!(open(&setup, &place("alias"), moved["sealed"].as_str().unwrap()).0, 200);
    for told in [
        "error: line 4: ",
        "error: line 6: ",
        "error: line 901: ",
        "1099 values: 1096 rewrapped, 0 unchanged, 3 failed",
    ] {
        assert!(said.contains(told), "{told} is missing: {said}");
    }
    // What came out goes in again: nothing is left to do.
    let rest: Vec<&str> =
        printed.into_iter().enumerate().filter(|(n, _)| ![3, 5, 700, 900].contains(n)).map(|(_, line)| line).collect();
    let (code, again, said) = lines(&setup, &shared, &rest.join("\n"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1095 values: 0 rewrapped, 1095 unchanged, 0 failed"), "{said}");
    for (before, after) in rest.iter().zip(again.lines()).filter(|(before, _)| !before.is_empty()) {
        let sealed = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sealed"].clone();
        assert_eq!(sealed(before), sealed(after));
    }
    // Bare values, and one alone.
    let whole = ["--context", "resource=Patient/ada", "--context", "path=name"];
    let (code, printed, said) = lines(&setup, &whole, &format!("{name}\n{note}\n"));
    assert_eq!(code, Some(1), "{said}");
    let printed: Vec<&str> = printed.lines().collect();
    assert_eq!((version_of(printed[0]), printed[1]), (second.clone(), note.as_str()));
    let config = setup.config();
    let one = keyward_ok(&[&["rewrap", &name, "--config", &config], &whole[..]].concat());
    assert_eq!(open(&setup, &place("name"), one.trim_end()), (200, json!({ "text": SECRET })));
}

#[test]
fn a_document_comes_under_the_active_version_and_opens_byte_for_byte() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let config = setup.config();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fhir-bundle.json");
    let at = |name: &str| setup.dir.path().join(name).display().to_string();
    let (sealed, newer) = (at("sealed.json"), at("newer.json"));
    keyward_ok(&["document", "seal", "--keyring", "patients", chart, "--output", &sealed, "--config", &config]);
    rotate(&setup, "patients");
    keyward_ok(&["document", "rewrap", &sealed, "--output", &newer, "--config", &config]);
    let values = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        text.match_indices("\"kw1.").map(|(at, _)| version_of(&text[at + 1..])).collect::<Vec<_>>()
    };
    let (before, after) = (values(&sealed), values(&newer));
    assert!(before.len() == after.len() && before.len() > 10, "{} {}", before.len(), after.len());
    let second = active(&setup, "patients");
    assert!(before.iter().all(|version| *version != second) && after.iter().all(|version| *version == second));
    let opened = keyward_ok(&["document", "open", "--purpose", "TREAT", &newer, "--config", &config]);
    assert!(opened.as_bytes() == std::fs::read(chart).unwrap());
}

/// A batch of nothing but such lines is no outage: whoever loops over the file must come past it.
#[test]
fn lines_under_a_key_that_was_edited_in_the_store_fail_by_name_and_the_others_go_on() {
    let setup = Setup::new();
    setup.edit_config(|text| text + "\n[cache]\nttl = \"1s\"\noffline_max = \"0s\"\n");
    let _serving = setup.serve();
    setup.keyring();
    crate::partitions::charts(&setup);
    let ada = json!({ "patient": "Patient/ada" });
    let (chart, name) = (seal_at(&setup, "charts", &ada), seal(&setup, "name"));
    rotate(&setup, "patients");
    crate::partitions::store(&setup).execute("UPDATE partitions SET wrap = x'00'", []).unwrap();
    // The partition's key leaves the cache after a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (status, problem) = open(&setup, &ada, &chart);
    assert_eq!((status, &problem["code"]), (500, &json!("key_damaged")), "{problem}");
    let damaged = json!({ "sealed": chart, "context": ada }).to_string();
    let mut input = vec![damaged; 600];
    input.push(json!({ "sealed": name, "context": place("name") }).to_string());
    let (code, printed, said) = lines(&setup, &[], &(input.join("\n") + "\n"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("601 values: 1 rewrapped, 0 unchanged, 600 failed"), "{said}");
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed.len(), 601);
    for line in &printed[..600] {
        assert_eq!((&line["sealed"], &line["error"]["code"]), (&json!(chart), &json!("key_damaged")));
    }
    assert_eq!(version_of(printed[600]["sealed"].as_str().unwrap()), active(&setup, "patients"));
    let record = rewrappings(&setup).remove(0);
    assert_eq!(record["groups"][0]["failed"], json!({ "key_damaged": 500 }), "{record}");
}
