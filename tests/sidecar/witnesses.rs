//! Outsiders who have seen the log: real witnesses, ones that are away, and ones that lie.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{KEYWARD, Serving, Setup, keyward, post};

/// A real witness, killed when dropped.
pub struct Witness {
    child: Child,
    pub dir: PathBuf,
    pub key: String,
    address: String,
}

impl Witness {
    /// A new one for the log of a set-up.
    pub fn new(setup: &Setup, name: &str) -> Self {
        let dir = setup.dir.path().join(format!("witness-{name}"));
        let path = dir.display().to_string();
        let made = good(&["witness", "init", &path, "--name", &format!("{name}.example/w")]);
        let line = made.lines().last().unwrap().to_owned();
        let key = line.split(' ').nth(2).unwrap().to_owned();
        good(&["witness", "add", &path, &format!("{}/checkpoint.pub", setup.log())]);
        Self::serve(dir, key, "127.0.0.1:0")
    }

    fn serve(dir: PathBuf, key: String, address: &str) -> Self {
        let mut child = Command::new(KEYWARD)
            .args(["witness", "serve", &dir.display().to_string(), "--listen", address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.split("http://").nth(1).unwrap_or_else(|| panic!("{said}")).split(' ').next().unwrap();
        Self { child, dir, key, address: address.to_owned() }
    }

    /// Killed, and started again where it was.
    pub fn stop(mut self) -> (PathBuf, String, String) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.dir.clone(), self.key.clone(), self.address.clone())
    }

    pub fn back((dir, key, address): (PathBuf, String, String)) -> Self {
        Self::serve(dir, key, &address)
    }

    pub fn line(&self, name: &str) -> String {
        format!("witness {name} {} http://{}\n", self.key, self.address)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn good(arguments: &[&str]) -> String {
    let done = keyward(arguments);
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn code(done: &Output) -> Option<i32> {
    done.status.code()
}

/// Writes the policy, and configures it with these further settings.
fn policy(setup: &Setup, text: &str, further: &str) -> (String, u16) {
    let path = setup.dir.path().join("policy");
    std::fs::write(&path, text).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    setup.edit_config(|text| {
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("health")).collect();
        let text = text.join("\n").replacen("[listen]", &format!("[listen]\nhealth = \"127.0.0.1:{port}\""), 1);
        format!("{text}\n[witness]\npolicy = \"{}\"\nevery = \"1s\"\nwithin = \"2s\"\n{further}\n", path.display())
    });
    (path.display().to_string(), port)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(seen) => {
                assert!(Instant::now() < end, "{what}: {}", seen.chars().take(2_000).collect::<String>());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _read = stream.read_to_string(&mut answer);
    answer
}

fn witnessed(setup: &Setup) -> u64 {
    let note = std::fs::read_to_string(format!("{}/checkpoint.witnessed", setup.log())).unwrap_or_default();
    note.lines().nth(1).map_or(0, |size| size.parse().unwrap())
}

/// The log as the sidecar shows it; nothing while nobody listens yet.
fn records(setup: &Setup) -> Vec<Value> {
    let shown = keyward(&["audit", "tail", "--json", "--lines", "1000", "--config", &setup.config()]);
    let text = String::from_utf8(shown.stdout).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn seal(setup: &Setup, number: usize) -> u16 {
    let body = json!({ "context": { "resource": format!("Patient/{number}"), "path": "name" }, "text": "Ada" });
    post(&setup.data(), "/v1/keyrings/patients/seal", &body.to_string()).0
}

/// Waits until a quorum has cosigned everything that is in the log now.
fn all_cosigned(setup: &Setup) -> u64 {
    let wanted = records(setup).len() as u64;
    until("cosigned", || {
        let seen = witnessed(setup);
        if seen >= wanted { Ok(seen) } else { Err(format!("{seen} of {wanted}")) }
    })
}

fn recorded(setup: &Setup, event: &str, error: &str) -> Value {
    until(event, || {
        let all = records(setup);
        let found = all.iter().find(|one| one["event"] == event && one["facts"]["witness_error"] == error);
        found.cloned().ok_or_else(|| format!("{error}: {:?}", all.iter().rev().take(5).collect::<Vec<_>>()))
    })
}

/// Starts a sidecar that may never be ready.
fn start(setup: &Setup) -> Serving {
    let errors = std::fs::File::create(setup.dir.path().join("stderr")).unwrap();
    let mut command = Command::new(KEYWARD);
    let child = command.args(["serve", "--config", &setup.config()]).stderr(errors).stdout(Stdio::null());
    Serving { child: child.spawn().unwrap() }
}

fn copy(from: &str, to: &Path) {
    let done = Command::new("cp").args(["-a", from]).arg(to).status().unwrap();
    assert!(done.success());
}

fn openssl(dir: &Path, public: &[u8], text: &[u8], signature: &[u8]) -> bool {
    // RFC 8410: the key of Ed25519 as a SubjectPublicKeyInfo.
    let der = [hex::decode("302a300506032b6570032100").unwrap().as_slice(), public].concat();
    std::fs::write(dir.join("w.der"), der).unwrap();
    std::fs::write(dir.join("w.text"), text).unwrap();
    std::fs::write(dir.join("w.sig"), signature).unwrap();
    let words = "pkeyutl -verify -rawin -pubin -keyform DER -inkey w.der -in w.text -sigfile w.sig";
    Command::new("openssl").args(words.split(' ')).current_dir(dir).output().unwrap().status.success()
}

/// LOG-35
#[test]
fn what_a_quorum_cosigned_is_kept_and_verifies_by_the_policy_and_by_tools_of_others() {
    let setup = Setup::new();
    let (a, b) = (Witness::new(&setup, "a"), Witness::new(&setup, "b"));
    let quorum = format!("{}{}group both all a b\nquorum both\n", a.line("a"), b.line("b"));
    let (path, port) = policy(&setup, &quorum, "");
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(seal(&setup, 1), 200);
    let size = all_cosigned(&setup);
    let ready = until("readiness", || {
        let seen = get(port, "/readyz?verbose");
        if seen.contains("a quorum has cosigned") { Ok(seen) } else { Err(seen) }
    });
    assert!(ready.contains("witness a") && !ready.contains("unwitnessed"), "{ready}");
    let metrics = get(port, "/metrics");
    for name in [
        "witness_up{witness=\"a\"} 1",
        "witness_up{witness=\"b\"} 1",
        "witnessed_records ",
        "witnessed_timestamp_seconds 1",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert_eq!(serving.stop(), Some(0));

    let key = format!("{}/checkpoint.pub", setup.log());
    let told = good(&["audit", "verify", &setup.log(), "--key", &key, "--witness-policy", &path, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["witnessed"]["records"].as_u64().unwrap() >= size, "{told}");
    let names: Vec<&str> =
        told["witnessed"]["by"].as_array().unwrap().iter().map(|one| one["witness"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    // OpenSSL, over the message that the published format says.
    let note = std::fs::read_to_string(format!("{}/checkpoint.witnessed", setup.log())).unwrap();
    let (text, lines) = note.split_once("\n\n").unwrap();
    let line = lines.lines().find(|line| line.contains("a.example/w")).unwrap();
    let raw = STANDARD.decode(line.rsplit_once(' ').unwrap().1).unwrap();
    let time = u64::from_be_bytes(raw[4..12].try_into().unwrap());
    let message = format!("cosignature/v1\ntime {time}\n{text}\n");
    let public = &STANDARD.decode(a.key.splitn(3, '+').nth(2).unwrap()).unwrap()[1..];
    assert!(openssl(setup.dir.path(), public, message.as_bytes(), &raw[12..]));
    assert!(!openssl(setup.dir.path(), public, message.replace("time 1", "time 2").as_bytes(), &raw[12..]));

    // An export holds it, and a script that shares no code agrees; so does a proof of a record.
    let out = setup.dir.path().join("out").display().to_string();
    good(&["audit", "export", &setup.log(), "--to", &out, "--key", &key]);
    let other = setup.dir.path().join("other");
    let stranger = Witness::new(&setup, "c");
    std::fs::write(&other, format!("{}{}quorum c\n", a.line("a"), stranger.line("c"))).unwrap();
    let other = other.display().to_string();
    let script = |policy: &str| {
        let words = ["examples/verify.py", &out, "--key", &key, "--witness-policy", policy];
        Command::new("python3").args(words).output().unwrap()
    };
    assert_eq!(code(&script(&path)), Some(0), "{}", String::from_utf8_lossy(&script(&path).stdout));
    good(&["audit", "verify", &out, "--key", &key, "--witness-policy", &path]);
    let refused = keyward(&["audit", "verify", &out, "--key", &key, "--witness-policy", &other]);
    assert_eq!(code(&refused), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("LOG-35"));
    assert_eq!(code(&script(&other)), Some(1));
    assert!(String::from_utf8_lossy(&script(&other).stdout).contains("LOG-35"));

    // Of a log that is rolled back behind what was cosigned, the cosigned checkpoint itself shows it.
    std::fs::write(format!("{out}/checkpoint.witnessed"), note.replace("\n\n", "\n \n")).unwrap();
    let bad = keyward(&["audit", "verify", &out, "--key", &key]);
    assert!(code(&bad) == Some(1) && String::from_utf8_lossy(&bad.stderr).contains("LOG-35"));
}

/// LOG-36
#[test]
fn a_log_that_was_rolled_back_or_forked_is_refused_and_recorded_with_the_evidence() {
    let setup = Setup::new();
    let a = Witness::new(&setup, "a");
    let plain = std::fs::read_to_string(setup.config()).unwrap();
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(serving.stop(), Some(0));
    let old = setup.dir.path().join("old");
    copy(&setup.log(), &old);
    let quorum = format!("{}quorum a\n", a.line("a"));
    let (_, port) = policy(&setup, &quorum, "");
    let watched = std::fs::read_to_string(setup.config()).unwrap();
    let serving = setup.serve();
    (0..30).for_each(|number| assert_eq!(seal(&setup, number), 200));
    let seen = all_cosigned(&setup);
    assert_eq!(serving.stop(), Some(0));

    for forked in [false, true] {
        std::fs::remove_dir_all(setup.log()).unwrap();
        copy(&old.display().to_string(), Path::new(&setup.log()));
        if forked {
            // It grew again, beyond what the witness has seen, and not as the witness has seen it.
            setup.edit_config(|_| plain.clone());
            let serving = setup.serve();
            (0..40).for_each(|number| assert_eq!(seal(&setup, number), 200));
            assert_eq!(serving.stop(), Some(0));
            setup.edit_config(|_| watched.clone());
        }
        let error = if forked { "log_forked" } else { "log_rolled_back" };
        let serving = start(&setup);
        let record = recorded(&setup, "witness.conflict", error);
        assert!(record["facts"]["witness_size"].as_str().unwrap().parse::<u64>().unwrap() >= seen, "{record}");
        until("refused", || {
            let ready = get(port, "/readyz?verbose");
            let word = if forked { "the log was forked" } else { "the log was rolled back" };
            if ready.contains(word) && ready.contains(error) { Ok(()) } else { Err(ready) }
        });
        assert_eq!(seal(&setup, 1), 503, "no key is used");
        assert!(records(&setup).iter().any(|one| one["event"] == "sidecar.refused" && one["facts"]["error"] == error));
        let newest = records(&setup).iter().rev().find(|one| one["event"] == "sidecar.started").unwrap().clone();
        let ready = |one: &Value| one["event"] == "sidecar.ready" && one["index"].as_u64() > newest["index"].as_u64();
        assert!(!records(&setup).iter().any(ready), "a start that was refused is not ready");
        // The evidence is what the log's own key signed: its owner can check it.
        let evidence = setup.root().join("state/conflict-a.checkpoint");
        let note = std::fs::read_to_string(&evidence).unwrap();
        assert!(note.lines().nth(1).unwrap().parse::<u64>().unwrap() >= seen);
        let evidence = evidence.display().to_string();
        let told = keyward(&["audit", "verify", &setup.log(), "--since", &evidence]);
        let rule = if forked { "LOG-16" } else { "LOG-17" };
        assert!(String::from_utf8_lossy(&told.stderr).contains(rule), "{}", String::from_utf8_lossy(&told.stderr));
        drop(serving);
    }
}

/// What a witness that is none answers, to every request.
fn liar(status: &'static str, kind: &'static str, body: String) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let _read = stream.read_exact(&mut vec![0; length]);
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
            let _sent = stream.get_mut().write_all((head + &body).as_bytes());
        }
    });
    (address, asked)
}

#[test]
fn a_witness_that_lies_is_named_and_stops_neither_keys_nor_the_quorum_of_others() {
    let setup = Setup::new();
    let honest = Witness::new(&setup, "honest");
    let strangers: Vec<Witness> = ["l1", "l2", "l3", "l4", "l5"].map(|name| Witness::new(&setup, name)).into();
    let another = "\u{2014} honest.example/w AAAAAAAAAABrBY1yLJlwqmUtIuW1lab4iriSaUd+7ipMk0HxfTrHQD9I9WHCK689wHkb3qKOzUY6ub/42lrruUzvkyEVpOTEC9L1BQ==\n";
    let plain = "text/plain";
    let lies = [
        // It has seen more, and shows nothing.
        ("409 Conflict", "text/x.tlog.size", "999999\n".to_owned(), "unproven"),
        ("422 Unprocessable Entity", plain, "no\n".to_owned(), "unproven"),
        ("200 OK", plain, another.to_owned(), "answer"),
        ("409 Conflict", "text/x.tlog.size", "many\n".to_owned(), "answer"),
        ("404 Not Found", plain, "who?\n".to_owned(), "unknown_log"),
    ];
    let mut text = honest.line("honest");
    for (number, ((status, kind, body, _), stranger)) in (1..).zip(lies.iter().cloned().zip(&strangers)) {
        let (address, _) = liar(status, kind, body);
        text += &format!("witness l{number} {} http://{address}\n", stranger.key);
    }
    text += "group g 1 honest l1 l2 l3 l4 l5\nquorum g\n";
    let (_, port) = policy(&setup, &text, "");
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(seal(&setup, 1), 200);
    all_cosigned(&setup);
    for (number, (.., error)) in (1..).zip(&lies) {
        let failed = until("named", || {
            let all = records(&setup);
            let found = all
                .iter()
                .find(|one| one["event"] == "witness.failed" && one["facts"]["witness"] == format!("l{number}"));
            found.cloned().ok_or_else(|| format!("l{number}"))
        });
        assert_eq!(failed["facts"]["witness_error"], *error, "{failed}");
    }
    assert_eq!(seal(&setup, 2), 200);
    let ready = get(port, "/readyz?verbose");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("unproven"), "{ready}");
    assert!(!records(&setup).iter().any(|one| one["event"] == "witness.conflict"));
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn where_a_quorum_is_required_no_key_is_used_before_it_and_a_witness_that_comes_back_goes_on() {
    let setup = Setup::new();
    let a = Witness::new(&setup, "a");
    let serving = setup.serve();
    setup.keyring();
    assert_eq!(serving.stop(), Some(0));
    let (_, port) = policy(&setup, &format!("{}quorum a\n", a.line("a")), "at_start = \"require\"");
    let away = a.stop();
    let serving = start(&setup);
    recorded(&setup, "witness.failed", "unreachable");
    assert_eq!(seal(&setup, 1), 503);
    let a = Witness::back(away);
    until("ready", || if seal(&setup, 1) == 200 { Ok(()) } else { Err(get(port, "/readyz?verbose")) });
    all_cosigned(&setup);
    // Killed in the middle, it knows what it cosigned.
    let away = a.stop();
    assert_eq!(seal(&setup, 2), 200, "nothing waits for a witness once it serves");
    recorded(&setup, "witness.failed", "unreachable");
    let a = Witness::back(away);
    let wanted = all_cosigned(&setup);
    until("recovered", || {
        let all = records(&setup);
        let found = all.iter().any(|one| one["event"] == "witness.recovered" && one["facts"]["witness"] == "a");
        if found { Ok(()) } else { Err(format!("{:?}", all.last())) }
    });
    assert_eq!(serving.stop(), Some(0));
    let (dir, ..) = a.stop();
    let shown = good(&["witness", "show", &dir.display().to_string()]);
    let seen: u64 = shown.lines().nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(seen >= wanted, "{shown}");
}

#[test]
fn a_policy_that_cannot_be_used_is_refused_before_anything_starts() {
    let setup = Setup::new();
    let a = Witness::new(&setup, "a");
    let other = Setup::new();
    let foreign = std::fs::read_to_string(format!("{}/checkpoint.pub", other.log())).unwrap();
    let plain = std::fs::read_to_string(setup.config()).unwrap();
    for (text, why) in [
        ("quorum none\n".to_owned(), "asks for nobody"),
        (format!("witness a {}\nquorum a\n", a.key), "is missing"),
        (format!("witness a {} http://witness.example/\nquorum a\n", a.key), "plain http"),
        (format!("witness a {} https://witness.example/\nquorum a\n", a.key), "ca_file is missing"),
        (format!("{}quorum b\n", a.line("a")), "line 2"),
    ] {
        setup.edit_config(|_| plain.clone());
        policy(&setup, &text, "");
        let checked = keyward(&["check", "--config", &setup.config()]);
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(code(&checked) == Some(78) && said.contains(why), "{text}: {said}");
        let served = keyward(&["serve", "--config", &setup.config()]);
        let said = String::from_utf8_lossy(&served.stderr);
        assert!(!served.status.success() && said.contains(why), "{text}: {said}");
    }
    setup.edit_config(|_| plain.clone());
    policy(&setup, &format!("log {}\n{}quorum a\n", foreign.trim(), a.line("a")), "");
    let served = keyward(&["serve", "--config", &setup.config()]);
    assert!(String::from_utf8_lossy(&served.stderr).contains("is not among them"));
}
