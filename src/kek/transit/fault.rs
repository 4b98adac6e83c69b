//! What does a failed call mean, and who must act? From statuses and messages of the server to classes of faults.
//! This module never passes on a body of the server that could hold a plaintext: texts are cut and cleaned.
//!
//! The messages are those of OpenBao 2.7 and Vault; a 400 that is not known counts as ambiguous, and a canary decides.

use rustify::errors::ClientError as RestError;
use vaultrs::error::ClientError;

use crate::kek::{KekError, StartError};
use crate::names::KekName;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// There was no connection, or it broke: the next attempt may have a fresh one.
    Lost(String),
    /// The server is there and cannot serve: sealed, standby, overloaded, broken, slow.
    Away(String),
    /// 403: the token is no longer good, or its policies say no.
    Forbidden(String),
    /// The key or its engine is not there any more, or is disabled.
    Gone(String),
    /// The key's version is below its min_decryption_version.
    TooOld(String),
    /// Something is wrong with what was sent, or the key is another one: a canary knows.
    Input(String),
}

/// Why the KEK cannot be used now, by who must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setback {
    /// It is away: wait.
    Away(String),
    /// It said no: an operator.
    Denied(String),
    /// It holds something that must not be used: an operator, and at start a refusal.
    Unfit(String),
}

impl Fault {
    /// A failed call on the key.
    pub(super) fn of(error: ClientError) -> Self {
        match answered(&error) {
            Some((code, text)) => Self::of_answer(code, text),
            None => Self::of_silence(&error),
        }
    }

    /// A failed login: whatever the server blames on the caller is a refusal.
    pub(super) fn of_login(error: ClientError) -> Self {
        match Self::of(error) {
            Self::Gone(text) | Self::TooOld(text) | Self::Input(text) => Self::Forbidden(text),
            other => other,
        }
    }

    fn of_answer(code: u16, text: String) -> Self {
        let told = format!("status {code}: {text}");
        match code {
            403 => Self::Forbidden(told),
            404 | 405 => Self::Gone(told),
            400 if text.contains(TOO_OLD) => Self::TooOld(told),
            400 if GONE.iter().any(|gone| text.contains(gone)) => Self::Gone(told),
            400 => Self::Input(told),
            // A standby that does not forward sends its callers elsewhere; the token stays with the configured server.
            300..=399 => Self::Away(format!("status {code}: a standby sends its callers to another server")),
            _ => Self::Away(told),
        }
    }

    fn of_silence(error: &ClientError) -> Self {
        match error {
            ClientError::RestClientError {
                source: RestError::RequestError { .. } | RestError::ResponseError { .. },
            } => Self::Lost(root_cause(error)),
            other => Self::Away(clean(&other.to_string())),
        }
    }

    /// What it means when nothing more can be tried.
    pub(super) fn setback(self) -> Setback {
        match self {
            Self::Lost(detail) | Self::Away(detail) => Setback::Away(detail),
            Self::Forbidden(detail) | Self::Gone(detail) | Self::TooOld(detail) | Self::Input(detail) => {
                Setback::Denied(detail)
            }
        }
    }
}

impl Setback {
    /// What a caller hears at run time.
    pub(super) fn as_kek_error(&self, kek: &KekName) -> KekError {
        let kek = kek.clone();
        match self {
            Self::Away(detail) => KekError::Unreachable { kek, detail: detail.clone() },
            Self::Denied(detail) | Self::Unfit(detail) => KekError::Denied { kek, detail: detail.clone() },
        }
    }

    /// In words.
    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Away(detail) | Self::Denied(detail) | Self::Unfit(detail) => detail,
        }
    }

    /// What stops a start.
    pub(super) fn as_start_error(&self, kek: &KekName) -> StartError {
        match self {
            Self::Away(_) | Self::Denied(_) => StartError::Kek(self.as_kek_error(kek)),
            Self::Unfit(problem) => StartError::Unfit { kek: kek.clone(), problem: problem.clone() },
        }
    }
}

/// Status and errors of an answer, if there was one.
fn answered(error: &ClientError) -> Option<(u16, String)> {
    match error {
        ClientError::APIError { code, errors } => Some((*code, clean(&errors.join("; ")))),
        // A body that is not the server's own (of a proxy in between) is not repeated.
        ClientError::RestClientError { source: RestError::ServerResponseError { code, .. } } => {
            Some((*code, "an answer without a reason".into()))
        }
        _ => None,
    }
}

/// The innermost error: "Connection refused (os error 111)", "invalid peer certificate: UnknownIssuer".
fn root_cause(error: &ClientError) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    clean(&innermost.to_string())
}

/// Printable ASCII of a bounded length: the text is the server's.
pub(super) fn clean(text: &str) -> String {
    let printable = |letter: char| if letter.is_ascii_graphic() { letter } else { ' ' };
    let spaced: String = text.chars().map(printable).collect();
    let mut out = String::new();
    for word in spaced.split_ascii_whitespace() {
        if out.len() + word.len() >= MAX_TEXT {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

const TOO_OLD: &str = "disallowed by policy (too old)";
/// Answers of a server that has the engine but not, or no longer, the key.
const GONE: &[&str] = &["encryption key not found", "soft-deleted key", "no existing key named"];
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, error: &str) -> Fault {
        Fault::of(ClientError::APIError { code, errors: vec![error.to_owned()] })
    }

    /// Messages as a real server gave them.
    #[test]
    fn the_servers_answers_are_told_apart_by_who_must_act() {
        assert!(matches!(api(503, "Vault is sealed"), Fault::Away(_)));
        assert!(matches!(api(500, "internal error"), Fault::Away(_)));
        assert!(matches!(api(429, ""), Fault::Away(_)));
        assert!(matches!(api(473, ""), Fault::Away(_)));
        assert!(matches!(api(403, "1 error occurred:\n\t* permission denied\n\n"), Fault::Forbidden(_)));
        assert!(matches!(api(400, "encryption key not found"), Fault::Gone(_)));
        assert!(matches!(api(400, "refusing to use soft-deleted key"), Fault::Gone(_)));
        assert!(matches!(
            api(404, "no handler for route \"transit/decrypt/k\". route entry not found."),
            Fault::Gone(_)
        ));
        let old = "ciphertext or signature version is disallowed by policy (too old)";
        assert!(matches!(api(400, old), Fault::TooOld(_)));
        for input in ["cipher: message authentication failed", "invalid ciphertext: no prefix", "something new"] {
            assert!(matches!(api(400, input), Fault::Input(_)), "{input}");
        }
    }

    #[test]
    fn a_redirection_is_not_followed_and_a_refused_login_is_a_refusal() {
        let redirected = RestError::ServerResponseError { code: 307, content: None };
        assert!(matches!(Fault::of(redirected.into()), Fault::Away(_)));
        let refused = ClientError::APIError { code: 400, errors: vec!["invalid role or secret ID".into()] };
        assert_eq!(Fault::of_login(refused), Fault::Forbidden("status 400: invalid role or secret ID".into()));
    }

    #[test]
    fn a_text_of_the_server_is_cut_and_holds_no_control_characters() {
        assert_eq!(clean("1 error occurred:\n\t* permission denied\n\n"), "1 error occurred: * permission denied");
        assert!(clean(&"word ".repeat(1000)).len() < MAX_TEXT);
        assert_eq!(clean("\u{1b}[31mred\u{e9}"), "[31mred");
    }
}
