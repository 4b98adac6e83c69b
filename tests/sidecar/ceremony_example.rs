//! The example in which custodians go through all of custody, with real keys, a real agent and a real token.

use std::process::Command;

use crate::support::KEYWARD;

#[test]
fn custodians_go_from_genesis_to_leaving_and_the_minutes_verify_offline() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ceremony/run.sh");
    // Every person is a user of the machine, and only root becomes them.
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(script)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", script]);
        sudo
    };
    let done = command.arg(KEYWARD).output().unwrap_or_else(|error| panic!("{script} needs root: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, told) = (text(&done.stderr), text(&done.stdout));
    assert!(done.status.success(), "{said}\nThe end of what happened before:\n{}", tail(&told));
    assert!(told.ends_with("=== Everything went as it should.\n"), "{}", tail(&told));
    let verified = told.lines().filter(|line| line.starts_with("--- ") && line.contains(" verifies: ")).count();
    assert_eq!(verified, 10, "{told}");
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
