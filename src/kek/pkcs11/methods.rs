//! What does each method of wrapping do in the token? One function a direction; the blobs are what a wrap stores.
//! This module never decrypts what a MAC does not vouch for, and never guesses who makes an IV.

#![deny(clippy::indexing_slicing)]

use crate::crypto;
use crate::kek::profile::IvMode;
use crate::secret::SecretBytes;

use super::cipher::{Gcm, Mechanism, Parameters};
use super::fault::Fault;
use super::module::{Attribute, Module, ObjectId, SessionId};
use super::recipe::Recipe;

/// A session with the keys that a call needs: the KEK first, then its MAC key if there is one.
pub(super) struct At<'a> {
    pub(super) module: &'a Module,
    pub(super) session: SessionId,
    pub(super) keys: &'a [ObjectId],
}

impl At<'_> {
    pub(super) fn key(&self, index: usize) -> Result<ObjectId, Fault> {
        self.keys.get(index).copied().ok_or_else(|| Fault::Protocol("a call without its key".into()))
    }
}

/// Wraps `plain`. For RSA-OAEP, which the sidecar encrypts, it authenticates.
pub(super) fn wrap(at: &At<'_>, recipe: Recipe, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, Fault> {
    match recipe {
        Recipe::Gcm { mechanism, iv } => gcm_seal(at, mechanism, iv, plain, aad),
        Recipe::KeyWrap { mechanism } => {
            let mut out = [0; ROOM];
            let mut mechanism = Mechanism { number: mechanism, parameters: Parameters::None };
            let len = at.module.encrypt(at.session, &mut mechanism, at.key(0)?, plain, &mut out)?;
            Ok(out.get(..len).unwrap_or_default().to_vec())
        }
        Recipe::CbcHmac { mechanism, mac } => {
            let body = cbc_encrypt(at, mechanism, plain)?;
            authenticated(at, mac, &body, aad)
        }
        Recipe::Oaep { mac: Some(mac), .. } => authenticated(at, mac, plain, aad),
        Recipe::Oaep { mac: None, .. } => Err(Fault::Protocol("RSA encryption is the sidecar's".into())),
        Recipe::ByValue { mechanism, .. } => wrap_by_value(at, mechanism, plain),
    }
}

/// Unwraps what [`wrap`] returned.
pub(super) fn unwrap(at: &At<'_>, recipe: Recipe, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Fault> {
    match recipe {
        Recipe::Gcm { mechanism, iv } => gcm_open(at, mechanism, iv, blob, aad),
        Recipe::KeyWrap { mechanism } => decrypt(at, mechanism, Parameters::None, blob),
        Recipe::CbcHmac { mechanism, mac } => {
            let body = verified(at, mac, blob, aad)?;
            let (iv, ciphertext) = body.split_first_chunk().ok_or_else(no_iv)?;
            decrypt(at, mechanism, Parameters::Iv(iv), ciphertext)
        }
        Recipe::Oaep { mechanism, hash, mac } => {
            let ciphertext = match mac {
                Some(mac) => verified(at, mac, blob, aad)?,
                None => blob,
            };
            decrypt(at, mechanism, Parameters::Oaep(hash), ciphertext)
        }
        Recipe::ByValue { mechanism, value_len, readable } => {
            unwrap_by_value(at, mechanism, blob, unwrap_template(value_len, readable))
        }
    }
}

/// Modulus and public exponent; the exponent from the public key where the private one does not report it.
pub(super) fn public_key(at: &At<'_>, label: &str) -> Result<Vec<u8>, Fault> {
    let read = |key, kind| at.module.bytes(at.session, key, kind);
    let private = at.key(0)?;
    let modulus = read(private, cryptoki_sys::CKA_MODULUS)?;
    let mut exponent = read(private, cryptoki_sys::CKA_PUBLIC_EXPONENT)?;
    if exponent.is_empty() {
        let template = [
            Attribute::Number(cryptoki_sys::CKA_CLASS, cryptoki_sys::CKO_PUBLIC_KEY),
            Attribute::Bytes(cryptoki_sys::CKA_LABEL, label.as_bytes()),
        ];
        let [public] = at.module.find(at.session, &template)?.try_into().map_err(|_| Fault::NoKey(label.to_owned()))?;
        exponent = read(public, cryptoki_sys::CKA_PUBLIC_EXPONENT)?;
    }
    let mut out = Vec::new();
    for number in [modulus, exponent] {
        let len = u16::try_from(number.len()).map_err(|_| Fault::Protocol("an RSA key of absurd length".into()))?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&number);
    }
    Ok(out)
}

/// `IV || ciphertext || tag`.
fn gcm_seal(at: &At<'_>, number: u64, mode: IvMode, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut iv = match mode {
        IvMode::Caller => fresh_iv(at)?,
        IvMode::HsmWriteback | IvMode::HsmAppended | IvMode::HsmPrepended => [0; 12],
    };
    let given = iv;
    let buffer: &mut [u8] = match mode {
        IvMode::Caller | IvMode::HsmWriteback => &mut iv,
        IvMode::HsmAppended | IvMode::HsmPrepended => &mut [],
    };
    let mut out = [0; ROOM];
    let parameters = Parameters::Gcm(Gcm { iv: buffer, aad });
    let mut mechanism = Mechanism { number, parameters };
    let len = at.module.encrypt(at.session, &mut mechanism, at.key(0)?, plain, &mut out)?;
    let sealed = out.get(..len).unwrap_or_default();
    let own_iv = match mode {
        IvMode::Caller | IvMode::HsmWriteback => 0,
        IvMode::HsmAppended => APPENDED_IV,
        IvMode::HsmPrepended => 12,
    };
    let expected = plain.len() + TAG_BYTES + own_iv;
    if sealed.len() != expected {
        return Err(Fault::IvMode);
    }
    match mode {
        IvMode::Caller if iv != given => Err(Fault::IvMode),
        // Zeros are what we gave: a token that wants the caller's IV has just encrypted under IV 0.
        IvMode::HsmWriteback if iv == [0; 12] => Err(Fault::IvMode),
        IvMode::Caller | IvMode::HsmWriteback => Ok([iv.as_slice(), sealed].concat()),
        IvMode::HsmPrepended => Ok(sealed.to_vec()),
        IvMode::HsmAppended => {
            let (ciphertext, iv) = sealed.split_at(sealed.len().saturating_sub(APPENDED_IV));
            Ok([iv, ciphertext].concat())
        }
    }
}

fn gcm_open(at: &At<'_>, number: u64, mode: IvMode, blob: &[u8], aad: &[u8]) -> Result<SecretBytes, Fault> {
    let iv_len = match mode {
        IvMode::Caller | IvMode::HsmWriteback => 12,
        IvMode::HsmAppended => APPENDED_IV,
        IvMode::HsmPrepended => {
            let gcm = Gcm { iv: &mut [], aad };
            return decrypt(at, number, Parameters::Gcm(gcm), blob);
        }
    };
    let (iv, sealed) = blob.split_at_checked(iv_len).ok_or_else(no_iv)?;
    let mut iv = iv.to_vec();
    decrypt(at, number, Parameters::Gcm(Gcm { iv: &mut iv, aad }), sealed)
}

fn decrypt(at: &At<'_>, number: u64, parameters: Parameters<'_>, from: &[u8]) -> Result<SecretBytes, Fault> {
    let mut plain = SecretBytes::zeroed(ROOM);
    let mut mechanism = Mechanism { number, parameters };
    let len = at.module.decrypt(at.session, &mut mechanism, at.key(0)?, from, plain.expose_mut())?;
    Ok(SecretBytes::copy_of(plain.expose().get(..len).unwrap_or_default()))
}

/// `IV || ciphertext`.
fn cbc_encrypt(at: &At<'_>, number: u64, plain: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut iv = [0; 16];
    crypto::random(&mut iv).map_err(|error| Fault::Protocol(error.to_string()))?;
    let mut out = [0; ROOM];
    let mut mechanism = Mechanism { number, parameters: Parameters::Iv(&iv) };
    let len = at.module.encrypt(at.session, &mut mechanism, at.key(0)?, plain, &mut out)?;
    Ok([iv.as_slice(), out.get(..len).unwrap_or_default()].concat())
}

/// `HMAC || body`.
fn authenticated(at: &At<'_>, mac: u64, body: &[u8], aad: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut tag = [0; MAC_BYTES];
    let len = at.module.sign(at.session, mac, at.key(1)?, &maced(body, aad), &mut tag)?;
    if len != MAC_BYTES {
        return Err(Fault::Protocol("the token's MAC has not 32 bytes".into()));
    }
    Ok([tag.as_slice(), body].concat())
}

/// The body, if the MAC before it is ours. Computed anew and compared here: some tokens sign but do not verify.
fn verified<'a>(at: &At<'_>, mac: u64, blob: &'a [u8], aad: &[u8]) -> Result<&'a [u8], Fault> {
    let (tag, body) = blob.split_at_checked(MAC_BYTES).ok_or(Fault::NotOurs)?;
    let mut expected = [0; MAC_BYTES];
    let len = at.module.sign(at.session, mac, at.key(1)?, &maced(body, aad), &mut expected)?;
    if len == MAC_BYTES && crypto::constant_time_eq(&expected, tag) { Ok(body) } else { Err(Fault::NotOurs) }
}

/// What the MAC covers: `u32 length of the binding || binding || body`.
fn maced(body: &[u8], aad: &[u8]) -> Vec<u8> {
    let len = u32::try_from(aad.len()).unwrap_or(u32::MAX).to_be_bytes();
    [len.as_slice(), aad, body].concat()
}

fn wrap_by_value(at: &At<'_>, number: u64, plain: &[u8]) -> Result<Vec<u8>, Fault> {
    let template = [
        Attribute::Number(cryptoki_sys::CKA_CLASS, cryptoki_sys::CKO_SECRET_KEY),
        Attribute::Number(cryptoki_sys::CKA_KEY_TYPE, cryptoki_sys::CKK_AES),
        Attribute::Flag(cryptoki_sys::CKA_TOKEN, false),
        Attribute::Flag(cryptoki_sys::CKA_EXTRACTABLE, true),
        Attribute::Flag(cryptoki_sys::CKA_SENSITIVE, false),
        Attribute::Bytes(cryptoki_sys::CKA_VALUE, plain),
    ];
    let key = at.module.create_object(at.session, &template)?;
    let mut out = [0; ROOM];
    let wrapped = at.module.wrap_key(at.session, number, at.key(0)?, key, &mut out);
    at.module.destroy_object(at.session, key)?;
    Ok(out.get(..wrapped?).unwrap_or_default().to_vec())
}

fn unwrap_by_value(
    at: &At<'_>,
    number: u64,
    blob: &[u8],
    template: Vec<Attribute<'static>>,
) -> Result<SecretBytes, Fault> {
    let key = at.module.unwrap_key(at.session, number, at.key(0)?, blob, &template)?;
    let mut plain = SecretBytes::zeroed(ROOM);
    let read = at.module.value(at.session, key, plain.expose_mut());
    // A readable key must not stay in the token, whatever came of reading it.
    at.module.destroy_object(at.session, key)?;
    Ok(SecretBytes::copy_of(plain.expose().get(..read?).unwrap_or_default()))
}

/// What products want to see in it, and refuse to see, differs: the profile says.
fn unwrap_template(value_len: bool, readable: bool) -> Vec<Attribute<'static>> {
    let mut template = vec![
        Attribute::Number(cryptoki_sys::CKA_CLASS, cryptoki_sys::CKO_SECRET_KEY),
        Attribute::Number(cryptoki_sys::CKA_KEY_TYPE, cryptoki_sys::CKK_AES),
        Attribute::Flag(cryptoki_sys::CKA_TOKEN, false),
    ];
    if value_len {
        template.push(Attribute::Number(cryptoki_sys::CKA_VALUE_LEN, 32));
    }
    if readable {
        template.push(Attribute::Flag(cryptoki_sys::CKA_SENSITIVE, false));
        template.push(Attribute::Flag(cryptoki_sys::CKA_EXTRACTABLE, true));
    }
    template
}

/// The token's randomness and the operating system's, so that neither alone can repeat an IV: under GCM a repeated one
/// gives the KEK's authentication key away.
fn fresh_iv(at: &At<'_>) -> Result<[u8; 12], Fault> {
    let (mut iv, mut ours) = ([0; 12], [0; 12]);
    at.module.random(at.session, &mut iv)?;
    crypto::random(&mut ours).map_err(|error| Fault::Protocol(error.to_string()))?;
    iv.iter_mut().zip(ours).for_each(|(byte, other)| *byte ^= other);
    Ok(iv)
}

fn no_iv() -> Fault {
    Fault::Protocol("a blob without an IV".into())
}

/// One wrapped or unwrapped key, with room to spare for tokens that insist on it; RSA-4096 gives 512 bytes.
pub(super) const ROOM: usize = 512;
const TAG_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
const APPENDED_IV: usize = 16;
