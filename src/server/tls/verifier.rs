//! Whom does a handshake believe? A chain to the trust bundle, by our clock, and then a workload's id of our domain.

use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::clock::SharedClock;
use crate::identity::{Svid, SvidError, TrustDomain};

use super::TlsError;

/// The clock by which certificates begin and end.
pub(super) struct OurClock(pub(super) SharedClock);

impl std::fmt::Debug for OurClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OurClock")
    }
}

impl TimeProvider for OurClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_micros(self.0.wall().0)))
    }
}

/// Verifies workloads.
#[derive(Debug)]
pub(super) struct Workloads {
    chains: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
}

impl Workloads {
    pub(super) fn new(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
        domain: TrustDomain,
    ) -> Result<Self, TlsError> {
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        Ok(Self { chains, domain })
    }
}

impl ClientCertVerifier for Workloads {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify_client_cert(leaf, between, now)?;
        let refused = |error: SvidError| CertificateError::Other(OtherError(Arc::new(error)));
        Svid::read(leaf, &self.domain).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Why a handshake failed, as a code for the record; None if the peer only went away, as probes do.
pub(in crate::server) fn reason(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::NoCertificatesPresented => "certificate_missing",
        Error::InvalidCertificate(error) => certificate(error),
        Error::PeerIncompatible(_) => "tls_incompatible",
        Error::AlertReceived(_) => "tls_alert",
        _ => "tls_malformed",
    })
}

fn certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate_not_yet",
        // The second: an authority that only has the name of one of ours.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "certificate_issuer",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "certificate_purpose",
        CertificateError::Other(OtherError(other)) => {
            other.downcast_ref::<SvidError>().map_or("certificate_refused", |error| error.code())
        }
        CertificateError::BadEncoding => "certificate_malformed",
        _ => "certificate_refused",
    }
}
