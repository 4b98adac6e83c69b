//! Which reports list records one by one, and which facts they show.

use super::Kind;
use super::read::Record;
use crate::clock::Wall;

/// The first columns of each such report.
const ALWAYS: &[&str] = &["index", "time", "event", "outcome", "reason", "actor", "proved by", "source", "keyrings"];

/// What is known of a crypto module.
const MODULE: &[&str] = &[
    "kek",
    "kek_kind",
    "kek_manufacturer",
    "kek_model",
    "kek_serial",
    "kek_module",
    "module_digest",
    "kek_certificate",
    "kek_attributes",
];

/// The facts that a kind shows as columns of their own; None for a report that counts.
const fn shown(kind: Kind) -> Option<&'static [&'static str]> {
    Some(match kind {
        Kind::KeyLifecycle => &[
            "key_version",
            "from_state",
            "to_state",
            "key_reason",
            "trigger",
            "destroy_at",
            "partition",
            "lookup",
            "lookup_version",
            "ceremony",
        ],
        Kind::Rotation => &[
            "trigger",
            "key_version",
            "kek",
            "kek_version",
            "kek_old_version",
            "rewrapped",
            "unchanged",
            "failed",
            "remaining",
            "old_log_key",
            "log_key",
            "ceremony",
        ],
        Kind::BreakGlass => {
            &["grant_kind", "person", "ticket", "not_after", "range", "verdict", "lock", "lock_level", "ceremony"]
        }
        Kind::Ceremonies => {
            &["ceremony", "action", "tier", "proposal", "decision", "person", "verdict", "ticket", "minutes", "why"]
        }
        Kind::Separation => &["person", "people", "roster", "separation", "settings", "fingerprint", "ceremony"],
        Kind::Kek => &[
            "kek",
            "kek_version",
            "kek_old_version",
            "kek_kind",
            "kek_module",
            "kek_serial",
            "kek_detail",
            "offline_seconds",
            "kek_missing",
            "rewrapped",
            "ceremony",
        ],
        Kind::Modules => MODULE,
        Kind::KeyInventory | Kind::Cryptoperiods | Kind::Access | Kind::Exposure | Kind::Integrity => return None,
    })
}

/// Whether a kind lists an event. An intent is listed too: what was tried and has no outcome is to be seen.
fn lists(kind: Kind, event: &str) -> bool {
    let begins = |all: &[&str]| all.iter().any(|one| event.starts_with(one));
    match kind {
        Kind::KeyLifecycle => begins(&["key.", "lookup.", "partition.", "keyring.configured"]),
        Kind::Rotation => matches!(
            event,
            "key.rotated"
                | "key.rewrapped"
                | "lookup.rotated"
                | "kek.approved"
                | "kek.retired"
                | "log.key_approved"
                | "log.key_rotated"
        ),
        Kind::BreakGlass => begins(&["grant.", "lock."]),
        Kind::Ceremonies => begins(&["ceremony."]),
        Kind::Separation => begins(&["custody.", "custodian.", "settings.", "policy.loaded"]),
        Kind::Kek => begins(&["kek.", "cache."]),
        Kind::Modules => event == "kek.admitted",
        Kind::KeyInventory | Kind::Cryptoperiods | Kind::Access | Kind::Exposure | Kind::Integrity => false,
    }
}

/// The columns of a report that lists.
pub(super) fn columns(kind: Kind) -> Option<Vec<&'static str>> {
    shown(kind).map(|facts| ALWAYS.iter().chain(facts).copied().collect())
}

/// The row of a record, if the report lists it.
pub(super) fn row(kind: Kind, record: &Record<'_>) -> Option<Vec<String>> {
    let facts = shown(kind).filter(|_| lists(kind, record.event))?;
    let keyrings: Vec<String> = record
        .groups
        .iter()
        .map(|group| match group.version {
            Some(version) => format!("{} {version}", group.keyring),
            None => group.keyring.to_owned(),
        })
        .collect();
    let mut row = vec![
        record.index.to_string(),
        Wall(record.time).rfc3339_micros(),
        record.event.to_owned(),
        record.outcome.to_owned(),
        record.reason.unwrap_or_default().to_owned(),
        record.actor.named().to_owned(),
        record.actor.proof.unwrap_or_default().to_owned(),
        record.source.to_owned(),
        keyrings.join(", "),
    ];
    row.extend(facts.iter().map(|name| record.fact(name).unwrap_or_default().to_owned()));
    Some(row)
}
