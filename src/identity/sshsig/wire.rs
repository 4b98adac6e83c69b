//! How do SSH's data types lie in bytes (RFC 4251, section 5)? Read strictly, with nothing copied.

use super::SshError;

/// Bytes that are being read.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], SshError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(SshError::Malformed("it is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, SshError> {
        self.bytes(1)?.first().copied().ok_or(SshError::Malformed("it is cut short"))
    }

    /// `uint32`.
    pub(super) fn number(&mut self) -> Result<u32, SshError> {
        let bytes = self.bytes(4)?.first_chunk().ok_or(SshError::Malformed("it is cut short"))?;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// `string`: a length and so many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], SshError> {
        let length = usize::try_from(self.number()?).map_err(|_| SshError::Malformed("a length is too large"))?;
        self.bytes(length)
    }

    /// A `string` that is text.
    pub(super) fn text(&mut self) -> Result<&'a str, SshError> {
        str::from_utf8(self.string()?).map_err(|_| SshError::Malformed("a text is not UTF-8"))
    }

    /// `mpint` of a number that is not negative, without the zero that may stand before it. Only the shortest form is one.
    pub(super) fn natural(&mut self) -> Result<&'a [u8], SshError> {
        match self.string()? {
            [] => Err(SshError::Malformed("a number is zero")),
            [0, rest @ ..] if rest.first().is_some_and(|high| *high >= 0x80) => Ok(rest),
            [0, ..] => Err(SshError::Malformed("a number has leading zeros")),
            [high, ..] if *high >= 0x80 => Err(SshError::Malformed("a number is negative")),
            number => Ok(number),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), SshError> {
        if self.0.is_empty() { Ok(()) } else { Err(SshError::Malformed("bytes are left over")) }
    }
}

/// Appends a `string`.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SshError> {
    let length = u32::try_from(bytes.len()).map_err(|_| SshError::Malformed("it is too long"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
