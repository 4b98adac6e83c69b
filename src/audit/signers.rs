//! Which key signs the next checkpoint? One, or two while one takes over from the other (LOG-32, LOG-33): the files of
//! private keys, and the order in which they change.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::crypto::SigningKey;
use crate::durable::{Disk, DurableError};
use crate::secret::SecretBytes;

use super::OpenError;
use super::history::{PRIVATE, PUBLIC_MODE, SUCCESSORS, Stored};
use super::keys::Keys;
use super::note::{Checkpoint, VerifierKey};
use super::wal::FILE_MODE;

/// The key that is to take over (LOG-1).
pub(super) const NEXT: &str = "checkpoint.key.next";

/// The keys that sign.
pub(super) struct Signers {
    disk: Disk,
    dir: PathBuf,
    keys: Keys,
    current: SigningKey,
    next: Option<Next>,
}

/// A key that takes over.
struct Next {
    signing: SigningKey,
    /// The record that names it: it signs only what covers that.
    record: u64,
    /// The wall time at which the other stops.
    until: u64,
    /// A stored checkpoint carries both signatures.
    handed: bool,
}

/// What the newest record about keys says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rotation {
    pub(super) index: u64,
    pub(super) key: String,
    /// The wall time at which the key before stops signing.
    pub(super) until: u64,
}

impl Signers {
    /// The first key of a new log, made and durable.
    pub(super) fn found(disk: &Disk, dir: &Path, key: impl FnOnce([u8; 32]) -> VerifierKey) -> Result<Self, OpenError> {
        let pkcs8 = SigningKey::generate_pkcs8()?;
        let current = SigningKey::from_pkcs8(&pkcs8)?;
        disk.write_new(&dir.join(PRIVATE), pkcs8.expose(), FILE_MODE)?;
        let keys = Keys::founding_only(key(current.public()));
        Ok(Self { disk: disk.clone(), dir: dir.to_path_buf(), keys, current, next: None })
    }

    /// The key that signs, before the log is read: one of the last two that are known.
    pub(super) fn load(disk: &Disk, dir: &Path, keys: Keys) -> Result<Self, OpenError> {
        let current = private_key(&dir.join(PRIVATE))?;
        let mut latest = keys.all().map(|key| *key.public()).collect::<Vec<_>>();
        latest.drain(..latest.len().saturating_sub(2));
        if !latest.contains(&current.public()) {
            return Err(OpenError::Key("it is not that of checkpoint.pub"));
        }
        Ok(Self { disk: disk.clone(), dir: dir.to_path_buf(), keys, current, next: None })
    }

    /// Goes on where the last run stopped, by what the log says (LOG-33).
    pub(super) fn go_on(&mut self, newest: Option<&Rotation>, stored: &Stored) -> Result<(), OpenError> {
        let Some(rotation) = newest else {
            if *self.keys.newest() != self.signs() {
                return Err(OpenError::Key("successors holds a key that no record names"));
            }
            return Ok(self.forget_next()?);
        };
        let key = VerifierKey::parse(&rotation.key).ok_or(OpenError::Key("the newest record about it names none"))?;
        let unknown = OpenError::Key("successors holds a key that no record names");
        if key == self.signs() {
            // A key that was made and never recorded, by a rotation that stopped.
            return if *self.keys.newest() == key { Ok(self.forget_next()?) } else { Err(unknown) };
        }
        let path = self.dir.join(NEXT);
        let signing = private_key(&path)?;
        if signing.public() != *key.public() {
            return Err(OpenError::Key("checkpoint.key.next is not the one that the newest record names"));
        }
        let handed = self.take_over(signing, key, rotation)?;
        if let Some(next) = &mut self.next {
            next.handed = stored.succession.reached() >= handed;
        }
        if handed + 1 == self.keys.all().count() { Ok(()) } else { Err(unknown) }
    }

    /// The keys of the log that are known.
    pub(super) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The key whose signature every checkpoint needs now.
    pub(super) fn signs(&self) -> VerifierKey {
        VerifierKey::new(self.keys.origin().clone(), self.current.public())
    }

    /// Whether two keys sign, and both have signed.
    pub(super) fn overlap(&self) -> Overlap {
        match &self.next {
            None => Overlap::None,
            Some(Next { handed: false, .. }) => Overlap::Begun,
            Some(Next { until, .. }) => Overlap::Until(*until),
        }
    }

    /// Makes the next key durable; it signs nothing yet.
    pub(super) fn draft(&self) -> Result<(SigningKey, VerifierKey), SignersError> {
        self.forget_next()?;
        let pkcs8 = SigningKey::generate_pkcs8().map_err(|_| SignersError::Randomness)?;
        let signing = SigningKey::from_pkcs8(&pkcs8).map_err(|_| SignersError::Randomness)?;
        self.disk.write_new(&self.dir.join(NEXT), pkcs8.expose(), FILE_MODE)?;
        let key = VerifierKey::new(self.keys.origin().clone(), signing.public());
        Ok((signing, key))
    }

    /// The next key signs from the next checkpoint on that covers its record, which is durable. Gives its place.
    pub(super) fn take_over(
        &mut self,
        signing: SigningKey,
        key: VerifierKey,
        rotation: &Rotation,
    ) -> Result<usize, DurableError> {
        let place = match self.keys.position(&key) {
            Some(place) => place,
            None => {
                let mut keys = self.keys.clone();
                keys.push(key);
                // If we stop here the next start adds it again: the record names it.
                let text: String = keys.all().skip(1).map(|key| key.to_text() + "\n").collect();
                self.disk.write_atomic(&self.dir.join(SUCCESSORS), text.as_bytes(), PUBLIC_MODE)?;
                self.keys = keys;
                self.keys.all().count().saturating_sub(1)
            }
        };
        self.next = Some(Next { signing, record: rotation.index, until: rotation.until, handed: false });
        Ok(place)
    }

    /// Ends the overlap: the old key is gone.
    pub(super) fn settle(&mut self) -> Result<(), DurableError> {
        if let Some(next) = self.next.take_if(|next| next.handed) {
            // If we stop here the next start finds the key that the newest record names, and nothing to do.
            self.disk.rename(&self.dir.join(NEXT), &self.dir.join(PRIVATE))?;
            self.current = next.signing;
        }
        Ok(())
    }

    /// Removes a next key that nothing names.
    pub(super) fn forget_next(&self) -> Result<(), DurableError> {
        match self.disk.remove_file(&self.dir.join(NEXT)) {
            Ok(()) | Err(DurableError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn sign(&self, checkpoint: Checkpoint) -> String {
        let next = self.next.as_ref().filter(|next| next.record < checkpoint.size).map(|next| &next.signing);
        checkpoint.sign_by(std::iter::once(&self.current).chain(next), self.keys.origin())
    }

    /// A checkpoint is stored, as it was signed.
    pub(super) fn stored(&mut self, checkpoint: Checkpoint) {
        if let Some(next) = self.next.as_mut().filter(|next| next.record < checkpoint.size) {
            next.handed = true;
        }
    }
}

/// How far a change of keys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// One key signs.
    None,
    /// The next one is named, and no checkpoint carries both signatures yet.
    Begun,
    /// Both sign, until this wall time.
    Until(u64),
}

/// Why there is no next key.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignersError {
    #[error(transparent)]
    Disk(#[from] DurableError),
    #[error("the operating system refused randomness")]
    Randomness,
}

/// Reads a private key and checks that it is the owner's alone (LOG-15).
fn private_key(path: &Path) -> Result<SigningKey, OpenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Key("it, or the next one that the newest record names, is missing"),
        _ => OpenError::Read { path: path.to_path_buf(), source },
    };
    if std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::Key("others than its owner may read it"));
    }
    let pkcs8 = SecretBytes::new(std::fs::read(path).map_err(failed)?);
    SigningKey::from_pkcs8(&pkcs8).map_err(|_| OpenError::Key("it is no Ed25519 key"))
}
