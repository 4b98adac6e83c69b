//! By which exception does a caller ask? A grant in force, as policies see it; whether one is, is not decided here.

use std::str::FromStr;

use crate::names::NameError;

/// What kind of grant is in force for a caller on a keyring: `context.grant` of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// Another person approved it before.
    Grant,
    /// Another person reviews it afterwards.
    BreakGlass,
}

impl GrantKind {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::Grant, Self::BreakGlass];

    /// The code in policies and records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::BreakGlass => "break-glass",
        }
    }
}

impl FromStr for GrantKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|kind| kind.code() == text).ok_or(NameError::of("the kind of a grant"))
    }
}
