//! Where does one thread of the worker do its calls? In a session of its own, with the handles of the keys as it sees them.
//! This module never remembers a handle across sessions and never uses a session that has answered with an error.

#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::secret::SecretBytes;

use super::VERSION_MARK;
use super::attributes::KeyAttributes;
use super::fault::Fault;
use super::message::NewKey;
use super::methods::{self, At};
use super::module::{Attribute, Module, ObjectId, SessionId};
use super::recipe::{KeyRole, Recipe};
use super::token::{Token, printable};

/// A place to work.
pub struct Seat {
    token: Arc<Token>,
    work: Option<Work>,
}

/// A session and what was found in it.
struct Work {
    session: SessionId,
    keys: Vec<(KeyRole, String, ObjectId)>,
}

impl Seat {
    /// A seat at a token, without a session yet.
    pub const fn at(token: Arc<Token>) -> Self {
        Self { token, work: None }
    }

    /// Drops the session; the next call takes a fresh one and finds its keys again.
    pub fn renew(&mut self) {
        if let Some(work) = self.work.take() {
            // A session that cannot be closed is lost on the token's side too; the worker's end frees it.
            let _closed = self.token.module.close_session(work.session);
        }
    }

    /// Finds a key, in a session of its own, and reports its attributes.
    pub fn find(&mut self, label: &str, role: KeyRole) -> Result<KeyAttributes, Fault> {
        self.renew();
        self.working(&[(role, label)], |at| attributes(at.module, at.session, at.key(0)?))
    }

    /// Which versions of a key are there, in a session of its own: each by its exact label, since a token is not asked
    /// for all that it holds.
    pub fn versions(&mut self, label: &str, role: KeyRole, from: u32, gap: u16) -> Result<Vec<u32>, Fault> {
        self.renew();
        self.working(&[], |at| {
            let (mut found, mut missing) = (Vec::new(), 0);
            for version in from.max(1)..=u32::MAX {
                let label = label_of(role, &label.replace(VERSION_MARK, &version.to_string()));
                if at.module.find(at.session, &[class(role), label_is(&label)])?.is_empty() {
                    missing += 1;
                } else {
                    found.push(version);
                    missing = 0;
                }
                if missing >= gap || found.len() >= MOST_VERSIONS {
                    break;
                }
            }
            // As for one key: a public session sees none.
            if found.is_empty() && !at.module.is_logged_in(at.session)? {
                return Err(Fault::LoggedOut);
            }
            Ok(found)
        })
    }

    /// Wraps under the KEK.
    pub fn wrap(&mut self, recipe: Recipe, label: &str, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, Fault> {
        self.working(&roles(recipe, label), |at| methods::wrap(at, recipe, plain, aad))
    }

    /// Wraps under the KEK, and unwraps what came of it.
    pub fn wrap_and_open(
        &mut self,
        recipe: Recipe,
        label: &str,
        plain: &[u8],
        aad: &[u8],
    ) -> Result<(Vec<u8>, SecretBytes), Fault> {
        self.working(&roles(recipe, label), |at| {
            let blob = methods::wrap(at, recipe, plain, aad)?;
            let opened = methods::unwrap(at, recipe, &blob, aad)?;
            Ok((blob, opened))
        })
    }

    /// Unwraps what [`Self::wrap`] returned.
    pub fn unwrap(&mut self, recipe: Recipe, label: &str, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Fault> {
        self.working(&roles(recipe, label), |at| methods::unwrap(at, recipe, blob, aad))
    }

    /// Modulus and public exponent of the private key, each with its length in two bytes before it.
    pub fn public_key(&mut self, label: &str) -> Result<Vec<u8>, Fault> {
        self.working(&[(KeyRole::Private, label)], |at| methods::public_key(at, label))
    }

    /// Randomness of the token.
    pub fn random(&mut self, len: u16) -> Result<SecretBytes, Fault> {
        let mut bytes = SecretBytes::zeroed(usize::from(len).min(methods::ROOM));
        self.working(&[], |at| at.module.random(at.session, bytes.expose_mut()))?;
        Ok(bytes)
    }

    /// Makes a key; refuses a label that is taken.
    pub fn create(&mut self, new: &NewKey<'_>) -> Result<KeyAttributes, Fault> {
        let module = &self.token.module;
        let session = self.token.read_write_session()?;
        let label = label_of(new.role, new.label);
        if !module.find(session, &[class(new.role), label_is(&label)])?.is_empty() {
            return Err(Fault::KeyExists);
        }
        let made = generate(module, session, new, &label, true)?;
        attributes(module, session, first(&made)?)
    }

    /// Makes a key that goes with its session; other sessions see it as long as that one is open.
    pub fn temporary(&mut self, new: &NewKey<'_>) -> Result<KeyAttributes, Fault> {
        let module = &self.token.module;
        let label = label_of(new.role, new.label);
        let (session, made) = self.token.temporary(|session| generate(module, session, new, &label, false))?;
        attributes(module, session, first(&made)?)
    }

    /// Removes the temporary keys.
    pub fn discard(&mut self) -> Result<(), Fault> {
        self.renew();
        self.token.discard()
    }

    /// Unwraps the same blob `times` times in one session; how many nanoseconds that took.
    pub fn repeat(&mut self, recipe: Recipe, label: &str, blob: &[u8], aad: &[u8], times: u16) -> Result<u64, Fault> {
        self.working(&roles(recipe, label), |at| {
            let start = SystemClock.mono();
            (0..times).try_for_each(|_| methods::unwrap(at, recipe, blob, aad).map(drop))?;
            Ok(u64::try_from(SystemClock.mono().since(start).as_nanos()).unwrap_or(u64::MAX))
        })
    }

    /// How many more sessions the token gives, and the code that ended it.
    pub fn sessions(&self, most: u16) -> Result<(u16, u64), Fault> {
        self.token.count_sessions(most)
    }

    /// Runs a call in the session with the keys that it needs, and drops the session if the call failed: an operation may
    /// still be open in it, and its handles may be dead.
    fn working<T>(
        &mut self,
        wanted: &[(KeyRole, &str)],
        run: impl FnOnce(&At<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let result = self
            .found(wanted)
            .and_then(|(session, keys)| run(&At { module: &self.token.module, session, keys: &keys }));
        if result.is_err() {
            self.renew();
        }
        result
    }

    fn found(&mut self, wanted: &[(KeyRole, &str)]) -> Result<(SessionId, Vec<ObjectId>), Fault> {
        let session = match &self.work {
            Some(work) => work.session,
            None => self.token.session()?,
        };
        let work = self.work.get_or_insert_with(|| Work { session, keys: Vec::new() });
        let mut keys = Vec::with_capacity(wanted.len());
        for (role, label) in wanted {
            let known = work.keys.iter().find(|(its, name, _)| its == role && name == label);
            let key = match known {
                Some((_, _, key)) => *key,
                None => {
                    let key = find_one(&self.token.module, session, *role, label)?;
                    work.keys.push((*role, (*label).to_owned(), key));
                    key
                }
            };
            keys.push(key);
        }
        Ok((session, keys))
    }
}

/// The key, and the public one of a pair behind it.
fn generate(
    module: &Module,
    session: SessionId,
    new: &NewKey<'_>,
    label: &str,
    lasting: bool,
) -> Result<Vec<ObjectId>, Fault> {
    let mut template = kek_template(new, label, lasting);
    if new.unmodifiable {
        template.push(Attribute::Flag(cryptoki_sys::CKA_MODIFIABLE, false));
    }
    match new.role {
        KeyRole::Private => {
            let public = public_template(new, label, lasting);
            let (private, public) = module.generate_pair(session, new.mechanism, &public, &template)?;
            Ok(vec![private, public])
        }
        KeyRole::Cipher | KeyRole::Wrapper | KeyRole::Mac => {
            Ok(vec![module.generate(session, new.mechanism, &template)?])
        }
    }
}

fn first(made: &[ObjectId]) -> Result<ObjectId, Fault> {
    made.first().copied().ok_or_else(|| Fault::Protocol("nothing was made".into()))
}

/// The keys that a recipe needs, in the order of `At::keys`.
fn roles(recipe: Recipe, label: &str) -> Vec<(KeyRole, &str)> {
    let mut roles = vec![(recipe.role(), label)];
    if recipe.has_mac() {
        roles.push((KeyRole::Mac, label));
    }
    roles
}

fn find_one(module: &Module, session: SessionId, role: KeyRole, label: &str) -> Result<ObjectId, Fault> {
    let label = label_of(role, label);
    match module.find(session, &[class(role), label_is(&label)])?.as_slice() {
        // A session that has become public does not see private objects: that is no reason to call the key gone.
        [] if !module.is_logged_in(session)? => Err(Fault::LoggedOut),
        [] => Err(Fault::NoKey(label)),
        [key] => Ok(*key),
        _ => Err(Fault::ManyKeys(label)),
    }
}

fn attributes(module: &Module, session: SessionId, key: ObjectId) -> Result<KeyAttributes, Fault> {
    let number = |kind| module.number(session, key, kind);
    let label = module.bytes(session, key, cryptoki_sys::CKA_LABEL)?;
    let mut attributes = KeyAttributes {
        label: printable(&String::from_utf8_lossy(&label)),
        id: module.bytes(session, key, cryptoki_sys::CKA_ID)?,
        key_type: number(cryptoki_sys::CKA_KEY_TYPE)?,
        value_len: number(cryptoki_sys::CKA_VALUE_LEN)?,
        generated_by: number(cryptoki_sys::CKA_KEY_GEN_MECHANISM)?,
        ..KeyAttributes::default()
    };
    for (kind, flag) in attributes.slots() {
        *flag = module.flag(session, key, kind)?;
    }
    Ok(attributes)
}

/// The label of a key of a KEK.
pub(super) fn label_of(role: KeyRole, label: &str) -> String {
    match role {
        KeyRole::Mac => format!("{label}.mac"),
        KeyRole::Cipher | KeyRole::Wrapper | KeyRole::Private => label.to_owned(),
    }
}

const fn label_is(label: &str) -> Attribute<'_> {
    Attribute::Bytes(cryptoki_sys::CKA_LABEL, label.as_bytes())
}

const fn class(role: KeyRole) -> Attribute<'static> {
    let class = match role {
        KeyRole::Cipher | KeyRole::Wrapper | KeyRole::Mac => cryptoki_sys::CKO_SECRET_KEY,
        KeyRole::Private => cryptoki_sys::CKO_PRIVATE_KEY,
    };
    Attribute::Number(cryptoki_sys::CKA_CLASS, class)
}

/// What the key may do and nothing else, never to leave the token.
fn kek_template<'a>(new: &NewKey<'a>, label: &'a str, lasting: bool) -> Vec<Attribute<'a>> {
    let mut template = vec![
        class(new.role),
        Attribute::Number(cryptoki_sys::CKA_KEY_TYPE, new.key_type),
        label_is(label),
        Attribute::Bytes(cryptoki_sys::CKA_ID, new.id),
        Attribute::Flag(cryptoki_sys::CKA_TOKEN, lasting),
        Attribute::Flag(cryptoki_sys::CKA_PRIVATE, true),
        Attribute::Flag(cryptoki_sys::CKA_SENSITIVE, true),
        Attribute::Flag(cryptoki_sys::CKA_EXTRACTABLE, false),
    ];
    let (ciphers, wraps, signs) = match new.role {
        KeyRole::Cipher => (true, false, false),
        KeyRole::Wrapper => (false, true, false),
        KeyRole::Mac => (false, false, true),
        // A private key has no ENCRYPT, WRAP and VERIFY.
        KeyRole::Private => {
            template.extend([
                Attribute::Flag(cryptoki_sys::CKA_DECRYPT, true),
                Attribute::Flag(cryptoki_sys::CKA_UNWRAP, false),
                Attribute::Flag(cryptoki_sys::CKA_SIGN, false),
            ]);
            return template;
        }
    };
    template.extend([
        Attribute::Number(cryptoki_sys::CKA_VALUE_LEN, new.bits / 8),
        Attribute::Flag(cryptoki_sys::CKA_ENCRYPT, ciphers),
        Attribute::Flag(cryptoki_sys::CKA_DECRYPT, ciphers),
        Attribute::Flag(cryptoki_sys::CKA_WRAP, wraps),
        Attribute::Flag(cryptoki_sys::CKA_UNWRAP, wraps),
        Attribute::Flag(cryptoki_sys::CKA_SIGN, signs),
        Attribute::Flag(cryptoki_sys::CKA_VERIFY, signs),
    ]);
    template
}

fn public_template<'a>(new: &NewKey<'a>, label: &'a str, lasting: bool) -> Vec<Attribute<'a>> {
    vec![
        Attribute::Number(cryptoki_sys::CKA_CLASS, cryptoki_sys::CKO_PUBLIC_KEY),
        Attribute::Number(cryptoki_sys::CKA_KEY_TYPE, new.key_type),
        label_is(label),
        Attribute::Bytes(cryptoki_sys::CKA_ID, new.id),
        Attribute::Flag(cryptoki_sys::CKA_TOKEN, lasting),
        Attribute::Flag(cryptoki_sys::CKA_ENCRYPT, true),
        Attribute::Flag(cryptoki_sys::CKA_WRAP, false),
        Attribute::Flag(cryptoki_sys::CKA_VERIFY, false),
        Attribute::Number(cryptoki_sys::CKA_MODULUS_BITS, new.bits),
        Attribute::Bytes(cryptoki_sys::CKA_PUBLIC_EXPONENT, &[1, 0, 1]),
    ]
}

/// Eight bytes each in an answer of one page. More than a key has in its life.
const MOST_VERSIONS: usize = 256;
