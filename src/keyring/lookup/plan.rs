//! What does a change do to a look-up key? Pure, as all planning is.

use super::{LOOKUP, LookupChange, LookupVerb, MOST_NAMES, numbered};
use crate::keyring::ApplyError;
use crate::keyring::bodies::{self, KeyBody};
use crate::keyring::change::Order;
use crate::keyring::draft::RingDraft;
use crate::keyring::life::{Facts, Life, Now, Reason, Step, rotate_lookup, step_lookup};
use crate::keyring::lives;
use crate::keyring::plan::{New, Plan};
use crate::keyring::rings::describe;
use crate::keyring::verify::Damage;
use crate::names::{KeyVersionId, LookupName};
use crate::store::SealedKey;

/// A version as its row says it.
struct Row {
    id: KeyVersionId,
    name: LookupName,
    number: u32,
    life: Life,
}

/// Its first version or its next.
pub(in crate::keyring) fn plan(
    ring: RingDraft,
    change: &LookupChange,
    order: &Order,
    now: Now,
) -> Result<Plan, ApplyError> {
    let LookupChange { keyring, name, verb } = change;
    let all = rows(&ring)?;
    let known: Vec<(u32, &Life)> =
        all.iter().filter(|row| row.name == *name).map(|row| (row.number, &row.life)).collect();
    let (kind, number, life) = match *verb {
        LookupVerb::Create if !known.is_empty() => {
            return Err(ApplyError::Superseded(format!("the keyring {keyring} has a look-up key {name}: rotate it")));
        }
        LookupVerb::Create => {
            if names(&all) >= MOST_NAMES {
                return Err(ApplyError::Invalid(format!("a keyring has at most {MOST_NAMES} look-up keys")));
            }
            ("lookup.created", 1, Life::begun(now, &order.cause(Reason::Created)))
        }
        LookupVerb::Rotate { trigger, expect } => {
            let newest = known.iter().map(|(number, _)| *number).max();
            let newest = newest.ok_or_else(|| unknown(keyring, name))?;
            if let Some(expected) = expect.filter(|expected| *expected != newest) {
                return Err(ApplyError::Superseded(format!(
                    "the newest version of {name} is {newest}, not {expected}: somebody else was first"
                )));
            }
            let next = rotate_lookup(&known, trigger, now, order.actor.clone(), None);
            let (number, life) = next.map_err(ApplyError::Forbidden)?;
            ("lookup.rotated", number, life)
        }
    };
    let new = New { purpose: LOOKUP, suite: None, lookup: Some((name.clone(), number)), life };
    Ok(Plan { kind, ring, make: Some(new), version: None, before: None })
}

/// One step of a version of a look-up key.
pub(in crate::keyring) fn step(
    ring: &RingDraft,
    id: KeyVersionId,
    (step, reason): (Step, Reason),
    order: &Order,
    facts: &Facts,
    now: Now,
) -> Result<Life, ApplyError> {
    let all = rows(ring)?;
    let gone = || ApplyError::Unknown(format!("the keyring has no version {id}"));
    let row = all.iter().find(|row| row.id == id).ok_or_else(gone)?;
    let others: Vec<(u32, &Life)> = all
        .iter()
        .filter(|other| other.name == row.name && other.id != id)
        .map(|row| (row.number, &row.life))
        .collect();
    let next = step_lookup((row.number, &row.life), &others, step, facts, now, &order.cause(reason));
    next.map_err(ApplyError::Forbidden)
}

fn rows(ring: &RingDraft) -> Result<Vec<Row>, Damage> {
    ring.keys().filter(|key| key.row.purpose == LOOKUP).map(read).collect()
}

fn read(key: &SealedKey) -> Result<Row, Damage> {
    let body: KeyBody = bodies::decode(&key.row.body).map_err(|why| Damage::unreadable(describe(key), why))?;
    let (name, number) = numbered(key, &body)?;
    Ok(Row { id: key.row.id, name, number, life: lives::read(key, &body)? })
}

fn names(rows: &[Row]) -> usize {
    let names: std::collections::BTreeSet<&LookupName> = rows.iter().map(|row| &row.name).collect();
    names.len()
}

fn unknown(keyring: &crate::names::KeyringName, name: &LookupName) -> ApplyError {
    ApplyError::Unknown(format!("the keyring {keyring} has no look-up key {name}: create it"))
}
