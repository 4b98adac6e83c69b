//! The sealed value as it is read: borrowed where it can be, strict always (ENV-10).

use std::borrow::Cow;
use std::fmt;

use super::{HEADER_BYTES, Header, MAX_CIPHERTEXT_BYTES, Malformed, text};
use crate::crypto::{KeyClass, NONCE_BYTES, Suite};
use crate::names::KeyVersionId;

/// A well-formed sealed value. That it is well-formed says nothing about whether it opens.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedValue<'a> {
    header: Header,
    bytes: Cow<'a, [u8]>,
}

/// What an opening needs of a value.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The header's bytes.
    pub header: &'a [u8; HEADER_BYTES],
    /// The nonce.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// `[commitment] || ciphertext || tag`.
    pub sealed: &'a [u8],
}

impl<'a> SealedValue<'a> {
    /// Parses the binary form without copying it.
    pub fn parse_binary(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(Cow::Borrowed(bytes))
    }

    fn parse(bytes: Cow<'a, [u8]>) -> Result<Self, Malformed> {
        let (header, _) = bytes.split_first_chunk().ok_or(Malformed::TooShort)?;
        let header = Header::parse(header)?;
        // ENV-9.
        let ciphertext = bytes.len().checked_sub(header.overhead()).ok_or(Malformed::TooShort)?;
        if ciphertext > MAX_CIPHERTEXT_BYTES {
            return Err(Malformed::TooLong);
        }
        Ok(Self { header, bytes })
    }

    /// The header, for the canonical context.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The version that names the key: opening is this one look-up (ENV-3).
    pub const fn version(&self) -> KeyVersionId {
        self.header.version()
    }

    /// The parts, for an opener that says which suite its key version fixes (ENV-8) and which class it opens (ENV-14).
    pub fn parts(&self, suite: Suite, class: KeyClass) -> Result<Parts<'_>, Malformed> {
        if self.header.suite() != suite {
            return Err(Malformed::UnexpectedSuite(self.header.suite()));
        }
        if self.header.class() != class {
            return Err(Malformed::UnexpectedClass(self.header.class()));
        }
        let (header, rest) = self.bytes.split_first_chunk().ok_or(Malformed::TooShort)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(Malformed::TooShort)?;
        Ok(Parts { header, nonce, sealed })
    }

    /// The length of the plaintext, in bytes.
    pub fn plaintext_bytes(&self) -> usize {
        self.bytes.len().saturating_sub(self.header.overhead())
    }

    /// The binary form.
    pub fn as_binary(&self) -> &[u8] {
        &self.bytes
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        text::encode(&self.bytes)
    }
}

impl SealedValue<'static> {
    /// Parses the text form.
    pub fn parse_text(text: &str) -> Result<Self, Malformed> {
        Self::parse(Cow::Owned(text::decode(text)?))
    }
}

impl fmt::Debug for SealedValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedValue({:?}, {} bytes)", self.header, self.bytes.len())
    }
}
