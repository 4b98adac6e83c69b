//! By which certificate do we serve, and whose do we believe? Mutual TLS 1.3 with SPIFFE ids; certificate, key and trust
//! bundle are files that are read again while we serve.
//!
//! A handshake needs a certificate of the trust domain. Nothing is resumed: each connection proves its caller anew. When
//! the trust bundle changes, connections from before finish what they have begun and end, so that a dropped authority's
//! workloads do not stay; when only our own certificate changes, they stay. None outlives its caller's certificate.

mod files;
mod verifier;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::clock::{SharedClock, Wall};
use crate::identity::TrustDomain;

use files::{Files, Material};
use verifier::{OurClock, Workloads};

pub(super) use verifier::reason;

/// `[listen.tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where data is served.
    pub data: Option<SocketAddr>,
    /// Where control is served.
    pub control: Option<SocketAddr>,
    /// Our certificate, with those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM), readable by the service user alone.
    pub key: PathBuf,
    /// The authorities whose workloads are believed (PEM).
    pub trust_bundle: PathBuf,
    /// The domain that their ids must belong to.
    pub trust_domain: TrustDomain,
}

/// Why a set of files is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The files do not belong together.
    #[error("the private key is not the certificate's")]
    KeyMismatch,
    /// Nobody could connect.
    #[error("the certificate has expired")]
    Expired,
    /// Nobody could be believed.
    #[error("every authority of the trust bundle has expired")]
    BundleExpired,
    /// The library's own reason.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// What a look at the files came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Nothing has changed, or a change is still under way.
    Same,
    /// Another set is in force.
    Replaced(Lives),
    /// The files are not used, and the last good set stays; told once.
    Refused(TlsError),
}

/// When what is in force ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// Our certificate.
    pub certificate: Wall,
    /// The last of the authorities: nobody is believed after it.
    pub bundle: Wall,
}

/// The certificates in force.
pub struct Tls {
    settings: Settings,
    clock: SharedClock,
    current: ArcSwap<Current>,
    /// How often the bundle has changed.
    bundle: watch::Sender<u64>,
    looked: Mutex<Looked>,
}

struct Current {
    config: Arc<ServerConfig>,
    lives: Lives,
}

/// What the files held at the last looks.
struct Looked {
    /// In force.
    good: Files,
    /// Not in force: seen once, and perhaps still being written.
    other: Option<Result<Files, TlsError>>,
    /// Why the files are not in force.
    problem: Option<TlsError>,
}

impl Tls {
    /// Reads the files. A sidecar does not start with a set that it would refuse later.
    pub fn load(settings: &Settings, clock: &SharedClock) -> Result<Arc<Self>, TlsError> {
        let good = Files::read(settings)?;
        let current = ArcSwap::from_pointee(make(&good, settings, clock)?);
        Ok(Arc::new(Self {
            settings: settings.clone(),
            clock: Arc::clone(clock),
            current,
            bundle: watch::Sender::new(0),
            looked: Mutex::new(Looked { good, other: None, problem: None }),
        }))
    }

    /// Looks at the files. A good set is in force from here on; a bad one is told of when it was seen twice, since files
    /// are replaced one after the other.
    pub fn poll(&self) -> Polled {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Files::read(&self.settings);
        if found.as_ref() == Ok(&looked.good) {
            (looked.other, looked.problem) = (None, None);
            return Polled::Same;
        }
        let made = found.as_ref().map_err(Clone::clone).and_then(|files| make(files, &self.settings, &self.clock));
        match (made, found) {
            (Ok(current), Ok(files)) => {
                let lives = current.lives;
                self.current.store(Arc::new(current));
                if files.bundle != looked.good.bundle {
                    self.bundle.send_modify(|changes| *changes += 1);
                }
                *looked = Looked { good: files, other: None, problem: None };
                Polled::Replaced(lives)
            }
            (Err(why), found) => {
                let settled = looked.other.as_ref() == Some(&found);
                looked.other = Some(found);
                if !settled || looked.problem.as_ref() == Some(&why) {
                    return Polled::Same;
                }
                looked.problem = Some(why.clone());
                Polled::Refused(why)
            }
            // Nothing is made of files that could not be read.
            (Ok(_), Err(_)) => Polled::Same,
        }
    }

    /// When the set in force ends.
    pub fn lives(&self) -> Lives {
        self.current.load().lives
    }

    /// Why the files are not in force, if they are not.
    pub fn problem(&self) -> Option<TlsError> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// For one handshake, with the count of changes by which its connection will know that the bundle has changed.
    pub(super) fn config(&self) -> (Arc<ServerConfig>, watch::Receiver<u64>) {
        // Subscribed first: a bundle that changes in between ends the connection once too often, never too seldom.
        let bundle = self.bundle.subscribe();
        (Arc::clone(&self.current.load().config), bundle)
    }

    pub(super) const fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }
}

fn make(files: &Files, settings: &Settings, clock: &SharedClock) -> Result<Current, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
    let Material { chain, key, roots, lives } = files.material(settings)?;
    let now = clock.wall();
    if lives.certificate < now {
        return Err(TlsError::Expired);
    }
    if lives.bundle < now {
        return Err(TlsError::BundleExpired);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer = provider.key_provider.load_private_key(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().map_err(|_| TlsError::KeyMismatch)?;
    let workloads = Workloads::new(roots, &provider, settings.trust_domain.clone())?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(OurClock(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(workloads))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    // A resumed session would carry a caller past the verifier, also when the authority is gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Current { config: Arc::new(config), lives })
}

#[cfg(test)]
mod tests;
