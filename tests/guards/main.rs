//! Rules of the house that the compiler does not know: imports, doors, sizes, forging, clauses, dependencies.
//! Each guard reports every breach at once, as `file:line`, and each scanner is itself tested with planted breaches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a guard that cannot read the tree must stop the build")]
#![allow(clippy::disallowed_methods, reason = "guards copy the tree and start the compiler")]

mod clauses;
mod deps;
mod forging;
mod imports;
mod profiles;
mod promises;
mod sizes;
mod source;
mod standalone;
mod table;
mod values;

/// Fails with all breaches, one a line.
#[track_caller]
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}: {} breaches\n  {}\n", breaches.len(), breaches.join("\n  "));
}
