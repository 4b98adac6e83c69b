//! What the token holds goes, comes back or changes: its directory, its slots, its keys.

use super::bench::{AWAY, Bench, Fault, OUTAGE, Opened, Unavailable};
use crate::softhsm::Softhsm;

#[test]
fn a_token_directory_that_is_moved_away_is_an_outage_until_it_is_back() {
    let token = Softhsm::new();
    let bench = Bench::new(&token.settings());
    let fault = Fault {
        name: "token directory moved away",
        cached: Opened,
        uncached: Unavailable,
        readiness: AWAY,
        records: OUTAGE,
        detail: "",
    };
    fault.befalls(&bench, || token.pull(), || token.plug_in());
}
