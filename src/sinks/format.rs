//! In which words does a receiver read a record? In the log's own: a line of JSON with what proves it.

use std::str::FromStr;

/// How records are written for a receiver. Where others are added, each keeps `id` and `leaf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"id":"ORIGIN#INDEX","leaf":"...","record":{...}}`, the record as it stands in the log.
    Native,
}

/// A record as it leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving<'a> {
    /// The log's name.
    pub(super) origin: &'a str,
    /// Its place there.
    pub(super) index: u64,
    /// The hash that the log's tree has for it.
    pub(super) leaf: [u8; 32],
    /// Canonical JSON of the log.
    pub(super) record: &'a [u8],
}

/// Why a text names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a format of records")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        if text == Self::Native.name() { Ok(Self::Native) } else { Err(UnknownFormat) }
    }
}

impl Format {
    /// What it is called in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
        }
    }

    /// Appends the record as one line without its end.
    pub(super) fn write(self, leaving: &Leaving<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Native => {
                let Leaving { origin, index, leaf, record } = leaving;
                let head = format!(r#"{{"id":"{origin}#{index}","leaf":"{}","record":"#, hex::encode(leaf));
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(record);
                out.push(b'}');
            }
        }
    }
}
