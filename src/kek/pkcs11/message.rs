//! What do the sidecar and its worker say to each other? Requests, replies and faults, parsed strictly.
//! This module never copies a secret: requests and replies borrow from the frame that is wiped after use.

#![deny(clippy::indexing_slicing)]

use std::fmt;

use super::attributes::KeyAttributes;
use super::frame::{Fields, Frame, Malformed};

/// The version of this protocol; both sides are the same binary, so any other one is an error.
pub const PROTOCOL: u16 = 1;

/// What the sidecar asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Shakes hands.
    Hello {
        /// [`PROTOCOL`].
        protocol: u16,
    },
    /// Loads the library and finds the token.
    Load {
        /// The library.
        module: &'a str,
        /// C_Initialize's pReserved; empty for none.
        reserved: &'a str,
        /// Whether C_Initialize gets CKF_OS_LOCKING_OK.
        os_locking: bool,
        /// Whether sessions are read-write.
        read_write: bool,
        /// The token's label.
        label: &'a str,
    },
    /// Logs in as the user.
    Login {
        /// The PIN.
        pin: &'a [u8],
    },
    /// Finds the KEK, in a session of its own.
    Find {
        /// Its label.
        label: &'a str,
    },
    /// Drops the working session; the next call takes a fresh one and finds the KEK again.
    Renew,
    /// Encrypts under the KEK.
    Wrap {
        /// The mechanism's number.
        mechanism: u64,
        /// The data key.
        plain: &'a [u8],
        /// The encoded binding.
        aad: &'a [u8],
    },
    /// Decrypts under the KEK.
    Unwrap {
        /// The mechanism's number.
        mechanism: u64,
        /// What a wrap returned.
        blob: &'a [u8],
        /// The encoded binding.
        aad: &'a [u8],
    },
    /// Asks the token for randomness.
    Random {
        /// How many bytes.
        len: u16,
    },
    /// Makes a KEK.
    Create {
        /// Its label, which must be free.
        label: &'a str,
        /// Its CKA_ID.
        id: &'a [u8],
        /// Whether MODIFIABLE=false may stand in the template.
        unmodifiable: bool,
    },
}

impl<'a> Request<'a> {
    /// Writes the request into an empty frame.
    pub fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        frame.clear();
        match self {
            Self::Hello { protocol } => {
                frame.put_u8(1)?;
                frame.put_u16(*protocol)
            }
            Self::Load { module, reserved, os_locking, read_write, label } => {
                frame.put_u8(2)?;
                frame.put_bytes(module.as_bytes())?;
                frame.put_bytes(reserved.as_bytes())?;
                frame.put_u8(u8::from(*os_locking))?;
                frame.put_u8(u8::from(*read_write))?;
                frame.put_bytes(label.as_bytes())
            }
            Self::Login { pin } => {
                frame.put_u8(3)?;
                frame.put_bytes(pin)
            }
            Self::Find { label } => {
                frame.put_u8(4)?;
                frame.put_bytes(label.as_bytes())
            }
            Self::Renew => frame.put_u8(5),
            Self::Wrap { mechanism, plain, aad } => put_crypt(frame, 6, *mechanism, plain, aad),
            Self::Unwrap { mechanism, blob, aad } => put_crypt(frame, 7, *mechanism, blob, aad),
            Self::Random { len } => {
                frame.put_u8(8)?;
                frame.put_u16(*len)
            }
            Self::Create { label, id, unmodifiable } => {
                frame.put_u8(9)?;
                frame.put_bytes(label.as_bytes())?;
                frame.put_bytes(id)?;
                frame.put_u8(u8::from(*unmodifiable))
            }
        }
    }

    /// Reads a request.
    pub fn take(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::of(body);
        let request = match fields.u8()? {
            1 => Self::Hello { protocol: fields.u16()? },
            2 => Self::Load {
                module: fields.text()?,
                reserved: fields.text()?,
                os_locking: fields.flag()?,
                read_write: fields.flag()?,
                label: fields.text()?,
            },
            3 => Self::Login { pin: fields.bytes()? },
            4 => Self::Find { label: fields.text()? },
            5 => Self::Renew,
            6 => Self::Wrap { mechanism: fields.u64()?, plain: fields.bytes()?, aad: fields.bytes()? },
            7 => Self::Unwrap { mechanism: fields.u64()?, blob: fields.bytes()?, aad: fields.bytes()? },
            8 => Self::Random { len: fields.u16()? },
            9 => Self::Create { label: fields.text()?, id: fields.bytes()?, unmodifiable: fields.flag()? },
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(request)
    }
}

fn put_crypt(frame: &mut Frame, kind: u8, mechanism: u64, input: &[u8], aad: &[u8]) -> Result<(), Malformed> {
    frame.put_u8(kind)?;
    frame.put_u64(mechanism)?;
    frame.put_bytes(input)?;
    frame.put_bytes(aad)
}

/// What the token says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// The maker.
    pub manufacturer: String,
    /// The model.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// The firmware's version.
    pub firmware: String,
    /// The library's version.
    pub library: String,
}

/// What the worker answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It shakes hands.
    Hello {
        /// [`PROTOCOL`].
        protocol: u16,
    },
    /// Done, nothing to say.
    Done,
    /// The token was found.
    Token(TokenFacts),
    /// The KEK was found or made.
    Key(KeyAttributes),
    /// A blob, a data key, randomness.
    Bytes(&'a [u8]),
    /// It did not work.
    Failed(Fault),
}

impl<'a> Reply<'a> {
    /// Writes the reply into an empty frame.
    pub fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        frame.clear();
        match self {
            Self::Hello { protocol } => {
                frame.put_u8(1)?;
                frame.put_u16(*protocol)
            }
            Self::Done => frame.put_u8(2),
            Self::Token(facts) => {
                frame.put_u8(3)?;
                let texts = [&facts.manufacturer, &facts.model, &facts.serial, &facts.firmware, &facts.library];
                texts.into_iter().try_for_each(|text| frame.put_bytes(text.as_bytes()))
            }
            Self::Key(attributes) => {
                frame.put_u8(4)?;
                attributes.put(frame)
            }
            Self::Bytes(bytes) => {
                frame.put_u8(5)?;
                frame.put_bytes(bytes)
            }
            Self::Failed(fault) => {
                frame.put_u8(6)?;
                fault.put(frame)
            }
        }
    }

    /// Reads a reply.
    pub fn take(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::of(body);
        let reply = match fields.u8()? {
            1 => Self::Hello { protocol: fields.u16()? },
            2 => Self::Done,
            3 => Self::Token(TokenFacts {
                manufacturer: fields.text()?.into(),
                model: fields.text()?.into(),
                serial: fields.text()?.into(),
                firmware: fields.text()?.into(),
                library: fields.text()?.into(),
            }),
            4 => Self::Key(KeyAttributes::take(&mut fields)?),
            5 => Self::Bytes(fields.bytes()?),
            6 => Self::Failed(Fault::take(&mut fields)?),
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(reply)
    }
}

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
    /// Several tokens have the label.
    ManyTokens,
    /// No key has the label.
    NoKey,
    /// Several keys have the label.
    ManyKeys,
    /// A key with the label exists.
    KeyExists,
    /// The session is not logged in.
    LoggedOut,
    /// The request made no sense at this point, or an answer of the library did not.
    Protocol(String),
}

impl Fault {
    fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        let (kind, code, text) = match self {
            Self::Code { call, code } => (1, *code, call.as_str()),
            Self::Module(text) => (2, 0, text.as_str()),
            Self::NoToken => (3, 0, ""),
            Self::ManyTokens => (4, 0, ""),
            Self::NoKey => (5, 0, ""),
            Self::ManyKeys => (6, 0, ""),
            Self::KeyExists => (7, 0, ""),
            Self::LoggedOut => (8, 0, ""),
            Self::Protocol(text) => (9, 0, text.as_str()),
        };
        frame.put_u8(kind)?;
        frame.put_u64(code)?;
        let text: String = text.chars().take(MAX_TEXT).collect();
        frame.put_bytes(text.as_bytes())
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let (kind, code, text) = (fields.u8()?, fields.u64()?, fields.text()?);
        let fault = match kind {
            1 => return Ok(Self::Code { call: text.into(), code }),
            2 => return if code == 0 { Ok(Self::Module(text.into())) } else { Err(Malformed) },
            3 => Self::NoToken,
            4 => Self::ManyTokens,
            5 => Self::NoKey,
            6 => Self::ManyKeys,
            7 => Self::KeyExists,
            8 => Self::LoggedOut,
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
            Self::ManyTokens => f.write_str("several tokens have the configured label"),
            Self::NoKey => f.write_str("no key in the token has the configured label"),
            Self::ManyKeys => f.write_str("several keys in the token have the configured label"),
            Self::KeyExists => f.write_str("a key with this label exists in the token"),
            Self::LoggedOut => f.write_str("the session is no longer logged in"),
            Self::Protocol(text) => write!(f, "the worker did not understand: {text}"),
        }
    }
}

/// The name of a return code in PKCS#11 2.40.
fn code_name(code: u64) -> &'static str {
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
    (0x63, "CKR_KEY_TYPE_INCONSISTENT"),
    (0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED"),
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
    (0xD0, "CKR_TEMPLATE_INCOMPLETE"),
    (0xD1, "CKR_TEMPLATE_INCONSISTENT"),
    (0xE0, "CKR_TOKEN_NOT_PRESENT"),
    (0xE1, "CKR_TOKEN_NOT_RECOGNIZED"),
    (0xE2, "CKR_TOKEN_WRITE_PROTECTED"),
    (0x100, "CKR_USER_ALREADY_LOGGED_IN"),
    (0x101, "CKR_USER_NOT_LOGGED_IN"),
    (0x102, "CKR_USER_PIN_NOT_INITIALIZED"),
    (0x103, "CKR_USER_TYPE_INVALID"),
    (0x150, "CKR_BUFFER_TOO_SMALL"),
    (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED"),
    (0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request<'static>> {
        vec![
            Request::Hello { protocol: PROTOCOL },
            Request::Load { module: "/m.so", reserved: "", os_locking: true, read_write: false, label: "t" },
            Request::Login { pin: b"1234" },
            Request::Find { label: "kek-1" },
            Request::Renew,
            Request::Wrap { mechanism: 0x1087, plain: &[1; 32], aad: b"binding" },
            Request::Unwrap { mechanism: 0x8000_1087, blob: &[2; 60], aad: b"" },
            Request::Random { len: 32 },
            Request::Create { label: "kek-1", id: &[3; 16], unmodifiable: true },
        ]
    }

    fn replies() -> Vec<Reply<'static>> {
        let facts = TokenFacts { serial: "42".into(), ..TokenFacts::default() };
        vec![
            Reply::Hello { protocol: PROTOCOL },
            Reply::Done,
            Reply::Token(facts),
            Reply::Key(KeyAttributes { local: Some(true), ..KeyAttributes::default() }),
            Reply::Bytes(&[4; 60]),
            Reply::Failed(Fault::Code { call: "C_Decrypt".into(), code: 5 }),
            Reply::Failed(Fault::Module("no such file".into())),
            Reply::Failed(Fault::ManyKeys),
        ]
    }

    #[test]
    fn every_request_and_every_reply_is_read_as_it_was_written() {
        let mut frame = Frame::new();
        for request in requests() {
            request.put(&mut frame).unwrap();
            assert_eq!(Request::take(frame.body()), Ok(request));
        }
        for reply in replies() {
            reply.put(&mut frame).unwrap();
            assert_eq!(Reply::take(frame.body()), Ok(reply));
        }
    }

    #[test]
    fn every_truncation_and_every_trailing_byte_is_refused() {
        let mut frame = Frame::new();
        let mut bodies = Vec::new();
        for request in requests() {
            request.put(&mut frame).unwrap();
            bodies.push((frame.body().to_vec(), true));
        }
        for reply in replies() {
            reply.put(&mut frame).unwrap();
            bodies.push((frame.body().to_vec(), false));
        }
        let refused =
            |body: &[u8], request| if request { Request::take(body).is_err() } else { Reply::take(body).is_err() };
        for (body, request) in bodies {
            for len in 0..body.len() {
                assert!(refused(&body[..len], request), "{body:?} cut to {len}");
            }
            assert!(refused(&[body.as_slice(), &[0]].concat(), request), "{body:?} and a zero");
        }
    }

    #[test]
    fn a_code_is_told_by_name_and_number() {
        let fault = Fault::Code { call: "C_Login".into(), code: 0xA0 };
        assert_eq!(fault.to_string(), "C_Login answered CKR_PIN_INCORRECT (0xa0)");
        let vendor = Fault::Code { call: "C_Decrypt".into(), code: 0x8000_0001 };
        assert_eq!(vendor.to_string(), "C_Decrypt answered an unnamed code (0x80000001)");
    }
}
