//! `[listen.tls]` becomes the settings of the listeners with mutual TLS.

use std::net::SocketAddr;

use crate::server;

use super::problems::Found;
use super::raw::RawTls;
use super::sections::absolute;

pub(super) fn tls(raw: &RawTls, found: &mut Found) -> Option<server::tls::Settings> {
    const DOMAIN: &str = "write trust_domain = \"example.org\", without spiffe://";
    let RawTls { data, control, certificate, key, trust_bundle, trust_domain } = raw;
    if data.is_none() && control.is_none() {
        found.add("listen.tls", "listens nowhere", "write data or control, as in data = \"0.0.0.0:8443\"");
    }
    let data = address("listen.tls.data", data.as_deref(), found);
    let control = address("listen.tls.control", control.as_deref(), found);
    if let (Some(Some(data)), Some(Some(control))) = (data, control)
        && data == control
        && data.port() != 0
    {
        found.add("listen.tls.control", "is the address of data", "data and control verbs have listeners of their own");
    }
    let mut file = |name: &str, given: &Option<String>, hint: &str| {
        let path = format!("listen.tls.{name}");
        found.need(&path, given.as_ref(), hint).map(|file| absolute(&path, file, found))
    };
    let certificate = file("certificate", certificate, "name the PEM file of our certificate");
    let key = file("key", key, "name the PEM file of its private key, which only the service user can read");
    let trust_bundle = file("trust_bundle", trust_bundle, "name the PEM file of the authorities of the trust domain");
    let domain = found.need("listen.tls.trust_domain", trust_domain.as_ref(), DOMAIN);
    let domain = domain.and_then(|text| found.check("listen.tls.trust_domain", text.parse(), DOMAIN));
    Some(server::tls::Settings {
        data: data?,
        control: control?,
        certificate: certificate?,
        key: key?,
        trust_bundle: trust_bundle?,
        trust_domain: domain?,
    })
}

#[expect(clippy::option_option, reason = "None is a problem, Some(None) is a listener that is off")]
fn address(path: &str, text: Option<&str>, found: &mut Found) -> Option<Option<SocketAddr>> {
    let Some(text) = text else { return Some(None) };
    found.check(path, text.parse().map(Some), "write an address and a port, as in \"0.0.0.0:8443\"")
}
