//! `hsm probe` as people meet it: what it refuses, what it prints, which exit code it gives.

use crate::run;
use crate::softhsm::{MODULE, Softhsm, TOKEN_LABEL};
use crate::text;

fn probe(token: &Softhsm, arguments: &[&str]) -> (Option<i32>, String, String) {
    let env = format!("SOFTHSM2_CONF={}", text(&token.conf()));
    run(&[&["hsm", "probe", "--env", &env], arguments].concat())
}

#[test]
fn hsm_probe_says_what_is_missing() {
    let (code, _, said) = run(&["hsm", "probe"]);
    assert_eq!(code, Some(64));
    assert!(said.ends_with("error: name the vendor's library by --module, or a profile that knows it\n"), "{said}");
    let (code, _, said) = run(&["hsm", "probe", "--profile", "softhsm2", "--token-label", "x"]);
    assert_eq!(code, Some(64));
    assert!(said.ends_with("error: the token wants a PIN: name its file by --pin-file\n"), "{said}");
    let (code, _, said) = run(&["hsm", "probe", "--pin-file", "/nowhere"]);
    assert_eq!(code, Some(64));
    assert!(said.contains("--token-label <LABEL>"), "{said}");
    let (code, _, said) = run(&["hsm", "probe", "--profile", "softhsm2", "--env", "LD_PRELOAD=/x.so"]);
    assert_eq!(code, Some(64));
    assert!(said.contains("the profile softhsm2 does not let LD_PRELOAD reach the library"), "{said}");
    let (code, _, said) = run(&["hsm", "probe", "--module", MODULE, "--env", "LD_PRELOAD=/x.so"]);
    assert_eq!(code, Some(64));
    assert!(said.contains("LD_PRELOAD is the loader's"), "{said}");
    let (code, _, said) = run(&["hsm", "probe", "--module", "/nowhere.so"]);
    assert_eq!((code, said.contains("the library /nowhere.so does not exist")), (Some(64), true), "{said}");
}

#[test]
fn hsm_probe_help_says_that_a_refused_pin_counts() {
    let (code, shown, _) = run(&["hsm", "probe", "--help"]);
    assert_eq!(code, Some(0));
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for promise in
        ["A refused PIN is not tried again", "the token counts it", "Nothing stays in the token", "--state-dir"]
    {
        assert!(shown.contains(promise), "{promise}: {shown}");
    }
}

#[test]
fn hsm_probe_exits_0_if_the_profile_holds_and_1_if_it_does_not() {
    let token = Softhsm::new();
    let pin = text(&token.pin());
    let on = ["--token-label", TOKEN_LABEL, "--pin-file", &pin, "--no-rates"];
    let (code, shown, _) = probe(&token, &[&["--profile", "softhsm2", "--method", "aes-gcm"], &on[..]].concat());
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.ends_with("the profile softhsm2 holds\n"), "{shown}");
    let wrong = std::fs::read_to_string(crate::ours("hsm-profiles/softhsm2.toml")).unwrap();
    let path = token.dir().join("wrong.toml");
    std::fs::write(&path, wrong.replace("iv = \"caller\"", "iv = \"hsm-writeback\"")).unwrap();
    let path = text(&path);
    let (code, shown, _) = probe(&token, &[&["--profile", &path, "--method", "aes-gcm"], &on[..]].concat());
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("to change: set iv = \"caller\", which works"), "{shown}");
    let (code, shown, _) = probe(&token, &[&["--profile", &path, "--method", "aes-gcm", "--json"], &on[..]].concat());
    let report: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &report["token"]["holds"], &report["schema"]), (Some(1), &false.into(), &1.into()));
}

#[test]
fn hsm_probe_prints_a_draft_that_can_go_straight_into_a_file() {
    let token = Softhsm::new();
    let pin = text(&token.pin());
    let (code, shown, said) = probe(&token, &["--module", MODULE, "--token-label", TOKEN_LABEL, "--pin-file", &pin]);
    assert_eq!(code, Some(0), "{said}");
    keyward::kek::profile::Profile::parse(&shown).unwrap();
    assert!(said.contains("aes-gcm") && said.contains("trying"), "{said}");
    let draft = text(&token.dir().join("draft.toml"));
    let arguments = ["--module", MODULE, "--token-label", TOKEN_LABEL, "--pin-file", &pin, "--draft", &draft];
    let (code, shown, _) = probe(&token, &arguments);
    assert_eq!((code, shown.contains("[[wrap]]")), (Some(0), false));
    assert!(std::fs::read_to_string(&draft).unwrap().contains("[[wrap]]"));
}

#[test]
fn hsm_probe_refuses_with_the_tokens_words_and_says_where_a_pin_is_open_to_others() {
    let token = Softhsm::new();
    let pin = text(&token.pin());
    let on = ["--profile", "softhsm2", "--pin-file", &pin, "--token-label"];
    let (code, _, said) = probe(&token, &[&on[..], &["other"]].concat());
    assert_eq!((code, said.contains("error: no token has the configured label")), (Some(69), true), "{said}");
    token.write_pin("00000000", 0o600);
    let (code, _, said) = probe(&token, &[&on[..], &[TOKEN_LABEL]].concat());
    assert_eq!(code, Some(77));
    assert!(said.contains("error: the token refused: C_Login answered CKR_PIN_INCORRECT (0xa0)"), "{said}");
    token.write_pin("12345678", 0o644);
    let (code, _, said) = probe(&token, &[&on[..], &[TOKEN_LABEL]].concat());
    assert_eq!((code, said.contains("error: the PIN cannot be used: ")), (Some(64), true), "{said}");
}

#[test]
fn every_field_of_the_json_is_explained_in_the_readme_of_the_profiles() {
    let token = Softhsm::new();
    let pin = text(&token.pin());
    let on = ["--token-label", TOKEN_LABEL, "--pin-file", &pin, "--json"];
    let (_, drafted, _) = probe(&token, &[&["--module", MODULE], &on[..]].concat());
    let wrong = std::fs::read_to_string(crate::ours("hsm-profiles/softhsm2.toml")).unwrap();
    let path = token.dir().join("wrong.toml");
    std::fs::write(&path, wrong.replace("iv = \"caller\"", "iv = \"hsm-writeback\"")).unwrap();
    let (_, held, _) = probe(&token, &[&["--profile", &text(&path), "--method", "aes-gcm"], &on[..]].concat());
    let readme = std::fs::read_to_string(crate::ours("hsm-profiles/README.md")).unwrap();
    let about = readme.split("### `--json`").nth(1).unwrap();
    let mut fields = std::collections::BTreeSet::new();
    for report in [drafted, held] {
        collect(&serde_json::from_str(&report).unwrap(), &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    let missing: Vec<_> = fields.iter().filter(|field| !about.contains(&format!("`{field}`"))).collect();
    assert_eq!(missing, [""; 0]);
}

fn collect(value: &serde_json::Value, fields: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| {
            fields.insert(key.clone());
            collect(value, fields);
        }),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, fields)),
        _ => {}
    }
}
