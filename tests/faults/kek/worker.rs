//! The worker is killed, stopped or crashed by its library, and its sessions are lost.

use super::bench::{AWAY, Bench, Fault, OUTAGE, Opened, Unavailable, WELL};
use crate::softhsm::Softhsm;
use crate::tokens::shim::Shimmed;

#[test]
fn a_killed_worker_costs_no_caller_anything() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let fault = Fault {
        name: "worker killed",
        cached: Opened,
        uncached: Opened,
        readiness: WELL,
        records: OUTAGE,
        detail: "SIGKILL",
    };
    fault.befalls(&bench, || bench.kill_worker(), || ());
}

#[test]
fn a_library_that_crashes_once_costs_no_caller_anything_and_one_that_always_does_is_an_outage() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    let once = Fault {
        name: "library crashes in one call",
        cached: Opened,
        uncached: Opened,
        readiness: WELL,
        records: OUTAGE,
        detail: "SIGABRT",
    };
    once.befalls(&bench, || token.faults(&["C_Decrypt crash 1"]), || ());
    let always = Fault { name: "library crashes in every call", uncached: Unavailable, readiness: AWAY, ..once };
    always.befalls(&bench, || token.faults(&["C_Decrypt crash *"]), || token.faults(&[]));
}

#[test]
fn lost_sessions_and_a_lost_login_are_renewed_without_a_word() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    for (name, rule) in [
        ("session handle invalid", "C_Decrypt 0xB3 1"),
        ("user not logged in", "C_Decrypt 0x101 1"),
    ] {
        let fault = Fault { name, cached: Opened, uncached: Opened, readiness: WELL, records: &[], detail: "" };
        fault.befalls(&bench, || token.faults(&[rule]), || ());
    }
}
