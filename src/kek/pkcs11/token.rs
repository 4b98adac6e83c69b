//! What does the worker hold open? One token: a session that keeps the login, a session that works, and the KEK's handle.
//! This module never remembers a handle across sessions and never uses a session that has answered with an error.

#![deny(clippy::indexing_slicing)]

use cryptoki_sys::CK_TOKEN_INFO;

use crate::crypto;
use crate::secret::SecretBytes;

use super::attributes::KeyAttributes;
use super::message::{Fault, TokenFacts};
use super::module::{Attribute, Gcm, Module, ObjectId, SessionId, SlotId};

/// A token that was found, and what is open on it.
pub struct Token {
    module: Module,
    slot: SlotId,
    read_write: bool,
    login: Option<SessionId>,
    kek: Option<String>,
    work: Option<Work>,
}

/// A session and the KEK as it sees it.
#[derive(Clone, Copy)]
struct Work {
    session: SessionId,
    key: ObjectId,
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
}

impl Token {
    /// Loads the library and finds the one token with the label.
    pub fn find(lookup: &Lookup<'_>) -> Result<(Self, TokenFacts), Fault> {
        let module = Module::load(lookup.module)?;
        module.initialize(lookup.reserved, lookup.os_locking)?;
        let library = module.version()?;
        let mut matching = Vec::new();
        for slot in module.slots()? {
            // A neighbour that is broken or being removed must not hide the token that we want.
            let Ok(info) = module.token(slot) else { continue };
            if padded_text(&info.label) == lookup.label {
                matching.push((slot, info));
            }
        }
        match matching.as_slice() {
            [] => Err(Fault::NoToken),
            [(slot, info)] => {
                let token =
                    Self { module, slot: *slot, read_write: lookup.read_write, login: None, kek: None, work: None };
                Ok((token, facts(info, library)))
            }
            _ => Err(Fault::ManyTokens),
        }
    }

    /// Logs in. The session stays open, since closing the last one would log out.
    pub fn login(&mut self, pin: &[u8]) -> Result<(), Fault> {
        let session = self.module.open_session(self.slot, self.read_write)?;
        self.login = Some(session);
        self.module.login(session, pin)
    }

    /// Finds the KEK and reports its attributes; later calls use it.
    pub fn find_kek(&mut self, label: &str) -> Result<KeyAttributes, Fault> {
        self.renew();
        self.kek = Some(label.into());
        let work = self.work()?;
        self.attributes(work)
    }

    /// Drops the working session.
    pub fn renew(&mut self) {
        if let Some(work) = self.work.take() {
            // A session that cannot be closed is lost on the token's side too; the worker's end frees it.
            let _closed = self.module.close_session(work.session);
        }
    }

    /// Encrypts under the KEK: `IV || ciphertext || tag`.
    pub fn wrap(&mut self, mechanism: u64, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, Fault> {
        self.working(|module, work| {
            let mut iv = fresh_iv(module, work.session)?;
            let mut sealed = [0; ROOM];
            let chosen = iv;
            let mut gcm = Gcm { mechanism, iv: &mut iv, aad };
            let len = module.encrypt(work.session, &mut gcm, work.key, plain, &mut sealed)?;
            if iv != chosen {
                return Err(Fault::Protocol("the token replaced the IV: the profile's IV mode is wrong".into()));
            }
            let sealed = sealed.get(..len).unwrap_or_default();
            Ok([chosen.as_slice(), sealed].concat())
        })
    }

    /// Decrypts what [`Self::wrap`] returned.
    pub fn unwrap(&mut self, mechanism: u64, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Fault> {
        self.working(|module, work| {
            let (iv, sealed) =
                blob.split_first_chunk().ok_or_else(|| Fault::Protocol("a blob without an IV".into()))?;
            let mut iv = *iv;
            let mut plain = SecretBytes::zeroed(ROOM);
            let mut gcm = Gcm { mechanism, iv: &mut iv, aad };
            let len = module.decrypt(work.session, &mut gcm, work.key, sealed, plain.expose_mut())?;
            Ok(SecretBytes::copy_of(plain.expose().get(..len).unwrap_or_default()))
        })
    }

    /// Randomness of the token.
    pub fn random(&mut self, len: u16) -> Result<SecretBytes, Fault> {
        let mut bytes = SecretBytes::zeroed(usize::from(len).min(ROOM));
        self.working(|module, work| module.random(work.session, bytes.expose_mut()))?;
        Ok(bytes)
    }

    /// Makes a KEK; refuses a label that is taken.
    pub fn create_kek(&mut self, label: &str, id: &[u8], unmodifiable: bool) -> Result<KeyAttributes, Fault> {
        let session = self.module.open_session(self.slot, true)?;
        if !self
            .module
            .find(session, &[secret_key(), Attribute::Bytes(cryptoki_sys::CKA_LABEL, label.as_bytes())])?
            .is_empty()
        {
            return Err(Fault::KeyExists);
        }
        let mut template = kek_template(label, id);
        if unmodifiable {
            template.push(Attribute::Flag(cryptoki_sys::CKA_MODIFIABLE, false));
        }
        let key = self.module.generate_aes(session, &template)?;
        self.attributes(Work { session, key })
    }

    /// Leaves the library in order; the process ends next.
    pub fn finalize(self) {
        // Nothing is left to be done about a library that does not end well.
        let _ended = self.module.finalize();
    }

    /// Runs a call in the working session, and drops that session if the call failed: an operation may still be open in
    /// it, and its handles may be dead.
    fn working<T>(&mut self, run: impl FnOnce(&Module, Work) -> Result<T, Fault>) -> Result<T, Fault> {
        let work = self.work()?;
        let result = run(&self.module, work);
        if result.is_err() {
            self.renew();
        }
        result
    }

    fn work(&mut self) -> Result<Work, Fault> {
        if let Some(work) = self.work {
            return Ok(work);
        }
        let label = self.kek.as_deref().ok_or_else(|| Fault::Protocol("no key-encryption key was named".into()))?;
        let session = self.module.open_session(self.slot, self.read_write)?;
        let found = find_one(&self.module, session, label);
        if found.is_err() {
            let _closed = self.module.close_session(session);
        }
        let work = Work { session, key: found? };
        self.work = Some(work);
        Ok(work)
    }

    fn attributes(&self, Work { session, key }: Work) -> Result<KeyAttributes, Fault> {
        let number = |kind| self.module.number(session, key, kind);
        let label = self.module.bytes(session, key, cryptoki_sys::CKA_LABEL)?;
        let mut attributes = KeyAttributes {
            label: printable(&String::from_utf8_lossy(&label)),
            id: self.module.bytes(session, key, cryptoki_sys::CKA_ID)?,
            key_type: number(cryptoki_sys::CKA_KEY_TYPE)?,
            value_len: number(cryptoki_sys::CKA_VALUE_LEN)?,
            generated_by: number(cryptoki_sys::CKA_KEY_GEN_MECHANISM)?,
            ..KeyAttributes::default()
        };
        for (kind, flag) in attributes.slots() {
            *flag = self.module.flag(session, key, kind)?;
        }
        Ok(attributes)
    }
}

fn find_one(module: &Module, session: SessionId, label: &str) -> Result<ObjectId, Fault> {
    if !module.is_logged_in(session)? {
        return Err(Fault::LoggedOut);
    }
    let template = [secret_key(), Attribute::Bytes(cryptoki_sys::CKA_LABEL, label.as_bytes())];
    match module.find(session, &template)?.as_slice() {
        [] => Err(Fault::NoKey),
        [key] => Ok(*key),
        _ => Err(Fault::ManyKeys),
    }
}

/// The token's randomness and the operating system's, so that neither alone can repeat an IV: under GCM a repeated one
/// gives the KEK's authentication key away.
fn fresh_iv(module: &Module, session: SessionId) -> Result<[u8; 12], Fault> {
    let (mut iv, mut ours) = ([0; 12], [0; 12]);
    module.random(session, &mut iv)?;
    crypto::random(&mut ours).map_err(|error| Fault::Protocol(error.to_string()))?;
    iv.iter_mut().zip(ours).for_each(|(byte, other)| *byte ^= other);
    Ok(iv)
}

fn kek_template<'a>(label: &'a str, id: &'a [u8]) -> Vec<Attribute<'a>> {
    vec![
        secret_key(),
        Attribute::Number(cryptoki_sys::CKA_KEY_TYPE, cryptoki_sys::CKK_AES),
        Attribute::Number(cryptoki_sys::CKA_VALUE_LEN, 32),
        Attribute::Bytes(cryptoki_sys::CKA_LABEL, label.as_bytes()),
        Attribute::Bytes(cryptoki_sys::CKA_ID, id),
        Attribute::Flag(cryptoki_sys::CKA_TOKEN, true),
        Attribute::Flag(cryptoki_sys::CKA_PRIVATE, true),
        Attribute::Flag(cryptoki_sys::CKA_SENSITIVE, true),
        Attribute::Flag(cryptoki_sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(cryptoki_sys::CKA_ENCRYPT, true),
        Attribute::Flag(cryptoki_sys::CKA_DECRYPT, true),
        Attribute::Flag(cryptoki_sys::CKA_WRAP, false),
        Attribute::Flag(cryptoki_sys::CKA_UNWRAP, false),
        Attribute::Flag(cryptoki_sys::CKA_SIGN, false),
        Attribute::Flag(cryptoki_sys::CKA_VERIFY, false),
    ]
}

const fn secret_key() -> Attribute<'static> {
    Attribute::Number(cryptoki_sys::CKA_CLASS, cryptoki_sys::CKO_SECRET_KEY)
}

fn facts(info: &CK_TOKEN_INFO, library: String) -> TokenFacts {
    let firmware = info.firmwareVersion;
    TokenFacts {
        manufacturer: printable(&padded_text(&info.manufacturerID)),
        model: printable(&padded_text(&info.model)),
        serial: printable(&padded_text(&info.serialNumber)),
        firmware: format!("{}.{}", firmware.major, firmware.minor),
        library,
    }
}

/// PKCS#11 pads texts with blanks; some products use NUL.
fn padded_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
}

/// What may reach a log: printable ASCII, the rest as `?`.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// One wrapped or unwrapped key, with room to spare for tokens that insist on it.
const ROOM: usize = 512;
