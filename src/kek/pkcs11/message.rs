//! What do the sidecar and its worker say to each other? Requests, replies and faults, parsed strictly.
//! This module never copies a secret: requests and replies borrow from the frame that is wiped after use.

#![deny(clippy::indexing_slicing)]

use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::frame::{Fields, Frame, Malformed};
use super::recipe::{KeyRole, Recipe};

/// The version of this protocol; both sides are the same binary, so any other one is an error.
pub const PROTOCOL: u16 = 2;

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
        /// The token's serial number; empty for any.
        serial: &'a str,
    },
    /// Logs in as the user.
    Login {
        /// The PIN.
        pin: &'a [u8],
    },
    /// Finds a key, in a session of its own.
    Find {
        /// The KEK's label.
        label: &'a str,
        /// Which of its keys.
        role: KeyRole,
    },
    /// Drops the working session; the next call takes a fresh one and finds the KEK again.
    Renew,
    /// Wraps under the KEK.
    Wrap {
        /// How.
        recipe: Recipe,
        /// The KEK's label.
        label: &'a str,
        /// The key to wrap.
        plain: &'a [u8],
        /// The encoded binding; empty where the method does not bind.
        aad: &'a [u8],
    },
    /// Unwraps under the KEK.
    Unwrap {
        /// How.
        recipe: Recipe,
        /// The KEK's label.
        label: &'a str,
        /// What a wrap returned.
        blob: &'a [u8],
        /// The encoded binding; empty where the method does not bind.
        aad: &'a [u8],
    },
    /// Asks the token for randomness.
    Random {
        /// How many bytes.
        len: u16,
    },
    /// Asks for the public key of a private one.
    PublicKey {
        /// The KEK's label.
        label: &'a str,
    },
    /// Makes a key.
    Create(NewKey<'a>),
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
            Self::Load { module, reserved, os_locking, read_write, label, serial } => {
                frame.put_u8(2)?;
                frame.put_bytes(module.as_bytes())?;
                frame.put_bytes(reserved.as_bytes())?;
                frame.put_u8(u8::from(*os_locking))?;
                frame.put_u8(u8::from(*read_write))?;
                frame.put_bytes(label.as_bytes())?;
                frame.put_bytes(serial.as_bytes())
            }
            Self::Login { pin } => {
                frame.put_u8(3)?;
                frame.put_bytes(pin)
            }
            Self::Find { label, role } => {
                frame.put_u8(4)?;
                frame.put_bytes(label.as_bytes())?;
                frame.put_u8(role.number())
            }
            Self::Renew => frame.put_u8(5),
            Self::Wrap { recipe, label, plain, aad } => put_crypt(frame, 6, *recipe, [label.as_bytes(), plain, aad]),
            Self::Unwrap { recipe, label, blob, aad } => put_crypt(frame, 7, *recipe, [label.as_bytes(), blob, aad]),
            Self::Random { len } => {
                frame.put_u8(8)?;
                frame.put_u16(*len)
            }
            Self::PublicKey { label } => {
                frame.put_u8(10)?;
                frame.put_bytes(label.as_bytes())
            }
            Self::Create(new) => {
                frame.put_u8(9)?;
                put_new_key(frame, new)
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
                serial: fields.text()?,
            },
            3 => Self::Login { pin: fields.bytes()? },
            4 => Self::Find { label: fields.text()?, role: KeyRole::of(fields.u8()?)? },
            5 => Self::Renew,
            6 => Self::Wrap {
                recipe: Recipe::take(&mut fields)?,
                label: fields.text()?,
                plain: fields.bytes()?,
                aad: fields.bytes()?,
            },
            7 => Self::Unwrap {
                recipe: Recipe::take(&mut fields)?,
                label: fields.text()?,
                blob: fields.bytes()?,
                aad: fields.bytes()?,
            },
            8 => Self::Random { len: fields.u16()? },
            9 => Self::Create(take_new_key(&mut fields)?),
            10 => Self::PublicKey { label: fields.text()? },
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(request)
    }
}

fn put_crypt(frame: &mut Frame, kind: u8, recipe: Recipe, texts: [&[u8]; 3]) -> Result<(), Malformed> {
    frame.put_u8(kind)?;
    recipe.put(frame)?;
    texts.into_iter().try_for_each(|text| frame.put_bytes(text))
}

fn put_new_key(frame: &mut Frame, new: &NewKey<'_>) -> Result<(), Malformed> {
    let NewKey { role, mechanism, key_type, bits, label, id, unmodifiable } = new;
    frame.put_u8(role.number())?;
    [*mechanism, *key_type, *bits].into_iter().try_for_each(|number| frame.put_u64(number))?;
    frame.put_bytes(label.as_bytes())?;
    frame.put_bytes(id)?;
    frame.put_u8(u8::from(*unmodifiable))
}

fn take_new_key<'a>(fields: &mut Fields<'a>) -> Result<NewKey<'a>, Malformed> {
    Ok(NewKey {
        role: KeyRole::of(fields.u8()?)?,
        mechanism: fields.u64()?,
        key_type: fields.u64()?,
        bits: fields.u64()?,
        label: fields.text()?,
        id: fields.bytes()?,
        unmodifiable: fields.flag()?,
    })
}

/// A key to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewKey<'a> {
    /// What it is for.
    pub role: KeyRole,
    /// The mechanism that makes it.
    pub mechanism: u64,
    /// Its CKA_KEY_TYPE.
    pub key_type: u64,
    /// Its length in bits.
    pub bits: u64,
    /// The KEK's label.
    pub label: &'a str,
    /// Its CKA_ID.
    pub id: &'a [u8],
    /// Whether MODIFIABLE=false may stand in the template.
    pub unmodifiable: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request<'static>> {
        let recipe = Recipe::KeyWrap { mechanism: 0x210B };
        vec![
            Request::Hello { protocol: PROTOCOL },
            Request::Load {
                module: "/m.so",
                reserved: "",
                os_locking: true,
                read_write: false,
                label: "t",
                serial: "42",
            },
            Request::Login { pin: b"1234" },
            Request::Find { label: "kek-1", role: KeyRole::Mac },
            Request::Renew,
            Request::Wrap { recipe, label: "kek-1", plain: &[1; 32], aad: b"binding" },
            Request::Unwrap { recipe, label: "kek-1", blob: &[2; 60], aad: b"" },
            Request::Random { len: 32 },
            Request::PublicKey { label: "kek-1" },
            Request::Create(NewKey {
                role: KeyRole::Cipher,
                mechanism: 0x1080,
                key_type: 0x1F,
                bits: 256,
                label: "kek-1",
                id: &[3; 16],
                unmodifiable: true,
            }),
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
            Reply::Failed(Fault::NotOurs),
            Reply::Failed(Fault::IvMode),
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
}
