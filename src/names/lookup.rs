//! What is a look-up key called? What it is used for and a name: `index/mrn`.

use std::fmt;
use std::str::FromStr;

use super::{Name, NameError};

/// What the values of a look-up key are: equal for equal plaintexts, and so good for joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookupUse {
    /// Deterministic values.
    Deterministic,
    /// Blind indexes.
    Index,
    /// Format-preserving tokens.
    Token,
}

impl LookupUse {
    /// Every use.
    pub const ALL: &[Self] = &[Self::Deterministic, Self::Index, Self::Token];

    /// The word in names.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Index => "index",
            Self::Token => "token",
        }
    }
}

/// A look-up key of a keyring: `USE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupName {
    used_for: LookupUse,
    name: Name,
}

impl LookupName {
    /// What it is used for.
    pub const fn used_for(&self) -> LookupUse {
        self.used_for
    }

    /// The name among those of the same use.
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

impl FromStr for LookupName {
    type Err = LookupNameError;

    fn from_str(text: &str) -> Result<Self, LookupNameError> {
        let (used_for, name) = text.split_once('/').ok_or(LookupNameError)?;
        let used_for = LookupUse::ALL.iter().copied().find(|one| one.code() == used_for).ok_or(LookupNameError)?;
        Ok(Self { used_for, name: name.parse().map_err(|_: NameError| LookupNameError)? })
    }
}

impl fmt::Display for LookupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.used_for.code(), self.name)
    }
}

/// Why a text names no look-up key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a look-up key is deterministic/NAME, index/NAME or token/NAME, and NAME matches [a-z0-9][a-z0-9-]{{0,62}}")]
pub struct LookupNameError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_key_is_named_by_its_use_and_a_name() {
        for text in ["index/mrn", "deterministic/ssn", "token/a-1"] {
            assert_eq!(text.parse::<LookupName>().unwrap().to_string(), text);
        }
        for bad in
            ["mrn", "index", "index/", "/mrn", "Index/mrn", "data/mrn", "index/a/b", "index/Mrn", "index/ mrn", ""]
        {
            assert_eq!(bad.parse::<LookupName>(), Err(LookupNameError), "{bad}");
        }
        assert!(format!("index/{}", "a".repeat(64)).parse::<LookupName>().is_err());
    }
}
