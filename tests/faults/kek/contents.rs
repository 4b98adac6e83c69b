//! What the token holds goes, comes back or changes: its directory, its slots, its keys.

use std::process::Command;
use std::time::Instant;

use super::bench::{AWAY, Bench, Fault, OUTAGE, Opened, REFUSED, TAKEN_AWAY, UNNOTICED, Unavailable, WELL};
use crate::softhsm::Softhsm;
use crate::tokens::kryoptic::{self, Kryoptic};
use crate::tokens::{KEY_LABEL, PIN, SO_PIN, copy_folder};

#[test]
fn a_token_directory_that_is_moved_away_is_an_outage_until_it_is_back() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let fault = Fault { name: "token directory moved away", ..TAKEN_AWAY };
    fault.befalls(&bench, || token.pull(), || token.plug_in());
}

#[test]
fn readiness_says_that_a_token_is_back_although_nobody_calls() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    token.pull();
    assert_eq!(bench.open_uncached(), Unavailable);
    bench.shows(AWAY, "after the only call");
    token.plug_in();
    let began = Instant::now();
    bench.shows(WELL, "without a call");
    println!("token back, nobody calls: ready after {} ms", began.elapsed().as_millis());
    assert_eq!(bench.open_uncached(), Opened);
    bench.verifies();
}

#[test]
fn a_deleted_key_is_refused_with_the_reason_and_serves_again_when_it_is_restored() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let (tokens, backup) = (token.dir().join("tokens"), token.dir().join("backup"));
    copy_folder(&tokens, &backup);
    let fault = Fault { name: "KEK deleted", detail: "no key in the token has the configured label", ..REFUSED };
    fault.befalls(
        &bench,
        || drop(token.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--label", KEY_LABEL])),
        || copy_folder(&backup, &tokens),
    );
}

#[test]
fn a_second_key_with_the_same_label_is_refused_by_the_next_worker_until_it_is_removed() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    token.pkcs11_tool(&["--keygen", "--key-type", "AES:32", "--label", KEY_LABEL, "--id", "99"]);
    assert_eq!((bench.open_uncached(), bench.open_cached()), (Opened, Opened), "whose session holds the key keeps it");
    let fault = Fault { name: "two keys with one label", detail: "rename or remove all but one", ..REFUSED };
    let remove = || drop(token.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", "99"]));
    fault.befalls(&bench, || bench.kill_worker(), remove);
}

#[test]
fn a_neighbour_that_is_initialised_anew_moves_slots_and_costs_no_caller_anything() {
    let token = Softhsm::new();
    token.init("neighbour");
    let bench = Bench::new(&token.settings());
    let tool = |arguments: &[&str]| {
        let done = Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", token.conf()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let before = tool(&["--show-slots"]);
    let fault = Fault { name: "neighbour initialised anew (SoftHSM)", records: OUTAGE, ..UNNOTICED };
    let renumber = || {
        tool(&["--init-token", "--token", "neighbour", "--label", "other", "--so-pin", SO_PIN, "--pin", PIN]);
        assert_ne!(tool(&["--show-slots"]), before, "the slots have changed");
        bench.kill_worker();
    };
    fault.befalls(&bench, renumber, || ());
}

#[test]
fn a_token_whose_slot_number_now_belongs_to_a_neighbour_is_found_by_its_label() {
    let token = Kryoptic::new();
    let bench = Bench::new(&token.settings());
    let slot = |number: u32, file: &str| {
        let file = token.place.text(&format!("token/{file}"));
        format!("[[slots]]\nslot = {number}\ndbtype = \"sqlite\"\ndbargs = \"{file}\"\n")
    };
    let fault = Fault { name: "slot number given to a neighbour (Kryoptic)", records: OUTAGE, ..UNNOTICED };
    let renumber = || {
        let conf = slot(42, "neighbour.sql") + &slot(43, "token.sql");
        std::fs::write(token.place.path("kryoptic.conf"), conf).unwrap();
        let module = kryoptic::module().display().to_string();
        let init = ["--slot", "42", "--init-token", "--label", "neighbour", "--so-pin", SO_PIN];
        token.place.run("pkcs11-tool", &[&["--module", &module], &init[..]].concat(), &token.env());
        bench.kill_worker();
    };
    fault.befalls(&bench, renumber, || ());
}
