//! Who is calling? Credentials become a Principal here and nowhere else.
//! This module never decides what a principal may do.

use crate::names::PrincipalName;
use crate::secret::SecretBytes;

/// What a connection or request offers as proof.
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

/// What kind of actor a principal is; people and services never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// An application service.
    Service,
    /// A key custodian.
    Custodian,
    /// An auditor.
    Auditor,
    /// A system operator: no key and no audit role.
    Operator,
}

/// How a principal was proven; kept in every record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Unix peer credentials.
    Peer {
        /// The uid that matched.
        uid: u32,
    },
    /// A bearer token whose SHA-256 is configured.
    Token,
}

/// An authenticated caller. Only `identity` makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: PrincipalName,
    kind: PrincipalKind,
    proof: Proof,
}

impl Principal {
    /// The configured name.
    pub const fn name(&self) -> &PrincipalName {
        &self.name
    }

    /// What kind of actor it is.
    pub const fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// How it was proven.
    pub const fn proof(&self) -> &Proof {
        &self.proof
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
    /// Everybody who may be recognised; a uid or token belongs to one principal only.
    pub principals: Vec<KnownPrincipal>,
}

/// Recognises callers.
pub struct Authenticator {}

impl Authenticator {
    /// Checks the settings: a uid or token claimed twice is refused.
    pub fn new(_settings: &Settings) -> Result<Self, SettingsError> {
        todo!()
    }

    /// Recognises a caller, in time that does not depend on which token is nearly right.
    pub fn authenticate(&self, _credentials: &Credentials) -> Result<Principal, IdentityError> {
        todo!()
    }
}

/// Why the settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Two principals claim one proof.
    #[error("{first} and {second} claim the same {what}")]
    Shared {
        /// The principal listed first.
        first: PrincipalName,
        /// The principal listed later.
        second: PrincipalName,
        /// `uid` or `token`.
        what: &'static str,
    },
    /// More than two tokens.
    #[error("{0} has more than two tokens")]
    TooManyTokens(PrincipalName),
}
