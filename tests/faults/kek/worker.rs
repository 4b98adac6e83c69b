//! The worker is killed, stopped or crashed by its library, the token hangs, and sessions are lost.

use std::time::{Duration, Instant};

use super::bench::{Bench, Fault, HASTY, OUTAGE, TAKEN_AWAY, UNNOTICED, Unavailable, WELL};
use crate::softhsm::Softhsm;
use crate::tokens::shim::Shimmed;
use crate::tokens::signal;

#[test]
fn a_killed_worker_costs_no_caller_anything() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let fault = Fault { name: "worker killed", records: OUTAGE, detail: "the worker", ..UNNOTICED };
    fault.befalls(&bench, || bench.kill_worker(), || ());
}

#[test]
fn a_worker_stopped_under_load_slows_no_cached_key_and_is_replaced() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let healthy = bench.load(|| std::thread::sleep(Duration::from_secs(2)));
    let first = bench.worker().unwrap();
    let fault = Fault {
        name: "worker stopped",
        // Nobody knows yet.
        readiness: WELL,
        detail: "did not answer within 3000 ms",
        deadline_ms: HASTY,
        ..TAKEN_AWAY
    };
    let mut stopped = Vec::new();
    let stop = || {
        for worker in bench.workers() {
            signal(worker, "STOP");
        }
        stopped = bench.load(|| assert_eq!(bench.open_uncached_within(2 * HASTY), Unavailable));
    };
    fault.befalls(&bench, stop, || ());
    assert_ne!(bench.worker(), Some(first), "it was replaced");
    compare(&healthy, &stopped);
}

#[test]
fn a_token_that_hangs_in_every_call_slows_no_cached_key_and_serves_again() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    let healthy = bench.load(|| std::thread::sleep(hang()));
    let fault = Fault {
        name: "token hangs in every call",
        detail: "did not answer within 3000 ms",
        deadline_ms: HASTY,
        ..TAKEN_AWAY
    };
    let mut hung = Vec::new();
    let release = || {
        hung = bench.load(|| {
            let began = Instant::now();
            while began.elapsed() < hang() {
                assert_eq!(bench.open_uncached_within(HASTY), Unavailable);
            }
        });
        token.faults(&[]);
    };
    fault.befalls(&bench, || token.faults(&["C_DecryptInit hang *"]), release);
    compare(&healthy, &hung);
}

/// How long the token hangs under load; `KEYWARD_TEST_HANG_SECONDS` asks for more.
fn hang() -> Duration {
    let seconds = std::env::var("KEYWARD_TEST_HANG_SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Prints both: a duration is never asserted. Under either, every answer was the value.
fn compare(healthy: &[Duration], faulty: &[Duration]) {
    let at = |took: &[Duration], percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    for (name, took) in [("healthy", healthy), ("under the fault", faulty)] {
        let (count, p50, p99) = (took.len(), at(took, 50), at(took, 99));
        println!("cached opens, {name}: {count}, p50 {p50} us, p99 {p99} us");
    }
    assert!(faulty.len() > 100, "there was no load");
}

#[test]
fn a_library_that_crashes_once_costs_no_caller_anything_and_one_that_always_does_is_an_outage() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    let once = Fault { name: "library crashes once", records: OUTAGE, detail: "the worker", ..UNNOTICED };
    once.befalls(&bench, || token.faults(&["C_Decrypt crash 1"]), || ());
    let always = Fault { name: "library crashes in every call", detail: "the worker", ..TAKEN_AWAY };
    always.befalls(&bench, || token.faults(&["C_Decrypt crash *"]), || token.faults(&[]));
}

#[test]
fn an_invalid_session_or_a_lost_login_is_renewed_without_a_word() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    for (name, rule) in
        [("session handle invalid once", "C_Decrypt 0xB3 1"), ("user not logged in, once", "C_Decrypt 0x101 1")]
    {
        let fault = Fault { name, ..UNNOTICED };
        fault.befalls(&bench, || token.faults(&[rule]), || assert!(token.faults_left().is_empty(), "{rule} was met"));
    }
    let fault = Fault { name: "every session handle invalid", detail: "CKR_SESSION_HANDLE_INVALID", ..TAKEN_AWAY };
    fault.befalls(&bench, || token.faults(&["C_Decrypt 0xB3 *"]), || token.faults(&[]));
}

#[test]
fn a_token_that_forgets_every_session_or_the_login_costs_no_caller_anything() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    for (name, rule) in [
        ("every session closed by the token", "C_DecryptInit close_sessions 1"),
        ("logged out by the token", "C_DecryptInit logout 1"),
    ] {
        let fault = Fault { name, records: OUTAGE, ..UNNOTICED };
        fault.befalls(&bench, || token.faults(&[rule]), || assert!(token.faults_left().is_empty(), "{rule} was met"));
    }
}
