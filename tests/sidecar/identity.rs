//! Who may come in from another machine, and how the record says who it was: certificates of a trust domain over mutual
//! TLS, and tokens of an issuer whose keys a real server gives.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::authority::{Authority, Issued, replace};
use crate::issuer::{Key, KeyServer, b64, now};
use crate::requests::records;
use crate::support::{Serving, Setup, parse_http, post};

const SEAL: &str = "/v1/keyrings/patients/seal";
const PORTAL: &str = "spiffe://example.org/ns/clinic/sa/portal";
const PERSON: &str = "spiffe://example.org/people/ada";

/// A sidecar with both TLS listeners.
struct Place {
    setup: Setup,
    authority: Authority,
    data: u16,
    control: u16,
    health: u16,
    _serving: Option<Serving>,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Place {
    fn new() -> Self {
        Self::with("")
    }

    /// With more lines for the configuration.
    fn with(more: &str) -> Self {
        let (setup, authority) = (Setup::new(), Authority::new());
        let (data, control, health) = (free_port(), free_port(), free_port());
        let mut place = Self { setup, authority, data, control, health, _serving: None };
        place.put(&place.authority.server());
        replace(&place.authority.certificate(), &place.file("bundle.pem"));
        let file = |name: &str| place.file(name).display().to_string();
        let tls = format!(
            "\n[listen.tls]\ndata = \"127.0.0.1:{data}\"\ncontrol = \"127.0.0.1:{control}\"\ncertificate = \"{}\"\n\
             key = \"{}\"\ntrust_bundle = \"{}\"\ntrust_domain = \"example.org\"\n{more}",
            file("server.pem"),
            file("server.key"),
            file("bundle.pem")
        );
        let jwt = |subject: &str| match more {
            "" => String::new(),
            _ => format!("\njwt = [{{ provider = \"cluster\", subject = \"{subject}\" }}]"),
        };
        place.setup.edit_config(|text| {
            let service =
                format!("name = \"demo\"\nspiffe = [\"{PORTAL}\"]{}", jwt("system:serviceaccount:clinic:portal"));
            let person = format!("name = \"operator\"\nspiffe = [\"{PERSON}\"]{}", jwt("ada"));
            let text = text.replace("health = \"127.0.0.1:0\"", &format!("health = \"127.0.0.1:{health}\""));
            text.replace("name = \"demo\"", &service).replace("name = \"operator\"", &person) + &tls
        });
        place._serving = Some(place.setup.serve());
        place.setup.keyring();
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.setup.root().join(name)
    }

    /// Our certificate and key; the key first, as a rotation may go.
    fn put(&self, issued: &Issued) {
        replace(&issued.key, &self.file("server.key"));
        replace(&issued.certificate, &self.file("server.pem"));
    }

    fn connect(&self, port: u16, by: Option<&Issued>) -> Caller {
        Caller::connect(port, &self.file("bundle.pem"), by)
    }

    /// Status of a sealing over a connection of its own; None if there was no answer.
    fn seal(&self, by: Option<&Issued>, token: Option<&str>) -> Option<u16> {
        self.connect(self.data, by).ask("POST", SEAL, token, &body()).map(|(status, _)| status)
    }

    /// What the health listener says.
    fn health(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        let host = format!("127.0.0.1:{}", self.health);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The newest record of whom nobody recognised.
    fn refusal(&self) -> Value {
        self.refusals().pop().unwrap_or_default()
    }

    fn refusals(&self) -> Vec<Value> {
        records(&self.setup).into_iter().filter(|record| record["reason"] == "unauthenticated").collect()
    }

    /// The next one after so many: whoever gets no answer does not know when it is written.
    fn refusal_after(&self, before: usize) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        while self.refusals().len() <= before {
            assert!(Instant::now() < until, "no record of a refusal");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.refusal()
    }

    fn newest(&self, event: &str) -> Value {
        let records = records(&self.setup);
        records.into_iter().rfind(|record| record["event"] == event).unwrap_or_default()
    }

    /// Waits until the log has an event.
    fn wait_for(&self, event: &str, fine: impl Fn(&Value) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !fine(&self.newest(event)) {
            assert!(Instant::now() < until, "no such {event}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn body() -> String {
    json!({ "context": { "resource": "Patient/1", "path": "name" }, "text": "Ada" }).to_string()
}

/// A TLS connection with a client that is rustls and nothing of ours.
struct Caller(StreamOwned<ClientConnection, TcpStream>);

impl Caller {
    fn connect(port: u16, bundle: &PathBuf, by: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(bundle).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match by {
            None => config.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
    }

    /// One request; the connection stays. None if it ended before an answer.
    fn ask(&mut self, method: &str, path: &str, token: Option<&str>, body: &str) -> Option<(u16, Value)> {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: keyward.example\r\ncontent-type: application/json\r\n{token}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).ok()?;
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let read = self.0.read(&mut part).ok().filter(|read| *read > 0)?;
            answer.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let (status, body) = parse_http(&answer);
            if body.len() >= length.unwrap_or(0) {
                return Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)));
            }
        }
    }
}

#[test]
fn a_workload_of_the_trust_domain_is_served_and_the_record_names_its_id() {
    let place = Place::new();
    let portal = place.authority.workload(PORTAL);
    assert_eq!(place.seal(Some(&portal), None), Some(200));
    let record = place.newest("data.sealed");
    assert_eq!(record["actor"], json!({ "kind": "service", "name": "demo", "proof": "mtls", "spiffe": PORTAL }));
    assert_eq!(record["source"], "data-tls");
    // Known to the authority, and to nobody here.
    let stranger = place.authority.workload("spiffe://example.org/ns/clinic/sa/stranger");
    assert_eq!(place.seal(Some(&stranger), None), Some(401));
    let record = place.refusal();
    assert_eq!(record["facts"]["caller_spiffe"], "spiffe://example.org/ns/clinic/sa/stranger");
    assert_eq!(record["actor"], json!({ "kind": "unknown" }));
}

#[test]
fn every_certificate_that_proves_no_workload_is_refused_and_recorded_with_its_reason() {
    let (place, foreign) = (Place::new(), Authority::new());
    let leaf = |names: &str| format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n");
    let made = |extensions: &str| place.authority.issue(extensions, "-1 hour", "+1 hour");
    let right = leaf(&format!("URI:{PORTAL}"));
    let authority = format!("subjectAltName=URI:{PORTAL}\nbasicConstraints=critical,CA:TRUE\n");
    let signs = format!("{right}keyUsage=digitalSignature,keyCertSign\n");
    let serves = format!("{right}extendedKeyUsage=serverAuth\n");
    for (by, why) in [
        (None, "certificate_missing"),
        (Some(foreign.workload(PORTAL)), "certificate_issuer"),
        (Some(place.authority.workload("spiffe://evil.example/ns/clinic/sa/portal")), "trust_domain_foreign"),
        (Some(made(&leaf(&format!("URI:{PORTAL},URI:{PERSON}")))), "spiffe_id_ambiguous"),
        (Some(made(&leaf("DNS:portal"))), "spiffe_id_missing"),
        (Some(made(&leaf("URI:https://example.org/ns/clinic/sa/portal"))), "spiffe_id_malformed"),
        (Some(made(&leaf("URI:spiffe://example.org"))), "spiffe_id_malformed"),
        (Some(made(&signs)), "certificate_of_authority"),
        (Some(made(&serves)), "certificate_purpose"),
        (Some(place.authority.issue(&right, "-2 hours", "-1 hour")), "certificate_expired"),
        (Some(place.authority.issue(&right, "+1 hour", "+2 hours")), "certificate_not_yet"),
    ] {
        let before = place.refusals().len();
        assert_eq!(place.seal(by.as_ref(), None), None, "{why}");
        let record = place.refusal_after(before);
        assert_eq!(record["facts"]["identity_error"], why, "{record}");
        assert_eq!((&record["outcome"], &record["source"]), (&json!("denied"), &json!("data-tls")), "{record}");
        assert_eq!(record["actor"], json!({ "kind": "unknown" }));
    }
    // The library and the rules of SPIFFE both refuse an authority's; which of them speaks first is theirs.
    assert_eq!(place.seal(Some(&made(&authority)), None), None);
    assert_eq!(place.seal(Some(&place.authority.workload(PORTAL)), None), Some(200));
}

#[test]
fn data_tls_serves_no_control_verb_and_control_tls_no_data_verb_whoever_asks() {
    let place = Place::new();
    let (portal, person) = (place.authority.workload(PORTAL), place.authority.workload(PERSON));
    let created = json!({ "name": "more", "required_context": ["resource"] }).to_string();
    for by in [&portal, &person] {
        let (status, _) = place.connect(place.data, Some(by)).ask("POST", "/v1/keyrings", None, &created).unwrap();
        assert!(matches!(status, 401 | 404 | 405), "{status}");
        let (status, _) = place.connect(place.control, Some(by)).ask("POST", SEAL, None, &body()).unwrap();
        assert!(matches!(status, 401 | 404 | 405), "{status}");
    }
    // A person is nobody where services come, and a service where people come.
    assert_eq!(place.seal(Some(&person), None), Some(401));
    let listed = |by: &Issued| place.connect(place.control, Some(by)).ask("GET", "/v1/keyrings", None, "").unwrap().0;
    assert_eq!((listed(&portal), listed(&person)), (401, 200));
    let (status, made) =
        place.connect(place.control, Some(&person)).ask("POST", "/v1/keyrings", None, &created).unwrap();
    assert_eq!(status, 201, "{made}");
    let intent = place.newest("key.created");
    assert_eq!((&intent["source"], &intent["actor"]["spiffe"]), (&json!("control-tls"), &json!(PERSON)));
}

#[test]
fn certificates_are_replaced_while_connections_serve_on_and_bad_ones_change_nothing() {
    let place = Place::new();
    let portal = place.authority.workload(PORTAL);
    let mut kept = place.connect(place.data, Some(&portal));
    let mut sealed = |place: &Place| {
        assert_eq!(kept.ask("POST", SEAL, None, &body()).map(|(status, _)| status), Some(200), "the kept connection");
        assert_eq!(place.seal(Some(&portal), None), Some(200), "a new connection");
    };
    sealed(&place);
    let expired = |to: &str| {
        let names = "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
        place.authority.issue(names, "-2 hours", to)
    };
    let (other, refused) = (place.authority.server(), || place.newest("tls.refused")["facts"]["tls_detail"].clone());
    replace(&other.certificate, &place.file("server.pem"));
    place.wait_for("tls.refused", |record| record["facts"]["tls_detail"] == "the private key is not the certificate's");
    sealed(&place);
    place.put(&expired("-1 hour"));
    place.wait_for("tls.refused", |record| record["facts"]["tls_detail"] == "the certificate has expired");
    sealed(&place);
    let shown = place.health("/readyz?verbose");
    let line = shown.lines().find(|line| line.contains(" tls: ")).unwrap_or_default();
    assert!(line.contains("degraded") && line.contains("refused (the certificate has expired)"), "{shown}");
    assert!(place.health("/metrics").contains("keyward_tls_reload_refused 1\n"));
    place.put(&expired("+2 hours"));
    place.wait_for("tls.reloaded", |record| record["facts"]["certificate_expires"].is_string());
    sealed(&place);
    let metrics = place.health("/metrics");
    let left = metrics.lines().find_map(|line| line.strip_prefix("keyward_tls_expiry_seconds{of=\"certificate\"} "));
    let left: f64 = left.unwrap().parse().unwrap();
    assert!((3_600.0..=7_200.0).contains(&left), "{left}");
    assert!(place.health("/readyz?verbose").contains("[ok] tls: certificate until "));
    std::fs::set_permissions(place.file("server.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    place.wait_for("tls.refused", |_| refused().as_str().is_some_and(|why| why.contains("mode 0644")));
    sealed(&place);
}

#[test]
fn a_new_trust_bundle_ends_connections_of_before_and_believes_the_new_authority_alone() {
    let (place, next) = (Place::new(), Authority::new());
    let (old, new) = (place.authority.workload(PORTAL), next.workload(PORTAL));
    let mut kept = place.connect(place.data, Some(&old));
    assert_eq!(kept.ask("POST", SEAL, None, &body()).map(|(status, _)| status), Some(200));
    assert_eq!(place.seal(Some(&new), None), None);
    place.put(&next.server());
    replace(&next.certificate(), &place.file("bundle.pem"));
    place.wait_for("tls.reloaded", |record| record["facts"]["bundle_expires"].is_string());
    let until = Instant::now() + Duration::from_secs(30);
    while place.seal(Some(&new), None) != Some(200) {
        assert!(Instant::now() < until, "the new authority is not believed");
    }
    assert_eq!(kept.ask("POST", SEAL, None, &body()), None);
    assert_eq!(place.seal(Some(&old), None), None);
    assert_eq!(place.refusal()["facts"]["identity_error"], "certificate_issuer");
}

#[test]
fn a_connection_does_not_outlive_its_callers_certificate() {
    let place = Place::new();
    let names = format!("subjectAltName=URI:{PORTAL}\nbasicConstraints=critical,CA:FALSE\n");
    let brief = place.authority.issue(&names, "-1 hour", "+6 seconds");
    let mut kept = place.connect(place.data, Some(&brief));
    let mut answers = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while let Some((status, _)) = kept.ask("POST", SEAL, None, &body()) {
        assert!(Instant::now() < until, "it is served for ever");
        answers.push(status);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(answers.first(), Some(&200));
    // The last request may have come between the end of the certificate and the end of the connection.
    let after = answers.iter().skip_while(|status| **status == 200);
    assert!(after.clone().all(|status| *status == 401) && after.count() <= 1, "{answers:?}");
}

#[test]
fn tls_files_that_would_be_refused_later_stop_the_start() {
    let (setup, authority) = (Setup::new(), Authority::new());
    let root = setup.root();
    let issued = authority.server();
    replace(&issued.certificate, &root.join("server.pem"));
    replace(&issued.key, &root.join("server.key"));
    replace(&authority.certificate(), &root.join("bundle.pem"));
    let file = |name: &str| root.join(name).display().to_string();
    let tls = format!(
        "\n[listen.tls]\ndata = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\ntrust_bundle = \"{}\"\n\
         trust_domain = \"example.org\"\n",
        file("server.pem"),
        file("server.key"),
        file("bundle.pem")
    );
    setup.edit_config(|text| text + &tls);
    std::fs::set_permissions(root.join("server.key"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let done = crate::support::keyward(&["serve", "--config", &setup.config()]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("has mode 0640: others may reach it"), "{said}");
    assert!(said.contains("hint: mend the files of [listen.tls]"), "{said}");
}

/// The lines of a configuration for an issuer.
fn issuer(url: &str) -> String {
    format!(
        "\n[jwt.cluster]\nissuer = \"https://issuer.example\"\naudience = [\"keyward\"]\nalgorithms = [\"ES256\", \"RS256\"]\n\
         jwks_url = \"{url}\"\n"
    )
}

fn header(alg: &str, kid: &str) -> Value {
    json!({ "alg": alg, "kid": kid, "typ": "JWT" })
}

fn claims() -> Value {
    json!({ "iss": "https://issuer.example", "aud": ["keyward"], "sub": "system:serviceaccount:clinic:portal",
        "exp": now() + 600, "iat": now(), "nbf": now() })
}

#[test]
fn a_token_of_the_issuer_says_more_exactly_who_calls_and_each_bad_one_is_refused_with_its_reason() {
    let (ec, rsa) = (Key::ec(), Key::rsa());
    let keys = KeyServer::start(json!([ec.jwk("e"), rsa.jwk("r")]));
    let place = Place::with(&issuer(&keys.url));
    place.wait_for("jwt.keys_changed", |record| record["facts"]["jwt_keys"] == "e r");
    // Any workload of the domain may carry a token: the token says who it is.
    let carrier = place.authority.workload("spiffe://example.org/gateway");
    let seal = |token: &str| place.seal(Some(&carrier), Some(token));
    for token in [ec.sign(&header("ES256", "e"), &claims()), rsa.sign(&header("RS256", "r"), &claims())] {
        assert_eq!(seal(&token), Some(200));
        let record = place.newest("data.sealed");
        let subject = "system:serviceaccount:clinic:portal";
        let actor =
            json!({ "kind": "service", "name": "demo", "proof": "jwt", "provider": "cluster", "subject": subject });
        assert_eq!(record["actor"], actor);
        assert_eq!(record["facts"]["caller_spiffe"], "spiffe://example.org/gateway");
    }
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        ec.sign(&header("ES256", "e"), &claims)
    };
    let none = format!("{}.{}.", b64(header("none", "e").to_string()), b64(claims().to_string()));
    for (token, why) in [
        (with("aud", json!("other")), json!("jwt_audience")),
        (with("iss", json!("https://other.example")), json!("jwt_issuer")),
        (with("exp", json!(now() - 60)), json!("jwt_expired")),
        (with("nbf", json!(now() + 120)), json!("jwt_not_yet")),
        (with("sub", json!("system:serviceaccount:clinic:nobody")), Value::Null),
        // A person is nobody where services come.
        (with("sub", json!("ada")), Value::Null),
        (none, json!("jwt_algorithm")),
        (public_key_as_secret(&rsa), json!("jwt_algorithm")),
        (ec.sign(&header("ES256", "r"), &claims()), json!("jwt_key_mismatch")),
        (rsa.sign(&header("RS256", "e"), &claims()), json!("jwt_key_mismatch")),
        (Key::ec().sign(&header("ES256", "e"), &claims()), json!("jwt_signature")),
        ("not.a.token".to_owned(), json!("jwt_malformed")),
    ] {
        assert_eq!(seal(&token), Some(401), "{why}");
        let record = place.refusal();
        assert_eq!((&record["facts"]["identity_error"], &record["outcome"]), (&why, &json!("denied")), "{record}");
    }
    let person = with("sub", json!("ada"));
    let mut control = place.connect(place.control, Some(&carrier));
    assert_eq!(control.ask("GET", "/v1/keyrings", Some(&person), "").map(|(status, _)| status), Some(200));
    crate::support::keyward_ok(&["audit", "verify", &place.setup.log()]);
}

/// HS256 with the public key as the secret: what a verifier falls for that believes the header.
fn public_key_as_secret(rsa: &Key) -> String {
    let Key::Rsa(pair) = rsa else { panic!("it is an RSA key") };
    let public = ring::signature::KeyPair::public_key(pair);
    let signed = format!("{}.{}", b64(header("HS256", "r").to_string()), b64(claims().to_string()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_ref());
    format!("{signed}.{}", b64(ring::hmac::sign(&secret, signed.as_bytes())))
}

#[test]
fn a_rotated_key_is_fetched_when_a_token_names_it_and_the_issuer_is_not_asked_for_each_foreign_one() {
    let (old, new) = (Key::ec(), Key::ec());
    let keys = KeyServer::start(json!([old.jwk("old")]));
    let place = Place::with(&issuer(&keys.url));
    let portal = place.authority.workload(PORTAL);
    let seal = |token: &str| place.seal(Some(&portal), Some(token));
    let (by_old, by_new) = (old.sign(&header("ES256", "old"), &claims()), new.sign(&header("ES256", "new"), &claims()));
    place.wait_for("jwt.keys_changed", |record| record["facts"]["jwt_keys"] == "old");
    assert_eq!(seal(&by_old), Some(200));
    assert_eq!(seal(&by_new), Some(401));
    assert_eq!(place.refusal()["facts"]["identity_error"], "jwt_key_unknown");
    keys.serve(Some(json!([new.jwk("new")])));
    let until = Instant::now() + Duration::from_secs(60);
    while seal(&by_new) != Some(200) {
        assert!(Instant::now() < until, "the new key is never fetched");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(seal(&by_old), Some(401), "a key that the issuer took back");
    let asked = keys.asked();
    for at in 0..50 {
        // Most of them are counted in a summary.
        let status = seal(&new.sign(&header("ES256", &format!("foreign-{at}")), &claims()));
        assert!(matches!(status, Some(401 | 429)), "{status:?}");
    }
    assert!(keys.asked() - asked <= 5, "{} times", keys.asked() - asked);
    // While the issuer is away its keys serve on.
    keys.serve(None);
    assert_eq!(seal(&new.sign(&header("ES256", "new"), &claims())), Some(200));
}

#[test]
fn a_record_notes_the_callers_group_and_program_and_neither_proves_anything() {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    assert_eq!(post(&setup.data(), SEAL, &body()).0, 200);
    let record = records(&setup).into_iter().rfind(|record| record["event"] == "data.sealed").unwrap();
    let program = std::fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(record["facts"]["caller_exe"], program.to_str().unwrap());
    assert_eq!(record["facts"]["caller_gid"], rustix::process::getegid().as_raw().to_string());
    assert_eq!((&record["actor"]["proof"], &record["actor"]["exe"]), (&json!("peer"), &Value::Null));
}

#[test]
fn a_token_serves_over_loopback_tcp_by_keys_of_a_file_that_is_read_again() {
    let (setup, port, (old, new)) = (Setup::new(), free_port(), (Key::ec(), Key::ec()));
    let file = setup.root().join("jwks.json");
    let put = |key: &Key, id: &str| std::fs::write(&file, json!({ "keys": [key.jwk(id)] }).to_string()).unwrap();
    put(&old, "old");
    let from_file = format!("jwks_file = \"{}\"", file.display());
    let lines = issuer("x").replace("jwks_url = \"x\"", &from_file);
    setup.edit_config(|text| {
        let subject = "jwt = [{ provider = \"cluster\", subject = \"system:serviceaccount:clinic:portal\" }]";
        let text = text.replace("name = \"demo\"", &format!("name = \"demo\"\n{subject}"));
        text.replace("[listen]", &format!("[listen]\ntcp = \"127.0.0.1:{port}\"")) + &lines
    });
    let _serving = setup.serve();
    setup.keyring();
    let seal = |token: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let head = format!("POST {SEAL} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
        let rest = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        write!(stream, "{head}{rest}content-length: {}\r\n\r\n{}", body().len(), body()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        parse_http(&answer).0
    };
    let (by_old, by_new) = (old.sign(&header("ES256", "old"), &claims()), new.sign(&header("ES256", "new"), &claims()));
    let until = Instant::now() + Duration::from_secs(60);
    while seal(&by_old) != 200 {
        assert!(Instant::now() < until, "the file is not read");
        std::thread::sleep(Duration::from_millis(100));
    }
    let record = records(&setup).into_iter().rfind(|record| record["event"] == "data.sealed").unwrap();
    assert_eq!((&record["actor"]["proof"], &record["source"]), (&json!("jwt"), &json!("data-tcp")));
    put(&new, "new");
    while seal(&by_new) != 200 {
        assert!(Instant::now() < until, "the file is not read again");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(seal(&by_old), 401);
}

#[test]
fn keys_over_https_come_only_from_a_server_of_the_named_authority() {
    use keyward::client::{FetchError, FetchUrl, Trust, fetch};
    let (named, foreign) = (Authority::new(), Authority::new());
    let Issued { certificate, key } = named.server();
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut head = [0; 2048];
            if stream.read(&mut head).is_ok() {
                let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nkeys");
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = |host: &str, by: &Authority, most| {
        let url: FetchUrl = format!("https://{host}:{port}/keys").parse().unwrap();
        let trust = Trust { ca_file: Some(by.certificate()), token_file: None, identity: None };
        runtime.block_on(fetch(&url, &trust, Duration::from_secs(20), most))
    };
    assert_eq!(get("localhost", &named, 4).unwrap(), b"keys");
    assert!(matches!(get("localhost", &named, 3), Err(FetchError::TooLarge(_))));
    assert!(matches!(get("localhost", &foreign, 4), Err(FetchError::Certificate { .. })));
    assert!(matches!(get("127.0.0.1", &named, 4), Err(FetchError::Certificate { .. })), "the name is another");
}
