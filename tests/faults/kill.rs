//! The real sidecar under load, killed with SIGKILL at any moment: what it acknowledged is in the log, opens, and the
//! log verifies.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on must fail, and says what it did"
)]

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Caller, Setup, keyward, keyward_ok, post};

/// Kills of a usual run; `KEYWARD_TEST_KILLS` asks for more.
const ROUNDS: usize = 30;
const CLIENTS: usize = 4;
const SEAL: &str = "/v1/keyrings/patients/seal";
/// The longest time under load before a kill.
const LONGEST_MILLIS: u64 = 250;

/// A request whose answer came back whole.
enum Acknowledged {
    Sealed { request: String, value: String },
    Opened { request: String },
}

impl Acknowledged {
    fn request(&self) -> &str {
        match self {
            Self::Sealed { request, .. } | Self::Opened { request } => request,
        }
    }
}

#[test]
fn a_kill_under_load_loses_no_acknowledged_record_and_no_sealed_value() {
    let setup = Setup::new();
    let mut serving = setup.serve();
    setup.keyring();
    let mut random = Random(0x006b_6579_7761_7264);
    let (mut sealed, mut opened, mut torn, mut next) = (0, 0, 0, 0);
    for round in 0..rounds() {
        let acknowledged = under_load(&setup.data(), round, || {
            std::thread::sleep(Duration::from_micros(random.below(LONGEST_MILLIS * 1_000)));
            serving.kill();
        });
        serving = setup.serve();
        let records = records_since(&setup.control(), &mut next);
        let named: HashSet<&str> = records.iter().filter_map(|record| record["request"].as_str()).collect();
        for one in &acknowledged {
            assert!(named.contains(one.request()), "round {round}: {} was answered and is lost", one.request());
        }
        sealed += every_value_opens(&setup.data(), &acknowledged);
        opened += acknowledged.iter().filter(|one| matches!(one, Acknowledged::Opened { .. })).count();
        torn += records.iter().filter(|record| record["event"] == "log.recovered").count();
        let verified = keyward(&["audit", "verify", &setup.log()]);
        assert!(verified.status.success(), "round {round}: {}", String::from_utf8_lossy(&verified.stderr));
    }
    assert_eq!(serving.stop(), Some(0));
    let verified = keyward_ok(&["audit", "verify", &setup.log()]);
    println!("{} kills, {sealed} seals and {opened} opens acknowledged, {torn} torn tails\n{verified}", rounds());
    assert!(sealed > rounds() && opened > 0, "there was no load: {sealed} seals, {opened} opens");
}

/// Rotations are changes of many steps: an intent, a key, a transaction, an outcome. Wherever they are cut off, the
/// keyring has one active version, opens what it sealed, and the log has an outcome for every intent.
#[test]
fn a_kill_during_rotations_leaves_one_active_version_and_no_open_intent() {
    let setup = Setup::new();
    let mut serving = setup.serve();
    setup.keyring();
    let mut random = Random(0x0072_6f74_6174_6521);
    let (mut values, mut next, mut all, mut rotated) = (Vec::new(), 0, Vec::new(), 0);
    for round in 0..rounds().div_ceil(3) {
        let (data, control) = (setup.data(), setup.control());
        let acknowledged = std::thread::scope(|scope| {
            let rotating = scope.spawn(|| rotate(&control, &data, round));
            std::thread::sleep(Duration::from_micros(random.below(LONGEST_MILLIS * 1_000)));
            serving.kill();
            rotating.join().unwrap()
        });
        serving = setup.serve();
        rotated += acknowledged.len();
        values.extend(acknowledged);
        all.extend(records_since(&setup.control(), &mut next));
        let mut caller = Caller::connect(&setup.control()).unwrap();
        let (_, shown) = caller.ask("GET", "/v1/keyrings/patients", "looking", "").unwrap();
        let states = shown["versions"].as_array().unwrap().iter().map(|version| version["state"].as_str().unwrap());
        assert_eq!(states.filter(|state| *state == "active").count(), 1, "round {round}: {shown}");
        every_value_opens(&setup.data(), &values);
    }
    assert_eq!(serving.stop(), Some(0));
    let index_of = |field: &str, record: &Value| record[field].as_u64();
    let closed: HashSet<u64> = all.iter().filter_map(|record| index_of("intent", record)).collect();
    let intents: Vec<&Value> = all.iter().filter(|record| record["outcome"] == "intent").collect();
    let dangling = intents.iter().filter(|record| !closed.contains(&index_of("index", record).unwrap()));
    assert_eq!(dangling.count(), 0, "the restart that follows the last kill has settled all");
    let settled = all.iter().filter(|record| record["reason"] == "reconciled");
    assert!(settled.clone().all(|record| record["event"] == "key.rotated"), "{settled:?}");
    println!("{} intents, {rotated} rotations acknowledged, {} settled by a restart", intents.len(), settled.count());
    assert!(rotated > 0, "nothing was rotated");
    keyward_ok(&["audit", "verify", &setup.log()]);
}

/// A look-up key is rotated and retired until the sidecar is gone: wherever it is cut off, one version writes, at most two
/// live, and the next sidecar goes on from there.
#[test]
fn a_kill_while_a_look_up_key_is_rotated_leaves_one_current_version_and_at_most_two_live() {
    let setup = Setup::new();
    let mut serving = setup.serve();
    setup.keyring();
    let lookup = json!({ "keyring": "patients", "lookup": "index/mrn" });
    let (mut random, mut next, mut all) = (Random(0x006c_6f6f_6b75_7021), 0, Vec::new());
    assert_eq!(post(&setup.control(), "/v1/lookup-keys", &lookup.to_string()).0, 201);
    for round in 0..rounds().div_ceil(3) {
        let control = setup.control();
        std::thread::scope(|scope| {
            scope.spawn(|| rotate_lookup(&control, &lookup));
            std::thread::sleep(Duration::from_micros(random.below(LONGEST_MILLIS * 1_000)));
            serving.kill();
        });
        serving = setup.serve();
        all.extend(records_since(&setup.control(), &mut next));
        let mut caller = Caller::connect(&setup.control()).unwrap();
        let (_, shown) = caller.ask("GET", "/v1/keyrings/patients", "looking", "").unwrap();
        let versions = shown["lookups"][0]["versions"].as_array().unwrap();
        let newest = versions.last().unwrap();
        assert!(newest["role"] == "current" && newest["number"] == versions.len(), "round {round}: {shown}");
        let live = versions.iter().filter(|version| version["state"] == "active").count();
        assert!((1..=2).contains(&live), "round {round}: {shown}");
    }
    assert_eq!(serving.stop(), Some(0));
    let closed: HashSet<u64> = all.iter().filter_map(|record| record["intent"].as_u64()).collect();
    let mut intents = all.iter().filter(|record| record["outcome"] == "intent");
    assert!(intents.all(|record| closed.contains(&record["index"].as_u64().unwrap())), "all are settled");
    assert!(all.iter().any(|record| record["event"] == "lookup.rotated" && record["outcome"] == "done"), "no load");
    keyward_ok(&["audit", "verify", &setup.log()]);
}

fn rotate_lookup(control: &Path, lookup: &Value) {
    let Ok(mut control) = Caller::connect(control) else { return };
    for number in 0.. {
        for (verb, field, why) in [("rotate", "trigger", "usage"), ("retire", "reason", "retired")] {
            let mut body = lookup.clone();
            body[field] = json!(why);
            let path = format!("/v1/lookup-keys/{verb}");
            if control.ask("POST", &path, &format!("{verb}-{number}"), &body.to_string()).is_err() {
                return;
            }
        }
    }
}

/// Rotates and seals one value under each new version, until the sidecar is gone.
fn rotate(control: &Path, data: &Path, round: usize) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let (Ok(mut control), Ok(mut data)) = (Caller::connect(control), Caller::connect(data)) else {
        return acknowledged;
    };
    for number in 0.. {
        let request = format!("rotated-{round}-{number}");
        let trigger = json!({ "trigger": "usage" }).to_string();
        let rotated = control.ask("POST", "/v1/keyrings/patients/rotate", &request, &trigger);
        if answered(rotated, "name").is_none() {
            break;
        }
        let Some(value) = answered(data.ask("POST", SEAL, &request, &seal(&request)), "sealed") else { break };
        acknowledged.push(Acknowledged::Sealed { request, value });
    }
    acknowledged
}

/// Runs all clients until `kill` has killed the sidecar, and gives what they were answered.
fn under_load(socket: &Path, round: usize, kill: impl FnOnce()) -> Vec<Acknowledged> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || load(socket, round, client))).collect();
        kill();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Seals, and opens every third value, until the sidecar is gone.
fn load(socket: &Path, round: usize, client: usize) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let Ok(mut caller) = Caller::connect(socket) else { return acknowledged };
    for number in 0.. {
        let request = format!("{round}-{client}-{number}");
        let Some(value) = answered(caller.ask("POST", SEAL, &request, &seal(&request)), "sealed") else { break };
        if number % 3 == 0 {
            let opening = format!("{request}-open");
            let body = json!({ "purpose": "TREAT", "context": place(&request), "sealed": value }).to_string();
            let Some(text) = answered(caller.ask("POST", "/v1/open", &opening, &body), "text") else {
                acknowledged.push(Acknowledged::Sealed { request, value });
                break;
            };
            assert_eq!(text, request);
            acknowledged.push(Acknowledged::Opened { request: opening });
        }
        acknowledged.push(Acknowledged::Sealed { request, value });
    }
    acknowledged
}

/// The member of a whole answer, nothing if the sidecar went away; any other answer is a failure.
fn answered(answer: std::io::Result<(u16, Value)>, member: &str) -> Option<String> {
    match answer {
        Ok((200, answer)) => Some(answer[member].as_str().unwrap().to_owned()),
        Ok((status, problem)) => panic!("{status} {problem}"),
        Err(gone) => {
            let gone = gone.kind();
            let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&gone), "{gone}");
            None
        }
    }
}

fn seal(request: &str) -> String {
    json!({ "context": place(request), "text": request }).to_string()
}

fn place(request: &str) -> Value {
    json!({ "resource": "Patient/1", "path": request })
}

/// Opens every acknowledged value and compares it with what was sealed; says how many there were.
fn every_value_opens(socket: &Path, acknowledged: &[Acknowledged]) -> usize {
    let sealed = acknowledged.iter().filter_map(|one| match one {
        Acknowledged::Sealed { request, value } => Some((request.as_str(), value.as_str())),
        Acknowledged::Opened { .. } => None,
    });
    let sealed: Vec<(&str, &str)> = sealed.collect();
    let mut caller = Caller::connect(socket).unwrap();
    for batch in sealed.chunks(1_000) {
        let items: Vec<Value> =
            batch.iter().map(|(request, value)| json!({ "context": place(request), "sealed": value })).collect();
        let body = json!({ "purpose": "TREAT", "items": items }).to_string();
        let (status, answer) = caller.ask("POST", "/v1/open", "after-the-kill", &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        for ((request, _), item) in batch.iter().zip(answer["items"].as_array().unwrap()) {
            assert_eq!(item["text"].as_str(), Some(*request), "{item}");
        }
    }
    sealed.len()
}

/// The records from `next` on, as the restarted sidecar reads them; `next` is moved on.
fn records_since(control: &Path, next: &mut u64) -> Vec<Value> {
    let mut caller = Caller::connect(control).unwrap();
    let mut all = Vec::new();
    loop {
        let path = format!("/v1/audit/records?from={next}&limit=1000");
        let (status, answer) = caller.ask("GET", &path, "reading", "").unwrap();
        assert_eq!(status, 200, "{answer}");
        let records = answer["records"].as_array().unwrap();
        all.extend(records.iter().map(|one| one["record"].clone()));
        *next = answer["next"].as_u64().unwrap();
        if records.len() < 1_000 {
            return all;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs this by hand may want more kills than a usual run has time for"
)]
fn rounds() -> usize {
    std::env::var("KEYWARD_TEST_KILLS").map_or(ROUNDS, |kills| kills.parse().unwrap())
}

/// Xorshift: the same moments in every run, as far as the machine is the same.
struct Random(u64);

impl Random {
    const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
