//! Two real tokens, a primary and an escrow, pulled out and put back under a running sidecar.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::requests::records;
use crate::softhsm::{KEY_LABEL, MODULE, PIN, Softhsm, TOKEN_LABEL};
use crate::support::{KEYWARD, Serving, Setup, http, keyward, keyward_ok, parse_http, post};

/// A sidecar over two tokens; keys stay in its cache for a second.
pub struct Pair {
    pub setup: Setup,
    pub primary: Softhsm,
    pub backup: Softhsm,
    health: u16,
}

impl Pair {
    /// Both keys made and the store founded, by the commands that an operator uses.
    pub fn new() -> Self {
        let pair = Self::unfounded();
        keyward_ok(&["init", "--config", &pair.setup.config()]);
        pair
    }

    pub fn unfounded() -> Self {
        let (setup, primary, backup) = (Setup::new(), Softhsm::new(), Softhsm::new());
        let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::remove_dir_all(setup.root().join("state")).unwrap();
        setup.edit_config(|text| {
            let start = text.find("[kek.primary]").unwrap();
            let end = text.find("[policy]").unwrap();
            let keks = [section("primary", &primary), section("backup", &backup)].concat();
            let keyring = "[keyring]\nprimary = \"primary\"\nescrow = \"backup\"\n\n[cache]\nttl = \"1s\"\noffline_max = \"0s\"\n\n";
            let text = format!("{}{keks}{keyring}{}", &text[..start], &text[end..]);
            text.replace("127.0.0.1:0", &format!("127.0.0.1:{health}"))
        });
        for kek in ["primary", "backup"] {
            keyward_ok(&["kek", "create", "--kek", kek, "--config", &setup.config()]);
        }
        Self { setup, primary, backup, health }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", self.health).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (status, body) = parse_http(&answer);
        (status, String::from_utf8(body).unwrap())
    }

    /// Waits until readiness has this status and a line with each of these texts.
    #[track_caller]
    fn shows(&self, status: u16, texts: &[&str]) {
        let seen = |seen: &(u16, String)| seen.0 == status && texts.iter().all(|text| seen.1.contains(text));
        let last = eventually(|| self.get("/readyz?verbose"), seen);
        assert!(seen(&last), "not {status} with {texts:?} but {last:?}");
    }

    /// The value of a metric line.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").1;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn seal(&self) -> String {
        let body = json!({ "context": place(), "text": "Ada" }).to_string();
        let (status, sealed) = post(&self.setup.data(), "/v1/keyrings/patients/seal", &body);
        assert_eq!(status, 200, "{sealed}");
        sealed["sealed"].as_str().unwrap().to_owned()
    }

    /// Opens with a key that has left the cache.
    fn open_uncached(&self, value: &str) -> (u16, Value) {
        std::thread::sleep(Duration::from_millis(1_100));
        let body = json!({ "sealed": value, "context": place(), "purpose": "TREAT" }).to_string();
        post(&self.setup.data(), "/v1/open", &body)
    }

    /// Opens until it answers so.
    #[track_caller]
    fn opens_again(&self, value: &str) {
        let last = eventually(|| self.open_uncached(value), |(status, _)| *status == 200);
        assert_eq!(last, (200, json!({ "text": "Ada" })));
    }

    fn events(&self, event: &str) -> Vec<Value> {
        records(&self.setup).into_iter().filter(|record| record["event"] == event).collect()
    }
}

pub fn section(name: &str, token: &Softhsm) -> String {
    format!(
        "[kek.{name}]\ntype = \"pkcs11\"\nprofile = \"softhsm2\"\ntoken_label = \"{TOKEN_LABEL}\"\n\
         key_label = \"{KEY_LABEL}\"\npin_file = \"{}\"\nenv = {{ SOFTHSM2_CONF = \"{}\" }}\n\n",
        token.pin().display(),
        token.conf().display(),
    )
}

fn place() -> Value {
    json!({ "resource": "Patient/1", "path": "name" })
}

/// Asks until the answer is good, or for two minutes, which is longer than any breaker holds; the last answer.
fn eventually<T>(ask: impl Fn() -> T, good: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = ask();
        if good(&answer) || Instant::now() > until {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kills the workers of the tokens, as a crash of their library would.
fn kill_workers(serving: &Serving) {
    let killed = Command::new("pkill").args(["-KILL", "-P", &serving.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn while_the_primary_token_is_out_the_escrow_opens_and_every_sign_says_so() {
    let pair = Pair::new();
    let _serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    pair.shows(200, &["[ok] kek primary: reachable", "[ok] kek backup: reachable", "[ok] keyrings: open"]);
    assert_eq!(pair.metric("keyward_kek_failovers_total{kek=\"primary\"}"), Some(0.0));
    assert_eq!(pair.metric("keyward_kek_reachable{kek=\"primary\"}"), Some(1.0));

    pair.primary.pull();
    for _ in 0..2 {
        assert_eq!(pair.open_uncached(&value), (200, json!({ "text": "Ada" })));
    }
    pair.shows(200, &["[degraded] kek primary: unreachable: the escrow opens", "[ok] kek backup: reachable"]);
    let failovers = || pair.metric("keyward_kek_failovers_total{kek=\"primary\"}");
    assert!(eventually(failovers, |count| *count >= Some(2.0)) >= Some(2.0));
    assert_eq!(pair.metric("keyward_kek_reachable{kek=\"primary\"}"), Some(0.0));
    assert_eq!(pair.metric("keyward_kek_breaker_state{kek=\"primary\",state=\"closed\"}"), Some(0.0));
    let failed_over = pair.events("kek.failed_over");
    assert_eq!(failed_over.len(), 1, "an outage is told once: {failed_over:?}");
    assert_eq!(failed_over[0]["facts"]["kek"], "primary");
    assert_eq!(failed_over[0]["facts"]["kek_escrow"], "backup");

    pair.primary.plug_in();
    pair.shows(200, &["[ok] kek primary: reachable", "breaker closed"]);
    pair.opens_again(&value);
    assert!(pair.events("kek.recovered").iter().any(|record| record["facts"]["kek"] == "primary"));
    assert!(pair.metric("keyward_kek_recoveries_total{kek=\"primary\",kind=\"worker\"}") >= Some(1.0));
    assert!(keyward_ok(&["audit", "verify", &pair.setup.log()]).contains("complete"));
}

#[test]
fn with_both_tokens_out_opening_is_unavailable_the_process_is_alive_and_both_recover() {
    let pair = Pair::new();
    let mut serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    pair.primary.pull();
    pair.backup.pull();
    let (status, problem) = pair.open_uncached(&value);
    assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    assert_eq!(pair.get("/livez"), (200, "ok\n".to_owned()), "liveness asks no key");
    pair.shows(503, &["[failing] kek primary: unreachable, and no key is cached", "[failing] kek backup"]);
    assert_eq!(pair.get("/livez").0, 200);

    pair.backup.plug_in();
    pair.opens_again(&value);
    pair.shows(200, &["[degraded] kek primary", "[ok] kek backup"]);
    pair.primary.plug_in();
    pair.shows(200, &["[ok] kek primary", "[ok] kek backup"]);
    pair.opens_again(&value);
    assert!(serving.child.try_wait().unwrap().is_none(), "the same process");
}

#[test]
fn with_both_tokens_out_a_cached_key_outlives_its_time_and_every_sign_says_so() {
    let pair = Pair::new();
    pair.setup.edit_config(|text| text.replace("offline_max = \"0s\"", "offline_max = \"1h\""));
    let _serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    let state = |name: &str| {
        let line = format!("keyward_unlocking_state{{state=\"{name}\"}}");
        eventually(|| pair.metric(&line), |value| *value == Some(1.0))
    };
    assert_eq!(state("healthy"), Some(1.0));
    pair.primary.pull();
    pair.backup.pull();
    for _ in 0..3 {
        pair.opens_again(&value);
    }
    pair.shows(200, &["[degraded] kek primary: unreachable: cached keys serve until they expire, the last in 35"]);
    let serves = eventually(|| pair.metric("keyward_key_cache_offline_total"), |count| *count > Some(0.0));
    assert!(serves > Some(0.0) && pair.metric("keyward_offline_expiry_seconds") > Some(3_000.0));
    assert_eq!(state("degraded"), Some(1.0));
    let degraded = eventually(|| pair.events("cache.degraded"), |records| !records.is_empty());
    let left: u64 = degraded[0]["facts"]["offline_seconds"].as_str().unwrap().parse().unwrap();
    assert!((3_000..=3_601).contains(&left), "{degraded:?}");
    pair.primary.plug_in();
    pair.shows(200, &["[ok] kek primary: reachable"]);
    assert_eq!(eventually(|| pair.events("cache.healthy"), |records| !records.is_empty()).len(), 1);
    pair.opens_again(&value);
}

/// A token that hangs is away as well: the escrow has the other half of the request's time. Two seconds are less than the
/// profile gives a call before the worker is replaced, which would help too, but not this request.
#[test]
fn while_the_primary_token_hangs_the_escrow_opens_in_time() {
    let pair = Pair::new();
    let serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    let first = Command::new("pgrep").args(["-o", "-P", &serving.child.id().to_string()]).output().unwrap();
    let worker = String::from_utf8(first.stdout).unwrap().trim().to_owned();
    assert!(Command::new("kill").args(["-STOP", &worker]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(1_100));
    let body = json!({ "sealed": value, "context": place(), "purpose": "TREAT" }).to_string();
    let head = format!(
        "POST /v1/open HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-timeout-ms: 2000\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (status, opened) = http(&pair.setup.data(), format!("{head}{body}").as_bytes());
    assert_eq!((status, &*opened), (200, &br#"{"text":"Ada"}"#[..]), "{}", String::from_utf8_lossy(&opened));
    assert_eq!(pair.get("/livez").0, 200);
    pair.opens_again(&value);
    let failed_over = pair.events("kek.failed_over");
    assert!(failed_over.iter().any(|record| record["facts"]["kek"] == "primary"), "{failed_over:?}");
}

#[test]
fn without_the_escrow_values_open_and_no_keyring_is_made() {
    let pair = Pair::new();
    let _serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    pair.backup.pull();
    assert_eq!(pair.open_uncached(&value).0, 200);
    let create = ["keyring", "create", "staff", "--require", "path", "--config", &pair.setup.config()];
    let refused = keyward(&create);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("backup is unreachable"), "{said}");
    pair.shows(200, &["[ok] kek primary", "[degraded] kek backup: unreachable: no key can be made"]);
    let keyrings = keyward_ok(&["keyring", "list", "--config", &pair.setup.config()]);
    assert!(keyrings.contains("patients") && !keyrings.contains("staff"), "{keyrings}");
    pair.backup.plug_in();
    pair.shows(200, &["[ok] kek backup"]);
    let made = eventually(|| keyward(&create), |made| made.status.success());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A refusal may be somebody's decision: the escrow must not undo it, not even when the primary goes away afterwards.
#[test]
fn a_primary_that_refuses_is_not_stood_in_for() {
    let pair = Pair::new();
    let serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    pair.primary.write_pin("00000000", 0o600);
    kill_workers(&serving);
    let (status, problem) = pair.open_uncached(&value);
    assert_eq!((status, problem["code"].as_str()), (503, Some("unavailable")), "{problem}");
    pair.shows(503, &["[failing] kek primary: refuses", "[ok] kek backup"]);
    pair.primary.pull();
    for _ in 0..3 {
        assert_eq!(pair.open_uncached(&value).0, 503);
    }
    assert_eq!(pair.get("/readyz").0, 503);
    assert_eq!(pair.events("kek.refused").len(), 1);
    assert_eq!(pair.events("kek.failed_over"), Vec::<Value>::new());
    assert_eq!(pair.metric("keyward_kek_failovers_total{kek=\"primary\"}"), Some(0.0));
    pair.primary.plug_in();
    pair.primary.write_pin(PIN, 0o600);
    // Readiness comes back before anybody calls.
    pair.shows(200, &["[ok] kek primary", "[ok] kek backup"]);
    pair.opens_again(&value);
}

#[test]
fn a_sidecar_starts_with_the_escrow_alone_and_the_escrow_alone_can_take_over() {
    let pair = Pair::new();
    let serving = pair.setup.serve();
    pair.setup.keyring();
    let value = pair.seal();
    assert_eq!(serving.stop(), Some(0));
    pair.primary.pull();
    let serving = pair.setup.serve();
    assert_eq!(pair.open_uncached(&value).0, 200);
    assert_eq!(serving.stop(), Some(0));
    // The primary is lost for good.
    pair.setup.edit_config(|text| {
        let text = text.replace("primary = \"primary\"\nescrow = \"backup\"", "primary = \"backup\"");
        text.replace(&section("primary", &pair.primary), "")
    });
    let serving = pair.setup.serve();
    assert_eq!(pair.open_uncached(&value).0, 200);
    pair.shows(200, &["[ok] kek backup", "[ok] keyrings: open"]);
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn an_escrow_that_older_keys_lack_is_shown_in_readiness_and_recorded() {
    let pair = Pair::unfounded();
    let both = std::fs::read_to_string(pair.setup.config()).unwrap();
    pair.setup
        .edit_config(|text| text.replace("escrow = \"backup\"\n", "").replace(&section("backup", &pair.backup), ""));
    keyward_ok(&["init", "--config", &pair.setup.config()]);
    let serving = pair.setup.serve();
    pair.setup.keyring();
    assert_eq!(serving.stop(), Some(0));
    pair.setup.edit_config(|_| both);
    let _serving = pair.setup.serve();
    pair.shows(200, &["[degraded] keyrings: open; 3 keys have no wrap by backup"]);
    assert_eq!(pair.metric("keyward_kek_missing_wraps{kek=\"backup\"}"), Some(3.0));
    assert_eq!(pair.metric("keyward_kek_missing_wraps{kek=\"primary\"}"), Some(0.0));
    assert_eq!(pair.events("sidecar.ready").last().unwrap()["facts"]["kek_missing"], "backup: 3");
}

#[test]
fn init_without_the_escrow_is_refused_and_names_it() {
    let pair = Pair::unfounded();
    pair.backup.pull();
    let refused = keyward(&["init", "--config", &pair.setup.config()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("backup is unreachable"), "{said}");
}

#[test]
fn an_escrow_that_the_token_knows_as_the_primary_is_refused_whatever_its_settings_say() {
    let pair = Pair::unfounded();
    // The same token and key by another path of its library.
    let module = pair.setup.dir.path().join("library.so");
    std::os::unix::fs::symlink(MODULE, &module).unwrap();
    pair.setup.edit_config(|text| {
        let (before, rest) = text.split_once("[kek.backup]").unwrap();
        let (_own, after) = rest.split_once("[keyring]").unwrap();
        let same = section("backup", &pair.primary);
        format!("{before}{}module = \"{}\"\n\n[keyring]{after}", same.trim_end().to_owned() + "\n", module.display())
    });
    let refused = keyward(&["init", "--config", &pair.setup.config()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("it is the primary's key"), "{said}");
}

#[test]
fn a_kek_command_names_its_key_and_without_a_name_means_the_primary() {
    let pair = Pair::unfounded();
    let shown = |extra: &[&str]| keyward_ok(&[&["kek", "show", "--config", &pair.setup.config()], extra].concat());
    assert_eq!(shown(&[]), shown(&["--kek", "primary"]));
    assert_ne!(shown(&[]), shown(&["--kek", "backup"]), "another serial");
    let unknown = keyward(&["kek", "show", "--kek", "other", "--config", &pair.setup.config()]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("there is no [kek.other]") && said.contains("hint:"), "{said}");
    pair.backup.write_pin("00000000", 0o600);
    assert!(!keyward(&["kek", "show", "--kek", "backup", "--config", &pair.setup.config()]).status.success());
    let clear = |kek: &str| keyward_ok(&["kek", "login", "--clear", "--kek", kek, "--config", &pair.setup.config()]);
    assert!(clear("primary").starts_with("0 refused logins"));
    assert!(clear("backup").starts_with("1 refused logins"));
}

#[test]
fn another_store_key_than_the_configuration_pins_is_refused_and_recorded() {
    let setup = Setup::new();
    std::fs::remove_dir_all(setup.root().join("state")).unwrap();
    let printed = keyward_ok(&["init", "--config", &setup.config()]);
    let check = printed.lines().find_map(|line| line.strip_prefix("store key check: ")).unwrap().to_owned();
    let pin = |check: &str| {
        let section = format!("[keyring]\nstore_key_check = \"{check}\"\n\n[policy]");
        setup.edit_config(|text| {
            let start = text.find("[keyring]").or_else(|| text.find("[policy]")).unwrap();
            let end = text.find("[policy]").unwrap();
            format!("{}{section}{}", &text[..start], &text[end + "[policy]".len()..])
        });
    };
    pin(&check);
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(serving.stop(), Some(0));

    pin(&"00".repeat(16));
    let refused = Command::new(KEYWARD).args(["serve", "--config", &setup.config()]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("names another store key than keyring.store_key_check") && said.contains("hint:"), "{said}");
    let log = String::from_utf8_lossy(&setup.log_bytes()).into_owned();
    assert_eq!(log.matches("\"event\":\"sidecar.refused\"").count(), 1);
    assert!(log.contains("\"error\":\"store_key_check\""), "the reason is recorded");
    assert!(!setup.data().exists(), "nothing listens");
}
