//! A sidecar whose key lies in a real OpenBao server: what callers, readiness and the log say when the server fails.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::openbao::{FULL, OpenBao, Place};
use crate::requests::records;
use crate::support::{KEYWARD, Serving, Setup, keyward_ok, parse_http, post};

/// A sidecar with a value sealed in each of two keyrings, of which one is unwrapped and the other is not.
struct Sidecar {
    setup: Setup,
    _serving: Serving,
    health: u16,
    cached: String,
    uncached: String,
}

impl Sidecar {
    fn start(place: &Place<'_>) -> Self {
        let setup = Setup::new();
        // What was founded with the software key is another sidecar's.
        std::fs::rename(setup.root().join("state"), setup.root().join("state-of-the-software-key")).unwrap();
        let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        setup.edit_config(|text| {
            let (before, rest) = text.split_once("[kek.primary]").unwrap();
            let (_software, after) = rest.split_once("[policy]").unwrap();
            let before = before.replace("127.0.0.1:0", &format!("127.0.0.1:{health}"));
            let (address, mount, token) = (place.bao.address(), &place.name, place.file("token"));
            format!(
                "{before}[kek.primary]\ntype = \"transit\"\naddress = \"{address}\"\nmount = \"{mount}\"\nkey = \"kek\"\n\
                 auth = \"token\"\ntoken_file = \"{}\"\n\n[policy]{after}",
                token.display()
            )
        });
        keyward_ok(&["init", "--config", &setup.config()]);
        let serving = setup.serve_with(misled());
        let [cached, uncached] = ["cached", "uncached"].map(|keyring| {
            keyward_ok(&["keyring", "create", keyring, "--config", &setup.config()]);
            let body = json!({ "context": {}, "text": keyring }).to_string();
            let (status, sealed) = post(&setup.data(), &format!("/v1/keyrings/{keyring}/seal"), &body);
            assert_eq!(status, 200, "{sealed}");
            sealed["sealed"].as_str().unwrap().to_owned()
        });
        assert_eq!(serving.stop(), Some(0));
        let serving = setup.serve_with(misled());
        let sidecar = Self { setup, _serving: serving, health, cached, uncached };
        assert_eq!(sidecar.open(&sidecar.cached), (200, Value::Null));
        sidecar
    }

    /// The status, and the code of a refusal.
    fn open(&self, sealed: &str) -> (u16, Value) {
        let body = json!({ "sealed": sealed, "context": {}, "purpose": "TREAT" }).to_string();
        let (status, answer) = post(&self.setup.data(), "/v1/open", &body);
        (status, answer["code"].clone())
    }

    fn ready(&self) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        let host = format!("127.0.0.1:{}", self.health);
        write!(stream, "GET /readyz?verbose HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (status, body) = parse_http(&answer);
        (status, String::from_utf8(body).unwrap())
    }

    /// The log's events of the key-encryption key since the last start, in order.
    fn events(&self) -> Vec<String> {
        let all: Vec<String> =
            records(&self.setup).iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect();
        let start = all.iter().rposition(|event| event == "sidecar.started").unwrap();
        all[start..].iter().filter(|event| event.starts_with("kek.")).cloned().collect()
    }

    #[track_caller]
    fn soon(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            assert!(Instant::now() < until, "waited in vain until {what}: {:?} {:?}", self.ready(), self.events());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The sidecar in an environment that would send its requests elsewhere and make it believe anybody.
fn misled() -> Command {
    let mut command = Command::new(KEYWARD);
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(proxy, "http://127.0.0.1:9");
    }
    command.env("VAULT_ADDR", "http://127.0.0.1:9").env("VAULT_TOKEN", "another").env("VAULT_SKIP_VERIFY", "true");
    command.env("VAULT_CACERT", "/none").env("SSL_CERT_FILE", "/none").env("SSL_CERT_DIR", "/none");
    command
}

#[test]
fn the_environment_changes_nothing_about_the_way_to_the_server() {
    let place = OpenBao::shared().place();
    let sidecar = Sidecar::start(&place);
    assert_eq!(sidecar.open(&sidecar.uncached), (200, Value::Null));
    assert_eq!(sidecar.events(), ["kek.admitted"]);
}

#[test]
fn while_the_server_is_sealed_cached_keys_serve_and_others_wait_for_it() {
    let bao = OpenBao::new();
    let place = bao.place();
    let sidecar = Sidecar::start(&place);
    assert_eq!(sidecar.events(), ["kek.admitted"]);
    bao.seal();
    assert_eq!(sidecar.open(&sidecar.uncached), (503, json!("unavailable")));
    assert_eq!(sidecar.open(&sidecar.cached), (200, Value::Null));
    sidecar.soon("readiness says it", |sidecar| sidecar.ready().1.contains("unreachable"));
    assert_eq!(sidecar.ready().0, 200, "it serves what is cached");
    bao.unseal();
    sidecar.soon("it opens again", |sidecar| sidecar.open(&sidecar.uncached).0 == 200);
    sidecar.soon("readiness says it", |sidecar| !sidecar.ready().1.contains("unreachable"));
    sidecar.soon("the log says it", |sidecar| sidecar.events() == ["kek.admitted", "kek.unreachable", "kek.recovered"]);
}

#[test]
fn when_the_server_refuses_no_key_serves_until_it_allows_again() {
    let place = OpenBao::shared().place();
    let sidecar = Sidecar::start(&place);
    place.allow(&FULL[..2]);
    assert_eq!(sidecar.open(&sidecar.uncached), (503, json!("unavailable")));
    sidecar.soon("the cached key is evicted", |sidecar| sidecar.open(&sidecar.cached).0 == 503);
    sidecar.soon("readiness says it", |sidecar| sidecar.ready().0 == 503);
    place.allow(FULL);
    sidecar.soon("it opens again", |sidecar| sidecar.open(&sidecar.uncached).0 == 200);
    assert_eq!(sidecar.open(&sidecar.cached), (200, Value::Null));
    sidecar.soon("readiness says it", |sidecar| sidecar.ready().0 == 200);
    sidecar.soon("the log says it", |sidecar| sidecar.events() == ["kek.admitted", "kek.refused", "kek.recovered"]);
}
