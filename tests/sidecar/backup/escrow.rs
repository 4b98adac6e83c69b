//! A keyring that does without the escrow: what a drill by the escrow alone says of it, and what choosing it anew changes.

use super::*;

/// `keyward keyring ... --json`.
fn keyring(setup: &Setup, arguments: &[&str]) -> Value {
    let told = keyward_ok(&[&["keyring"], arguments, &["--json", "--config", &setup.config()]].concat());
    serde_json::from_str(&told).unwrap()
}

fn drill(setup: &Setup, from: &str, more: &[&str]) -> std::process::Output {
    let drill = ["drill", "restore", "--from", from, "--signed-off-by", "ciso", "--config", &setup.config()];
    keyward(&[&drill[..], more].concat())
}

#[test]
fn a_drill_names_the_keyrings_that_do_without_an_escrow_and_says_that_they_would_be_lost() {
    let pair = Pair::new();
    let setup = &pair.setup;
    let serving = setup.serve();
    setup.keyring();
    let made = keyring(setup, &["create", "notes", "--no-escrow"]);
    assert_eq!((&made["escrow"], &made["versions"][0]["keks"]), (&json!("no"), &json!(["primary v1"])));
    keyring(setup, &["lookup", "create", "notes", "index/mrn"]);
    let listed = keyring(setup, &["list"]);
    let listed: Vec<_> = listed["keyrings"].as_array().unwrap().iter().map(|one| one["escrow"].clone()).collect();
    assert_eq!(listed, ["no", "yes"]);
    let created = records(setup).into_iter().rfind(|record| record["event"] == "key.created").unwrap();
    assert_eq!(created["facts"]["limits"], "escrow=no");
    assert_eq!(serving.stop(), Some(0));

    let from = backup(setup, "first");
    let done = drill(setup, &from, &[]);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && shown.contains("PASSED"), "{shown} {}", String::from_utf8_lossy(&done.stderr));
    let lost = "WOULD BE LOST WITH THE PRIMARY: 2 keys of keyrings that do without an escrow: default/notes";
    assert!(
        shown.contains(lost) && shown.contains("3 of 3 opened, of 5") && shown.contains("1 of 1 opened"),
        "{shown}"
    );
    // The primary opens all, and another key that was to wrap all has no such excuse.
    let shown = String::from_utf8(drill(setup, &from, &["--kek", "primary"]).stdout).unwrap();
    assert!(shown.contains("5 of 5 opened") && !shown.contains("WOULD BE LOST"), "{shown}");

    let serving = setup.serve();
    let drilled = records(setup).into_iter().find(|record| record["event"] == "drill.done").unwrap();
    assert_eq!((&drilled["outcome"], &drilled["facts"]["unescrowed"]), (&json!("done"), &json!("2")));
    keyring(setup, &["configure", "notes", "--escrow", "yes"]);
    let configured = records(setup).into_iter().rfind(|record| record["event"] == "keyring.configured").unwrap();
    assert_eq!(configured["facts"]["limits"], "escrow=yes");
    keyward_ok(&["kek", "rewrap", "--trigger", "architecture", "--config", &setup.config()]);
    let shown = keyring(setup, &["show", "notes"]);
    assert_eq!((&shown["escrow"], &shown["versions"][0]["keks"]), (&json!("yes"), &json!(["primary v1", "backup v1"])));
    assert_eq!(shown["lookups"][0]["versions"][0]["keks"], json!(["primary v1", "backup v1"]));
    assert_eq!(serving.stop(), Some(0));
    let from = backup(setup, "second");
    let shown = String::from_utf8(drill(setup, &from, &[]).stdout).unwrap();
    assert!(shown.contains("5 of 5 opened") && shown.contains("2 of 2 opened"), "{shown}");
    assert!(!shown.contains("WOULD BE LOST"), "{shown}");
}
