//! What do the sidecar and its worker say to each other? Requests, replies and faults, parsed strictly.
//! This module never copies a secret: requests and replies borrow from the frame that is wiped after use.

#![deny(clippy::indexing_slicing)]

use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::frame::{Fields, Frame, Malformed};
use super::recipe::{KeyRole, Recipe};
use super::survey::{LibraryFacts, MechanismFacts, SlotFacts};

/// The version of this protocol; both sides are the same binary, so any other one is an error.
pub const PROTOCOL: u16 = 4;

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
    /// Makes a key that goes with its session, for a trial.
    Temporary(NewKey<'a>),
    /// Removes the temporary keys.
    Discard,
    /// Unwraps the same blob again and again, to learn how long the token takes without the way to the worker.
    Repeat {
        /// How.
        recipe: Recipe,
        /// The KEK's label.
        label: &'a str,
        /// What a wrap returned.
        blob: &'a [u8],
        /// The encoded binding.
        aad: &'a [u8],
        /// How often.
        times: u16,
    },
    /// Looks for versions of a key, in a session of its own.
    Versions {
        /// The KEK's label, with [`super::VERSION_MARK`] where the version stands.
        label: &'a str,
        /// Which of its keys.
        role: KeyRole,
        /// The first version to look for.
        from: u32,
        /// The search ends after so many in a row that are not there.
        gap: u16,
    },
    /// Opens sessions beside those that are open, and closes them again.
    Sessions {
        /// How many at most.
        most: u16,
    },
    /// Loads the library to look at it, instead of [`Self::Load`].
    Survey {
        /// The library.
        module: &'a str,
        /// C_Initialize's pReserved; empty for none.
        reserved: &'a str,
        /// Whether C_Initialize gets CKF_OS_LOCKING_OK.
        os_locking: bool,
    },
    /// Asks for one of the slots that a survey found.
    Slot {
        /// Which, counted from 0: never a slot's number.
        index: u16,
    },
    /// Asks for the mechanisms of a slot, as many as fit.
    Mechanisms {
        /// Which slot, counted from 0.
        index: u16,
        /// How many to leave out.
        from: u16,
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
            Self::Temporary(new) => {
                frame.put_u8(11)?;
                put_new_key(frame, new)
            }
            Self::Discard => frame.put_u8(12),
            Self::Repeat { recipe, label, blob, aad, times } => {
                put_crypt(frame, 13, *recipe, [label.as_bytes(), blob, aad])?;
                frame.put_u16(*times)
            }
            Self::Versions { .. }
            | Self::Sessions { .. }
            | Self::Survey { .. }
            | Self::Slot { .. }
            | Self::Mechanisms { .. } => self.put_look(frame),
        }
    }

    /// The requests that only look.
    fn put_look(&self, frame: &mut Frame) -> Result<(), Malformed> {
        match self {
            Self::Versions { label, role, from, gap } => {
                frame.put_u8(18)?;
                frame.put_bytes(label.as_bytes())?;
                frame.put_u8(role.number())?;
                frame.put_u64(u64::from(*from))?;
                frame.put_u16(*gap)
            }
            Self::Sessions { most } => {
                frame.put_u8(14)?;
                frame.put_u16(*most)
            }
            Self::Survey { module, reserved, os_locking } => {
                frame.put_u8(15)?;
                frame.put_bytes(module.as_bytes())?;
                frame.put_bytes(reserved.as_bytes())?;
                frame.put_u8(u8::from(*os_locking))
            }
            Self::Slot { index } => {
                frame.put_u8(16)?;
                frame.put_u16(*index)
            }
            Self::Mechanisms { index, from } => {
                frame.put_u8(17)?;
                frame.put_u16(*index)?;
                frame.put_u16(*from)
            }
            _ => Err(Malformed),
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
            11 => Self::Temporary(take_new_key(&mut fields)?),
            12 => Self::Discard,
            13 => Self::Repeat {
                recipe: Recipe::take(&mut fields)?,
                label: fields.text()?,
                blob: fields.bytes()?,
                aad: fields.bytes()?,
                times: fields.u16()?,
            },
            14 => Self::Sessions { most: fields.u16()? },
            15 => Self::Survey { module: fields.text()?, reserved: fields.text()?, os_locking: fields.flag()? },
            16 => Self::Slot { index: fields.u16()? },
            17 => Self::Mechanisms { index: fields.u16()?, from: fields.u16()? },
            18 => Self::Versions {
                label: fields.text()?,
                role: KeyRole::of(fields.u8()?)?,
                from: take_version(&mut fields)?,
                gap: fields.u16()?,
            },
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(request)
    }
}

fn take_version(fields: &mut Fields<'_>) -> Result<u32, Malformed> {
    u32::try_from(fields.u64()?).map_err(|_| Malformed)
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
    /// How long repeated unwraps took, in nanoseconds.
    Took(u64),
    /// How many sessions could be opened, and what ended it; 0: nothing did.
    Sessions {
        /// Beside those that were open.
        opened: u16,
        /// The return code of the one too many.
        code: u64,
    },
    /// The library, looked at.
    Library(LibraryFacts),
    /// A slot.
    Slot(SlotFacts),
    /// Mechanisms of a slot; none when there are no more.
    Mechanisms(Vec<MechanismFacts>),
    /// Versions of a key, ascending.
    Versions(Vec<u32>),
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
            Self::Took(nanos) => {
                frame.put_u8(7)?;
                frame.put_u64(*nanos)
            }
            Self::Sessions { opened, code } => {
                frame.put_u8(8)?;
                frame.put_u16(*opened)?;
                frame.put_u64(*code)
            }
            Self::Library(facts) => {
                frame.put_u8(9)?;
                facts.put(frame)
            }
            Self::Slot(facts) => {
                frame.put_u8(10)?;
                facts.put(frame)
            }
            Self::Mechanisms(list) => {
                frame.put_u8(11)?;
                frame.put_u16(u16::try_from(list.len()).map_err(|_| Malformed)?)?;
                list.iter().try_for_each(|mechanism| mechanism.put(frame))
            }
            Self::Versions(list) => {
                frame.put_u8(12)?;
                frame.put_u16(u16::try_from(list.len()).map_err(|_| Malformed)?)?;
                list.iter().try_for_each(|version| frame.put_u64(u64::from(*version)))
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
            7 => Self::Took(fields.u64()?),
            8 => Self::Sessions { opened: fields.u16()?, code: fields.u64()? },
            9 => Self::Library(LibraryFacts::take(&mut fields)?),
            10 => Self::Slot(SlotFacts::take(&mut fields)?),
            11 => {
                let count = fields.u16()?;
                Self::Mechanisms((0..count).map(|_| MechanismFacts::take(&mut fields)).collect::<Result<_, _>>()?)
            }
            12 => {
                let count = fields.u16()?;
                Self::Versions((0..count).map(|_| take_version(&mut fields)).collect::<Result<_, _>>()?)
            }
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
            Request::Temporary(NewKey {
                role: KeyRole::Wrapper,
                mechanism: 0x1080,
                key_type: 0x1F,
                bits: 256,
                label: "t",
                id: &[],
                unmodifiable: false,
            }),
            Request::Discard,
            Request::Repeat { recipe, label: "kek-1", blob: &[2; 60], aad: b"", times: 500 },
            Request::Sessions { most: 65 },
            Request::Survey { module: "/m.so", reserved: "", os_locking: false },
            Request::Slot { index: 1 },
            Request::Mechanisms { index: 1, from: 100 },
            Request::Versions { label: "kek-{version}", role: KeyRole::Private, from: 3, gap: 32 },
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
            Reply::Failed(Fault::ManyKeys("kek-1".into())),
            Reply::Failed(Fault::NoKey("kek-2.mac".into())),
            Reply::Failed(Fault::NotOurs),
            Reply::Failed(Fault::OtherTokens("kek (serial 1)".into())),
            Reply::Failed(Fault::IvMode),
            Reply::Took(7),
            Reply::Sessions { opened: 63, code: 0xB1 },
            Reply::Library(LibraryFacts { slots: 2, version: "2.6".into(), ..LibraryFacts::default() }),
            Reply::Slot(SlotFacts { label: "t".into(), initialized: true, ..SlotFacts::default() }),
            Reply::Mechanisms(vec![MechanismFacts { number: 0x1087, min: 16, max: 32, flags: 0x300 }; 2]),
            Reply::Versions(vec![1, 7, u32::MAX]),
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
