//! The Principal: proof that a caller was recognised. A leaf file: only `identity` can build one.

use std::fmt;
use std::str::FromStr;

use crate::names::PrincipalName;

use super::jwt::JwtSubject;
use super::spiffe::SpiffeId;

/// What kind of actor a principal is; people and services never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl PrincipalKind {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::Service, Self::Custodian, Self::Auditor, Self::Operator];

    /// The name in the configuration and in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Custodian => "custodian",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is not one of `service`, `custodian`, `auditor`, `operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of principal: it must be service, custodian, auditor or operator")]
pub struct UnknownKind;

impl FromStr for PrincipalKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.code() == text).ok_or(UnknownKind)
    }
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
    /// A certificate of a workload, proven in a TLS handshake.
    Mtls {
        /// The id that matched.
        spiffe: SpiffeId,
    },
    /// A JSON Web Token of a configured issuer.
    Jwt {
        /// The provider and the subject that matched.
        who: JwtSubject,
    },
}

impl Proof {
    /// Every name.
    pub const CODES: &[&str] = &["peer", "token", "mtls", "jwt"];

    /// The name in policies (`context.proof`) and in records.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Peer { .. } => "peer",
            Self::Token => "token",
            Self::Mtls { .. } => "mtls",
            Self::Jwt { .. } => "jwt",
        }
    }
}

/// An authenticated caller. Only `identity` makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: PrincipalName,
    kind: PrincipalKind,
    proof: Proof,
}

impl Principal {
    pub(super) const fn mint(name: PrincipalName, kind: PrincipalKind, proof: Proof) -> Self {
        Self { name, kind, proof }
    }

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
