//! What wraps keys on a laptop? A KEK in a file, for development and demonstrations.
//! This module must never serve production: anyone who reads the file reads every key.

use std::path::{Path, PathBuf};

use crate::clock::{BoxFuture, Deadline};
use crate::crypto::{self, CryptoError, DataKey, NONCE_BYTES, WrappingKey};
use crate::durable::Disk;
use crate::names::KekName;
use crate::secret::SecretBytes;

use super::{Deployment, Kek, KekError, KekFacts, KekHealth, Method, StartError, Wrap, WrapBinding, private_file};

/// Where the KEK lies and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftwareSettings {
    /// The name in the configuration.
    pub name: KekName,
    /// The file that [`SoftwareKek::create_file`] made.
    pub file: PathBuf,
    /// The setting that is named for its danger.
    pub insecure_software_kek_for_development: bool,
}

/// The permission to use a software KEK: the deployment is for development and the settings name the danger.
#[derive(Debug)]
pub struct DevelopmentOnly(());

impl DevelopmentOnly {
    /// Grants it, or says which of the two is missing.
    pub fn confirm(deployment: Deployment, settings: &SoftwareSettings) -> Result<Self, StartError> {
        let reason = match (deployment, settings.insecure_software_kek_for_development) {
            (Deployment::Development, true) => return Ok(Self(())),
            (Deployment::Production, _) => "the environment is production",
            (Deployment::Development, false) => "insecure_software_kek_for_development is not set",
        };
        Err(StartError::SoftwareForbidden { kek: settings.name.clone(), reason })
    }
}

/// A KEK in a file.
pub struct SoftwareKek {
    name: KekName,
    key: WrappingKey,
}

impl SoftwareKek {
    /// Makes the file with a fresh KEK and mode 0600; refuses to replace one.
    pub fn create_file(disk: &Disk, path: &Path) -> Result<(), StartError> {
        let refuse =
            |problem: String| StartError::KeyFile(super::PrivateFileError { path: path.to_path_buf(), problem });
        let mut bytes = SecretBytes::zeroed(FILE_BYTES);
        let (header, key) = bytes.expose_mut().split_at_mut(HEADER.len());
        header.copy_from_slice(HEADER);
        crypto::random(key).map_err(|error| refuse(error.to_string()))?;
        disk.write_new(path, bytes.expose(), 0o600).map_err(|error| refuse(error.to_string()))
    }

    /// Reads the file: ours, mode 0600, of the exact shape.
    pub fn open(settings: &SoftwareSettings, _allowed: DevelopmentOnly) -> Result<Self, StartError> {
        let (bytes, _version) = private_file::read(&settings.file, FILE_BYTES).map_err(StartError::KeyFile)?;
        let key = parse(&bytes).map_err(|problem| {
            StartError::KeyFile(super::PrivateFileError { path: settings.file.clone(), problem: problem.into() })
        })?;
        Ok(Self { name: settings.name.clone(), key })
    }

    fn wrap_now(&self, key: &DataKey, binding: &WrapBinding) -> Result<Wrap, KekError> {
        let failed = |detail: &str| KekError::Denied { kek: self.name.clone(), detail: detail.into() };
        if binding.kek != self.name {
            return Err(failed("the binding names another key-encryption key"));
        }
        let aad = binding.encode(Method::Software);
        let blob = self.seal(&aad, key).map_err(|error| failed(&error.to_string()))?;
        let check_value = key.check_value();
        Ok(Wrap { kek: self.name.clone(), kek_version: VERSION, method: Method::Software, blob, check_value })
    }

    fn unwrap_now(&self, wrap: &Wrap, binding: &WrapBinding) -> Result<DataKey, KekError> {
        let ours = wrap.kek == self.name && binding.kek == self.name && wrap.kek_version == VERSION;
        if !ours || wrap.method != Method::Software {
            return Err(KekError::BadWrap);
        }
        let (nonce, sealed) = wrap.blob.split_first_chunk::<NONCE_BYTES>().ok_or(KekError::BadWrap)?;
        let aad = binding.encode(Method::Software);
        let secret = self.key.open(nonce, &aad, sealed).map_err(|CryptoError| KekError::BadWrap)?;
        super::checked_key(&secret, wrap)
    }

    /// `nonce || ciphertext || tag`.
    fn seal(&self, aad: &[u8], key: &DataKey) -> Result<Vec<u8>, CryptoError> {
        let mut nonce = [0; NONCE_BYTES];
        crypto::random(&mut nonce)?;
        let sealed = self.key.seal(&nonce, aad, key.expose_for_wrapping())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }
}

impl Kek for SoftwareKek {
    fn name(&self) -> &KekName {
        &self.name
    }

    fn facts(&self) -> KekFacts {
        KekFacts { kind: "software", development_only: true, ..KekFacts::default() }
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        _deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(std::future::ready(self.wrap_now(key, binding)))
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        _deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(std::future::ready(self.unwrap_now(wrap, binding)))
    }

    fn random<'a>(&'a self, _deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn health(&self) -> KekHealth {
        // The file was read at the start; nothing it could say later changes that.
        KekHealth::Reachable
    }
}

fn parse(bytes: &SecretBytes) -> Result<WrappingKey, &'static str> {
    let key = bytes.expose().strip_prefix(HEADER).ok_or("is not a software key-encryption key of version 1")?;
    if key.len() != KEY_BYTES {
        return Err("has the wrong length for a software key-encryption key");
    }
    WrappingKey::from_secret(&SecretBytes::copy_of(key)).map_err(|_| "does not hold a usable key")
}

/// Magic, then the version of the file's form.
const HEADER: &[u8; 8] = b"KWSOFTK\x01";
const KEY_BYTES: usize = 32;
const FILE_BYTES: usize = HEADER.len() + KEY_BYTES;
/// A file holds one KEK; another version is another file under another name.
pub(super) const VERSION: u32 = 1;
