//! What a library needs outside of itself goes and comes back: its daemon, its server, its connection.

use std::cell::RefCell;

use super::bench::{Bench, Fault, HASTY, OUTAGE, TAKEN_AWAY, UNNOTICED, WELL};
use crate::tokens::opencryptoki::Opencryptoki;
use crate::tokens::p11kit::P11kit;
use crate::tokens::tpm2::Tpm2;

#[test]
fn a_server_of_tokens_that_is_killed_is_an_outage_and_a_cut_connection_costs_no_caller_anything() {
    let token = RefCell::new(P11kit::new());
    let bench = Bench::new(&token.borrow().settings());
    let cut = Fault { name: "connection to the token cut (p11-kit)", records: OUTAGE, ..UNNOTICED };
    cut.befalls(&bench, || token.borrow().cut(), || ());
    let killed = Fault { name: "p11-kit server killed", ..TAKEN_AWAY };
    killed.befalls(&bench, || token.borrow_mut().stop(), || token.borrow_mut().start());
    let hung =
        Fault { name: "connection to the token hangs (p11-kit)", readiness: WELL, deadline_ms: HASTY, ..TAKEN_AWAY };
    hung.befalls(&bench, || token.borrow().signal("STOP"), || ());
}

#[test]
fn without_its_slot_daemon_opencryptoki_serves_on_and_a_new_worker_waits_for_it() {
    let token = RefCell::new(Opencryptoki::new());
    let bench = Bench::new(&token.borrow().settings());
    Fault { name: "pkcsslotd killed", ..UNNOTICED }.befalls(&bench, || token.borrow_mut().kill_daemon(), || ());
    let fault = Fault { name: "pkcsslotd and the worker killed", ..TAKEN_AWAY };
    fault.befalls(&bench, || bench.kill_worker(), || token.borrow_mut().start_daemon());
}

#[test]
fn a_killed_tpm_is_an_outage_until_it_is_back() {
    let token = RefCell::new(Tpm2::new());
    let bench = Bench::with_key(&token.borrow().settings());
    let fault = Fault { name: "swtpm and its resource manager killed", ..TAKEN_AWAY };
    fault.befalls(&bench, || token.borrow_mut().stop(), || token.borrow_mut().start());
}
