//! In which words does a receiver read a record?

use std::str::FromStr;

/// One of the languages that receivers of logs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Native,
}

/// A record as it leaves.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    pub origin: &'a str,
    pub index: u64,
    pub leaf: [u8; 32],
    /// Canonical JSON of the log.
    pub record: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be written in this format: {0}")]
pub struct FormatError(pub String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "native" => Ok(Self::Native),
            _ => Err(FormatError(format!("{text} is no format"))),
        }
    }
}

impl Format {
    pub const fn name(self) -> &'static str {
        "native"
    }

    /// Appends the record as one line without its end.
    pub fn write(self, copy: &Copy<'_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let head = format!(r#"{{"id":"{}#{}","leaf":"{}","record":"#, copy.origin, copy.index, hex::encode(copy.leaf));
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(copy.record);
        out.push(b'}');
        Ok(())
    }
}
