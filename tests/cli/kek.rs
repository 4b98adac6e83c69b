//! `kek show` and `kek rotate` as an operator meets them: what is there, what was made, and what to do now.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::softhsm::{MODULE, Softhsm, TOKEN_LABEL};
use crate::{run, text};

fn development(dir: &Path) -> String {
    let home = dir.join("dev");
    let (code, _, said) = run(&["init", "--development", &text(&home)]);
    assert_eq!(code, Some(0), "{said}");
    text(&home.join("keyward.toml"))
}

#[test]
fn a_key_in_a_file_is_shown_and_rotated_and_a_second_run_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = development(dir.path());
    let (code, shown, said) = run(&["kek", "show", "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.starts_with("file        ") && shown.contains("/dev/kek, for development only\n"), "{shown}");
    assert!(shown.contains("version     1 wraps and opens\n"), "{shown}");
    let rotate = || run(&["kek", "rotate", "--to", "2", "--config", &config]);
    let (code, rotated, said) = rotate();
    assert_eq!(code, Some(0), "{said}");
    assert!(rotated.contains("version     1 opens\nversion     2 wraps and opens\n"), "{rotated}");
    assert!(rotated.contains("made        version 2 in "), "{rotated}");
    assert!(rotated.contains("next: 1. nothing in the configuration"), "{rotated}");
    assert!(rotated.contains("next: 2. keyward kek rewrap --trigger "), "{rotated}");
    let (code, again, _) = rotate();
    assert_eq!(code, Some(0));
    assert!(again.contains("version 2 was there: nothing was made\n"), "{again}");
}

#[test]
fn a_pinned_key_in_a_token_is_rotated_and_the_setting_to_change_is_named() {
    let (dir, token) = (tempfile::tempdir().unwrap(), Softhsm::new());
    let config = development(dir.path());
    let written = std::fs::read_to_string(&config).unwrap();
    let (start, end) = (written.find("[kek.primary]").unwrap(), written.find("[policy]").unwrap());
    let kek = format!(
        "[kek.primary]\ntype = \"pkcs11\"\nprofile = \"softhsm2\"\nmodule = \"{MODULE}\"\ntoken_label = \"{TOKEN_LABEL}\"\n\
         key_label = \"kek-{{version}}\"\nkey_version = 1\npin_file = \"{}\"\nenv = {{ SOFTHSM2_CONF = \"{}\" }}\n\n",
        text(&token.pin()),
        text(&token.conf())
    );
    std::fs::write(&config, format!("{}{kek}{}", &written[..start], &written[end..])).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, made, said) = run(&["kek", "create", "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    assert!(made.contains("version     1 kek-1: wraps and opens\n"), "{made}");
    let (code, rotated, said) = run(&["kek", "rotate", "--kek", "primary", "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    assert!(rotated.contains("made        kek-2\n"), "{rotated}");
    assert!(rotated.contains("next: 1. back up the token"), "{rotated}");
    assert!(rotated.contains("next: 2. set key_version = 2 in [kek.primary] and restart each sidecar"), "{rotated}");
    let (code, shown, _) = run(&["kek", "show", "--config", &config]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("version     1 kek-1: wraps and opens\nversion     2 kek-2: opens\n"), "{shown}");
    let (code, _, said) = run(&["kek", "rotate", "--to", "4", "--config", &config]);
    assert_ne!(code, Some(0));
    assert!(said.contains("version 1 is current, so the next one is 2, not 4"), "{said}");
}
