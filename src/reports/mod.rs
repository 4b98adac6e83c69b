//! What does the log say to an auditor's question? The log is verified first, each report is one table made in one pass over
//! its records, and every format shows that same table.

mod counts;
mod events;
pub mod package;
mod pdf;
mod read;
mod write;

use std::path::Path;

use crate::audit::VerifierKey;
use crate::audit::verify::{self, Progress, Verified, VerifyError};
use crate::clock::Wall;

pub use write::Format;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each key version, what became of it and how it was used.
    KeyInventory,
    /// How old key versions are that still seal.
    Cryptoperiods,
    /// Every event in the life of keys.
    KeyLifecycle,
    /// What was rotated and rewrapped, when and why.
    Rotation,
    /// Who used keys, for what purpose.
    Access,
    /// Grants, break-glass and their reviews.
    BreakGlass,
    /// What people proposed, decided and executed together.
    Ceremonies,
    /// Who is a custodian, by whom, under which rules.
    Separation,
    /// Which keys were used by whom in a window.
    Exposure,
    /// What verification proved.
    Integrity,
    /// How key-encryption keys fared.
    Kek,
    /// The crypto modules that were admitted.
    Modules,
}

/// Part of the log's time, in microseconds since 1970: from, and up to but without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: u64,
    /// The first moment after it.
    pub to: u64,
}

/// A report: one table, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub kind: Kind,
    /// Of when.
    pub window: Window,
    /// What it rests on, and what can and cannot be concluded: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// What each column holds.
    pub columns: Vec<&'static str>,
    /// The cells, as many in each row as there are columns.
    pub rows: Vec<Vec<String>>,
    /// What is also drawn, where people would rather look.
    pub chart: Chart,
}

/// A bar for each of some things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chart {
    /// What is counted.
    pub what: &'static str,
    /// Each with its name, from left to right.
    pub bars: Vec<(String, u64)>,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::KeyInventory,
        Self::Cryptoperiods,
        Self::KeyLifecycle,
        Self::Rotation,
        Self::Access,
        Self::BreakGlass,
        Self::Ceremonies,
        Self::Separation,
        Self::Exposure,
        Self::Integrity,
        Self::Kek,
        Self::Modules,
    ];

    /// What it is called on a command line and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyInventory => "key-inventory",
            Self::Cryptoperiods => "cryptoperiods",
            Self::KeyLifecycle => "key-lifecycle",
            Self::Rotation => "rotation",
            Self::Access => "access",
            Self::BreakGlass => "break-glass",
            Self::Ceremonies => "ceremonies",
            Self::Separation => "separation",
            Self::Exposure => "exposure",
            Self::Integrity => "integrity",
            Self::Kek => "kek",
            Self::Modules => "modules",
        }
    }

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::KeyInventory => "Key inventory",
            Self::Cryptoperiods => "Cryptoperiod compliance",
            Self::KeyLifecycle => "Life cycle of keys",
            Self::Rotation => "Rotation evidence",
            Self::Access => "Access by principal and purpose",
            Self::BreakGlass => "Grants and break-glass register",
            Self::Ceremonies => "Ceremony register",
            Self::Separation => "Custodians and separation of duties",
            Self::Exposure => "Key exposure statement",
            Self::Integrity => "Log integrity statement",
            Self::Kek => "Key-encryption keys",
            Self::Modules => "Crypto modules",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Makes a report of the log in `dir` (its own directory, a copy of it, or an export), which is verified whole, whatever
/// the window. `period` is how long a key version may seal, for [`Kind::Cryptoperiods`], in microseconds.
/// Errors: [`VerifyError`] if the log does not verify; then nothing is said about it.
pub fn make(
    kind: Kind,
    dir: &Path,
    key: Option<&VerifierKey>,
    window: Window,
    period: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let mut table = counts::Table::new(kind, window, period);
    let mut unread = 0_u64;
    let verified = verify::read(dir, key, None, progress, &mut |_, record| match read::read(record) {
        Ok(record) => table.take(&record),
        Err(_) => unread += 1,
    })?;
    let facts = facts(kind, window, &verified, unread);
    let (columns, rows, chart) = table.finish(&verified);
    Ok(Report { kind, window, facts, columns, rows, chart })
}

/// What a report rests on.
fn facts(kind: Kind, window: Window, verified: &Verified, unread: u64) -> Vec<(&'static str, String)> {
    let time = |micros: u64| Wall(micros).rfc3339_micros();
    let mut facts = vec![
        ("log", verified.origin.as_str().to_owned()),
        ("from", time(window.from)),
        ("to (without)", time(window.to)),
        ("records verified", verified.records.to_string()),
        ("root", hex::encode(verified.root)),
    ];
    match &verified.checkpoint {
        Some(checkpoint) => {
            facts.push(("checkpoint", format!("{} records, root {}", checkpoint.size, hex::encode(checkpoint.root))));
        }
        None => facts.push(("checkpoint", "none: nothing was signed".to_owned())),
    }
    facts.extend(verified.keys.iter().map(|key| ("log key", key.to_text())));
    let trust = if verified.key_given {
        "the key was given from outside the log"
    } else {
        "the key was taken from the log itself: whoever could write the directory could have made another log"
    };
    facts.push(("trust in the key", trust.to_owned()));
    if let Some((first, last)) = verified.times {
        facts.push(("the log's first and last record", format!("{} and {}", time(first), time(last))));
        if (window.from > 0 && window.from < first) || window.to > last {
            facts.push(("not covered", "parts of the window lie outside the log's records".to_owned()));
        }
    }
    if verified.unproven_tail > 0 {
        let tail =
            format!("{} records follow the newest checkpoint; nobody could tell if more had", verified.unproven_tail);
        facts.push(("unproven tail", tail));
    }
    if unread > 0 {
        facts.push(("not understood", format!("{unread} records")));
    }
    if kind == Kind::Exposure {
        facts.push(("what this shows", EXPOSED.to_owned()));
        facts.push(("what it does not show", NOT_EXPOSED.to_owned()));
    }
    facts
}

const EXPOSED: &str = "every use of a data key by this sidecar was recorded before its answer was given: a key version without \
    a row was not used here in the window, and values were opened by the principals of the rows and no others";
const NOT_EXPOSED: &str = "uses by other sidecars of a fleet (each has a log of its own), copies of plaintext that \
    applications kept, keys in the memory of a machine that was taken over, and use of the key-encryption key past keyward \
    (compare with the records of the token or KMS)";
