//! What does the worker hold open? One token: the library, the slot, and the session that keeps the login.
//! This module never selects a slot by its number and never keeps a PIN.

#![deny(clippy::indexing_slicing)]

use std::sync::{Mutex, PoisonError};

use cryptoki_sys::CK_TOKEN_INFO;

use super::fault::Fault;
use super::message::TokenFacts;
use super::module::{Module, ObjectId, SessionId, SlotId};

/// A token that was found. Every thread of the worker works on it in a session of its own.
pub struct Token {
    pub(super) module: Module,
    slot: SlotId,
    read_write: bool,
    // Stays open, since closing the last session would log out.
    login: Mutex<Option<SessionId>>,
    temporary: Mutex<Option<Temporary>>,
}

/// Keys that go with their session, and that session.
struct Temporary {
    session: SessionId,
    keys: Vec<ObjectId>,
}

/// How to load the library and find the token.
pub struct Lookup<'a> {
    /// The library.
    pub module: &'a str,
    /// C_Initialize's pReserved.
    pub reserved: &'a str,
    /// Whether C_Initialize gets CKF_OS_LOCKING_OK.
    pub os_locking: bool,
    /// Whether sessions are read-write.
    pub read_write: bool,
    /// The token's label.
    pub label: &'a str,
    /// The token's serial number; empty for any.
    pub serial: &'a str,
}

impl Token {
    /// Loads the library and finds the one token with the label and, if one is given, the serial number.
    pub fn find(lookup: &Lookup<'_>) -> Result<(Self, TokenFacts), Fault> {
        let module = Module::load(lookup.module)?;
        module.initialize(lookup.reserved, lookup.os_locking)?;
        let library = module.version()?;
        let (mut matching, mut others) = (Vec::new(), Vec::new());
        for slot in module.slots()? {
            // A neighbour that is broken or being removed must not hide the token that we want.
            let Ok(info) = module.token(slot) else { continue };
            let serial = padded_text(&info.serialNumber);
            let label = padded_text(&info.label);
            if label == lookup.label && (lookup.serial.is_empty() || serial == lookup.serial) {
                matching.push((slot, info));
            } else if !label.is_empty() {
                others.push(printable(&format!("{label} (serial {serial})")));
            }
        }
        match matching.as_slice() {
            [] if others.is_empty() => Err(Fault::NoToken),
            [] => Err(Fault::OtherTokens(others.join(", "))),
            [(slot, info)] => {
                let (slot, read_write) = (*slot, lookup.read_write);
                let (login, temporary) = (Mutex::new(None), Mutex::new(None));
                Ok((Self { module, slot, read_write, login, temporary }, facts(info, library)))
            }
            _ => Err(Fault::ManyTokens),
        }
    }

    /// Logs in, for all sessions of this process.
    pub fn login(&self, pin: &[u8]) -> Result<(), Fault> {
        let session = self.session()?;
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        self.module.login(session, pin)
    }

    /// A session as the profile wants it.
    pub fn session(&self) -> Result<SessionId, Fault> {
        self.module.open_session(self.slot, self.read_write)
    }

    /// A session that can make keys.
    pub fn read_write_session(&self) -> Result<SessionId, Fault> {
        self.module.open_session(self.slot, true)
    }

    /// Makes keys in the session of the temporary ones and remembers them: `make` gives every handle that it got.
    pub fn temporary(
        &self,
        make: impl FnOnce(SessionId) -> Result<Vec<ObjectId>, Fault>,
    ) -> Result<(SessionId, Vec<ObjectId>), Fault> {
        let mut held = self.temporary.lock().unwrap_or_else(PoisonError::into_inner);
        let session = match &*held {
            Some(temporary) => temporary.session,
            None => self.read_write_session()?,
        };
        let temporary = held.get_or_insert_with(|| Temporary { session, keys: Vec::new() });
        let made = make(session)?;
        temporary.keys.extend(&made);
        // A token that keeps what was to go with its session would be left with our rubbish.
        for key in &made {
            if self.module.flag(session, *key, cryptoki_sys::CKA_TOKEN)? == Some(true) {
                return Err(Fault::Protocol("the token keeps keys that were to go with their session".into()));
            }
        }
        Ok((session, made))
    }

    /// Removes the temporary keys, by the handles that making them returned, and their session.
    pub fn discard(&self) -> Result<(), Fault> {
        let Some(Temporary { session, keys }) = self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Ok(());
        };
        let destroyed: Vec<_> = keys.into_iter().map(|key| self.module.destroy_object(session, key)).collect();
        self.module.close_session(session)?;
        destroyed.into_iter().collect()
    }

    /// How many more sessions the token gives, up to `most`, and the code that ended it; all are closed again.
    pub fn count_sessions(&self, most: u16) -> Result<(u16, u64), Fault> {
        let mut open = Vec::new();
        let mut ended = 0;
        for _ in 0..most {
            match self.session() {
                Ok(session) => open.push(session),
                Err(Fault::Code { code, .. }) => {
                    ended = code;
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        let count = u16::try_from(open.len()).unwrap_or(u16::MAX);
        open.into_iter().try_for_each(|session| self.module.close_session(session))?;
        Ok((count, ended))
    }

    /// Leaves the library in order; nobody may be in a call, and the process ends next.
    pub fn finalize(&self) {
        // Nothing is left to be done about a library that does not end well.
        let _ended = self.module.finalize();
    }
}

fn facts(info: &CK_TOKEN_INFO, library: String) -> TokenFacts {
    let firmware = info.firmwareVersion;
    TokenFacts {
        manufacturer: printable(&padded_text(&info.manufacturerID)),
        model: printable(&padded_text(&info.model)),
        serial: printable(&padded_text(&info.serialNumber)),
        firmware: format!("{}.{}", firmware.major, firmware.minor),
        module_version: library,
    }
}

/// PKCS#11 pads texts with blanks; some products use NUL.
pub(super) fn padded_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
}

/// What may reach a log: printable ASCII, the rest as `?`.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
