use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A value of a form, and one that is none.
pub(in crate::ceremony) fn example(form: Form) -> (String, String) {
    let (good, bad) = match form {
        Form::Keyring => ("acme/patients", "acme/patients/x"),
        Form::Kek => ("primary", "Primary"),
        Form::Version => ("0123456789abcdef", "0123456789ABCDEF"),
        Form::Lookup => ("index/mrn", "mrn"),
        Form::Principal => ("mallory", "Mallory"),
        Form::Purpose => ("TREAT", "treat"),
        Form::ContextKeys => ("encounter,patient", "patient,encounter"),
        Form::ContextKey => ("patient", "kw.patient"),
        Form::Word(words) => (words[0], "whim"),
        Form::Number(least, most) => return (least.to_string(), (most + 1).to_string()),
        Form::Days => ("35d", "035d"),
        Form::Digest => ("ab", "ab"),
        Form::Partition => ("0123456789abcdef0123456789abcdef", "Jane Doe"),
        Form::SshKey => (KEY, "ssh-dss AAAA"),
        Form::Code => ("night-shift", "Night shift"),
        Form::Label => ("INC-1", "a b"),
        Form::Proof => (PROOF, "U1NIU0lH"),
        Form::Changes => (r#"{"audit.durability":"Synced","listen.tcp":null}"#, r#"{"audit.durability":1}"#),
        Form::Rules => {
            return (STANDARD.encode(include_str!("../../../policies/separation.toml")), "c2NoZW1hID0gMg==".to_owned());
        }
    };
    if form == Form::Digest { ("ab".repeat(32), "AB".repeat(32)) } else { (good.to_owned(), bad.to_owned()) }
}

/// Made by `ssh-keygen -Y sign` with a key that was thrown away.
const PROOF: &str = "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgDBdtOUnkP9LytS871JqxGs5TMfrM2emqPhx4vTDoe8UAAAARa2V5d2FyZC1yZWhlYXJzYWwAAAAAAAAABnNoYTUxMgAAAFMAAAALc3NoLWVkMjU1MTkAAABABTwk+Cz/wKipE8Ub6HAF0IWmqyQHIMyI4mQP5wGL8jTbmCeK5YWLuQB6iLJyDwdrkp64DfiNSJMys3UWD6tvAg==";

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8P0ySnCp3c1mEQyGj1zV8oFJfMz7ZrRgQ9Yd0bUxrV";

/// The required parameters of an action, or all.
pub(in crate::ceremony) fn parameters(action: Action, all: bool) -> Parameters {
    let wanted = action.parameters().iter().filter(|one| all || one.required);
    let mut given: Parameters = wanted.map(|one| (one.name.to_owned(), example(one.form).0)).collect();
    if let Some(second) = given.get_mut("second_key") {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL8P0ySnCp3c1mEQyGj1zV8oFJfMz7ZrRgQ9Yd0bUxrV".clone_into(second);
    }
    if let Some(rules) = given.get("rules").and_then(|text| form::rules(text)) {
        given.insert("separation".to_owned(), hex::encode(rules.digest()));
    }
    if action == Action::KeyringConfigure {
        given.insert("messages".to_owned(), "5".to_owned());
    }
    given
}

#[test]
fn the_table_has_one_row_for_each_action_with_a_name_of_its_own() {
    assert_eq!(table::ROWS.iter().map(|row| row.action).collect::<Vec<_>>(), Action::ALL);
    for action in Action::ALL {
        assert_eq!(action.name().parse(), Ok(*action));
        let names: std::collections::BTreeSet<_> = action.parameters().iter().map(|one| one.name).collect();
        assert_eq!(names.len(), action.parameters().len(), "{action}");
    }
    assert_eq!("key.delete".parse::<Action>(), Err(UnknownAction));
}

#[test]
fn cer_4_each_parameter_is_known_given_and_spelt_one_way() {
    for action in Action::ALL {
        for all in [false, true] {
            assert_eq!(action.check(&parameters(*action, all)), Ok(()), "{action}");
        }
        let mut more = parameters(*action, false);
        more.insert("extra".to_owned(), "x".to_owned());
        assert!(action.check(&more).unwrap_err().contains("takes no parameter of that name"), "{action}");
        for parameter in action.parameters() {
            let mut wrong = parameters(*action, true);
            wrong.insert(parameter.name.to_owned(), example(parameter.form).1);
            let said = action.check(&wrong).unwrap_err();
            assert!(said.contains(parameter.name), "{action} {}: {said}", parameter.name);
            let mut less = parameters(*action, true);
            less.remove(parameter.name);
            assert_eq!(
                action.check(&less).is_err(),
                parameter.required
                    || less.len() != parameters(*action, true).len() - 1
                    || ["required_context", "separation", "rules", "second_key", "second_proof"]
                        .contains(&parameter.name),
                "{action} {}",
                parameter.name
            );
        }
    }
}

#[test]
fn a_subject_a_second_key_and_an_empty_change_are_looked_at_together() {
    let mut create = parameters(Action::KeyringCreate, true);
    create.insert("subject_key".to_owned(), "doctor".to_owned());
    assert!(Action::KeyringCreate.check(&create).unwrap_err().contains("one of required_context"));
    let mut enrol = parameters(Action::CustodianEnrol, true);
    enrol.insert("second_key".to_owned(), KEY.to_owned());
    assert!(Action::CustodianEnrol.check(&enrol).unwrap_err().contains("another key"));
    let nothing = Parameters::from([("keyring".to_owned(), "patients".to_owned())]);
    assert!(Action::KeyringConfigure.check(&nothing).unwrap_err().contains("changes nothing"));
}

#[test]
fn cer_5_the_effect_says_every_value_and_leaves_out_what_is_not_given() {
    for action in Action::ALL {
        for all in [false, true] {
            let given = parameters(*action, all);
            let effect = action.effect(&given);
            // Of rules it says the digest.
            for (name, value) in given.iter().filter(|(name, _)| !name.ends_with("proof") && *name != "rules") {
                assert!(effect.contains(value.as_str()), "{action} does not say {name}: {effect}");
            }
            let changes = given.get("changes").map_or("", String::as_str);
            assert!(!effect.replacen(changes, "", 1).contains(['{', '}', '[', ']']), "{effect}");
            assert!(effect.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{effect}");
        }
    }
    let given = Parameters::from([("keyring".to_owned(), "p".to_owned()), ("trigger".to_owned(), "usage".to_owned())]);
    assert_eq!(
        Action::KeyringRotate.effect(&given),
        "Give the keyring p a new active key version, because of: usage. Older versions still open what they sealed."
    );
}

#[test]
fn the_people_whom_an_action_concerns_are_named_by_its_parameters() {
    let enrol = parameters(Action::CustodianEnrol, false);
    assert_eq!(Action::CustodianEnrol.concerns(&enrol), ["mallory".parse().unwrap()]);
    assert_eq!(Action::KeyDestroy.concerns(&parameters(Action::KeyDestroy, false)), []);
    assert_eq!(Action::KekRotate.keyring(&parameters(Action::KekRotate, false)), None);
    assert_eq!(
        Action::KeyDestroy.keyring(&parameters(Action::KeyDestroy, false)),
        Some("acme/patients".parse().unwrap())
    );
}
