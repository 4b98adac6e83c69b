//! Identifiers that are bytes: key versions, stores, requests.

use std::fmt;
use std::str::FromStr;

use super::NameError;

/// A key version: eight random bytes, unique in a store, that stand in every sealed value (ENV header) and name the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersionId(pub [u8; 8]);

/// A store: sixteen random bytes made at genesis.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

/// Shows, prints and parses an identifier as lower-case hexadecimal.
macro_rules! hexadecimal {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let mut bytes = Self(Default::default());
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(NameError::of($what));
                }
                hex::decode_to_slice(text, &mut bytes.0).map_err(|_| NameError::of($what))?;
                Ok(bytes)
            }
        }
    };
}

hexadecimal!(KeyVersionId, "the key version id");
hexadecimal!(StoreId, "the store id");

/// A request, as the caller named it (1 to 64 of `A-Z a-z 0-9 . _ -`) or as keyward did.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// An identifier from sixteen random bytes, for a caller that gave none.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes).into_boxed_str())
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(NameError::of("the request id"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
