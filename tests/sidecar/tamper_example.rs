//! The drill that auditors run: every change of a real log is caught, and named by its rule.

use std::process::Command;

use crate::support::KEYWARD;

#[test]
fn the_tamper_drill_catches_and_names_every_change() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/drills/tamper.py");
    let done = Command::new("python3").args([script, KEYWARD]).output().unwrap();
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{shown}{}", String::from_utf8_lossy(&done.stderr));
    assert!(shown.ends_with("20 of 20 as it should be\n") && !shown.contains("MISSED"), "{shown}");
}
