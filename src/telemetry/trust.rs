//! The metrics of what callers are believed by: certificates that end, and the keys of token issuers.

use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Registry};

use super::metrics::{opts, register};

/// The handles.
pub struct Trust {
    expiry: GaugeVec,
    /// 1 while the files of `[listen.tls]` are not those in force, because they are refused.
    pub refused: IntGauge,
    /// Handshakes that ended without a caller.
    pub handshakes_refused: IntCounter,
    jwt_keys: IntGaugeVec,
    jwt_age: GaugeVec,
}

impl Trust {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let expiry = "How long our certificate, and the last authority of the trust bundle, are valid; below 0 once they are not.";
        let refused = "Whether certificate, key or trust bundle have changed to something that is refused.";
        let age = "How long ago the keys of a token issuer were read.";
        Ok(Self {
            expiry: register(r, GaugeVec::new(opts("tls_expiry_seconds", expiry), &["of"])?)?,
            refused: register(r, IntGauge::with_opts(opts("tls_reload_refused", refused))?)?,
            handshakes_refused: register(
                r,
                IntCounter::with_opts(opts("tls_handshakes_refused_total", "TLS handshakes that proved nobody."))?,
            )?,
            jwt_keys: register(
                r,
                IntGaugeVec::new(opts("jwt_keys", "Keys of a token issuer that are believed."), &["provider"])?,
            )?,
            jwt_age: register(r, GaugeVec::new(opts("jwt_keys_age_seconds", age), &["provider"])?)?,
        })
    }

    /// Shows how long certificates last, in seconds.
    pub fn show_certificates(&self, certificate: f64, bundle: f64) {
        self.expiry.with_label_values(&["certificate"]).set(certificate);
        self.expiry.with_label_values(&["bundle"]).set(bundle);
    }

    /// Shows the keys of an issuer; one whose keys were never read has no age.
    pub fn show_issuer(&self, provider: &str, keys: i64, age: Option<f64>) {
        self.jwt_keys.with_label_values(&[provider]).set(keys);
        if let Some(age) = age {
            self.jwt_age.with_label_values(&[provider]).set(age);
        }
    }
}
