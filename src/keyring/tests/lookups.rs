//! Look-up keys: what was written is found again, whatever is rotated, and never more than two versions have to be asked.

use super::*;
use crate::keyring::life::{Forbidden, Role};
use crate::names::LookupName;

const DAY: Duration = Duration::from_secs(86_400);
const MRN: &str = "index/mrn";

fn lookup(text: &str) -> LookupName {
    text.parse().unwrap()
}

fn about(lookup: &str, verb: LookupVerb) -> Change {
    Change::Lookup(LookupChange { keyring: name("patients"), name: lookup.parse().unwrap(), verb })
}

fn next(expect: Option<u32>) -> Change {
    about(MRN, LookupVerb::Rotate { trigger: Trigger::Personnel, expect })
}

fn step(version: KeyVersionId, step: Step) -> Change {
    Change::Step { keyring: name("patients"), version, step, reason: Reason::Policy }
}

fn rotation() -> Change {
    Change::Rotate { keyring: name("patients"), trigger: Trigger::Schedule, expect: None }
}

fn forbidden(result: Result<Applied, ApplyError>) -> Forbidden {
    match result {
        Err(ApplyError::Forbidden(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A keyring with a look-up key of one version, whose id comes with it.
async fn looked_up() -> (World, Arc<Keyrings>, KeyVersionId) {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let made = world.change(&keyrings, about(MRN, LookupVerb::Create), 20).await.unwrap();
    world.kek.unwraps.store(0, Ordering::SeqCst);
    (world, keyrings, made.version.unwrap())
}

/// The tags of a text by every version that matches, the newest first, each with its number.
async fn tags(world: &World, keyrings: &Keyrings, text: &str) -> Vec<(u32, [u8; 32])> {
    let permit = world.permit(Action::Seal, "patients");
    let keys = keyrings.unlock_lookup(&permit, &lookup(MRN)).await.unwrap();
    keys.live().map(|key| (key.number(), key.tag(text.as_bytes()).unwrap())).collect()
}

/// The number of the version that writes.
async fn writes(world: &World, keyrings: &Keyrings) -> Result<u32, UnlockError> {
    let permit = world.permit(Action::Seal, "patients");
    let keys = keyrings.unlock_lookup(&permit, &lookup(MRN)).await?;
    keys.current().map(LookupKey::number)
}

async fn roles(keyrings: &Keyrings) -> Vec<(u32, KeyState, Option<Role>)> {
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    let versions = &view.lookup(&lookup(MRN)).unwrap().versions;
    versions.iter().map(|version| (version.number, version.version.state, version.role)).collect()
}

#[tokio::test]
async fn a_join_survives_every_rotation_of_its_keyring() {
    let (world, keyrings, id) = looked_up().await;
    let before = tags(&world, &keyrings, "4711").await;
    assert_eq!(before.len(), 1);
    assert_ne!(before, tags(&world, &keyrings, "4712").await);
    let row = |rows: crate::store::RingRows| rows.keys.into_iter().find(|key| key.row.id == id).unwrap();
    let of_ring = || keyrings.inner.writer.ring("default/patients".to_owned());
    let untouched = row(of_ring().await.unwrap().unwrap());
    for intent in 30..35 {
        let rotated = world.change(&keyrings, rotation(), intent).await.unwrap();
        assert_eq!(rotated.keyring.lookups.len(), 1);
    }
    assert_eq!(row(of_ring().await.unwrap().unwrap()), untouched, "not a byte of its row has changed");
    for keyrings in [keyrings, world.admitted().await] {
        assert_eq!(tags(&world, &keyrings, "4711").await, before);
        assert_eq!(roles(&keyrings).await, [(1, KeyState::Active, Some(Role::Current))]);
    }
}

#[tokio::test]
async fn a_look_up_key_moves_with_two_live_versions_and_a_third_waits_until_one_is_retired() {
    let (world, keyrings, first) = looked_up().await;
    let [old] = tags(&world, &keyrings, "4711").await[..] else { panic!("one version") };
    let second = world.change(&keyrings, next(Some(1)), 21).await.unwrap().version.unwrap();
    for keyrings in [Arc::clone(&keyrings), world.admitted().await] {
        let [new, still] = tags(&world, &keyrings, "4711").await[..] else { panic!("two versions") };
        assert_eq!((new.0, still), (2, old), "what the first one wrote is found as before");
        assert_ne!(new.1, old.1);
        assert_eq!(writes(&world, &keyrings).await, Ok(2));
    }
    let third = forbidden(world.change(&keyrings, next(None), 22).await);
    assert_eq!(third, Forbidden::TwoLive { oldest: 1 });
    assert!(third.to_string().contains("retire version 1 first"), "{third}");
    let newest = forbidden(world.change(&keyrings, step(second, Step::Deactivate), 23).await);
    assert_eq!(newest, Forbidden::Newest { number: 2 });
    assert!(newest.to_string().contains("rotate the look-up key"), "{newest}");
    world.change(&keyrings, step(first, Step::Deactivate), 24).await.unwrap();
    let left = [(1, KeyState::Deactivated, None), (2, KeyState::Active, Some(Role::Current))];
    assert_eq!(roles(&keyrings).await, left);
    assert_eq!(tags(&world, &keyrings, "4711").await.len(), 1);
    world.change(&keyrings, next(Some(2)), 25).await.unwrap();
    assert_eq!(writes(&world, &*world.admitted().await).await, Ok(3));
}

#[tokio::test]
async fn a_suspended_newest_version_writes_nothing_and_no_older_one_takes_its_place() {
    let (world, keyrings, first) = looked_up().await;
    let second = world.change(&keyrings, next(None), 21).await.unwrap().version.unwrap();
    world.change(&keyrings, step(second, Step::Suspend), 22).await.unwrap();
    assert_eq!(writes(&world, &keyrings).await, Err(UnlockError::State(KeyState::Suspended)));
    assert_eq!(tags(&world, &keyrings, "4711").await.len(), 1, "the first one matches on");
    // After an incident writing goes on by a third version; the one under suspicion comes back only when there is room.
    world.change(&keyrings, next(None), 23).await.unwrap();
    assert_eq!(writes(&world, &keyrings).await, Ok(3));
    let full = forbidden(world.change(&keyrings, step(second, Step::Resume), 24).await);
    assert_eq!(full, Forbidden::TwoLive { oldest: 1 });
    world.change(&keyrings, step(first, Step::Deactivate), 25).await.unwrap();
    world.change(&keyrings, step(second, Step::Resume), 26).await.unwrap();
    let numbers: Vec<u32> = tags(&world, &keyrings, "4711").await.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers, writes(&world, &keyrings).await), (vec![3, 2], Ok(3)));
    for version in [second, keyrings.find(&name("patients")).await.unwrap().unwrap().lookups[0].versions[2].version.id]
    {
        let intent = u64::from(version.0[0]) + 100;
        world.change(&keyrings, step(version, Step::Compromise), intent).await.unwrap();
    }
    assert_eq!(writes(&world, &keyrings).await, Err(UnlockError::State(KeyState::Compromised)));
}

#[tokio::test]
async fn two_sidecars_that_rotate_a_look_up_key_at_once_make_one_version() {
    for expect in [Some(1), None] {
        let (world, one, _) = looked_up().await;
        let two = world.admitted().await;
        let (a, b) = tokio::join!(world.change(&one, next(expect), 30), world.change(&two, next(expect), 40));
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let refused = [a, b].into_iter().find_map(Result::err).unwrap();
        let expected = match expect {
            Some(_) => matches!(refused, ApplyError::Superseded(_)),
            None => matches!(refused, ApplyError::Forbidden(Forbidden::TwoLive { oldest: 1 })),
        };
        assert!(expected, "{refused:?}");
        assert_eq!(roles(&*world.admitted().await).await.len(), 2);
    }
}

#[tokio::test]
async fn a_look_up_key_is_a_key_of_the_store_like_any_other() {
    let (world, keyrings, id) = looked_up().await;
    let before = tags(&world, &keyrings, "4711").await;
    assert_eq!(world.rotate("kek"), 2);
    let far = world.clock.mono().plus(Duration::from_secs(3_600));
    let done = rewrap::step(Arc::clone(&keyrings.inner), 50, None, far).await.unwrap();
    assert_eq!(
        (done.report.rewrapped, done.report.failed),
        (4, 0),
        "two of keyward's own, the data key, the look-up key"
    );
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    assert_eq!(view.version(id).unwrap().keks, ["primary v2"]);
    for keyrings in [Arc::clone(&keyrings), world.admitted().await] {
        assert_eq!(tags(&world, &keyrings, "4711").await, before);
        let proof = keyrings.prove(Standing::Alone, 1, &mut |_| {}).await.unwrap();
        assert!(proof.holds() && proof.keys == 4, "{proof:?}");
    }
    world
        .edit(&format!("UPDATE keys SET body = replace(body, 'index/mrn', 'index/ssn') WHERE hex(id) = upper('{id}')"));
    assert!(matches!(world.readmit().await, Err(ApplyError::Tampered(_))));
}

#[tokio::test]
async fn a_look_up_key_seals_nothing_and_opens_nothing_and_another_permit_unlocks_none() {
    let (world, keyrings, id) = looked_up().await;
    assert_eq!(keyrings.locate(id).await, Ok(None));
    let opening = world.permit(Action::Open, "patients");
    assert_eq!(keyrings.unlock_opening(&opening, id).await.map(drop), Err(UnlockError::Unknown));
    assert!(keyrings.unlock_lookup(&opening, &lookup(MRN)).await.is_ok());
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    assert_ne!(view.active().unwrap().id, id);
    for (action, keyring, of, error) in [
        (Action::KeyringShow, "patients", MRN, UnlockError::NotCovered),
        (Action::Seal, "staff", MRN, UnlockError::Unknown),
        (Action::Seal, "patients", "index/ssn", UnlockError::Unknown),
        (Action::Seal, "patients", "token/mrn", UnlockError::Unknown),
    ] {
        let permit = world.permit(action, keyring);
        assert_eq!(keyrings.unlock_lookup(&permit, &lookup(of)).await.map(drop), Err(error), "{action:?} {of}");
    }
}

#[tokio::test]
async fn every_use_and_name_has_keys_of_its_own() {
    let (world, keyrings, _) = looked_up().await;
    let mut seen = vec![tags(&world, &keyrings, "4711").await[0].1];
    for (of, intent) in [("index/ssn", 30), ("token/mrn", 31), ("deterministic/mrn", 32)] {
        world.change(&keyrings, about(of, LookupVerb::Create), intent).await.unwrap();
        let permit = world.permit(Action::Seal, "patients");
        let keys = keyrings.unlock_lookup(&permit, &lookup(of)).await.unwrap();
        seen.push(keys.current().unwrap().tag(b"4711").unwrap());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (world, keyrings, _) = looked_up().await;
    let before = keyrings.head();
    let twice = world.change(&keyrings, about(MRN, LookupVerb::Create), 30).await;
    assert!(matches!(&twice, Err(ApplyError::Superseded(why)) if why.contains("rotate it")), "{twice:?}");
    let other = world.change(&keyrings, next(Some(2)), 31).await;
    assert!(matches!(&other, Err(ApplyError::Superseded(why)) if why.contains("is 1, not 2")), "{other:?}");
    let rotate = LookupVerb::Rotate { trigger: Trigger::Usage, expect: None };
    let none = world.change(&keyrings, about("index/ssn", rotate), 32).await;
    assert!(matches!(&none, Err(ApplyError::Unknown(why)) if why.contains("create it")), "{none:?}");
    let nowhere = Change::Lookup(LookupChange { keyring: name("staff"), name: lookup(MRN), verb: LookupVerb::Create });
    assert!(matches!(world.change(&keyrings, nowhere, 33).await, Err(ApplyError::Unknown(_))));
    assert_eq!(keyrings.head(), before);
    for n in 1..64 {
        world.change(&keyrings, about(&format!("index/n{n}"), LookupVerb::Create), 100 + n).await.unwrap();
    }
    let many = world.change(&keyrings, about("index/one-more", LookupVerb::Create), 200).await;
    assert!(matches!(many, Err(ApplyError::Invalid(_))), "{many:?}");
}

#[tokio::test]
async fn many_waiters_for_a_look_up_key_cost_one_call_and_an_outage_is_bridged_for_its_time() {
    let (world, keyrings, _) = looked_up().await;
    let asked = world.clock.mono();
    world.kek.held.send_replace(true);
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (permit, keyrings) = (world.permit(Action::Seal, "patients"), Arc::clone(&keyrings));
            tokio::spawn(async move { keyrings.unlock_lookup(&permit, &lookup(MRN)).await.map(drop) })
        })
        .collect();
    settle_tasks().await;
    world.kek.held.send_replace(false);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(world.kek.unwraps(), 1);
    world.kek.become_(Mood::Unreachable);
    world.kek.look();
    world.clock.advance((TTL + OFFLINE).saturating_sub(Duration::from_secs(1)));
    assert_eq!(writes(&world, &keyrings).await, Ok(1));
    world.clock.advance(asked.plus(TTL + OFFLINE).since(world.clock.mono()));
    assert!(matches!(writes(&world, &keyrings).await, Err(UnlockError::Unavailable(_))));
    world.kek.become_(Mood::Denied);
    world.kek.look();
    assert!(matches!(writes(&world, &keyrings).await, Err(UnlockError::Unavailable(_))));
    assert_eq!(keyrings.cache_stats().keys, 0);
}

#[tokio::test]
async fn a_look_up_key_shows_when_it_is_due_and_no_schedule_finds_it() {
    let (world, keyrings, _) = looked_up().await;
    world.change(&keyrings, next(None), 21).await.unwrap();
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    let due: Vec<Option<Wall>> = view.lookups[0].versions.iter().map(|one| one.version.expires).collect();
    assert_eq!(due, [None, Some(Wall(NOON.0 + 365 * 86_400_000_000))]);
    let data = view.active().unwrap().id;
    world.clock.advance(DAY * 800);
    let aged = keyrings.aging(world.clock.wall(), None, 100).await.unwrap();
    let found: Vec<KeyVersionId> = aged.found.iter().map(|aging| aging.version).collect();
    assert_eq!(found, [data]);
    let counted = keyrings.inventory(&world.permit(Action::InventoryRead, "x"), None, 10).await.unwrap();
    assert_eq!(counted[0].1.len(), 3, "the data key and two versions of the look-up key");
}

#[tokio::test]
async fn a_retired_version_of_a_look_up_key_is_destroyed_like_any_other_and_the_last_live_one_is_not() {
    let (world, keyrings, first) = looked_up().await;
    let second = world.change(&keyrings, next(None), 21).await.unwrap().version.unwrap();
    let plan = || Step::ScheduleDestroy { days: 7, statement: life::Statement([1; 32]) };
    for live in [first, second] {
        let intent = 30 + u64::from(live == first);
        let refused = forbidden(world.change(&keyrings, step(live, plan()), intent).await);
        assert!(matches!(refused, Forbidden::State { state: KeyState::Active, .. }), "{refused}");
    }
    assert_eq!(tags(&world, &keyrings, "4711").await.len(), 2);
    settle_tasks().await;
    world.change(&keyrings, step(first, Step::Deactivate), 40).await.unwrap();
    world.clock.advance(33 * DAY);
    world.change(&keyrings, step(first, plan()), 41).await.unwrap();
    world.clock.advance(7 * DAY);
    world.change(&keyrings, step(first, Step::Destroy), 42).await.unwrap();
    let rows = keyrings.inner.writer.ring("default/patients".to_owned()).await.unwrap().unwrap();
    let gone = rows.keys.iter().find(|key| key.row.id == first).unwrap();
    assert!(gone.wraps.is_empty() && gone.row.state == "destroyed");
    keyrings.catch_up().await.unwrap();
    for keyrings in [&keyrings, &world.admitted().await] {
        assert_eq!(writes(&world, keyrings).await, Ok(2));
        assert_eq!(roles(keyrings).await[0], (1, KeyState::Destroyed, None));
    }
    let third = world.change(&keyrings, next(None), 43).await.unwrap().keyring;
    assert_eq!(third.lookups[0].current().unwrap().number, 3, "a number is never used twice");
}

#[tokio::test]
async fn who_may_deactivate_may_retire_a_suspended_version_of_a_look_up_key_and_not_bring_it_back() {
    let (world, keyrings, first) = looked_up().await;
    world.change(&keyrings, next(None), 21).await.unwrap();
    world.change(&keyrings, step(first, Step::Suspend), 22).await.unwrap();
    let log = world.log(&keyrings);
    let authority = || world.authority(Action::KeyDeactivate, "patients");
    let resumed = keyrings.apply(&step(first, Step::Resume), &authority(), world.intent(&log).await).await;
    assert_eq!(resumed, Err(ApplyError::NotCovered));
    let rotated = keyrings.apply(&next(None), &authority(), world.intent(&log).await).await;
    assert_eq!(rotated, Err(ApplyError::NotCovered));
    keyrings.apply(&step(first, Step::Deactivate), &authority(), world.intent(&log).await).await.unwrap();
    assert_eq!(roles(&keyrings).await[0], (1, KeyState::Deactivated, None));
}
