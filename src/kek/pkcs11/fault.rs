//! What went wrong in the worker? Return codes and what the worker itself found, as they cross the socket.

#![deny(clippy::indexing_slicing)]

use std::fmt;

use super::frame::{Fields, Frame, Malformed};

/// What went wrong in the worker. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A PKCS#11 call answered with a code.
    Code {
        /// The function.
        call: String,
        /// The return value.
        code: u64,
    },
    /// The library cannot be loaded or lacks a function.
    Module(String),
    /// No token has the label.
    NoToken,
    /// No token has the label, and these are there.
    OtherTokens(String),
    /// Several tokens have the label.
    ManyTokens,
    /// No key has this label.
    NoKey(String),
    /// Several keys have this label.
    ManyKeys(String),
    /// A key with the label exists.
    KeyExists,
    /// The session is not logged in.
    LoggedOut,
    /// The MAC of a wrap is not by our key.
    NotOurs,
    /// The token does something else with an IV than the profile says.
    IvMode,
    /// The request made no sense at this point, or an answer of the library did not.
    Protocol(String),
}

impl Fault {
    pub(super) fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        let (kind, code, text) = match self {
            Self::Code { call, code } => (1, *code, call.as_str()),
            Self::Module(text) => (2, 0, text.as_str()),
            Self::NoToken => (3, 0, ""),
            Self::ManyTokens => (4, 0, ""),
            Self::NoKey(label) => (5, 0, label.as_str()),
            Self::ManyKeys(label) => (6, 0, label.as_str()),
            Self::KeyExists => (7, 0, ""),
            Self::LoggedOut => (8, 0, ""),
            Self::Protocol(text) => (9, 0, text.as_str()),
            Self::NotOurs => (10, 0, ""),
            Self::OtherTokens(text) => (12, 0, text.as_str()),
            Self::IvMode => (11, 0, ""),
        };
        frame.put_u8(kind)?;
        frame.put_u64(code)?;
        let text: String = text.chars().take(MAX_TEXT).collect();
        frame.put_bytes(text.as_bytes())
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let (kind, code, text) = (fields.u8()?, fields.u64()?, fields.text()?);
        let fault = match kind {
            1 => return Ok(Self::Code { call: text.into(), code }),
            2 => return if code == 0 { Ok(Self::Module(text.into())) } else { Err(Malformed) },
            3 => Self::NoToken,
            4 => Self::ManyTokens,
            5 => return if code == 0 { Ok(Self::NoKey(text.into())) } else { Err(Malformed) },
            6 => return if code == 0 { Ok(Self::ManyKeys(text.into())) } else { Err(Malformed) },
            7 => Self::KeyExists,
            8 => Self::LoggedOut,
            10 => Self::NotOurs,
            11 => Self::IvMode,
            12 => return if code == 0 { Ok(Self::OtherTokens(text.into())) } else { Err(Malformed) },
            9 => return if code == 0 { Ok(Self::Protocol(text.into())) } else { Err(Malformed) },
            _ => return Err(Malformed),
        };
        if code == 0 && text.is_empty() { Ok(fault) } else { Err(Malformed) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { call, code } => write!(f, "{call} answered {} ({code:#x})", code_name(*code)),
            Self::Module(text) => write!(f, "the library cannot be used: {text}"),
            Self::NoToken => f.write_str("no token has the configured label"),
            Self::OtherTokens(there) => write!(f, "no token has the configured label; there are {there}"),
            Self::ManyTokens => f.write_str("several tokens have the configured label"),
            Self::NoKey(label) => write!(f, "no key in the token has the configured label {label}"),
            Self::ManyKeys(label) => write!(f, "several keys in the token have the configured label {label}"),
            Self::KeyExists => f.write_str("a key with this label exists in the token"),
            Self::LoggedOut => f.write_str("the session is no longer logged in"),
            Self::NotOurs => f.write_str("the MAC of the wrap is not by the key in the token"),
            Self::IvMode => f.write_str("the token does not treat the IV as its profile says"),
            Self::Protocol(text) => write!(f, "the worker did not understand: {text}"),
        }
    }
}

/// The name of a return code in PKCS#11 2.40.
pub fn code_name(code: u64) -> &'static str {
    let found = CODE_NAMES.iter().find(|(number, _)| *number == code);
    found.map_or("an unnamed code", |(_, name)| name)
}

/// Longer texts of a library are cut: a frame is a page.
const MAX_TEXT: usize = 512;

const CODE_NAMES: &[(u64, &str)] = &[
    (0x02, "CKR_HOST_MEMORY"),
    (0x03, "CKR_SLOT_ID_INVALID"),
    (0x05, "CKR_GENERAL_ERROR"),
    (0x06, "CKR_FUNCTION_FAILED"),
    (0x07, "CKR_ARGUMENTS_BAD"),
    (0x0A, "CKR_CANT_LOCK"),
    (0x10, "CKR_ATTRIBUTE_READ_ONLY"),
    (0x11, "CKR_ATTRIBUTE_SENSITIVE"),
    (0x12, "CKR_ATTRIBUTE_TYPE_INVALID"),
    (0x13, "CKR_ATTRIBUTE_VALUE_INVALID"),
    (0x1B, "CKR_ACTION_PROHIBITED"),
    (0x20, "CKR_DATA_INVALID"),
    (0x21, "CKR_DATA_LEN_RANGE"),
    (0x30, "CKR_DEVICE_ERROR"),
    (0x31, "CKR_DEVICE_MEMORY"),
    (0x32, "CKR_DEVICE_REMOVED"),
    (0x40, "CKR_ENCRYPTED_DATA_INVALID"),
    (0x41, "CKR_ENCRYPTED_DATA_LEN_RANGE"),
    (0x54, "CKR_FUNCTION_NOT_SUPPORTED"),
    (0x60, "CKR_KEY_HANDLE_INVALID"),
    (0x62, "CKR_KEY_SIZE_RANGE"),
    (0x63, "CKR_KEY_TYPE_INCONSISTENT"),
    (0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED"),
    (0x69, "CKR_KEY_NOT_WRAPPABLE"),
    (0x6A, "CKR_KEY_UNEXTRACTABLE"),
    (0x70, "CKR_MECHANISM_INVALID"),
    (0x71, "CKR_MECHANISM_PARAM_INVALID"),
    (0x82, "CKR_OBJECT_HANDLE_INVALID"),
    (0x90, "CKR_OPERATION_ACTIVE"),
    (0x91, "CKR_OPERATION_NOT_INITIALIZED"),
    (0xA0, "CKR_PIN_INCORRECT"),
    (0xA1, "CKR_PIN_INVALID"),
    (0xA2, "CKR_PIN_LEN_RANGE"),
    (0xA3, "CKR_PIN_EXPIRED"),
    (0xA4, "CKR_PIN_LOCKED"),
    (0xB0, "CKR_SESSION_CLOSED"),
    (0xB1, "CKR_SESSION_COUNT"),
    (0xB3, "CKR_SESSION_HANDLE_INVALID"),
    (0xB5, "CKR_SESSION_READ_ONLY"),
    (0xC0, "CKR_SIGNATURE_INVALID"),
    (0xC1, "CKR_SIGNATURE_LEN_RANGE"),
    (0xD0, "CKR_TEMPLATE_INCOMPLETE"),
    (0xD1, "CKR_TEMPLATE_INCONSISTENT"),
    (0xE0, "CKR_TOKEN_NOT_PRESENT"),
    (0xE1, "CKR_TOKEN_NOT_RECOGNIZED"),
    (0xE2, "CKR_TOKEN_WRITE_PROTECTED"),
    (0x100, "CKR_USER_ALREADY_LOGGED_IN"),
    (0x101, "CKR_USER_NOT_LOGGED_IN"),
    (0x102, "CKR_USER_PIN_NOT_INITIALIZED"),
    (0x103, "CKR_USER_TYPE_INVALID"),
    (0x110, "CKR_WRAPPED_KEY_INVALID"),
    (0x112, "CKR_WRAPPED_KEY_LEN_RANGE"),
    (0x121, "CKR_RANDOM_NO_RNG"),
    (0x150, "CKR_BUFFER_TOO_SMALL"),
    (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED"),
    (0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_by_name_and_number() {
        let fault = Fault::Code { call: "C_Login".into(), code: 0xA0 };
        assert_eq!(fault.to_string(), "C_Login answered CKR_PIN_INCORRECT (0xa0)");
        let vendor = Fault::Code { call: "C_Decrypt".into(), code: 0x8000_0001 };
        assert_eq!(vendor.to_string(), "C_Decrypt answered an unnamed code (0x80000001)");
    }
}
