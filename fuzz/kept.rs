//! What people signed once: documents that are kept as vectors, for the targets to hold others against.
#![allow(dead_code, reason = "each target uses some of it")]

use std::sync::{Arc, LazyLock};

use keyward::clock::Wall;
use keyward::policy::approval::Desk;
use keyward::policy::roster::Roster;
use keyward::policy::separation::Separation;

pub const DECISION: &str = include_str!("../tests/data/vectors/custody/decision.txt");
pub const SIGNATURE: &str = include_str!("../tests/data/vectors/custody/signature.txt");
pub const MINUTES: &str = include_str!("../tests/data/vectors/custody/minutes.json");
pub const EXPORT: &str = include_str!("../tests/data/vectors/custody/export.json");
const RULES: &str = include_str!("../tests/data/vectors/custody/separation.toml");
/// When the decision was signed.
pub const NOW: Wall = Wall(1_800_000_000_000_000);

/// The first roster, and the rules that it was checked against.
pub fn founders() -> &'static (Roster, Arc<Separation>) {
    &FOUNDERS
}

/// Where decisions are verified.
pub fn desk() -> Desk<'static> {
    let (roster, separation) = founders();
    Desk { roster, separation, namespace: "keyward-ceremony", last_counter: &|_| None }
}

/// The rosters of an export, as they stand in it.
pub fn rosters(export: &str) -> Vec<String> {
    let export: serde_json::Value = serde_json::from_str(export).unwrap_or_default();
    serde_json::from_value(export["rosters"].clone()).unwrap_or_default()
}

static FOUNDERS: LazyLock<(Roster, Arc<Separation>)> = LazyLock::new(|| {
    let roster =
        rosters(EXPORT).first().and_then(|text| Roster::parse(text).ok()).expect("the kept export has a roster");
    (roster, Separation::load(RULES).expect("the kept rules are rules"))
});
