//! A sidecar over one token, values under a cached key and under keys that are not, and what a fault looks like from outside.

use std::cell::Cell;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward::kek::pkcs11::{PinSource, Pkcs11Settings};
use keyward::kek::profile::ProfileChoice;
use serde_json::{Value, json};

use crate::support::{Caller, Serving, Setup, http, keyward_ok, parse_http};
use crate::tokens::signal;

/// How many keys are not in the cache at the start; each can be asked for until it has been given once.
const UNCACHED: usize = 8;
/// Every fault here is over by then, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running sidecar. Nothing is cached but the key of one value.
pub struct Bench {
    pub setup: Setup,
    pub serving: Serving,
    health: u16,
    cached: String,
    uncached: Vec<String>,
    next: Cell<usize>,
}

/// What a caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The value.
    Opened,
    /// 503 `unavailable`, by the request's deadline.
    Unavailable,
}
pub use Heard::{Opened, Unavailable};

/// A fault and what is to be seen while it lasts.
pub struct Fault<'a> {
    /// As in the table of docs/outages.md.
    pub name: &'a str,
    /// What the caller of a cached key hears.
    pub cached: Heard,
    /// And of one that is not.
    pub uncached: Heard,
    /// Status and words of the KEK's line.
    pub readiness: (u16, &'a str),
    /// What the KEK has in the log from the fault's beginning until all is well again, in order.
    pub records: &'a [&'a str],
    /// A part of the reason in the last of them that has one.
    pub detail: &'a str,
    /// How long the caller of an uncached key gives its request.
    pub deadline_ms: u32,
}

/// Nobody notices anything.
pub const UNNOTICED: Fault<'_> = Fault {
    name: "",
    cached: Opened,
    uncached: Opened,
    readiness: WELL,
    records: &[],
    detail: "",
    deadline_ms: PATIENT,
};
/// The KEK is away for a while.
pub const TAKEN_AWAY: Fault<'_> = Fault { uncached: Unavailable, readiness: AWAY, records: OUTAGE, ..UNNOTICED };
/// The KEK or what is left of it must not be used until a person has acted.
pub const REFUSED: Fault<'_> =
    Fault { cached: Unavailable, uncached: Unavailable, readiness: REFUSES, records: REFUSAL, ..UNNOTICED };
/// Longer than anything takes that is not away.
const PATIENT: u32 = 10_000;
/// Less than the profiles give a call before the worker is replaced.
pub const HASTY: u32 = 400;

/// While a token is away, and while nothing is wrong.
pub const AWAY: (u16, &str) = (200, "[degraded] kek primary: unreachable: cached keys serve until they expire");
pub const REFUSES: (u16, &str) = (503, "[failing] kek primary: refuses: see the audit log");
pub const WELL: (u16, &str) = (200, "[ok] kek primary: reachable");
/// An outage that ends.
pub const OUTAGE: &[&str] = &["kek.unreachable", "kek.recovered"];
/// A refusal that ends.
pub const REFUSAL: &[&str] = &["kek.unreachable", "kek.refused", "kek.recovered"];

impl Fault<'_> {
    /// Strikes, looks from every side, heals and waits until all is well.
    #[track_caller]
    pub fn befalls(&self, bench: &Bench, strike: impl FnOnce(), heal: impl FnOnce()) {
        let before = bench.kek_records().len();
        strike();
        let struck = Instant::now();
        for asked in 0..2 {
            assert_eq!(
                bench.open_uncached_within(self.deadline_ms),
                self.uncached,
                "{}: a key that is not cached",
                self.name
            );
            if asked == 0 {
                println!(
                    "{}: the first caller without a cached key waits {} ms",
                    self.name,
                    struck.elapsed().as_millis()
                );
            }
            // A refusal reaches the cache a moment after its first caller.
            bench.eventually_cached(self.cached, self.name);
        }
        bench.shows(self.readiness, self.name);
        assert_eq!(bench.get("/livez"), (200, "ok\n".to_owned()), "{}: liveness asks no key", self.name);
        let lasted = struck.elapsed();
        heal();
        let took = bench.recovers(self.name);
        bench.shows(WELL, self.name);
        let (lasted, took) = (lasted.as_millis(), took.as_millis());
        println!("{}: after {lasted} ms the cause is gone; {took} ms later an uncached key opens", self.name);
        bench.told(before, self);
    }
}

impl Bench {
    /// A store over a token whose KEK `keyward kek create` makes, and its sidecar.
    pub fn new(settings: &Pkcs11Settings) -> Self {
        Self::over(&section(settings), true)
    }

    /// The same over a token that has its KEK.
    pub fn with_key(settings: &Pkcs11Settings) -> Self {
        Self::over(&section(settings), false)
    }

    /// The same over a KEK that is configured so and needs no making.
    pub fn configured(section: &str) -> Self {
        Self::over(section, false)
    }

    fn over(section: &str, create: bool) -> Self {
        let (setup, health) = configured(section);
        if create {
            keyward_ok(&["kek", "create", "--config", &setup.config()]);
        }
        keyward_ok(&["init", "--config", &setup.config()]);
        let first = setup.serve();
        let cached = sealed(&setup, "cached");
        let uncached = (0..UNCACHED).map(|at| sealed(&setup, &format!("uncached-{at}"))).collect();
        assert_eq!(first.stop(), Some(0));
        // A new process has unwrapped none of them.
        let serving = setup.serve();
        let bench = Self { setup, serving, health, cached, uncached, next: Cell::new(0) };
        assert_eq!(bench.open_cached(), Opened);
        bench.shows(WELL, "at the start");
        bench
    }

    /// Opens the value whose key is in the cache unless something has dropped it.
    pub fn open_cached(&self) -> Heard {
        heard(&self.setup, &self.cached, PATIENT)
    }

    /// Opens a value whose key was not asked for, or not given, since the start.
    #[track_caller]
    pub fn open_uncached(&self) -> Heard {
        self.open_uncached_within(PATIENT)
    }

    #[track_caller]
    pub fn open_uncached_within(&self, deadline_ms: u32) -> Heard {
        let value = self.uncached.get(self.next.get()).expect("a test has that many uncached keys");
        let heard = heard(&self.setup, value, deadline_ms);
        if heard == Opened {
            self.next.set(self.next.get() + 1);
        }
        heard
    }

    /// Opens uncached keys until one is given; how long that took.
    #[track_caller]
    pub fn recovers(&self, name: &str) -> Duration {
        let began = Instant::now();
        while self.open_uncached() != Opened {
            assert!(began.elapsed() < PATIENCE, "{name}: no recovery: {}", self.get("/readyz?verbose").1);
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }

    #[track_caller]
    pub fn eventually_cached(&self, expected: Heard, name: &str) {
        let began = Instant::now();
        while self.open_cached() != expected {
            assert!(expected == Unavailable && began.elapsed() < PATIENCE, "{name}: a cached key is not {expected:?}");
        }
    }

    /// Opens the cached value again and again from two connections while something runs: how long each answer took.
    #[track_caller]
    pub fn load(&self, during: impl FnOnce()) -> Vec<Duration> {
        let over = AtomicBool::new(false);
        let (socket, body) = (self.setup.data(), open_body(&self.cached));
        let open = || {
            let mut caller = Caller::connect(&socket).unwrap();
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let (status, answer) = caller.ask("POST", "/v1/open", "load", &body).unwrap();
                took.push(began.elapsed());
                assert_eq!((status, answer), (200, json!({ "text": "Ada" })));
            }
            took
        };
        let mut took = std::thread::scope(|scope| {
            let callers = [scope.spawn(open), scope.spawn(open)];
            // Also when it panics: the callers would go on for ever.
            let _ends = Ends(&over);
            during();
            over.store(true, Ordering::Relaxed);
            callers.map(|caller| caller.join().unwrap()).concat()
        });
        took.sort_unstable();
        took
    }

    /// Waits until readiness has this status and a line that begins with this.
    #[track_caller]
    pub fn shows(&self, (status, line): (u16, &str), name: &str) {
        let began = Instant::now();
        loop {
            let seen = self.get("/readyz?verbose");
            if seen.0 == status && seen.1.lines().any(|one| one.starts_with(line)) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name}: not {status} {line} but {seen:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A GET of the health listener.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", self.health).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let (status, body) = parse_http(&answer);
        (status, String::from_utf8(body).unwrap())
    }

    /// The records about the KEK so far.
    pub fn kek_records(&self) -> Vec<Value> {
        let mut caller = Caller::connect(&self.setup.control()).unwrap();
        let (mut next, mut all) = (0, Vec::new());
        loop {
            let path = format!("/v1/audit/records?from={next}&limit=1000");
            let (status, answer) = caller.ask("GET", &path, "reading", "").unwrap();
            assert_eq!(status, 200, "{answer}");
            let records = answer["records"].as_array().unwrap();
            all.extend(records.iter().map(|one| one["record"].clone()));
            next = answer["next"].as_u64().unwrap();
            if records.len() < 1_000 {
                all.retain(|record| record["event"].as_str().is_some_and(|event| event.starts_with("kek.")));
                return all;
            }
        }
    }

    /// The log tells of the fault what it should, and is whole.
    #[track_caller]
    fn told(&self, before: usize, fault: &Fault<'_>) {
        let began = Instant::now();
        let told = loop {
            let told = self.kek_records().split_off(before);
            // Events are recorded beside the answers.
            if told.len() >= fault.records.len() || began.elapsed() > PATIENCE {
                break told;
            }
        };
        let events: Vec<&str> = told.iter().filter_map(|record| record["event"].as_str()).collect();
        assert_eq!(events, fault.records, "{}: {told:#?}", fault.name);
        let detail = told.iter().rev().find_map(|record| record["facts"]["kek_detail"].as_str()).unwrap_or_default();
        assert!(detail.contains(fault.detail), "{}: {detail}", fault.name);
        self.verifies();
    }

    /// The log is complete.
    #[track_caller]
    pub fn verifies(&self) {
        assert!(keyward_ok(&["audit", "verify", &self.setup.log()]).contains("complete"));
    }

    /// The process that holds the token's library.
    pub fn worker(&self) -> Option<u32> {
        self.workers().first().copied()
    }

    /// While one takes over from another there are two.
    pub fn workers(&self) -> Vec<u32> {
        let found = Command::new("pgrep").args(["-P", &self.serving.child.id().to_string()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Kills the worker, as a crash of its library does.
    pub fn kill_worker(&self) {
        if let Some(worker) = self.worker() {
            signal(worker, "KILL");
        }
    }
}

/// A development set-up whose only KEK is this one, and the port of its health listener.
fn configured(section: &str) -> (Setup, u16) {
    let setup = Setup::new();
    let health = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // What was founded with the software key is another sidecar's.
    std::fs::remove_dir_all(setup.root().join("state")).unwrap();
    setup.edit_config(|text| {
        let start = text.find("[kek.primary]").unwrap();
        let end = text.find("[policy]").unwrap();
        let text = format!("{}{}{}", &text[..start], section, &text[end..]);
        // Callers here ask again and again on purpose: each of them is to hear of the outage itself.
        let text = format!("{text}\n[audit]\nrefusals_per_second = 10000\n");
        text.replace("127.0.0.1:0", &format!("127.0.0.1:{health}"))
    });
    (setup, health)
}

/// The settings as an operator writes them.
fn section(settings: &Pkcs11Settings) -> String {
    let profile = match &settings.profile {
        ProfileChoice::Shipped(name) => name.clone(),
        ProfileChoice::File(path) => path.display().to_string(),
    };
    let Some(PinSource::File(pin)) = &settings.pin else { panic!("these tokens have their PIN in a file") };
    let module = settings.module.as_ref().map(|path| path.display().to_string());
    let env: Vec<_> = settings.env.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    let own = [
        ("profile", Some(profile)),
        ("module", module),
        ("method", settings.method.clone()),
        ("reserved", settings.reserved.clone()),
        ("token_label", Some(settings.token_label.clone())),
        ("key_label", Some(settings.key_label.clone())),
        ("pin_file", Some(pin.display().to_string())),
    ];
    let lines = own.into_iter().filter_map(|(name, value)| Some(format!("{name} = {:?}\n", value?)));
    let lines: String = lines.collect();
    format!("[kek.primary]\ntype = \"pkcs11\"\n{lines}env = {{ {} }}\n\n", env.join(", "))
}

/// A keyring and a value that is sealed under it.
fn sealed(setup: &Setup, keyring: &str) -> String {
    let required = ["--require", "resource", "--require", "path", "--subject", "resource"];
    keyward_ok(&[&["keyring", "create", keyring], &required[..], &["--config", &setup.config()]].concat());
    let body = json!({ "context": place(), "text": "Ada" }).to_string();
    let (status, sealed) = crate::support::post(&setup.data(), &format!("/v1/keyrings/{keyring}/seal"), &body);
    assert_eq!(status, 200, "{sealed}");
    sealed["sealed"].as_str().unwrap().to_owned()
}

/// What the caller hears who opens the value. Any other answer is a failure, and no answer too: the client waits for half
/// a minute, far beyond the deadline.
#[track_caller]
fn heard(setup: &Setup, value: &str, deadline_ms: u32) -> Heard {
    let body = open_body(value);
    let head = format!(
        "POST /v1/open HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-timeout-ms: {deadline_ms}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (status, answer) = http(&setup.data(), format!("{head}{body}").as_bytes());
    let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
    match (status, answer["code"].as_str()) {
        (200, None) => {
            assert_eq!(answer, json!({ "text": "Ada" }));
            Opened
        }
        (503, Some("unavailable")) => Unavailable,
        _ => panic!("{status} {answer}"),
    }
}

/// Ends what looks at it.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn open_body(value: &str) -> String {
    json!({ "sealed": value, "context": place(), "purpose": "TREAT" }).to_string()
}

fn place() -> Value {
    json!({ "resource": "Patient/1", "path": "name" })
}
