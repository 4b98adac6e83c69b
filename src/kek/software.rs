//! What wraps keys on a laptop? A KEK in a file, for development and demonstrations.
//! This module must never serve production: anyone who reads the file reads every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

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
    file: PathBuf,
    loaded: RwLock<Arc<Loaded>>,
}

/// What the file held when it was read.
struct Loaded {
    file: private_file::Version,
    keys: BTreeMap<u32, WrappingKey>,
}

impl SoftwareKek {
    /// Makes the file with a fresh KEK and mode 0600; refuses to replace one.
    pub fn create_file(disk: &Disk, path: &Path) -> Result<(), StartError> {
        let mut bytes = SecretBytes::zeroed(HEADER.len() + KEY_BYTES);
        let (header, key) = bytes.expose_mut().split_at_mut(HEADER.len());
        header.copy_from_slice(HEADER);
        crypto::random(key).map_err(|error| refused(path, error.to_string()))?;
        disk.write_new(path, bytes.expose(), 0o600).map_err(|error| refused(path, error.to_string()))
    }

    /// Adds the version after the newest one, or `to`, unless it is there: the version and whether it was made. A running
    /// sidecar takes it up by itself.
    pub fn rotate_file(disk: &Disk, path: &Path, to: Option<u32>) -> Result<(u32, bool), StartError> {
        let broken = |error: crate::durable::DurableError| refused(path, error.to_string());
        // Of two that add a version at once, the one that writes last would throw the other's key away.
        let _alone = disk.lock_exclusive(&path.with_added_extension("lock")).map_err(broken)?;
        let (bytes, _) = private_file::read(path, MOST_BYTES).map_err(StartError::KeyFile)?;
        let held = entries(&bytes).map_err(|problem| refused(path, problem.into()))?;
        let newest = held.iter().map(|(version, _)| *version).max().unwrap_or_default();
        let version = to.unwrap_or(newest + 1);
        if held.iter().any(|(known, _)| *known == version) {
            return Ok((version, false));
        }
        if version != newest + 1 || held.len() >= MOST_VERSIONS {
            let problem = format!("version {newest} is current: the next one is {}, of {MOST_VERSIONS}", newest + 1);
            return Err(refused(path, problem));
        }
        let mut fresh = SecretBytes::zeroed(KEY_BYTES);
        crypto::random(fresh.expose_mut()).map_err(|error| refused(path, error.to_string()))?;
        let mut out = SecretBytes::zeroed(HEADER_2.len() + (held.len() + 1) * ENTRY_BYTES);
        write_entries(out.expose_mut(), held.into_iter().chain([(version, fresh.expose())]));
        disk.write_atomic(path, out.expose(), 0o600).map_err(broken)?;
        Ok((version, true))
    }

    /// Reads the file: ours, mode 0600, of the exact shape.
    pub fn open(settings: &SoftwareSettings, _allowed: DevelopmentOnly) -> Result<Self, StartError> {
        let loaded = load(&settings.file)?;
        Ok(Self { name: settings.name.clone(), file: settings.file.clone(), loaded: RwLock::new(Arc::new(loaded)) })
    }

    /// Every version, ascending.
    pub fn versions(&self) -> Vec<u32> {
        self.now().keys.keys().copied().collect()
    }

    /// The keys; read again when the file is another one than it was. A file that cannot be read, or that does not hold
    /// the key that was used so far, changes nothing: a replaced file is noticed at the next start.
    fn now(&self) -> Arc<Loaded> {
        let known = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        if private_file::version(&self.file).is_ok_and(|version| version == known.file) {
            return known;
        }
        match load(&self.file) {
            Ok(fresh) if fresh.goes_on(&known) => {
                let fresh = Arc::new(fresh);
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
                fresh
            }
            _ => known,
        }
    }

    fn wrap_now(&self, key: &DataKey, binding: &WrapBinding) -> Result<Wrap, KekError> {
        let failed = |detail: &str| KekError::Denied { kek: self.name.clone(), detail: detail.into() };
        if binding.kek != self.name {
            return Err(failed("the binding names another key-encryption key"));
        }
        let loaded = self.now();
        let (kek_version, by) = loaded.keys.last_key_value().ok_or_else(|| failed("the file holds no key"))?;
        let blob = seal(by, &binding.encode(Method::Software), key).map_err(|error| failed(&error.to_string()))?;
        let (kek, check_value) = (self.name.clone(), key.check_value());
        Ok(Wrap { kek, kek_version: *kek_version, method: Method::Software, blob, check_value })
    }

    fn unwrap_now(&self, wrap: &Wrap, binding: &WrapBinding) -> Result<DataKey, KekError> {
        let ours = wrap.kek == self.name && binding.kek == self.name;
        if !ours || wrap.method != Method::Software {
            return Err(KekError::BadWrap);
        }
        let loaded = self.now();
        let by = loaded.keys.get(&wrap.kek_version).ok_or_else(|| {
            let (name, version, file) = (&self.name, wrap.kek_version, self.file.display());
            KekError::Unsupported(format!("version {version} of the key-encryption key {name} is not in {file}"))
        })?;
        let (nonce, sealed) = wrap.blob.split_first_chunk::<NONCE_BYTES>().ok_or(KekError::BadWrap)?;
        let aad = binding.encode(Method::Software);
        let secret = by.open(nonce, &aad, sealed).map_err(|CryptoError| KekError::BadWrap)?;
        super::checked_key(&secret, wrap)
    }
}

impl Loaded {
    /// Whether this file holds the key that new wraps were made by so far.
    fn goes_on(&self, before: &Self) -> bool {
        let Some((version, old)) = before.keys.last_key_value() else { return false };
        let (nonce, text) = ([0; NONCE_BYTES], [0; KEY_BYTES]);
        let sealed = old.seal(&nonce, b"keyward/software/same", &text);
        let opened = |key: &WrappingKey, sealed: Vec<u8>| key.open(&nonce, b"keyward/software/same", &sealed).is_ok();
        self.keys.get(version).zip(sealed.ok()).is_some_and(|(key, sealed)| opened(key, sealed))
    }
}

/// `nonce || ciphertext || tag`.
fn seal(by: &WrappingKey, aad: &[u8], key: &DataKey) -> Result<Vec<u8>, CryptoError> {
    let mut nonce = [0; NONCE_BYTES];
    crypto::random(&mut nonce)?;
    let sealed = by.seal(&nonce, aad, key.expose_for_wrapping())?;
    Ok([nonce.as_slice(), &sealed].concat())
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

    fn current_version(&self) -> Option<u32> {
        self.now().keys.last_key_value().map(|(version, _)| *version)
    }

    fn health(&self) -> KekHealth {
        // The file was read at the start; nothing it could say later takes a key away.
        KekHealth::Reachable
    }
}

fn refused(path: &Path, problem: String) -> StartError {
    StartError::KeyFile(super::PrivateFileError { path: path.to_path_buf(), problem })
}

fn load(path: &Path) -> Result<Loaded, StartError> {
    let (bytes, file) = private_file::read(path, MOST_BYTES).map_err(StartError::KeyFile)?;
    let held = entries(&bytes).map_err(|problem| refused(path, problem.into()))?;
    let key = |(version, key): (u32, &[u8])| {
        let key = WrappingKey::from_secret(&SecretBytes::copy_of(key));
        key.map(|key| (version, key)).map_err(|_| refused(path, "does not hold a usable key".into()))
    };
    Ok(Loaded { file, keys: held.into_iter().map(key).collect::<Result<_, StartError>>()? })
}

/// The versions and their keys, ascending: one in the first form, any in the second.
fn entries(bytes: &SecretBytes) -> Result<Vec<(u32, &[u8])>, &'static str> {
    let bytes = bytes.expose();
    if let Some(key) = bytes.strip_prefix(HEADER) {
        let fits = key.len() == KEY_BYTES;
        return if fits { Ok(vec![(1, key)]) } else { Err("has the wrong length for a software key-encryption key") };
    }
    let rest = bytes.strip_prefix(HEADER_2).ok_or("is not a software key-encryption key of form 1 or 2")?;
    let (entries, rest) = rest.as_chunks::<ENTRY_BYTES>();
    let mut held = Vec::with_capacity(entries.len());
    for entry in entries {
        let (version, key) = entry.split_first_chunk().ok_or("is cut off")?;
        held.push((u32::from_be_bytes(*version), key));
    }
    let ascending = held.iter().zip(held.iter().skip(1)).all(|((one, _), (next, _))| one < next);
    let counted = held.first().is_some_and(|(first, _)| *first > 0);
    if ascending && counted && rest.is_empty() { Ok(held) } else { Err("does not hold versions in their order") }
}

fn write_entries<'a>(out: &mut [u8], entries: impl Iterator<Item = (u32, &'a [u8])>) {
    let (header, rest) = out.split_at_mut(HEADER_2.len());
    header.copy_from_slice(HEADER_2);
    for (room, (version, key)) in rest.chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        let (number, place) = room.split_at_mut(size_of::<u32>());
        number.copy_from_slice(&version.to_be_bytes());
        place.copy_from_slice(key);
    }
}

/// Magic, then the file's form: one key, which is version 1.
const HEADER: &[u8; 8] = b"KWSOFTK\x01";
/// The second form: `u32 version || key` of each version, ascending.
const HEADER_2: &[u8; 8] = b"KWSOFTK\x02";
const KEY_BYTES: usize = 32;
const ENTRY_BYTES: usize = size_of::<u32>() + KEY_BYTES;
/// Each takes a place in locked memory.
const MOST_VERSIONS: usize = 64;
const MOST_BYTES: usize = HEADER_2.len() + MOST_VERSIONS * ENTRY_BYTES;
