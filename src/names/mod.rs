//! What are things called? Every name that crosses a module is parsed here once: parsing is validation.
//! This module never does IO and never holds a secret.

mod context;
mod ids;
mod lookup;
mod purpose;

pub use context::{Context, ContextError, MAX_CALLER_PAIRS, MAX_CONTEXT_BYTES, RESERVED_PREFIX};
pub use ids::{KeyVersionId, RequestId, StoreId};
pub use lookup::{LookupName, LookupNameError, LookupUse};
pub use purpose::Purpose;

use std::fmt;
use std::str::FromStr;

/// A name: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not a name: it must match [a-z0-9][a-z0-9-]{{0,62}}")]
pub struct NameError {
    what: &'static str,
}

impl NameError {
    pub(crate) const fn of(what: &'static str) -> Self {
        Self { what }
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::of("the empty text"))?;
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.len() > 63 || first == b'-' || !text.bytes().all(rest) {
            return Err(NameError::of("the text"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a distinct type for one kind of name, so that a tenant is never taken for a principal.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Name);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

named!(
    /// A tenant: the first part of a keyring's name.
    Tenant
);
named!(
    /// A principal: a service, a custodian, an auditor, an operator.
    PrincipalName
);
named!(
    /// A key-encryption key as the configuration calls it (`primary`, `escrow`).
    KekName
);
named!(
    /// A receiver of the log's records as the configuration calls it.
    SinkName
);

impl Default for Tenant {
    fn default() -> Self {
        Self(Name("default".into()))
    }
}

/// A keyring: `tenant/name`; a text without a tenant means the tenant `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyringName {
    tenant: Tenant,
    name: Name,
}

impl KeyringName {
    /// The tenant that the keyring belongs to.
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The name within the tenant.
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

impl FromStr for KeyringName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |_| NameError::of("the keyring");
        let (tenant, name) = match text.split_once('/') {
            Some((tenant, name)) => (tenant.parse().map_err(wrong)?, name),
            None => (Tenant::default(), text),
        };
        Ok(Self { tenant, name: name.parse().map_err(wrong)? })
    }
}

impl fmt::Display for KeyringName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

#[cfg(test)]
mod tests;
