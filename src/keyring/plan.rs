//! What does a change do to a keyring? Pure: the keyring as it is and the time in, the keyring as it will be out, or why
//! it may not be.

use super::bodies::{DestroyBody, HeadBody, MoveBody, SCHEMA};
use super::change::Order;
use super::draft::RingDraft;
use super::follow::Loaded;
use super::rings::DATA;
use super::{ApplyError, Change, KeyState};
use crate::clock::Wall;
use crate::crypto::Suite;
use crate::names::{KeyVersionId, MAX_CALLER_PAIRS, RESERVED_PREFIX};
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
}

/// A key to be made.
pub(super) struct New {
    pub purpose: &'static str,
    pub suite: Option<Suite>,
    pub name: Option<String>,
    pub state: KeyState,
    pub moved: MoveBody,
}

/// Whether the authority is for this change.
pub(super) fn covered(change: &Change, authority: &Authority) -> Result<(), ApplyError> {
    let covers = authority.action() == change.action() && authority.keyring() == Some(change.keyring());
    if covers { Ok(()) } else { Err(ApplyError::NotCovered) }
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
pub(super) fn plan(order: &Order, loaded: Option<&Loaded>, now: Wall) -> Result<Plan, ApplyError> {
    let change = &order.change;
    if let Change::Create { .. } = change {
        return create(order, loaded, now);
    }
    let unknown = || ApplyError::Invalid(format!("there is no keyring {}", change.keyring()));
    let ring = RingDraft::of(loaded.ok_or_else(unknown)?);
    let moved =
        |reason: &str| MoveBody { actor: order.actor.clone(), at: now.0, ceremony: None, reason: reason.to_owned() };
    match change {
        Change::Create { .. } | Change::Partitions(_) => Err(unknown()),
        Change::Rotate { trigger, expect, .. } => rotate(ring, *expect, moved(trigger), now),
        Change::Move { version, to, reason, .. } => step(ring, *version, *to, moved(reason)),
        Change::ScheduleDestroy { version, reason, at, .. } => {
            schedule_destroy(ring, *version, *at, moved(reason), now)
        }
        Change::CancelDestroy { version, reason, .. } => cancel_destroy(ring, *version, moved(reason)),
        Change::Destroy { version, reason, .. } => destroy(ring, *version, moved(reason), now),
        Change::Configure { limits, .. } => {
            let mut ring = ring;
            ring.head.limits = limits.body();
            Ok(Plan { kind: "keyring.configured", ring, make: None, version: None })
        }
    }
}

fn create(order: &Order, loaded: Option<&Loaded>, now: Wall) -> Result<Plan, ApplyError> {
    let Change::Create { name, required_context, subject_key, suite, partition_key, limits } = &order.change else {
        return Err(ApplyError::NotCovered);
    };
    if loaded.is_some() {
        return Err(ApplyError::Exists(name.clone()));
    }
    let head = HeadBody {
        count: 0,
        created: now.0,
        limits: limits.body(),
        partition_key: partition_key.clone(),
        partitions: None,
        required_context: required_context.clone(),
        root: String::new(),
        schema: SCHEMA,
        subject_key: subject_key.clone(),
        suite: Some(*suite as u8),
    };
    let moved = MoveBody { actor: order.actor.clone(), at: now.0, ceremony: None, reason: "created".to_owned() };
    let new = New { purpose: DATA, suite: Some(*suite), name: None, state: KeyState::Active, moved };
    let ring = RingDraft::new(name.to_string(), head);
    Ok(Plan { kind: "keyring.created", ring, make: Some(new), version: None })
}

/// A new active version; the one that was active only opens from now on.
fn rotate(mut ring: RingDraft, expect: Option<KeyVersionId>, moved: MoveBody, _now: Wall) -> Result<Plan, ApplyError> {
    let active = active(&ring);
    if let Some(expected) = expect
        && active != Some(expected)
    {
        return Err(ApplyError::Superseded(format!(
            "the active version is {}, not {expected}: it was rotated by somebody else",
            active.map_or_else(|| "none".to_owned(), |id| id.to_string())
        )));
    }
    if let Some(id) = active {
        ring.change(id, |key, body| {
            key.row.state = KeyState::Deactivated.name().to_owned();
            body.moves.insert(KeyState::Deactivated.name().to_owned(), moved.clone());
        })?;
    }
    let suite = super::rings::suite(ring.head.suite);
    let new = New { purpose: DATA, suite, name: None, state: KeyState::Active, moved };
    Ok(Plan { kind: "keyring.rotated", ring, make: Some(new), version: None })
}

fn step(mut ring: RingDraft, id: KeyVersionId, to: KeyState, moved: MoveBody) -> Result<Plan, ApplyError> {
    let from = state_of(&ring, id)?;
    let pending = pending(&ring, id)?;
    if !allowed(from, to) || (pending.is_some() && to != KeyState::Compromised) {
        return Err(forbidden(from, to, pending.is_some()));
    }
    if to == KeyState::Active && active(&ring).is_some() {
        return Err(ApplyError::InState(format!("the keyring has an active version: {id} can only be deactivated")));
    }
    ring.change(id, |key, body| {
        key.row.state = to.name().to_owned();
        body.moves.insert(to.name().to_owned(), moved);
    })?;
    Ok(Plan { kind: "key.moved", ring, make: None, version: Some(id) })
}

fn schedule_destroy(
    mut ring: RingDraft,
    id: KeyVersionId,
    at: Wall,
    moved: MoveBody,
    now: Wall,
) -> Result<Plan, ApplyError> {
    let from = state_of(&ring, id)?;
    if !allowed(from, KeyState::Destroyed) || pending(&ring, id)?.is_some() {
        return Err(forbidden(from, KeyState::Destroyed, pending(&ring, id)?.is_some()));
    }
    ring.change(id, |key, body| {
        body.destroy = Some(DestroyBody { at: at.0, from: from.name().to_owned(), scheduled: now.0 });
        if from == KeyState::Deactivated {
            key.row.state = KeyState::Suspended.name().to_owned();
            body.moves.insert(KeyState::Suspended.name().to_owned(), moved);
        }
    })?;
    Ok(Plan { kind: "key.destroy_scheduled", ring, make: None, version: Some(id) })
}

fn cancel_destroy(mut ring: RingDraft, id: KeyVersionId, moved: MoveBody) -> Result<Plan, ApplyError> {
    let Some(destroy) = pending(&ring, id)? else {
        return Err(ApplyError::InState(format!("no destruction of {id} is scheduled")));
    };
    ring.change(id, |key, body| {
        key.row.state.clone_from(&destroy.from);
        body.moves.insert(destroy.from.clone(), moved);
        body.destroy = None;
    })?;
    Ok(Plan { kind: "key.destroy_cancelled", ring, make: None, version: Some(id) })
}

/// The wraps go; the row stays as the record of the key.
fn destroy(mut ring: RingDraft, id: KeyVersionId, moved: MoveBody, now: Wall) -> Result<Plan, ApplyError> {
    let Some(destroy) = pending(&ring, id)? else {
        return Err(ApplyError::InState(format!("no destruction of {id} is scheduled: schedule it first")));
    };
    if now.0 < destroy.at {
        return Err(ApplyError::InState(format!("{id} may be destroyed after its date, not before")));
    }
    match super::partition::wrapped_by(ring.head.partitions.as_ref(), id) {
        0 => {}
        users => {
            return Err(ApplyError::InState(format!(
                "{id} wraps {users} partitions: move them to the active version first (keyward partition rewrap)"
            )));
        }
    }
    ring.change(id, |key, body| {
        key.row.state = KeyState::Destroyed.name().to_owned();
        key.wraps = Vec::new();
        body.keks = Vec::new();
        body.moves.insert(KeyState::Destroyed.name().to_owned(), moved);
        body.destroy = None;
    })?;
    Ok(Plan { kind: "key.destroyed", ring, make: None, version: Some(id) })
}

fn active(ring: &RingDraft) -> Option<KeyVersionId> {
    let is_active = |key: &&SealedKey| key.row.purpose == DATA && key.row.state == KeyState::Active.name();
    ring.keys().find(is_active).map(|key| key.row.id)
}

fn state_of(ring: &RingDraft, id: KeyVersionId) -> Result<KeyState, ApplyError> {
    let key = ring.keys().find(|key| key.row.id == id && key.row.purpose == DATA);
    let unknown = || ApplyError::Invalid(format!("the keyring has no version {id}"));
    key.and_then(|key| KeyState::of(&key.row.state)).ok_or_else(unknown)
}

fn pending(ring: &RingDraft, id: KeyVersionId) -> Result<Option<DestroyBody>, ApplyError> {
    let Some(key) = ring.keys().find(|key| key.row.id == id) else { return Ok(None) };
    let unreadable = |why| super::verify::Damage::unreadable(super::rings::describe(key), why);
    let body: super::bodies::KeyBody = super::bodies::decode(&key.row.body).map_err(unreadable)?;
    Ok(body.destroy)
}

/// SP 800-57 part 1, section 7,.
const fn allowed(from: KeyState, to: KeyState) -> bool {
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActive, Suspended};
    matches!(
        (from, to),
        (PreActive, Active | Destroyed | Compromised)
            | (Active, Suspended | Deactivated | Compromised)
            | (Suspended, Active | Deactivated | Compromised)
            | (Deactivated, Destroyed | Compromised)
            | (Compromised, Destroyed)
    )
}

fn forbidden(from: KeyState, to: KeyState, pending: bool) -> ApplyError {
    let also = if pending { " and its destruction is scheduled: cancel that first" } else { "" };
    ApplyError::InState(format!("a key that is {} cannot become {}{also}", from.name(), to.name()))
}
