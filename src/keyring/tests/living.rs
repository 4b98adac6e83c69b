//! The life of key versions over the real store: every step, every refusal, and what a restart and a peer make of it.

use super::*;
use crate::keyring::life::{By, Forbidden, Reason, Statement, Step, Trigger};
use crate::store::{PartitionName, PartitionRow, SidecarId, UsageRow};

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Step = Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) };

fn step(version: KeyVersionId, step: Step) -> Change {
    Change::Step { keyring: name("patients"), version, step, reason: Reason::Policy }
}

fn rotate(expect: Option<KeyVersionId>) -> Change {
    Change::Rotate { keyring: name("patients"), trigger: Trigger::Incident, expect }
}

fn forbidden(result: Result<Applied, ApplyError>) -> Forbidden {
    match result {
        Err(ApplyError::Forbidden(why)) => why,
        other => panic!("{other:?}"),
    }
}

async fn versions(keyrings: &Keyrings) -> Vec<(KeyVersionId, KeyState)> {
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    view.versions.iter().map(|version| (version.id, version.state)).collect()
}

/// Whether it seals with this version now, and what it says when it opens with it.
async fn uses(world: &World, keyrings: &Keyrings, version: KeyVersionId) -> (bool, Result<(), UnlockError>) {
    let sealing = world.permit(Action::Seal, "patients");
    let seals = keyrings.unlock_to_seal(&sealing).await.is_ok_and(|key| key.version() == version);
    let opening = world.permit(Action::Open, "patients");
    (seals, keyrings.unlock_opening(&opening, version).await.map(drop))
}

const fn state(state: KeyState) -> Result<(), UnlockError> {
    Err(UnlockError::State(state))
}

/// A keyring with one version that only opens, and one that is active.
async fn rotated() -> (World, Arc<Keyrings>, KeyVersionId, KeyVersionId) {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let first = versions(&keyrings).await[0].0;
    let applied = world.change(&keyrings, rotate(Some(first)), 20).await.unwrap();
    assert_eq!(applied.before, Some((first, KeyState::Active)));
    (world, keyrings, first, applied.version.unwrap())
}

#[tokio::test]
async fn a_rotation_makes_one_new_active_version_and_the_old_one_only_opens() {
    let (world, keyrings, first, second) = rotated().await;
    let both = [(first, KeyState::Deactivated), (second, KeyState::Active)];
    for keyrings in [Arc::clone(&keyrings), world.admitted().await] {
        let found = versions(&keyrings).await;
        assert!(both.iter().all(|version| found.contains(version)), "{found:?}");
        assert_eq!(uses(&world, &keyrings, first).await, (false, Ok(())));
        assert_eq!(uses(&world, &keyrings, second).await, (true, Ok(())));
    }
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    let old = view.versions.iter().find(|version| version.id == first).unwrap();
    let by = By::Principal("ada".parse().unwrap());
    assert_eq!((old.since, old.reason, old.by.clone()), (NOON, Reason::Rotation(Trigger::Incident), by));
    assert_eq!(view.rotation_due(), Some(Wall(NOON.0 + 90 * 86_400_000_000)));
    assert_eq!(old.expires, None);
    let again = world.change(&keyrings, rotate(Some(first)), 21).await;
    assert!(matches!(again, Err(ApplyError::Superseded(why)) if why.contains(&second.to_string())));
}

#[tokio::test]
async fn two_sidecars_that_decide_to_rotate_at_once_make_one_new_version() {
    let (world, one) = World::with_keyrings(&["patients"]).await;
    let two = world.admitted().await;
    let first = versions(&one).await[0].0;
    let (a, b) = tokio::join!(world.change(&one, rotate(Some(first)), 20), world.change(&two, rotate(Some(first)), 30));
    let superseded = |result: &Result<Applied, ApplyError>| matches!(result, Err(ApplyError::Superseded(_)));
    assert!(a.is_ok() != b.is_ok() && (superseded(&a) || superseded(&b)), "{a:?} {b:?}");
    assert_eq!(versions(&*world.admitted().await).await.len(), 2);
}

#[tokio::test]
async fn a_suspension_bites_on_every_sidecar_and_resuming_takes_it_back() {
    let (world, one) = World::with_keyrings(&["patients"]).await;
    let two = world.admitted().await;
    let id = versions(&one).await[0].0;
    assert_eq!(uses(&world, &two, id).await, (true, Ok(())));
    world.change(&one, step(id, Step::Suspend), 20).await.unwrap();
    two.catch_up().await.unwrap();
    for keyrings in [&one, &two, &world.admitted().await] {
        assert_eq!(uses(&world, keyrings, id).await, (false, state(KeyState::Suspended)));
        assert_eq!(keyrings.cache_stats().keys, 0);
    }
    world.change(&two, step(id, Step::Resume), 30).await.unwrap();
    one.catch_up().await.unwrap();
    assert_eq!(uses(&world, &one, id).await, (true, Ok(())));
}

#[tokio::test]
async fn after_an_incident_a_new_version_seals_and_the_compromised_one_stays_closed() {
    for (bad, wanted) in [(Step::Suspend, KeyState::Suspended), (Step::Compromise, KeyState::Compromised)] {
        let (world, keyrings) = World::with_keyrings(&["patients"]).await;
        let first = versions(&keyrings).await[0].0;
        world.change(&keyrings, step(first, bad), 20).await.unwrap();
        let permit = world.permit(Action::Seal, "patients");
        assert_eq!(keyrings.unlock_to_seal(&permit).await.map(drop), state(wanted));
        let second = world.change(&keyrings, rotate(None), 21).await.unwrap().version.unwrap();
        assert_eq!(uses(&world, &keyrings, second).await, (true, Ok(())));
        assert_eq!(uses(&world, &keyrings, first).await, (false, state(wanted)));
        if bad == Step::Suspend {
            let refused = forbidden(world.change(&keyrings, step(first, Step::Resume), 22).await);
            assert_eq!(refused, Forbidden::OtherActive { step: Step::Resume, active: second });
        }
    }
}

#[tokio::test]
async fn a_forbidden_step_changes_nothing_and_says_what_would_be_needed() {
    let (world, keyrings, first, second) = rotated().await;
    let before = keyrings.head();
    for (at, (version, asked, said)) in [
        (second, WEEK, "rotate the keyring or deactivate the version first"),
        (second, Step::Resume, "the version is active; to resume it, it must be suspended"),
        (first, Step::Suspend, "the version is deactivated"),
        (first, Step::Destroy, "no destruction of this version is scheduled"),
        (first, Step::CancelDestroy, "no destruction of this version is scheduled"),
    ]
    .into_iter()
    .enumerate()
    {
        let intent = 30 + u64::try_from(at).unwrap();
        let refused = forbidden(world.change(&keyrings, step(version, asked), intent).await).to_string();
        assert!(refused.contains(said), "{refused}");
    }
    let nowhere = world.change(&keyrings, step(KeyVersionId([9; 8]), Step::Suspend), 40).await;
    assert!(matches!(nowhere, Err(ApplyError::Unknown(_))), "{nowhere:?}");
    assert_eq!(keyrings.head(), before);
}

#[tokio::test]
async fn the_right_to_deactivate_does_not_lift_a_suspension() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let id = versions(&keyrings).await[0].0;
    world.change(&keyrings, step(id, Step::Suspend), 20).await.unwrap();
    let log = world.log(&keyrings);
    for (action, allowed) in [(Action::KeyDeactivate, false), (Action::KeyDestroy, false), (Action::KeyResume, true)] {
        let authority = world.authority(action, "patients");
        let intent = world.intent(&log).await;
        let applied = keyrings.apply(&step(id, Step::Deactivate), &authority, intent).await;
        assert_eq!(applied.is_ok(), allowed, "{action:?} {applied:?}");
    }
    assert_eq!(versions(&keyrings).await, [(id, KeyState::Deactivated)]);
}

#[tokio::test]
async fn a_destruction_withholds_the_key_while_it_waits_and_cancelling_gives_it_back() {
    let (world, keyrings, first, second) = rotated().await;
    let planned = world.change(&keyrings, step(first, WEEK), 30).await.unwrap();
    let version = planned.keyring.versions.iter().find(|version| version.id == first).unwrap();
    assert_eq!(version.destroy_at, Some(Wall(NOON.0 + 7 * 86_400_000_000)));
    assert_eq!((version.state, version.acting()), (KeyState::Deactivated, KeyState::Suspended));
    for keyrings in [&keyrings, &world.admitted().await] {
        assert_eq!(uses(&world, keyrings, first).await, (false, state(KeyState::Suspended)));
        assert_eq!(uses(&world, keyrings, second).await, (true, Ok(())));
    }
    world.change(&keyrings, step(first, Step::CancelDestroy), 31).await.unwrap();
    assert_eq!(uses(&world, &keyrings, first).await, (false, Ok(())));
    assert!(matches!(forbidden(world.change(&keyrings, step(first, Step::Destroy), 32).await), Forbidden::NotPlanned));
}

#[tokio::test]
async fn a_version_is_destroyed_after_its_wait_and_its_wraps_are_gone() {
    let (world, keyrings, first, second) = rotated().await;
    world.change(&keyrings, step(first, WEEK), 30).await.unwrap();
    world.clock.advance(7 * DAY - Duration::from_micros(1));
    let early = forbidden(world.change(&keyrings, step(first, Step::Destroy), 31).await);
    assert!(matches!(early, Forbidden::NotDue { .. }), "{early}");
    world.clock.advance(Duration::from_micros(1));
    world.change(&keyrings, step(first, Step::Destroy), 32).await.unwrap();
    let rows = keyrings.inner.writer.ring("default/patients".to_owned()).await.unwrap().unwrap();
    let gone = rows.keys.iter().find(|key| key.row.id == first).unwrap();
    assert!(gone.wraps.is_empty() && gone.row.state == "destroyed");
    for keyrings in [&keyrings, &world.admitted().await] {
        assert_eq!(uses(&world, keyrings, first).await, (false, state(KeyState::Destroyed)));
        assert_eq!(uses(&world, keyrings, second).await, (true, Ok(())));
        let refused = forbidden(world.change(keyrings, step(first, Step::Resume), 33).await).to_string();
        assert_eq!(refused, "the version is destroyed, and that is final");
    }
}

/// What a log would pin: it names the sidecar.
fn pinned(world_store: &Genesis, sidecar: u8) -> Pinned {
    Pinned {
        abandoned: Vec::new(),
        store: world_store.store.to_string(),
        store_key_check: hex::encode(world_store.store_key_check),
        head: None,
        log: format!("keyward/x/{}", hex::encode([sidecar; 16])),
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_by_a_year_destroys_nothing_not_even_over_a_restart() {
    let (world, keyrings, first, _) = rotated().await;
    let genesis = keyrings.inner.opened().unwrap().system.genesis.clone();
    keyrings.pin(pinned(&genesis, 1));
    world.change(&keyrings, step(first, WEEK), 30).await.unwrap();
    world.clock.advance(6 * DAY);
    keyrings.report_in().await.unwrap();
    world.clock.step_wall(Wall(NOON.0 + 365 * 86_400_000_000));
    assert_eq!(forbidden(world.change(&keyrings, step(first, Step::Destroy), 31).await), Forbidden::Clock);
    let restarted = world.open().await;
    restarted.pin(pinned(&genesis, 1));
    restarted.admit().await.unwrap();
    let early = forbidden(world.change(&restarted, step(first, Step::Destroy), 32).await);
    assert!(matches!(early, Forbidden::NotDue { left, .. } if left == DAY), "{early}");
    world.clock.advance(DAY);
    world.change(&restarted, step(first, Step::Destroy), 33).await.unwrap();
}

#[tokio::test]
async fn a_clock_behind_the_newest_change_schedules_no_destruction() {
    let (world, _, first, _) = rotated().await;
    world.clock.step_wall(Wall(NOON.0 - 365 * 86_400_000_000));
    let restarted = world.admitted().await;
    assert_eq!(forbidden(world.change(&restarted, step(first, WEEK), 31).await), Forbidden::Clock);
    world.change(&restarted, step(first, Step::Compromise), 32).await.unwrap();
}

#[tokio::test]
async fn what_one_sidecar_counted_another_goes_on_from() {
    let (world, one, first, _) = rotated().await;
    let genesis = one.inner.opened().unwrap().system.genesis.clone();
    one.pin(pinned(&genesis, 1));
    world.change(&one, step(first, WEEK), 30).await.unwrap();
    world.clock.advance(4 * DAY);
    one.report_in().await.unwrap();
    one.report_in().await.unwrap();
    drop(one);
    let two = world.open().await;
    two.pin(pinned(&genesis, 2));
    two.admit().await.unwrap();
    world.clock.advance(3 * DAY);
    two.report_in().await.unwrap();
    let rows = two.inner.writer.sidecars().await.unwrap();
    let ids: Vec<(SidecarId, u64)> = rows.iter().map(|row| (row.id, row.generation)).collect();
    assert_eq!(ids, [(SidecarId([1; 16]), 2), (SidecarId([2; 16]), 2)], "its admission and its report");
    world.change(&two, step(first, Step::Destroy), 31).await.unwrap();
    world.edit("UPDATE sidecars SET body = replace(body, '\"counted\":', '\"counted\":9')");
    let edited = world.open().await.admit().await;
    assert!(matches!(&edited, Err(ApplyError::Tampered(why)) if why.contains("sidecar 0101")), "{edited:?}");
}

#[tokio::test]
async fn a_version_that_wraps_a_partition_or_was_opened_with_lately_is_not_destroyed() {
    let (world, keyrings, first, _) = rotated().await;
    let open = keyrings.inner.opened().unwrap();
    let today = u32::try_from(NOON.0 / 86_400_000_000).unwrap();
    let body = format!("{{\"bytes\":3,\"messages\":2,\"opened\":{today},\"schema\":1}}");
    let mut usage =
        UsageRow { key: first, sidecar: SidecarId([1; 16]), generation: 1, body, tag: crate::store::Tag([0; 32]) };
    usage.tag = open.system.rows.tag(seal::Row::Usage(&usage)).unwrap();
    keyrings.inner.writer.commit(vec![crate::store::Write::Usage(usage)]).await.unwrap();
    let refused = forbidden(world.change(&keyrings, step(first, WEEK), 30).await);
    assert!(matches!(refused, Forbidden::OpenedLately { .. }), "{refused}");
    let used = keyrings.inventory(&world.permit(Action::InventoryRead, "x"), None, 10).await.unwrap();
    let [(view, counted)] = used.as_slice() else { panic!("one keyring") };
    let at = view.versions.iter().position(|version| version.id == first).unwrap();
    assert_eq!((counted[at].messages, counted[at].bytes), (2, 3));
    world.clock.advance(31 * DAY);
    world.change(&keyrings, step(first, WEEK), 31).await.unwrap();
    let partition = PartitionRow {
        keyring: "default/patients".to_owned(),
        name: PartitionName([3; 16]),
        parent: first,
        state: "active".to_owned(),
        generation: 1,
        body: "{}".to_owned(),
        wrap: vec![1],
        tag: crate::store::Tag([0; 32]),
    };
    keyrings.inner.writer.commit(vec![crate::store::Write::Partition(partition)]).await.unwrap();
    world.clock.advance(7 * DAY);
    let refused = forbidden(world.change(&keyrings, step(first, Step::Destroy), 32).await);
    assert_eq!(refused, Forbidden::InUse { partitions: 1, keys: 0 });
}

#[tokio::test]
async fn limits_are_kept_and_shorten_the_cryptoperiod() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let limits = KeyLimits { cryptoperiod: Some(30 * DAY), messages: Some(5), ..KeyLimits::default() };
    let configure = Change::Configure { keyring: name("patients"), limits: limits.clone() };
    world.change(&keyrings, configure, 20).await.unwrap();
    for keyrings in [&keyrings, &world.admitted().await] {
        let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
        assert_eq!(view.limits, limits);
        assert_eq!(view.rotation_due(), Some(Wall(NOON.0 + 30 * 86_400_000_000)));
    }
}

#[tokio::test]
async fn what_is_suspended_or_compromised_opens_only_for_the_exception_that_names_its_state() {
    let (world, keyrings, first, second) = rotated().await;
    let opens = async |action: Action, version| {
        let permit = world.permit(action, "patients");
        keyrings.unlock_opening(&permit, version).await.map(drop)
    };
    let all = [Action::Open, Action::OpenSuspended, Action::OpenCompromised];
    for action in all {
        assert_eq!(opens(action, first).await, Ok(()), "who may open more may open");
    }
    for (taken, named, from) in [
        (Step::Suspend, Action::OpenSuspended, KeyState::Suspended),
        (Step::Compromise, Action::OpenCompromised, KeyState::Compromised),
    ] {
        let mut order = world.order(step(second, taken), 30);
        order.action =
            order.change.action(if from == KeyState::Suspended { KeyState::Active } else { KeyState::Suspended });
        order.intent = 30 + u64::from(from == KeyState::Compromised);
        change::carry_out(Arc::clone(&keyrings.inner), order).await.unwrap();
        for action in all {
            assert_eq!(opens(action, second).await, if action == named { Ok(()) } else { state(from) }, "{action:?}");
            let sealing = world.permit(action, "patients");
            assert_eq!(keyrings.unlock_to_seal(&sealing).await.err(), Some(UnlockError::NotCovered));
        }
        let sealing = world.permit(Action::Seal, "patients");
        assert!(matches!(keyrings.unlock_to_seal(&sealing).await.err(), Some(UnlockError::State(_))), "never seals");
    }
}

#[tokio::test]
async fn what_waits_to_be_destroyed_is_suspended_and_what_is_destroyed_opens_for_nobody() {
    let (world, keyrings, first, _) = rotated().await;
    let mut order = world.order(step(first, WEEK), 30);
    order.action = Action::KeyDestroy;
    change::carry_out(Arc::clone(&keyrings.inner), order).await.unwrap();
    let opens = async |action: Action| {
        let permit = world.permit(action, "patients");
        keyrings.unlock_opening(&permit, first).await.map(drop)
    };
    assert_eq!((opens(Action::Open).await, opens(Action::OpenSuspended).await), (state(KeyState::Suspended), Ok(())));
    let (world, keyrings, first, _) = rotated().await;
    let opens = async |action: Action| {
        let permit = world.permit(action, "patients");
        keyrings.unlock_opening(&permit, first).await.map(drop)
    };
    super::tampering::set_state(&keyrings, "default/patients", KeyState::Destroyed).await;
    for action in [Action::Open, Action::OpenSuspended, Action::OpenCompromised] {
        assert!(opens(action).await.is_err(), "{action:?}");
    }
}
