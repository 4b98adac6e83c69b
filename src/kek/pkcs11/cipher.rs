//! How do a library's ciphers run? One initialisation and one call into a buffer of the caller's, for any mechanism.
//! This module never asks for a length first: several libraries answer that wrongly, and it costs a call.

#![expect(unsafe_code, reason = "PKCS#11 is a C interface")]

use std::ptr;

use cryptoki_sys::{CK_GCM_PARAMS, CK_MECHANISM, CK_RSA_PKCS_OAEP_PARAMS};

use crate::crypto::OaepHash;

use super::fault::Fault;
use super::module::{Attribute, Module, ObjectId, SessionId, call, raw_template, ulong, within};

/// A mechanism and its parameters.
pub struct Mechanism<'a> {
    /// The number, vendor ones included.
    pub number: u64,
    /// What it is given.
    pub parameters: Parameters<'a>,
}

/// What a mechanism is given.
pub enum Parameters<'a> {
    /// Nothing.
    None,
    /// The IV of AES-CBC.
    Iv(&'a [u8; 16]),
    /// AES-GCM.
    Gcm(Gcm<'a>),
    /// RSA-OAEP without a label.
    Oaep(OaepHash),
}

/// The parameters of AES-GCM.
pub struct Gcm<'a> {
    /// The IV, borrowed mutably because some libraries write it back; empty for a null pointer and a length of zero.
    pub iv: &'a mut [u8],
    /// The authenticated data.
    pub aad: &'a [u8],
}

impl Module {
    /// C_Encrypt; how many bytes of `to` it took.
    pub fn encrypt(
        &self,
        session: SessionId,
        mechanism: &mut Mechanism<'_>,
        key: ObjectId,
        from: &[u8],
        to: &mut [u8],
    ) -> Result<usize, Fault> {
        mechanism.with(|raw| {
            let mut len = ulong(to.len());
            // SAFETY: `with` keeps mechanism, parameters, IV and AAD alive until it returns.
            unsafe { call!(self, C_EncryptInit(session.0, raw, key.0)) }?;
            // SAFETY: input and output are live slices with their lengths; the interface lacks `const` for the input.
            unsafe {
                call!(
                    self,
                    C_Encrypt(session.0, from.as_ptr().cast_mut(), ulong(from.len()), to.as_mut_ptr(), &raw mut len)
                )
            }?;
            within(len, to)
        })
    }

    /// C_Decrypt; how many bytes of `to` it took.
    pub fn decrypt(
        &self,
        session: SessionId,
        mechanism: &mut Mechanism<'_>,
        key: ObjectId,
        from: &[u8],
        to: &mut [u8],
    ) -> Result<usize, Fault> {
        mechanism.with(|raw| {
            let mut len = ulong(to.len());
            // SAFETY: as in `encrypt`.
            unsafe { call!(self, C_DecryptInit(session.0, raw, key.0)) }?;
            // SAFETY: as in `encrypt`.
            unsafe {
                call!(
                    self,
                    C_Decrypt(session.0, from.as_ptr().cast_mut(), ulong(from.len()), to.as_mut_ptr(), &raw mut len)
                )
            }?;
            within(len, to)
        })
    }

    /// C_Sign, here always a MAC; how many bytes of `to` it took.
    pub fn sign(
        &self,
        session: SessionId,
        number: u64,
        key: ObjectId,
        from: &[u8],
        to: &mut [u8],
    ) -> Result<usize, Fault> {
        Mechanism { number, parameters: Parameters::None }.with(|raw| {
            let mut len = ulong(to.len());
            // SAFETY: as in `encrypt`.
            unsafe { call!(self, C_SignInit(session.0, raw, key.0)) }?;
            // SAFETY: as in `encrypt`.
            unsafe {
                call!(
                    self,
                    C_Sign(session.0, from.as_ptr().cast_mut(), ulong(from.len()), to.as_mut_ptr(), &raw mut len)
                )
            }?;
            within(len, to)
        })
    }

    /// C_WrapKey; how many bytes of `to` it took.
    pub fn wrap_key(
        &self,
        session: SessionId,
        number: u64,
        wrapping: ObjectId,
        key: ObjectId,
        to: &mut [u8],
    ) -> Result<usize, Fault> {
        Mechanism { number, parameters: Parameters::None }.with(|raw| {
            let mut len = ulong(to.len());
            // SAFETY: as in `encrypt`.
            unsafe { call!(self, C_WrapKey(session.0, raw, wrapping.0, key.0, to.as_mut_ptr(), &raw mut len)) }?;
            within(len, to)
        })
    }

    /// C_UnwrapKey into a session object.
    pub fn unwrap_key(
        &self,
        session: SessionId,
        number: u64,
        unwrapping: ObjectId,
        wrapped: &[u8],
        template: &[Attribute<'_>],
    ) -> Result<ObjectId, Fault> {
        let mut attributes = raw_template(template);
        Mechanism { number, parameters: Parameters::None }.with(|raw| {
            let mut key = 0;
            let (from, len) = (wrapped.as_ptr().cast_mut(), ulong(wrapped.len()));
            let (first, count) = (attributes.as_mut_ptr(), ulong(attributes.len()));
            // SAFETY: mechanism, input and template live through the call; a valid place for one handle.
            unsafe { call!(self, C_UnwrapKey(session.0, raw, unwrapping.0, from, len, first, count, &raw mut key)) }?;
            Ok(ObjectId(key))
        })
    }
}

impl Mechanism<'_> {
    /// Runs a call with the C form, which points to values that live as long as the call.
    fn with<T>(&mut self, run: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
        let number = self.number;
        match &mut self.parameters {
            Parameters::None => {
                let mut raw = CK_MECHANISM { mechanism: number, pParameter: ptr::null_mut(), ulParameterLen: 0 };
                run(&raw mut raw)
            }
            Parameters::Iv(iv) => {
                let mut parameters = **iv;
                let mut raw = pointing_to(number, &mut parameters);
                run(&raw mut raw)
            }
            Parameters::Gcm(gcm) => {
                let mut parameters = gcm.parameters();
                let mut raw = pointing_to(number, &mut parameters);
                run(&raw mut raw)
            }
            Parameters::Oaep(hash) => {
                let mut parameters = oaep(*hash);
                let mut raw = pointing_to(number, &mut parameters);
                run(&raw mut raw)
            }
        }
    }
}

impl Gcm<'_> {
    fn parameters(&mut self) -> CK_GCM_PARAMS {
        CK_GCM_PARAMS {
            pIv: if self.iv.is_empty() { ptr::null_mut() } else { self.iv.as_mut_ptr() },
            ulIvLen: ulong(self.iv.len()),
            ulIvBits: ulong(self.iv.len() * 8),
            pAAD: self.aad.as_ptr().cast_mut(),
            ulAADLen: ulong(self.aad.len()),
            ulTagBits: 128,
        }
    }
}

fn oaep(hash: OaepHash) -> CK_RSA_PKCS_OAEP_PARAMS {
    let (hash, mgf) = match hash {
        OaepHash::Sha1 => (cryptoki_sys::CKM_SHA_1, cryptoki_sys::CKG_MGF1_SHA1),
        OaepHash::Sha256 => (cryptoki_sys::CKM_SHA256, cryptoki_sys::CKG_MGF1_SHA256),
    };
    CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: hash,
        mgf,
        source: cryptoki_sys::CKZ_DATA_SPECIFIED,
        pSourceData: ptr::null_mut(),
        ulSourceDataLen: 0,
    }
}

fn pointing_to<T>(number: u64, parameters: &mut T) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: number,
        pParameter: ptr::from_mut(parameters).cast(),
        ulParameterLen: ulong(size_of::<T>()),
    }
}
