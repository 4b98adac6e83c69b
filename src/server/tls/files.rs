//! What do the three files hold? Read whole and compared byte by byte, so that any change is one.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Wall;
use crate::identity::expiry;
use crate::secret::{SecretBytes, constant_time_eq};

use super::{Lives, Settings, TlsError};

/// The files as they stand.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: SecretBytes,
    pub(super) bundle: Vec<u8>,
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        let Self { certificate, key, bundle } = self;
        constant_time_eq(key.expose(), other.key.expose())
            && (certificate, bundle) == (&other.certificate, &other.bundle)
    }
}

/// What they say.
pub(super) struct Material {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: RootCertStore,
    pub(super) lives: Lives,
}

/// A bundle of a federation has some dozens of kilobytes.
const MOST: u64 = 1024 * 1024;
/// The largest key of a certificate in PEM is far smaller.
const MOST_KEY: u64 = 64 * 1024;

impl Files {
    pub(super) fn read(settings: &Settings) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&settings.certificate, MOST, Who::CanBeRead)?,
            key: SecretBytes::new(read(&settings.key, MOST_KEY, Who::OwnerAlone)?),
            bundle: read(&settings.trust_bundle, MOST, Who::CanBeRead)?,
        })
    }

    pub(super) fn material(&self, settings: &Settings) -> Result<Material, TlsError> {
        let chain = certificates(&self.certificate, &settings.certificate)?;
        let bundle = certificates(&self.bundle, &settings.trust_bundle)?;
        let wrong = |path: &Path, problem: String| TlsError::File { path: path.to_owned(), problem };
        let key = PrivateKeyDer::from_pem_slice(self.key.expose())
            .map_err(|_| wrong(&settings.key, "holds no private key in PEM".to_owned()))?;
        let leaf = chain.first().map(|leaf| expiry(leaf)).transpose();
        let leaf = leaf.map_err(|error| wrong(&settings.certificate, error.to_string()))?.unwrap_or(Wall(0));
        let (mut roots, mut last) = (RootCertStore::empty(), Wall(0));
        for authority in bundle {
            let end = expiry(&authority).map_err(|error| wrong(&settings.trust_bundle, error.to_string()))?;
            last = last.max(end);
            roots.add(authority).map_err(|error| wrong(&settings.trust_bundle, error.to_string()))?;
        }
        Ok(Material { chain, key, roots, lives: Lives { certificate: leaf, bundle: last } })
    }
}

fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: &str| TlsError::File { path: path.to_owned(), problem: problem.to_owned() };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(_) => Err(wrong("is not PEM")),
    }
}

/// Whom a file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Others may read it, and not change it.
    CanBeRead,
    /// Others may do neither.
    OwnerAlone,
}

fn read(path: &Path, most: u64, who: Who) -> Result<Vec<u8>, TlsError> {
    let wrong = |problem: String| TlsError::File { path: path.to_owned(), problem };
    // Looked at before it is opened: opening a FIFO in its place would wait for ever.
    let facts = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !facts.is_file() {
        return Err(wrong("is not a regular file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let facts = file.metadata().map_err(|error| wrong(error.to_string()))?;
    let me = rustix::process::geteuid().as_raw();
    if facts.uid() != me && facts.uid() != 0 {
        return Err(wrong(format!("belongs to user {}: it must belong to user {me} or to root", facts.uid())));
    }
    let (mode, forbidden, might) = match who {
        Who::CanBeRead => (facts.mode() & 0o7777, 0o022, "change"),
        Who::OwnerAlone => (facts.mode() & 0o7777, 0o077, "reach"),
    };
    if mode & forbidden != 0 {
        return Err(wrong(format!("has mode {mode:04o}: others may {might} it")));
    }
    if facts.len() > most {
        return Err(wrong(format!("is larger than {most} bytes")));
    }
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut text = Vec::with_capacity(usize::try_from(most.min(facts.len()) + 1).unwrap_or(0));
    file.take(facts.len()).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}
