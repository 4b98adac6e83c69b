//! What does the sidecar ask of its worker?

use super::super::frame::{Fields, Frame, Malformed};
use super::super::recipe::{KeyRole, Recipe};
use super::take_version;

/// What the sidecar asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Shakes hands.
    Hello {
        /// [`super::PROTOCOL`].
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
    /// Wraps under the KEK, and unwraps what came of it.
    WrapAndOpen {
        /// How.
        recipe: Recipe,
        /// The KEK's label.
        label: &'a str,
        /// The key to wrap.
        plain: &'a [u8],
        /// The encoded binding.
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
        /// The KEK's label, with [`super::super::VERSION_MARK`] where the version stands.
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
            Self::WrapAndOpen { recipe, label, plain, aad } => {
                put_crypt(frame, 19, *recipe, [label.as_bytes(), plain, aad])
            }
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
            19 => Self::WrapAndOpen {
                recipe: Recipe::take(&mut fields)?,
                label: fields.text()?,
                plain: fields.bytes()?,
                aad: fields.bytes()?,
            },
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
