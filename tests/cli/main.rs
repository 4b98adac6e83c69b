//! The command line as people and scripts meet it: what it prints, where, and with which exit code.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests play operators, and those who change files behind their backs"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on must fail, and says what it did"
)]
#[path = "../support/mod.rs"]
mod support;

#[path = "../support/ceremonies.rs"]
mod ceremonies;
mod configuration;
#[path = "../support/custodians.rs"]
mod custodians;
mod custody;
mod damage;
mod evidence;
mod first_steps;
mod kek;
mod keyring;
mod lying;
mod output;
mod policy;
mod probe;
mod profiles;
#[path = "../support/softhsm.rs"]
mod softhsm;

use std::path::Path;
use std::process::Output;

use support::keyward;

/// Exit code, standard output and standard error of a command.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&keyward(arguments))
}

fn told(done: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A path of the repository.
fn ours(path: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
}
