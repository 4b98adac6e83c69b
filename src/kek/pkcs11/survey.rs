//! What does a library show to somebody who does not log in? Its version, its tokens, and what they say they can do.
//! This module never opens a session: looking costs a token nothing.

#![deny(clippy::indexing_slicing)]

use cryptoki_sys::{CK_INFO, CK_VERSION};

use super::fault::Fault;
use super::frame::{Fields, Frame, Malformed};
use super::module::{Module, SlotId};
use super::token::{padded_text, printable};

/// A library that was loaded to be looked at.
pub struct Survey {
    module: Module,
    slots: Vec<SlotId>,
}

/// What a library says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibraryFacts {
    /// The maker.
    pub manufacturer: String,
    /// What it is.
    pub description: String,
    /// Its version.
    pub version: String,
    /// The version of PKCS#11.
    pub cryptoki: String,
    /// How many slots have a token.
    pub slots: u16,
}

/// What a slot and its token say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// The slot, in words.
    pub description: String,
    /// The token's label.
    pub label: String,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its firmware.
    pub firmware: String,
    /// Whether it has been initialised.
    pub initialized: bool,
    /// Whether it says that its users log in.
    pub wants_login: bool,
    /// The shortest PIN.
    pub pin_min: u64,
    /// The longest.
    pub pin_max: u64,
    /// The most sessions; 0: no limit, or it does not say.
    pub sessions: u64,
}

/// What a token says of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MechanismFacts {
    /// Its number.
    pub number: u64,
    /// The shortest key, in units that depend on the mechanism.
    pub min: u64,
    /// The longest.
    pub max: u64,
    /// What it does, as CKF_ bits.
    pub flags: u64,
}

impl Survey {
    /// Loads the library.
    pub fn start(module: &str, reserved: &str, os_locking: bool) -> Result<(Self, LibraryFacts), Fault> {
        let module = Module::load(module)?;
        module.initialize(reserved, os_locking)?;
        let slots = module.slots()?;
        let CK_INFO { manufacturerID, libraryDescription, libraryVersion, cryptokiVersion, .. } = module.info()?;
        let version = |version: CK_VERSION| format!("{}.{}", version.major, version.minor);
        let facts = LibraryFacts {
            manufacturer: text(&manufacturerID),
            description: text(&libraryDescription),
            version: version(libraryVersion),
            cryptoki: version(cryptokiVersion),
            slots: u16::try_from(slots.len()).unwrap_or(u16::MAX),
        };
        Ok((Self { module, slots }, facts))
    }

    /// One of its slots.
    pub fn slot(&self, index: u16) -> Result<SlotFacts, Fault> {
        let slot = self.at(index)?;
        let (slot, token) = (self.module.slot(slot)?, self.module.token(slot)?);
        let has = |flag| token.flags & flag != 0;
        // CK_UNAVAILABLE_INFORMATION, CK_EFFECTIVELY_INFINITE (0), and limits that no pool of ours comes near.
        let sessions = if token.ulMaxSessionCount > MANY { 0 } else { token.ulMaxSessionCount };
        Ok(SlotFacts {
            description: text(&slot.slotDescription),
            label: text(&token.label),
            manufacturer: text(&token.manufacturerID),
            model: text(&token.model),
            serial: text(&token.serialNumber),
            firmware: format!("{}.{}", token.firmwareVersion.major, token.firmwareVersion.minor),
            initialized: has(cryptoki_sys::CKF_TOKEN_INITIALIZED),
            wants_login: has(cryptoki_sys::CKF_LOGIN_REQUIRED),
            pin_min: token.ulMinPinLen,
            pin_max: token.ulMaxPinLen,
            sessions,
        })
    }

    /// Some of the mechanisms of a slot, in the order of their numbers.
    pub fn mechanisms(&self, index: u16, from: u16) -> Result<Vec<MechanismFacts>, Fault> {
        let slot = self.at(index)?;
        let mut numbers = self.module.mechanisms(slot)?;
        numbers.sort_unstable();
        let some = numbers.into_iter().skip(usize::from(from)).take(AT_ONCE);
        let facts = |number| {
            // A mechanism that is listed but not described is still listed.
            let info = self.module.mechanism(slot, number).unwrap_or_default();
            MechanismFacts { number, min: info.ulMinKeySize, max: info.ulMaxKeySize, flags: info.flags }
        };
        Ok(some.map(facts).collect())
    }

    /// Leaves the library in order.
    pub fn finalize(&self) {
        let _ended = self.module.finalize();
    }

    fn at(&self, index: u16) -> Result<SlotId, Fault> {
        self.slots.get(usize::from(index)).copied().ok_or(Fault::NoToken)
    }
}

impl LibraryFacts {
    pub(super) fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        let texts = [&self.manufacturer, &self.description, &self.version, &self.cryptoki];
        texts.into_iter().try_for_each(|text| frame.put_bytes(text.as_bytes()))?;
        frame.put_u16(self.slots)
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            manufacturer: fields.text()?.into(),
            description: fields.text()?.into(),
            version: fields.text()?.into(),
            cryptoki: fields.text()?.into(),
            slots: fields.u16()?,
        })
    }
}

impl SlotFacts {
    pub(super) fn put(&self, frame: &mut Frame) -> Result<(), Malformed> {
        let texts = [&self.description, &self.label, &self.manufacturer, &self.model, &self.serial, &self.firmware];
        texts.into_iter().try_for_each(|text| frame.put_bytes(text.as_bytes()))?;
        frame.put_u8(u8::from(self.initialized))?;
        frame.put_u8(u8::from(self.wants_login))?;
        [self.pin_min, self.pin_max, self.sessions].into_iter().try_for_each(|number| frame.put_u64(number))
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            description: fields.text()?.into(),
            label: fields.text()?.into(),
            manufacturer: fields.text()?.into(),
            model: fields.text()?.into(),
            serial: fields.text()?.into(),
            firmware: fields.text()?.into(),
            initialized: fields.flag()?,
            wants_login: fields.flag()?,
            pin_min: fields.u64()?,
            pin_max: fields.u64()?,
            sessions: fields.u64()?,
        })
    }
}

impl MechanismFacts {
    pub(super) fn put(self, frame: &mut Frame) -> Result<(), Malformed> {
        [self.number, self.min, self.max, self.flags].into_iter().try_for_each(|number| frame.put_u64(number))
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self { number: fields.u64()?, min: fields.u64()?, max: fields.u64()?, flags: fields.u64()? })
    }
}

fn text(padded: &[u8]) -> String {
    printable(&padded_text(padded))
}

/// 32 bytes each: a page holds 127.
const AT_ONCE: usize = 100;
/// CK_UNAVAILABLE_INFORMATION is the largest number there is; a limit above this is none.
const MANY: u64 = 1 << 20;
