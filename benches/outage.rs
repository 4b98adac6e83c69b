//! Does a token that hangs slow down who opens with cached keys? A running sidecar with a key in a SoftHSM token: latencies
//! of opening while the token is well and while every worker is stopped as it comes, in turns in one run.
//! `cargo bench --bench outage`; needs Linux, SoftHSM and OpenSC as the tests do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run must stop")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

#[path = "../tests/support/softhsm.rs"]
mod softhsm;
#[path = "../tests/support/mod.rs"]
mod support;

use softhsm::{KEY_LABEL, MODULE, Softhsm, TOKEN_LABEL};
use support::{Caller, Serving, Setup, keyward_ok, post};

const CONNECTIONS: usize = 8;
const TURN: Duration = Duration::from_secs(4);

fn main() {
    let token = Softhsm::new();
    let setup = set_up(&token);
    let founded = setup.serve();
    // A cold key for each turn: once the token is let go, whoever waits for it still gets it.
    let [hot, colds @ ..] = ["hot", "cold-0", "cold-1", "cold-2"].map(|keyring| {
        keyward_ok(&["keyring", "create", keyring, "--config", &setup.config()]);
        opening(&setup.data(), keyring)
    });
    assert_eq!(founded.stop(), Some(0));
    // A new sidecar has no key in its cache: from here on the cold one needs the token.
    let serving = setup.serve();
    assert_eq!(post(&setup.data(), "/v1/open", &hot).0, 200);
    println!("opening one value, {CONNECTIONS} connections, {TURN:?} a turn; p50 and p99 in microseconds");
    let (mut well, mut hung) = (Vec::new(), Vec::new());
    for cold in &colds {
        well.extend(latencies(&setup.data(), &hot));
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop_every_worker(&serving, stop.clone());
        // Until the worker that is there has stopped.
        std::thread::sleep(Duration::from_millis(200));
        let asking = ask_for_the_cold_key(&setup.data(), cold, stop.clone());
        hung.extend(latencies(&setup.data(), &hot));
        stop.store(true, Ordering::Relaxed);
        stopping.join().unwrap();
        println!("  requests for an uncached key meanwhile, none answered: {}", asking.join().unwrap());
    }
    let (well, hung) = (told("token well", well), told("token hung", hung));
    println!("p99 hung / well = {:.2}", hung.as_secs_f64() / well.as_secs_f64());
}

fn set_up(token: &Softhsm) -> Setup {
    let setup = Setup::new();
    std::fs::rename(setup.root().join("state"), setup.root().join("state-of-the-software-key")).unwrap();
    setup.edit_config(|text| {
        let (before, rest) = text.split_once("[kek.primary]").unwrap();
        let (_software, after) = rest.split_once("[policy]").unwrap();
        let (pin, conf) = (token.pin(), token.conf());
        format!(
            "{before}[kek.primary]\ntype = \"pkcs11\"\nprofile = \"softhsm2\"\nmodule = \"{MODULE}\"\ntoken_label = \"{TOKEN_LABEL}\"\n\
             key_label = \"{KEY_LABEL}\"\npin_file = \"{}\"\nenv = {{ SOFTHSM2_CONF = \"{}\" }}\n\n[policy]{after}",
            pin.display(),
            conf.display()
        )
    });
    keyward_ok(&["kek", "create", "--config", &setup.config()]);
    keyward_ok(&["init", "--config", &setup.config()]);
    setup
}

/// The request that opens a value sealed in this keyring.
fn opening(socket: &Path, keyring: &str) -> String {
    let body = r#"{"context":{},"items":[{"text":"0123456789abcdef0123456789abcdef"}]}"#;
    let (status, answer) = post(socket, &format!("/v1/keyrings/{keyring}/seal"), body);
    assert_eq!(status, 200, "{answer}");
    let sealed = &answer["items"][0]["sealed"];
    format!(r#"{{"context":{{}},"purpose":"TREAT","items":[{{"sealed":{sealed}}}]}}"#)
}

fn latencies(socket: &Path, body: &str) -> Vec<Duration> {
    let one = |number: usize| {
        let (socket, body) = (socket.to_owned(), body.to_owned());
        std::thread::spawn(move || {
            let (mut caller, begin) = (Caller::connect(&socket).unwrap(), Instant::now());
            let mut latencies = Vec::new();
            while begin.elapsed() < TURN {
                let asked = Instant::now();
                let name = format!("{number}-{}", latencies.len());
                let (status, answer) = caller.ask("POST", "/v1/open", &name, &body).unwrap();
                assert_eq!(status, 200, "{answer}");
                latencies.push(asked.elapsed());
            }
            latencies
        })
    };
    let threads: Vec<_> = (0..CONNECTIONS).map(one).collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

/// A token that hangs: each worker of the sidecar is stopped as soon as it is there, and let go at the end.
fn stop_every_worker(serving: &Serving, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let sidecar = serving.child.id();
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            signal_workers(sidecar, Signal::STOP);
            std::thread::sleep(Duration::from_millis(5));
        }
        signal_workers(sidecar, Signal::CONT);
    })
}

fn signal_workers(sidecar: u32, signal: Signal) {
    let children = std::fs::read_dir(format!("/proc/{sidecar}/task"))
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    for child in children.collect::<Vec<_>>().join(" ").split_whitespace() {
        let pid = child.parse().ok().and_then(Pid::from_raw);
        // One that has just been killed is gone already.
        let _sent = pid.map(|pid| kill_process(pid, signal));
    }
}

/// Asks for what only the token can give, so that the hang is noticed and workers are replaced meanwhile.
fn ask_for_the_cold_key(socket: &Path, body: &str, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let (socket, body) = (socket.to_owned(), body.to_owned());
    std::thread::spawn(move || {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            let (status, answer) = post(&socket, "/v1/open", &body);
            // The last one may be answered after the token was let go.
            assert!(status != 200 || stop.load(Ordering::Relaxed), "{answer}");
            asked += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        asked
    })
}

fn told(what: &str, mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[latencies.len() * percent / 100];
    println!(
        "{what:<11} {:>8} requests  p50 {:>6}  p99 {:>6}",
        latencies.len(),
        at(50).as_micros(),
        at(99).as_micros()
    );
    at(99)
}
