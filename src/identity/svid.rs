//! Whose certificate is that? The rules of SPIFFE's X509-SVID over a certificate whose chain somebody else verifies.
//! This module never verifies a signature: the TLS handshake does, before it asks here.

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use crate::clock::Wall;

use super::spiffe::{SpiffeError, SpiffeId, TrustDomain};

/// What a workload's certificate says of it. Worth something only if the chain was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    id: SpiffeId,
    not_after: Wall,
}

/// Why a certificate proves no workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not X.509, or not by its rules.
    #[error("the certificate is malformed")]
    Malformed,
    /// The subject alternative names hold none.
    #[error("the certificate has no URI name")]
    NoUri,
    /// Which one would it be?
    #[error("the certificate has more than one URI name")]
    ManyUris,
    /// The one URI is no id.
    #[error("the URI name is no SPIFFE id of a workload")]
    NotSpiffe(#[source] SpiffeError),
    /// The id belongs elsewhere.
    #[error("the SPIFFE id belongs to another trust domain")]
    ForeignDomain,
    /// It may sign certificates, or revocations.
    #[error("the certificate is an authority's, not a workload's")]
    Authority,
}

impl SvidError {
    /// The name in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "certificate_malformed",
            Self::NoUri => "spiffe_id_missing",
            Self::ManyUris => "spiffe_id_ambiguous",
            Self::NotSpiffe(_) => "spiffe_id_malformed",
            Self::ForeignDomain => "trust_domain_foreign",
            Self::Authority => "certificate_of_authority",
        }
    }
}

impl Svid {
    /// Reads a leaf certificate (DER): exactly one URI name, a workload's id in this domain, no authority.
    pub fn read(der: &[u8], domain: &TrustDomain) -> Result<Self, SvidError> {
        let certificate = Certificate::from_der(der).map_err(|_| SvidError::Malformed)?;
        if signs_others(&certificate)? {
            return Err(SvidError::Authority);
        }
        let id: SpiffeId = only_uri(&certificate)?.parse().map_err(SvidError::NotSpiffe)?;
        if !id.is_of(domain) {
            return Err(SvidError::ForeignDomain);
        }
        Ok(Self { id, not_after: end(&certificate) })
    }

    /// Who it is.
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The last moment of the certificate.
    pub const fn not_after(&self) -> Wall {
        self.not_after
    }
}

/// The last moment of any certificate (DER): an authority's, say, or the sidecar's own.
pub fn expiry(der: &[u8]) -> Result<Wall, SvidError> {
    Certificate::from_der(der).map(|certificate| end(&certificate)).map_err(|_| SvidError::Malformed)
}

fn end(certificate: &Certificate) -> Wall {
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Wall(u64::try_from(end.as_micros()).unwrap_or(u64::MAX))
}

/// X509-SVID 4.1 and 4.3: a leaf neither is an authority nor may use its key as one.
fn signs_others(certificate: &Certificate) -> Result<bool, SvidError> {
    let leaf = &certificate.tbs_certificate;
    let constraints = leaf.get::<BasicConstraints>().map_err(|_| SvidError::Malformed)?;
    let usage = leaf.get::<KeyUsage>().map_err(|_| SvidError::Malformed)?;
    let authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
    Ok(authority || usage.is_some_and(|(_, usage)| usage.key_cert_sign() || usage.crl_sign()))
}

fn only_uri(certificate: &Certificate) -> Result<String, SvidError> {
    let names = certificate.tbs_certificate.get::<SubjectAltName>().map_err(|_| SvidError::Malformed)?;
    let mut uris = names.into_iter().flat_map(|(_, names)| names.0).filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(SvidError::NoUri),
        (Some(_), Some(_)) => Err(SvidError::ManyUris),
    }
}

#[cfg(test)]
impl Svid {
    /// One without a certificate behind it.
    pub(crate) fn for_tests(id: &str) -> Self {
        Self { id: id.parse().unwrap(), not_after: Wall(u64::MAX) }
    }
}
