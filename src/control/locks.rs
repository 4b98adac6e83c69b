//! What can be locked, and how far? The words of documents, requests and records; this module never decides who may.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{KeyringName, PrincipalName};

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locked {
    /// Everybody's use of every keyring.
    Sidecar,
    /// Whatever one principal asks for, but ceremonies.
    Principal(PrincipalName),
    /// The use of one keyring.
    Keyring(KeyringName),
}

/// How far a lock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is opened or moved; what is written can still be sealed, so that no record of a patient is lost.
    Opening,
    /// Nothing is sealed either, and one person changes no keys.
    Everything,
}

impl Level {
    /// The word in documents and records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Everything => "everything",
        }
    }
}

impl Locked {
    /// What two optional names mean together: nothing is the sidecar.
    pub fn of(principal: Option<PrincipalName>, keyring: Option<KeyringName>) -> Result<Self, &'static str> {
        match (principal, keyring) {
            (None, None) => Ok(Self::Sidecar),
            (Some(principal), None) => Ok(Self::Principal(principal)),
            (None, Some(keyring)) => Ok(Self::Keyring(keyring)),
            (Some(_), Some(_)) => Err("a lock is of a principal or of a keyring, not of both"),
        }
    }

    /// Reads the text that it is shown as.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => (text == "sidecar").then_some(Self::Sidecar),
            Some(("principal", name)) => name.parse().ok().map(Self::Principal),
            Some(("keyring", name)) => name.parse().ok().map(Self::Keyring),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sidecar => f.write_str("sidecar"),
            Self::Principal(name) => write!(f, "principal/{name}"),
            Self::Keyring(name) => write!(f, "keyring/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_reads_back_and_nothing_else_does() {
        for text in ["sidecar", "principal/portal", "keyring/default/patients"] {
            assert_eq!(Locked::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "sidecar/x", "principal/", "keyring/a/b/c", "grant/x", "principal/a b"] {
            assert_eq!(Locked::parse(text), None, "{text}");
        }
    }
}
