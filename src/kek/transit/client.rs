//! How do bytes reach the server? A connection pool with our own TLS settings, and callers that carry one token each.
//! This module never asks the environment for proxies, certificates or tokens, and never follows a redirection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettings};
use zeroize::{Zeroize, Zeroizing};

use super::settings::TransitSettings;

/// The connections, shared by all callers.
#[derive(Clone)]
pub(super) struct Connections {
    http: reqwest::Client,
    settings: VaultClientSettings,
}

/// One token and the connections: what the calls of `vaultrs` take. The token is wiped when the last call is done.
pub(super) struct Caller(VaultClient);

impl Connections {
    /// Reads the certificate authorities and prepares TLS; connects to nobody.
    pub(super) fn prepare(settings: &TransitSettings) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &settings.ca_file {
            read_authorities(file, &mut roots)?;
        }
        let tls = tls(roots).map_err(|error| format!("TLS cannot be prepared: {error}"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            // The token travels in a header that a redirection would carry along to wherever it points.
            .redirect(Policy::none())
            .https_only(settings.address.is_secure())
            .tls_backend_preconfigured(tls)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| format!("the client cannot be prepared: {error}"))?;
        Ok(Self { http, settings: client_settings(settings) })
    }

    /// A caller without a token, for a login.
    pub(super) fn anonymous(&self) -> Caller {
        self.with_header(String::new(), self.settings.namespace.clone())
    }

    /// A caller without token and namespace, for what the server says of itself.
    pub(super) fn outsider(&self) -> Caller {
        self.with_header(String::new(), None)
    }

    /// A caller with a token; refuses one that cannot stand in a header.
    pub(super) fn with_token(&self, token: &str) -> Result<Caller, String> {
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token is empty or holds what no token holds".into());
        }
        Ok(self.with_header(token.to_owned(), self.settings.namespace.clone()))
    }

    fn with_header(&self, token: String, namespace: Option<String>) -> Caller {
        let middle = EndpointMiddleware { token, version: "v1".into(), wrap: None, namespace };
        let http = rustify::clients::reqwest::Client::new(self.settings.address.as_str(), self.http.clone());
        Caller(VaultClient { http, middle, settings: self.settings.clone() })
    }
}

impl Caller {
    /// For `vaultrs`.
    pub(super) const fn client(&self) -> &VaultClient {
        &self.0
    }

    /// The token, to compare it with what a file holds now.
    pub(super) fn token(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.middle.token.clone())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.middle.token.zeroize();
    }
}

/// Every field, so that none is taken from the environment as the builder would.
fn client_settings(settings: &TransitSettings) -> VaultClientSettings {
    VaultClientSettings {
        address: settings.address.url().clone(),
        ca_certs: Vec::new(),
        identity: None,
        timeout: None,
        token: String::new(),
        verify: true,
        version: 1,
        wrapping: false,
        namespace: settings.namespace.clone(),
        proxy: None,
    }
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn read_authorities(file: &Path, roots: &mut RootCertStore) -> Result<(), String> {
    let wrong = |problem: String| format!("ca_file {}: {problem}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(format!("holds a certificate that is none: {error}")))?;
    }
    if roots.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(()) }
}

/// Shorter than the idle limits that servers and balancers have, so that a call rarely finds a dead connection.
const IDLE: Duration = Duration::from_secs(45);
/// Tokens of the server are about a hundred bytes, batch tokens a few hundred; a header has room for this.
const MAX_TOKEN: usize = 4096;
