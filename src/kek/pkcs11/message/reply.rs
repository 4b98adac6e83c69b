//! What does the worker answer?

use super::super::attributes::KeyAttributes;
use super::super::fault::Fault;
use super::super::frame::{Fields, Frame, Malformed};
use super::super::survey::{LibraryFacts, MechanismFacts, SlotFacts};
use super::take_version;

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
    pub module_version: String,
}

/// What the worker answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It shakes hands.
    Hello {
        /// [`super::PROTOCOL`].
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
    /// A blob, and the key that it opens to.
    Wrapped {
        /// The wrap.
        blob: &'a [u8],
        /// What came out of it.
        opened: &'a [u8],
    },
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
                let texts = [&facts.manufacturer, &facts.model, &facts.serial, &facts.firmware, &facts.module_version];
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
            Self::Wrapped { blob, opened } => {
                frame.put_u8(13)?;
                frame.put_bytes(blob)?;
                frame.put_bytes(opened)
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
                module_version: fields.text()?.into(),
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
            13 => Self::Wrapped { blob: fields.bytes()?, opened: fields.bytes()? },
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(reply)
    }
}
