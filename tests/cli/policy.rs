//! `policy explain` and `policy test`: who may do what, word for word.

use serde_json::{Value, json};

use crate::support::Setup;
use crate::{ours, run, text};

const TIME: &str = "2026-01-31T08:00:00Z";

fn explain(arguments: &[&str], files: &[&str]) -> (Option<i32>, String, String) {
    let files: Vec<String> = files.iter().map(|file| ours(&format!("policies/{file}.cedar"))).collect();
    let named = files.iter().flat_map(|file| ["--policies", file]);
    let all: Vec<&str> = ["policy", "explain"].into_iter().chain(arguments.iter().copied()).chain(named).collect();
    run(&all)
}

#[test]
fn explain_names_everybody_with_the_reason_and_the_rule_that_decided() {
    let (code, shown, said) = explain(&["open", "patients", "--purpose", "TREAT"], &["least-privilege"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let expected = "\
yes  service portal       permitted by permit least-privilege.cedar:12
no   service ingest       no_permit
no   custodian custodian  no_permit
no   auditor auditor      no_permit
no   operator operator    no_permit
";
    assert_eq!(shown, expected);

    let arguments = ["keyDestroy", "patients"];
    let (code, shown, _) = explain(&arguments, &["least-privilege", "operator"]);
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[2], "yes  custodian custodian  permitted by permit least-privilege.cedar:53");
    assert_eq!(lines[4], "no   operator operator    forbidden by forbid operator.cedar:29 (operators-hold-no-keys)");
}

#[test]
fn explain_answers_for_one_principal_with_its_exit_code() {
    let asks = |principal, rest: &[&str]| {
        let asked = [&["open", "patients", "--principal", principal], rest].concat();
        explain(&asked, &["break-glass"])
    };
    let btg = ["--purpose", "BTG"];
    let grant = |kind| ["--purpose", "BTG", "--grant", kind];
    let forbidden = "no   service emergency  forbidden by forbid break-glass.cedar:33 (btg-needs-the-glass)\n";
    assert_eq!(asks("emergency", &btg), (Some(1), forbidden.to_owned(), String::new()));
    assert_eq!(asks("emergency", &grant("grant")), (Some(1), forbidden.to_owned(), String::new()));
    let yes = "yes  service emergency  permitted by permit break-glass.cedar:19 (broken-glass)\n";
    assert_eq!(asks("emergency", &grant("break-glass")), (Some(0), yes.to_owned(), String::new()));
    let (code, shown, _) = asks("emergency", &[&grant("break-glass")[..], &["--proof", "token"]].concat());
    assert_eq!(code, Some(1));
    assert!(shown.ends_with("(no-glass-by-token)\n"), "{shown}");
    assert_eq!(asks("emergency", &[]).1, "no   service emergency  purpose_missing\n");
    let (code, shown, said) = asks("nobody", &btg);
    assert_eq!((code, shown.as_str()), (Some(64), ""));
    assert!(said.starts_with("error: there is no principal nobody\nhint: "), "{said}");
}

#[test]
fn explain_prints_json_with_the_whole_question_and_the_policy_set() {
    let arguments = ["open", "patients", "--purpose", "BTG", "--time", TIME, "--json"];
    let (code, shown, _) = explain(&arguments, &["break-glass"]);
    assert_eq!(code, Some(0));
    let told: Value = serde_json::from_str(&shown).unwrap();
    let (_, checked, _) = run(&["policy", "check", &ours("policies/break-glass.cedar")]);
    assert!(checked.ends_with(&format!("policy set {}\n", told["policy"].as_str().unwrap())), "{checked}");
    let rule = json!({ "at": "break-glass.cedar:33", "id": "btg-needs-the-glass", "effect": "forbid" });
    let answer = json!({
        "principal": "emergency", "kind": "service", "permitted": false, "reason": "forbidden", "rules": [rule],
    });
    let expected = json!({
        "action": "open", "keyring": "default/patients", "purpose": "BTG", "grant": null, "proof": "peer",
        "context": {}, "time": "2026-01-31T08:00:00.000Z", "policy": told["policy"], "answers": [answer],
    });
    assert_eq!(told, expected);
}

#[test]
fn explain_looks_at_the_time_and_the_context_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hours.cedar");
    let rule = "permit (principal == Service::\"lab\", action == Action::\"seal\", resource)\n\
                when { context.now < datetime(\"2026-06-01\") && context.fields has ward && context.fields.ward == \"w1\" };\n";
    std::fs::write(&file, rule).unwrap();
    let ask = |time: &str, ward: &str| {
        let ward = format!("ward={ward}");
        let file = text(&file);
        run(&["policy", "explain", "seal", "patients", "--context", &ward, "--time", time, "--policies", &file]).1
    };
    assert_eq!(ask(TIME, "w1"), "yes  service lab  permitted by permit hours.cedar:1\n");
    assert_eq!(ask(TIME, "w2"), "no   service lab  no_permit\n");
    assert_eq!(ask("2026-06-01T00:00:00Z", "w1"), "no   service lab  no_permit\n");
}

#[test]
fn explain_asks_about_the_principals_of_a_configuration() {
    let setup = Setup::new();
    let config = setup.config();
    let (code, shown, said) = run(&["policy", "explain", "policyReload", "--config", &config]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("no   service demo       no_permit"), "{shown}");
    assert!(lines[1].starts_with("yes  operator operator  permitted by permit development.cedar:"), "{shown}");
    let unlisted = ["policy", "explain", "seal", "patients", "--context", "ward=w1", "--config", &config];
    let (code, _, said) = run(&unlisted);
    assert!(code == Some(64) && said.contains("no policy can look at the context key \"ward\""), "{said}");
}

#[test]
fn explain_refuses_a_question_that_makes_no_sense() {
    for (arguments, why) in [
        (&["opne", "patients"][..], "\"opne\" is not an action\nhint: one of seal, open, "),
        (&["open"][..], "open is done to a keyring: name it"),
        (&["auditRead", "patients"][..], "auditRead is done to no single keyring"),
        (&["auditRead", "--grant", "grant"][..], "nobody is granted auditRead"),
        (&["open", "patients", "--proof", "badge"][..], "\"badge\" is not a proof"),
        (&["open", "patients", "--time", "noon"][..], "\"noon\" is not a UTC date and time"),
        (&["open", "patients", "--context", "ward"][..], "\"ward\" is not KEY=VALUE"),
    ] {
        let (code, shown, said) = explain(arguments, &["least-privilege"]);
        assert_eq!((code, shown.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(said.starts_with(&format!("error: {why}")), "{said}");
    }
}

#[test]
fn every_shipped_example_passes_its_own_table_from_the_command_line() {
    let examples =
        ["least-privilege", "development", "sensitivity", "break-glass", "two-person", "auditor", "operator"];
    for name in examples {
        let (code, shown, said) = run(&["policy", "test", &ours(&format!("policies/{name}.cedar"))]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{name}");
        assert!(shown.starts_with("table tests: ") && shown.ends_with(" cases, 0 failed\n"), "{shown}");
    }
    let five: Vec<String> = examples.iter().skip(2).map(|name| ours(&format!("policies/{name}.cedar"))).collect();
    let together: Vec<&str> = ["policy", "test"].into_iter().chain(five.iter().map(String::as_str)).collect();
    let (code, shown, said) = run(&together);
    assert_eq!((code, said.as_str()), (Some(0), ""), "the five may lie beside each other: {shown}");
    let (code, shown, said) =
        run(&["policy", "test", &ours("policies/least-privilege.cedar"), &ours("policies/development.cedar")]);
    assert_eq!(code, Some(1), "their permissions add up: {shown}{said}");
    assert!(said.contains("FAILED "), "{said}");
}
