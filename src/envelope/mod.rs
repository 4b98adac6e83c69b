//! What are the bytes of a sealed value? Parse and encode, pure.
//! This module never holds a key and never does IO: it says which bytes are authenticated and where they stand.
//! The clauses ENV-n are those of `FORMAT.md` beside this file.
//!
//! To seal: [`Header::field`], then [`aad`], then [`seal_text`] with the key's sealing as a closure.
//! To open: [`SealedValue::parse_text`], look up [`SealedValue::version`], then [`SealedValue::parts`] and [`aad`].

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod context;
mod header;
mod nonce;
mod seal;
mod text;
mod value;

pub use context::{AadError, KEYRING_KEY, MAX_AAD_BYTES, PATH_KEY, RESOURCE_KEY, aad};
pub use header::{HEADER_BYTES, Header};
pub use nonce::{Nonce, Nonces};
pub use seal::{SealError, seal_binary, seal_text};
pub use text::{TEXT_PREFIX, prefix, range};
pub use value::{Parts, SealedValue};

use crate::crypto::{KeyClass, Suite};

/// The largest ciphertext of one value (ENV-9): a value is held whole in memory several times over while it is sealed,
/// and what is larger belongs to the streaming suite.
pub const MAX_CIPHERTEXT_BYTES: usize = 16 * 1024 * 1024;

/// Why bytes are not a sealed value. For the log; the caller of an opening learns only that it failed (ENV-19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The text does not begin with `kw1.`.
    #[error("the text does not begin with kw1.")]
    Prefix,
    /// Not base64url without padding, or not its canonical form.
    #[error("the text is not canonical base64url")]
    Base64,
    /// Another format version.
    #[error("the format version {0} is unknown")]
    Version(u8),
    /// A suite that is reserved for a later version of keyward.
    #[error("the suite {0} is not supported")]
    SuiteReserved(u8),
    /// No suite at all.
    #[error("the suite {0} is unknown")]
    Suite(u8),
    /// No class.
    #[error("the key class {0} is unknown")]
    Class(u8),
    /// The suite does not serve the class.
    #[error("the suite {0:?} does not serve the class {1:?}")]
    SuiteOfClass(Suite, KeyClass),
    /// Flags that are not zero.
    #[error("the flags {0:#04x} are not zero")]
    Flags(u8),
    /// Fewer bytes than the suite's overhead.
    #[error("the value is too short")]
    TooShort,
    /// More than [`MAX_CIPHERTEXT_BYTES`] of ciphertext.
    #[error("the value is too long")]
    TooLong,
    /// Well-formed, but not of the suite that the key version fixes.
    #[error("the suite is {0:?}, which is not that of the key version")]
    UnexpectedSuite(Suite),
    /// Well-formed, but of another class than this operation opens.
    #[error("the key class is {0:?}, which this operation does not open")]
    UnexpectedClass(KeyClass),
}

#[cfg(test)]
mod tests;
