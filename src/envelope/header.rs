//! The twelve bytes that stand in front of every sealed value and are authenticated with it.

use super::Malformed;
use crate::crypto::{COMMITMENT_BYTES, KeyClass, NONCE_BYTES, Suite, TAG_BYTES};
use crate::names::KeyVersionId;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 12;
/// The format version (ENV-2).
const FORMAT_VERSION: u8 = 1;

/// The header: which key, how, for what. A suite that does not serve the class cannot be built (ENV-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    version: KeyVersionId,
    suite: Suite,
    class: KeyClass,
}

impl Header {
    /// The header of a sealed field; both suites serve fields.
    pub const fn field(version: KeyVersionId, suite: Suite) -> Self {
        Self { version, suite, class: KeyClass::Field }
    }

    /// A header of any class.
    pub fn new(version: KeyVersionId, suite: Suite, class: KeyClass) -> Result<Self, Malformed> {
        if serves(suite, class) {
            Ok(Self { version, suite, class })
        } else {
            Err(Malformed::SuiteOfClass(suite, class))
        }
    }

    /// The version that names the key.
    pub const fn version(&self) -> KeyVersionId {
        self.version
    }

    /// The suite.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The key class.
    pub const fn class(&self) -> KeyClass {
        self.class
    }

    /// The twelve bytes (ENV-1).
    pub const fn encode(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d, e, f, g, h] = self.version.0;
        // ENV-7: no flag is defined.
        [FORMAT_VERSION, a, b, c, d, e, f, g, h, self.suite as u8, self.class as u8, 0]
    }

    /// The strict inverse of [`Self::encode`].
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let [format, a, b, c, d, e, f, g, h, suite, class, flags] = *bytes;
        if format != FORMAT_VERSION {
            return Err(Malformed::Version(format));
        }
        let suite = parse_suite(suite)?;
        let class = parse_class(class)?;
        if flags != 0 {
            return Err(Malformed::Flags(flags));
        }
        Self::new(KeyVersionId([a, b, c, d, e, f, g, h]), suite, class)
    }

    /// What a value has beyond its plaintext, in bytes.
    pub const fn overhead(&self) -> usize {
        const XAES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;
        match self.suite {
            Suite::Xaes => XAES,
            Suite::XaesCommitted => XAES + COMMITMENT_BYTES,
        }
    }
}

/// ENV-4: suites 3, 4 and 5 have their numbers and no meaning yet.
const fn parse_suite(byte: u8) -> Result<Suite, Malformed> {
    match byte {
        1 => Ok(Suite::Xaes),
        2 => Ok(Suite::XaesCommitted),
        3..=5 => Err(Malformed::SuiteReserved(byte)),
        _ => Err(Malformed::Suite(byte)),
    }
}

/// ENV-5.
const fn parse_class(byte: u8) -> Result<KeyClass, Malformed> {
    match byte {
        1 => Ok(KeyClass::Field),
        2 => Ok(KeyClass::Deterministic),
        3 => Ok(KeyClass::Object),
        4 => Ok(KeyClass::Partition),
        5 => Ok(KeyClass::Caller),
        6 => Ok(KeyClass::System),
        _ => Err(Malformed::Class(byte)),
    }
}

/// ENV-6: what wraps a key commits; the classes of deterministic values and of objects wait for their own suites.
const fn serves(suite: Suite, class: KeyClass) -> bool {
    match class {
        KeyClass::Field => true,
        KeyClass::Partition | KeyClass::Caller | KeyClass::System => matches!(suite, Suite::XaesCommitted),
        KeyClass::Deterministic | KeyClass::Object => false,
    }
}
