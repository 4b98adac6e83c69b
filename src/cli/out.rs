//! Where do the words of a command go? To standard output and standard error, and nowhere when nobody reads any more:
//! `keyward ... | head` ends quietly, and what a command does it finishes all the same. Every `println!` of this module's
//! folder comes here.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::{Exit, Failure, report};

/// Nobody reads standard output any more.
static GONE: AtomicBool = AtomicBool::new(false);
/// It could not be written for another reason, a full disk say.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes to standard output, with this at the end.
pub(super) fn out(words: Arguments<'_>, end: &str) {
    if gone() || FAILED.load(Ordering::Relaxed) {
        return;
    }
    let mut out = std::io::stdout().lock();
    judge(out.write_fmt(words).and_then(|()| out.write_all(end.as_bytes())));
}

/// Writes a value or a document as it is.
pub(super) fn bytes(bytes: &[u8]) {
    judge(std::io::stdout().lock().write_all(bytes));
}

/// Writes to standard error, with this at the end. If that is gone there is nobody left to tell.
pub(super) fn err(words: Arguments<'_>, end: &str) {
    let mut err = std::io::stderr().lock();
    let _told = err.write_fmt(words).and_then(|()| err.write_all(end.as_bytes()));
}

/// Whether nobody reads what a command goes on to print: whoever prints for ever ends.
pub(super) fn gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// How a command ends whose output was written, or not: half of an answer must not pass for all of it.
pub(super) fn end(code: ExitCode) -> ExitCode {
    judge(std::io::stdout().flush());
    if FAILED.load(Ordering::Relaxed) {
        return report(&Failure::new(Exit::CannotCreate, "cannot write to standard output"));
    }
    code
}

fn judge(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => GONE.store(true, Ordering::Relaxed),
        Err(_) => FAILED.store(true, Ordering::Relaxed),
    }
}
