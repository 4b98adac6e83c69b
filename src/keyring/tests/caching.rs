//! One KEK call a key a lifetime, whoever asks, whoever goes away, and no key past its time.

use std::sync::Weak;

use super::*;
use crate::keyring::cache::{Look, Slot};

async fn unlock(world: &World, keyrings: &Keyrings, name: &str) -> Result<(), UnlockError> {
    keyrings.unlock_to_seal(&world.permit(Action::Seal, name)).await.map(drop)
}

/// A task that unlocks, and has got as far as it can.
async fn unlocking(
    world: &World,
    keyrings: &Arc<Keyrings>,
    deadline: Deadline,
) -> tokio::task::JoinHandle<Result<(), UnlockError>> {
    let permit = world.permit_until(Action::Seal, "patients", &[], deadline);
    let keyrings = Arc::clone(keyrings);
    let task = tokio::spawn(async move { keyrings.unlock_to_seal(&permit).await.map(drop) });
    settle_tasks().await;
    task
}

async fn slot(keyrings: &Keyrings, name: &str, now: crate::clock::Mono) -> Option<Weak<Slot>> {
    let id = keyrings.find(&name.parse().unwrap()).await.unwrap().unwrap().versions[0].id;
    match keyrings.inner.cache.look(id, now) {
        Some(Look::Fresh(slot) | Look::Due(slot)) => Some(Arc::downgrade(&slot)),
        Some(Look::Old(_)) | None => None,
    }
}

#[tokio::test]
async fn many_waiters_for_one_key_cost_one_call() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.held.send_replace(true);
    let mut waiters = Vec::new();
    for _ in 0..50 {
        waiters.push(unlocking(&world, &keyrings, world.soon()).await);
    }
    world.kek.held.send_replace(false);
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!(world.kek.unwraps(), 1);
    let stats = keyrings.cache_stats();
    assert_eq!((stats.misses, stats.hits, stats.unwraps, stats.keys), (50, 1, 1, 1));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_flight_to_the_others() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.held.send_replace(true);
    let first = unlocking(&world, &keyrings, world.soon()).await;
    let second = unlocking(&world, &keyrings, world.soon()).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.kek.held.send_replace(false);
    second.await.unwrap().unwrap();
    assert_eq!(world.kek.unwraps(), 1);
}

#[tokio::test]
async fn a_flight_that_everybody_left_still_lands_in_the_cache() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.held.send_replace(true);
    let only = unlocking(&world, &keyrings, world.soon()).await;
    only.abort();
    assert!(only.await.unwrap_err().is_cancelled());
    world.kek.held.send_replace(false);
    settle_tasks().await;
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().hits), (1, 1));
}

#[tokio::test]
async fn a_failed_flight_fails_all_its_waiters_and_is_not_remembered() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.held.send_replace(true);
    let waiters = [unlocking(&world, &keyrings, world.soon()).await, unlocking(&world, &keyrings, world.soon()).await];
    world.kek.become_(Mood::Unreachable);
    world.kek.held.send_replace(false);
    for waiter in waiters {
        assert!(matches!(waiter.await.unwrap(), Err(UnlockError::Unavailable(_))));
    }
    assert_eq!(world.kek.unwraps(), 1);
    world.kek.become_(Mood::Good);
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().failures), (2, 1));
}

#[tokio::test]
async fn a_key_lives_its_time_from_the_unwrapping_however_often_it_is_used() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    for _ in 0..3 {
        unlock(&world, &keyrings, "patients").await.unwrap();
        world.clock.advance(TTL / 6);
    }
    assert_eq!(world.kek.unwraps(), 1);
    world.clock.advance(TTL / 2);
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!(world.kek.unwraps(), 2);
    world.clock.step_wall(Wall(NOON.0 * 2));
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!(world.kek.unwraps(), 2, "the wall clock ends no key");
}

#[tokio::test]
async fn the_time_of_a_key_counts_from_before_the_call() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let patient = Deadline(world.clock.mono().plus(TTL * 3));
    world.kek.held.send_replace(true);
    let waiter = unlocking(&world, &keyrings, patient).await;
    world.clock.advance(TTL - Duration::from_secs(1));
    world.kek.held.send_replace(false);
    waiter.await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(1));
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!(world.kek.unwraps(), 2);
}

#[tokio::test]
async fn a_sweep_drops_the_last_reference_to_an_expired_key() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    unlock(&world, &keyrings, "patients").await.unwrap();
    let weak = slot(&keyrings, "patients", world.clock.mono()).await.unwrap();
    keyrings.sweep();
    assert!(weak.upgrade().is_some());
    world.clock.advance(TTL);
    assert!(slot(&keyrings, "patients", world.clock.mono()).await.is_none(), "not used any more");
    keyrings.sweep();
    assert!(weak.upgrade().is_none(), "and wiped by the drop of its locked slots");
    assert_eq!((keyrings.cache_stats().keys, keyrings.cache_stats().expired), (0, 1));
}

#[tokio::test]
async fn a_key_in_use_finishes_after_its_eviction() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit(Action::Seal, "patients");
    let key = keyrings.unlock_to_seal(&permit).await.unwrap();
    keyrings.evict(world.kek.name());
    assert_eq!(keyrings.cache_stats().keys, 0);
    key.seal(&[1; 12], &[2; 24], b"", b"still", &mut Vec::new()).unwrap();
}

#[tokio::test]
async fn the_cache_holds_no_more_keys_than_it_is_set_to_and_drops_the_one_unused_longest() {
    let (mut world, _) = World::with_keyrings(&["a", "b", "c"]).await;
    world.settings.cache_keys = 2;
    let keyrings = world.admitted().await;
    world.kek.unwraps.store(0, Ordering::SeqCst);
    for name in ["a", "b", "a", "c", "a"] {
        unlock(&world, &keyrings, name).await.unwrap();
        world.clock.advance(Duration::from_secs(2));
    }
    assert_eq!((world.kek.unwraps(), keyrings.cache_stats().keys, keyrings.cache_stats().displaced), (3, 2, 1));
    unlock(&world, &keyrings, "b").await.unwrap();
    assert_eq!(world.kek.unwraps(), 4);
}

#[tokio::test]
async fn a_refusal_of_the_kek_drops_every_key_it_wrapped_and_an_outage_drops_none() {
    let (world, keyrings) = World::with_keyrings(&["a", "b", "c"]).await;
    unlock(&world, &keyrings, "a").await.unwrap();
    unlock(&world, &keyrings, "b").await.unwrap();
    world.kek.become_(Mood::Unreachable);
    assert!(unlock(&world, &keyrings, "c").await.is_err());
    unlock(&world, &keyrings, "a").await.unwrap();
    world.kek.become_(Mood::Denied);
    assert!(unlock(&world, &keyrings, "c").await.is_err());
    assert_eq!((keyrings.cache_stats().keys, keyrings.cache_stats().denied), (0, 2));
    assert!(
        matches!(unlock(&world, &keyrings, "a").await, Err(UnlockError::Unavailable(why)) if why.contains("refused"))
    );
    assert!(keyrings.pseudonym(&Tenant::default(), "p").is_some(), "the refusals are still recorded by subject");
}

#[tokio::test]
async fn a_key_whose_unwrapping_a_refusal_overtook_is_not_cached() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.held.send_replace(true);
    let waiter = unlocking(&world, &keyrings, world.soon()).await;
    keyrings.evict(world.kek.name());
    world.kek.held.send_replace(false);
    assert!(matches!(waiter.await.unwrap(), Err(UnlockError::Unavailable(_))));
    assert_eq!(keyrings.cache_stats().keys, 0);
}

#[tokio::test]
async fn a_waiter_leaves_at_its_own_deadline_and_the_flight_goes_on() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let now = world.clock.mono();
    world.kek.held.send_replace(true);
    let patient = unlocking(&world, &keyrings, Deadline(now.plus(Duration::from_secs(20)))).await;
    let hasty = unlocking(&world, &keyrings, Deadline(now.plus(Duration::from_secs(1)))).await;
    world.clock.advance(Duration::from_secs(2));
    assert!(matches!(hasty.await.unwrap(), Err(UnlockError::Unavailable(_))));
    world.kek.held.send_replace(false);
    patient.await.unwrap().unwrap();
    assert_eq!(world.kek.unwraps(), 1);
}

#[tokio::test]
async fn a_waiter_with_more_time_than_the_one_who_started_the_flight_starts_another() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let now = world.clock.mono();
    world.kek.held.send_replace(true);
    let hasty = unlocking(&world, &keyrings, Deadline(now.plus(Duration::from_secs(1)))).await;
    let patient = unlocking(&world, &keyrings, Deadline(now.plus(Duration::from_secs(20)))).await;
    world.clock.advance(Duration::from_secs(2));
    assert!(hasty.await.unwrap().is_err());
    world.kek.become_(Mood::LateOnce);
    world.kek.held.send_replace(false);
    patient.await.unwrap().unwrap();
    assert_eq!(world.kek.unwraps(), 2);
}

#[tokio::test]
async fn a_kek_that_is_late_for_everybody_is_not_asked_again_by_the_same_waiter() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.kek.become_(Mood::Late);
    assert!(matches!(unlock(&world, &keyrings, "patients").await, Err(UnlockError::Unavailable(_))));
    assert_eq!(world.kek.unwraps(), 1);
}

#[tokio::test]
async fn a_key_whose_state_changes_fails_its_own_unwrapping_and_no_other() {
    let (world, keyrings) = World::with_keyrings(&["a", "b"]).await;
    let id = keyrings.find(&name("a")).await.unwrap().unwrap().versions[0].id;
    world.kek.held.send_replace(true);
    let unlock = |keyring: &str| {
        let (keyrings, permit) = (Arc::clone(&keyrings), world.permit(Action::Seal, keyring));
        tokio::spawn(async move { keyrings.unlock_to_seal(&permit).await.map(drop) })
    };
    let (one, two) = (unlock("a"), unlock("b"));
    settle_tasks().await;
    assert_eq!(world.kek.unwraps(), 2, "both are on their way");
    keyrings.inner.cache.evict_version(id);
    world.kek.held.send_replace(false);
    let refused = one.await.unwrap();
    assert!(matches!(&refused, Err(UnlockError::Unavailable(why)) if why.contains("state of this key")), "{refused:?}");
    assert_eq!(two.await.unwrap(), Ok(()));
}
