//! How does a command fail? `error:`, then `hint:`, and an exit code of sysexits.h.

use std::fmt::Display;
use std::process::ExitCode;

/// What went wrong, what to do, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    code: Exit,
}

/// Exit codes; the numbers are sysexits.h's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// A check found something wrong (a log that does not verify, a policy test that fails).
    Finding = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The input is wrong.
    Data = 65,
    /// The sidecar, token or file that is needed is not there.
    Unavailable = 69,
    /// A bug.
    Software = 70,
    /// A file cannot be written.
    CannotCreate = 73,
    /// The audit log cannot be used.
    AuditLog = 74,
    /// Policy said no.
    Denied = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    pub(super) fn new(code: Exit, message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, code }
    }

    /// The exit code that it ends with.
    pub(super) fn exit(&self) -> Exit {
        self.code
    }

    /// Says where it happened.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(super) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// Adds what was being done to any error.
pub(super) trait Context<T> {
    /// On error: `doing: cause: cause`.
    fn doing(self, code: Exit, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Context<T> for Result<T, E> {
    fn doing(self, code: Exit, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(code, format!("{what}: {}", chain(&error))))
    }
}

/// An error and its sources, once each.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub(super) fn report(failure: &Failure) -> ExitCode {
    eprintln!("error: {}", failure.message);
    if let Some(hint) = &failure.hint {
        eprintln!("hint: {hint}");
    }
    exit(failure.code)
}

pub(super) fn exit(code: Exit) -> ExitCode {
    ExitCode::from(code as u8)
}

/// `--help` and `--version` are answers, the rest is wrong usage.
pub(super) fn usage(asked: &clap::Error) -> ExitCode {
    // If standard output is gone there is nobody left to tell.
    let _printed = asked.print();
    if asked.use_stderr() { exit(Exit::Usage) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_page_of_exit_codes_has_every_code_and_no_other() {
        let all = [
            Exit::Finding,
            Exit::Usage,
            Exit::Data,
            Exit::Unavailable,
            Exit::Software,
            Exit::CannotCreate,
            Exit::AuditLog,
            Exit::Denied,
            Exit::Config,
        ];
        let page = include_str!("../../docs/exit-codes.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()?.parse::<u8>().ok());
        let codes = std::iter::once(0).chain(all.map(|code| code as u8));
        assert_eq!(rows.collect::<Vec<_>>(), codes.collect::<Vec<_>>());
    }
}
