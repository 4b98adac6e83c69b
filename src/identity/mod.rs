//! Who is calling? Credentials become a Principal here and nowhere else.
//! This module never decides what a principal may do.

mod authenticator;
pub mod jwt;
mod origin;
mod principal;
mod spiffe;
pub mod sshsig;
mod svid;
pub mod token;

use std::sync::Arc;

pub use authenticator::{Authenticator, SettingsError};
pub use jwt::{JwtError, JwtSubject};
pub use origin::origin_allowed;
pub use principal::{Principal, PrincipalKind, Proof, UnknownKind};
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
pub use svid::{Svid, SvidError, expiry};

use crate::names::PrincipalName;
use crate::secret::SecretBytes;

/// What a connection or request offers as proof. No Debug: a token is never printed.
pub enum Credentials {
    /// SO_PEERCRED of a Unix socket.
    Peer {
        /// Effective user of the peer when it connected.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// The program that ran in the process when it connected, if it could be read: a note for the record. Anybody can
        /// run any program, so it never proves anything.
        exe: Option<Arc<str>>,
    },
    /// A bearer token over loopback TCP: one of ours, or a JSON Web Token.
    Bearer(SecretBytes),
    /// A certificate whose chain and key the TLS handshake has verified. A bearer token beside it says more exactly who
    /// is calling, and counts alone.
    Certificate {
        /// What it says.
        svid: Svid,
        /// The token, if one was sent.
        bearer: Option<SecretBytes>,
    },
    /// A TLS handshake that came to nothing, and the code for why.
    Untrusted(&'static str),
    /// Nothing was offered.
    None,
}

/// Which side a caller comes to. A uid may stand for a service at one and for a person at the other, since these are
/// two principals with nothing in common but the machine's account; configuration refuses that in production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// Where services seal and open.
    Data,
    /// Where people keep keys and read the log.
    Control,
}

impl Door {
    /// The only door that a kind of principal comes through.
    pub const fn of(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Service => Self::Data,
            PrincipalKind::Custodian | PrincipalKind::Auditor | PrincipalKind::Operator => Self::Control,
        }
    }
}

/// Why nobody was recognised; the caller learns only that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing was offered where something is needed.
    #[error("no credentials were offered")]
    Missing,
    /// The uid, token, certificate or subject belongs to nobody.
    #[error("the credentials belong to nobody")]
    Unknown,
    /// The certificate has ended since the connection began.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Untrusted(&'static str),
    /// A JSON Web Token proves nobody.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

impl IdentityError {
    /// What the record says of it beyond `unauthenticated`; None where there is nothing to say.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Unknown => None,
            Self::CertificateExpired => Some("certificate_expired"),
            Self::Untrusted(code) => Some(code),
            Self::Jwt(error) => Some(error.code()),
        }
    }
}

/// One configured principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPrincipal {
    /// Its name.
    pub name: PrincipalName,
    /// Its kind.
    pub kind: PrincipalKind,
    /// The uids that prove it on a Unix socket.
    pub uids: Vec<u32>,
    /// SHA-256 of its bearer tokens, two at most (old and new).
    pub token_sha256: Vec<[u8; 32]>,
    /// The SPIFFE ids of its certificates.
    pub spiffe: Vec<SpiffeId>,
    /// Its subjects in tokens of issuers.
    pub jwt: Vec<JwtSubject>,
}

/// The part's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Everybody who may be recognised; at one door a uid or token belongs to one principal.
    pub principals: Vec<KnownPrincipal>,
    /// The issuers of JSON Web Tokens.
    pub jwt: Vec<jwt::ProviderSettings>,
}

#[cfg(test)]
mod tests;
