//! Starts the CLI; the hidden worker goes first, before anything opens a descriptor or starts a thread.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("kek-worker") {
        return keyward::kek::pkcs11::worker_main();
    }
    ExitCode::FAILURE
}
