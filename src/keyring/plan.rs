//! What does a change do to a keyring? Pure: the keyring as it is and the time in, the keyring as it will be out, or why
//! it may not be.

use std::collections::BTreeMap;

use super::bodies::{self, HeadBody, KeyBody, SCHEMA};
use super::change::Order;
use super::draft::RingDraft;
use super::follow::Loaded;
use super::life::{self, Facts, KeyState, Life, Now, Reason, Step, Trigger};
use super::lookup::{self, LOOKUP};
use super::rings::{DATA, describe};
use super::verify::Damage;
use super::{ApplyError, Change, KeyLimits, lives};
use crate::crypto::Suite;
use crate::names::{KeyVersionId, LookupName, MAX_CALLER_PAIRS, RESERVED_PREFIX};
use crate::policy::Authority;
use crate::store::SealedKey;

/// A planned change.
pub(super) struct Plan {
    pub kind: &'static str,
    pub ring: RingDraft,
    /// A key that has to be made and added first.
    pub make: Option<New>,
    /// The version that the change is about.
    pub version: Option<KeyVersionId>,
    /// The version whose state changes, and its state before.
    pub before: Option<(KeyVersionId, KeyState)>,
}

/// A key to be made.
pub(super) struct New {
    pub purpose: &'static str,
    pub suite: Option<Suite>,
    pub lookup: Option<(LookupName, u32)>,
    pub life: Life,
}

/// Whether the authority is for this change, in whatever state the version turns out to be: [`plan`] looks at that.
pub(super) fn covered(change: &Change, authority: &Authority) -> Result<(), ApplyError> {
    let action = KeyState::ALL.iter().any(|from| change.action(*from) == authority.action());
    if action && authority.keyring() == Some(change.keyring()) { Ok(()) } else { Err(ApplyError::NotCovered) }
}

/// A keyring that no value could satisfy, or whose pseudonyms nobody could compute, is refused before it exists.
pub(super) fn check(change: &Change) -> Result<(), ApplyError> {
    if let Change::Partitions(change) = change {
        return change.check();
    }
    let Change::Create { required_context, subject_key, partition_key, .. } = change else { return Ok(()) };
    let invalid = |what: &str| Err(ApplyError::Invalid(what.to_owned()));
    let mut sorted: Vec<&str> = required_context.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|two| matches!(two, [a, b] if a == b)) {
        return invalid("a required context key is given twice");
    }
    if sorted.len() > MAX_CALLER_PAIRS {
        return invalid("more context keys are required than a caller may give");
    }
    if sorted.iter().any(|key| key.is_empty() || key.len() > 255 || key.starts_with(RESERVED_PREFIX)) {
        return invalid("a required context key is empty, longer than 255 bytes or reserved");
    }
    match (subject_key, partition_key) {
        (Some(subject), _) if !required_context.contains(subject) => {
            invalid("the subject's context key is not required")
        }
        (_, Some(partition)) if !required_context.contains(partition) => {
            invalid("the partition's context key is not required")
        }
        _ => Ok(()),
    }
}

/// Plans a change of a keyring as it is now.
pub(super) fn plan(order: &Order, loaded: Option<&Loaded>, facts: &Facts, now: Now) -> Result<Plan, ApplyError> {
    let change = &order.change;
    if let Change::Create { .. } = change {
        return create(order, loaded, now);
    }
    let unknown = || ApplyError::Unknown(format!("there is no keyring {}", change.keyring()));
    let mut ring = RingDraft::of(loaded.ok_or_else(unknown)?);
    match change {
        Change::Create { .. } | Change::Partitions(_) => Err(unknown()),
        Change::Lookup(change) => lookup::plan(ring, change, order, now),
        Change::Rotate { trigger, expect, .. } => rotate(ring, *trigger, *expect, order, now),
        Change::Step { version, step, reason, .. } => take(ring, *version, (*step, *reason), order, facts, now),
        Change::Configure { limits, .. } => {
            let escrow = limits.escrow.unwrap_or_else(|| ring.head.limits.escrow());
            ring.head.limits = KeyLimits { escrow: Some(escrow), ..limits.clone() }.body();
            Ok(Plan { kind: "keyring.configured", ring, make: None, version: None, before: None })
        }
    }
}

fn create(order: &Order, loaded: Option<&Loaded>, now: Now) -> Result<Plan, ApplyError> {
    let Change::Create { name, required_context, subject_key, suite, partition_key, limits } = &order.change else {
        return Err(ApplyError::NotCovered);
    };
    if loaded.is_some() {
        return Err(ApplyError::Exists(name.clone()));
    }
    let head = HeadBody {
        count: 0,
        created: now.wall.0,
        document: None,
        limits: limits.body(),
        partition_key: partition_key.clone(),
        partitions: None,
        required_context: required_context.clone(),
        retired: Vec::new(),
        root: String::new(),
        schema: SCHEMA,
        subject_key: subject_key.clone(),
        suite: Some(*suite as u8),
        used: BTreeMap::new(),
        wrapping: Vec::new(),
    };
    let life = Life::begun(now, &order.cause(Reason::Created));
    let new = New { purpose: DATA, suite: Some(*suite), lookup: None, life };
    let ring = RingDraft::new(name.to_string(), head);
    Ok(Plan { kind: "keyring.created", ring, make: Some(new), version: None, before: None })
}

/// A new active version; the one that was active only opens from now on.
fn rotate(
    mut ring: RingDraft,
    trigger: Trigger,
    expect: Option<KeyVersionId>,
    order: &Order,
    now: Now,
) -> Result<Plan, ApplyError> {
    let found = active(&ring)?;
    let id = found.as_ref().map(|(id, _)| *id);
    if let Some(expected) = expect
        && id != Some(expected)
    {
        return Err(ApplyError::Superseded(format!(
            "the active version is {}, not {expected}: somebody else was first",
            id.map_or_else(|| "none".to_owned(), |id| id.to_string())
        )));
    }
    let found = found.as_ref().map(|(id, life)| (*id, life));
    let turn = life::rotate(found, trigger, now, order.actor.clone(), None).map_err(ApplyError::Forbidden)?;
    if let Some((retired, life)) = &turn.retired {
        ring.change(*retired, |key, body| lives::write(life, key, body))?;
    }
    let suite = super::rings::suite(ring.head.suite);
    let new = New { purpose: DATA, suite, lookup: None, life: turn.fresh };
    let before = id.map(|id| (id, KeyState::Active));
    Ok(Plan { kind: "keyring.rotated", ring, make: Some(new), version: None, before })
}

/// One step of one version, if the authority is for that step from the state that the version is in.
fn take(
    mut ring: RingDraft,
    id: KeyVersionId,
    (step, reason): (Step, Reason),
    order: &Order,
    facts: &Facts,
    now: Now,
) -> Result<Plan, ApplyError> {
    let unknown = || ApplyError::Unknown(format!("the keyring has no version {id}"));
    let its = |key: &&SealedKey| key.row.id == id && [DATA, LOOKUP].contains(&&*key.row.purpose);
    let key = ring.keys().find(its).ok_or_else(unknown)?;
    let life = life_of(key)?;
    let from = life.state();
    let of_lookup = key.row.purpose == LOOKUP;
    let action = if of_lookup { life::lookup_action(step, from) } else { step.action(from) };
    if action != order.action {
        // What was asked for was decided when the version was in another state.
        let why = format!("the version is {} by now: ask again, which may need another permission", from.name());
        return Err(ApplyError::Superseded(why));
    }
    let next = if of_lookup {
        lookup::step(&ring, id, (step, reason), order, facts, now)?
    } else {
        let other_active = active(&ring)?.map(|(active, _)| active).filter(|active| *active != id);
        let facts = Facts { other_active, ..*facts };
        life.step(step, &facts, now, &order.cause(reason)).map_err(ApplyError::Forbidden)?
    };
    ring.change(id, |key, body| lives::write(&next, key, body))?;
    Ok(Plan { kind: kind(step), ring, make: None, version: Some(id), before: Some((id, from)) })
}

/// What the link of the chain calls it.
const fn kind(step: Step) -> &'static str {
    match step {
        Step::Activate => "key.activated",
        Step::Suspend => "key.suspended",
        Step::Resume => "key.resumed",
        Step::Deactivate => "key.deactivated",
        Step::Compromise => "key.compromised",
        Step::ScheduleDestroy { .. } => "key.destroy_scheduled",
        Step::CancelDestroy => "key.destroy_cancelled",
        Step::Destroy => "key.destroyed",
    }
}

fn active(ring: &RingDraft) -> Result<Option<(KeyVersionId, Life)>, Damage> {
    for (key, life) in data_keys(ring) {
        let life = life?;
        if life.state() == KeyState::Active {
            return Ok(Some((key.row.id, life)));
        }
    }
    Ok(None)
}

fn data_keys(ring: &RingDraft) -> impl Iterator<Item = (&SealedKey, Result<Life, Damage>)> {
    ring.keys().filter(|key| key.row.purpose == DATA).map(|key| (key, life_of(key)))
}

fn life_of(key: &SealedKey) -> Result<Life, Damage> {
    let body: KeyBody = bodies::decode(&key.row.body).map_err(|why| Damage::unreadable(describe(key), why))?;
    lives::read(key, &body)
}
