//! A PIN that the token refuses is tried once, ever: at the start, while serving, and when a login breaks off.

use std::process::Command;

use super::bench::{Bench, Fault, Heard, Opened, REFUSED, TAKEN_AWAY, Unavailable};
use crate::support::{KEYWARD, keyward_ok};
use crate::tokens::PIN;
use crate::tokens::shim::Shimmed;

const WRONG: &str = "00000000";
const NEW: &str = "87654321a";

#[test]
fn a_wrong_pin_at_the_start_is_tried_once_across_restarts_until_it_is_cleared_or_replaced() {
    let token = Shimmed::new("", "");
    let Bench { setup, serving, .. } = Bench::new(&token.settings("kryoptic"));
    assert_eq!(serving.stop(), Some(0));
    token.behind.place.write_pin(WRONG, 0o600);
    let before = token.calls("C_Login");
    let refused = || {
        let ended = Command::new(KEYWARD).args(["serve", "--config", &setup.config()]).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains("keyward kek login --clear"), "{said}");
        token.calls("C_Login") - before
    };
    for _restart in 0..3 {
        assert_eq!(refused(), 1, "one login");
    }
    keyward_ok(&["kek", "login", "--clear", "--config", &setup.config()]);
    for _restart in 0..2 {
        assert_eq!(refused(), 2, "one more login after it was allowed");
    }
    let log = String::from_utf8_lossy(&setup.log_bytes()).into_owned();
    assert_eq!(log.matches("\"event\":\"sidecar.refused\"").count(), 5, "each refused start has its record");
    assert!(log.contains("the token refused this PIN"), "with the reason");
    token.behind.place.write_pin(PIN, 0o600);
    let serving = setup.serve();
    assert_eq!(token.calls("C_Login") - before, 3, "a new PIN file needs no clearing");
    assert_eq!(serving.stop(), Some(0));
    assert!(keyward_ok(&["audit", "verify", &setup.log()]).contains("complete"));
}

#[test]
fn a_pin_changed_under_a_running_sidecar_is_tried_once_and_a_new_pin_file_heals() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    let change = || token.behind.pkcs11_tool(&["--change-pin", "--new-pin", NEW]);
    change();
    assert_eq!((bench.open_uncached(), bench.open_cached()), (Opened, Opened), "who is logged in stays so");
    let before = token.calls("C_Login");
    let fault = Fault { name: "PIN changed under us", detail: "C_Login answered CKR_PIN_INCORRECT (0xa0)", ..REFUSED };
    fault.befalls(
        &bench,
        || bench.kill_worker(),
        || {
            let patient: Vec<Heard> = (0..20).map(|_| bench.open_uncached()).collect();
            assert!(patient.iter().all(|heard| *heard == Unavailable));
            assert_eq!(token.calls("C_Login") - before, 1, "one login, however often somebody asks");
            token.behind.place.write_pin(NEW, 0o600);
        },
    );
    assert_eq!(token.calls("C_Login") - before, 2);
}

/// Whether the token has counted a failure is not known, so a person decides.
#[test]
fn a_login_that_breaks_off_is_not_repeated_until_an_operator_clears_it() {
    let token = Shimmed::new("", "");
    let bench = Bench::new(&token.settings("kryoptic"));
    let before = token.calls("C_Login");
    let records = &["kek.unreachable", "kek.unreachable", "kek.recovered"];
    let fault = Fault { name: "library crashes in the login", detail: "may have been refused", records, ..TAKEN_AWAY };
    fault.befalls(
        &bench,
        || {
            token.faults(&["C_Login crash 1"]);
            bench.kill_worker();
        },
        || {
            assert_eq!(token.calls("C_Login") - before, 1);
            keyward_ok(&["kek", "login", "--clear", "--config", &bench.setup.config()]);
        },
    );
    assert_eq!(token.calls("C_Login") - before, 2);
}
