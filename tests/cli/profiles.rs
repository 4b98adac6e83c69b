//! `hsm list` and `hsm show`: what is shipped, and a profile exactly as it is written.

use crate::{ours, run};

#[test]
fn hsm_list_names_every_shipped_profile_and_how_far_to_trust_it() {
    let (code, shown, said) = run(&["hsm", "list"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let line = |id: &str| shown.lines().find(|line| line.contains(&format!(" {id} "))).unwrap_or_default();
    assert!(line("softhsm2").contains(" live "), "{shown}");
    assert!(
        line("aws-cloudhsm").contains(" docs ") && line("aws-cloudhsm").contains("aes-gcm (hsm-prepended)"),
        "{shown}"
    );
    assert!(line("fortanix-dsm").contains(" second-hand "), "{shown}");
}

#[test]
fn hsm_list_as_json_tells_two_tables_of_one_method_apart() {
    let (code, shown, _) = run(&["hsm", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let profiles = listed["profiles"].as_array().unwrap();
    let cloudhsm = profiles.iter().find(|profile| profile["id"] == "aws-cloudhsm").unwrap();
    let expected = serde_json::json!({
        "id": "aws-cloudhsm",
        "product": "AWS CloudHSM, Client SDK 5",
        "verified": "docs",
        "methods": [
            { "method": "aes-gcm", "variant": "hsm-prepended", "mechanism": "0x80001087" },
            { "method": "aes-gcm", "variant": "hsm-writeback", "mechanism": "0x1087" },
        ],
    });
    assert_eq!((code, cloudhsm), (Some(0), &expected));
    let kwp = profiles.iter().flat_map(|profile| profile["methods"].as_array().unwrap());
    assert!(kwp.into_iter().any(|method| method["method"] == "aes-kwp" && method["variant"].is_null()));
}

#[test]
fn hsm_show_prints_a_profile_to_the_byte_and_every_listed_one_can_be_shown() {
    let (_, listed, _) = run(&["hsm", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    for profile in listed["profiles"].as_array().unwrap() {
        let id = profile["id"].as_str().unwrap();
        let file = std::fs::read_to_string(ours(&format!("hsm-profiles/{id}.toml"))).unwrap();
        assert_eq!(run(&["hsm", "show", id]), (Some(0), file, String::new()));
    }
}

#[test]
fn hsm_show_of_an_unknown_id_says_what_there_is() {
    let (code, shown, said) = run(&["hsm", "show", "luna9"]);
    assert_eq!((code, shown.as_str()), (Some(64), ""));
    assert!(said.starts_with("error: keyward ships no profile luna9: it ships aws-cloudhsm, "), "{said}");
    assert!(said.ends_with("hint: `keyward hsm list` shows the profiles that keyward ships\n"), "{said}");
}
