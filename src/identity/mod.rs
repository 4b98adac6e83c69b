//! Who is calling? Credentials become a Principal here and nowhere else.
//! This module never decides what a principal may do.

mod authenticator;
mod origin;
mod principal;
pub mod sshsig;
pub mod token;

pub use authenticator::{Authenticator, SettingsError};
pub use origin::origin_allowed;
pub use principal::{Principal, PrincipalKind, Proof, UnknownKind};

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
    },
    /// A bearer token over loopback TCP.
    Bearer(SecretBytes),
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
    /// The uid or token belongs to nobody.
    #[error("the credentials belong to nobody")]
    Unknown,
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
}

/// The part's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Everybody who may be recognised; at one door a uid or token belongs to one principal.
    pub principals: Vec<KnownPrincipal>,
}

#[cfg(test)]
mod tests;
