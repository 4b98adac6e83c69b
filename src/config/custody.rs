//! Where do the rules of custody stand, and whose clock counts?

use crate::keyring::Environment;

use super::problems::Found;
use super::raw::{RawConfig, RawCustody};
use super::sections::absolute;
use super::CustodyFiles;

pub(super) fn custody(raw: &RawConfig, environment: Option<Environment>, found: &mut Found) -> Option<CustodyFiles> {
    let RawCustody { separation, clock_check, clock } = &raw.custody;
    let production = environment == Some(Environment::Production);
    let rehearsal_clock = match clock.as_deref() {
        None | Some("machine") => false,
        Some("rehearsal") if production => {
            found.add("custody.clock", "a clock that is moved by hand is for development", "remove it");
            return None;
        }
        Some("rehearsal") => true,
        Some(_) => {
            found.add("custody.clock", "is not a clock", "write \"machine\" or \"rehearsal\"");
            return None;
        }
    };
    if production && separation.is_some() && clock_check.is_none() {
        found.add(
            "custody.clock_check",
            "is missing: while nobody says that the clock is synchronised no wait of a ceremony elapses",
            "name the file that is there while it is, /run/systemd/timesync/synchronized say",
        );
    }
    let path = |name: &str, text: &Option<String>, found: &mut Found| text.as_ref().map(|text| absolute(name, text, found));
    let separation = path("custody.separation", separation, found);
    let clock_check = path("custody.clock_check", clock_check, found);
    Some(CustodyFiles { separation, clock_check, rehearsal_clock })
}
