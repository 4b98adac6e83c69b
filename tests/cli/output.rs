//! What becomes of output that nobody reads, or that cannot be written.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::KEYWARD;

/// Commands that print more than a pipe holds, or something after the reader has gone.
const TALKATIVE: [&[&str]; 3] = [&["store", "schema"], &["hsm", "list"], &["hsm", "show", "softhsm2"]];

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    for arguments in TALKATIVE {
        let mut command = Command::new(KEYWARD);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Before it has printed anything.
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // A command that fails still says so by its code, also when nobody hears why.
    let mut child =
        Command::new(KEYWARD).args(["check", "--config", "/nowhere"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(78));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = Command::new(KEYWARD).args(["store", "schema"]).stdout(full).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(73), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
}
