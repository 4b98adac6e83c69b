//! Two key-encryption keys: which one is asked, and when not.

use super::*;

impl World {
    async fn ready_with_escrow(names: &[&str]) -> (Self, Arc<Keyrings>) {
        let world = Self::with_escrow();
        world.found().await.unwrap();
        let keyrings = world.admitted().await;
        for (name, intent) in names.iter().zip(10..) {
            world.create(&keyrings, name, intent).await.unwrap();
        }
        world.warm(&keyrings, names).await;
        world.count_anew();
        (world, keyrings)
    }

    fn backup(&self) -> &Arc<Tempered> {
        self.escrow.as_ref().unwrap()
    }

    fn count_anew(&self) {
        self.kek.unwraps.store(0, Ordering::SeqCst);
        self.backup().unwraps.store(0, Ordering::SeqCst);
    }

    /// Unwraps of the primary and of the escrow.
    fn asked(&self) -> (usize, usize) {
        (self.kek.unwraps(), self.backup().unwraps())
    }

    fn heard(&self) -> Vec<KekEvent> {
        let mut heard = self.heard.lock().unwrap();
        std::iter::from_fn(|| heard.try_recv().ok()).collect()
    }
}

async fn unlock(world: &World, keyrings: &Keyrings, name: &str) -> Result<(), UnlockError> {
    keyrings.unlock_to_seal(&world.permit(Action::Seal, name)).await.map(drop)
}

fn why(result: Result<(), UnlockError>) -> String {
    match result {
        Err(UnlockError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_key_is_wrapped_by_both_and_the_primary_is_asked_alone_while_it_answers() {
    let (world, keyrings) = World::ready_with_escrow(&["patients"]).await;
    let image = crate::store::image(&*keyrings.inner.reader, &*keyrings.inner.writer).await.unwrap();
    assert_eq!(image.keys.len(), 3, "the store key, the pseudonym key and a data key");
    for key in &image.keys {
        let wraps = wraps::decode(&key.wraps).unwrap();
        let by: Vec<(crate::kek::WrapRole, &str)> =
            wraps.iter().map(|(role, wrap)| (*role, wrap.kek.as_str())).collect();
        assert_eq!(by, [(crate::kek::WrapRole::Primary, "primary"), (crate::kek::WrapRole::Escrow, "backup")]);
        assert_eq!(key.row.parent, "kek:primary");
    }
    assert_eq!(
        keyrings.find(&"patients".parse().unwrap()).await.unwrap().unwrap().versions[0].keks,
        ["primary v1", "backup v1"]
    );
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!((world.asked(), keyrings.failovers()), ((1, 0), 0));
    assert_eq!(keyrings.missing(), []);
}

#[tokio::test]
async fn a_primary_that_is_away_or_late_is_stood_in_for_and_one_event_says_so() {
    for mood in [Mood::Unreachable, Mood::Late] {
        let (world, keyrings) = World::ready_with_escrow(&["a", "b", "c"]).await;
        world.kek.become_(mood);
        unlock(&world, &keyrings, "a").await.unwrap();
        unlock(&world, &keyrings, "b").await.unwrap();
        assert_eq!((world.asked(), keyrings.failovers()), ((2, 2), 2), "the primary is asked first each time");
        let heard = world.heard();
        assert!(
            matches!(&heard[..], [KekEvent::FailedOver { kek, to, .. }] if kek.as_str() == "primary" && to.as_str() == "backup"),
            "{heard:?}"
        );
        world.kek.become_(Mood::Good);
        unlock(&world, &keyrings, "c").await.unwrap();
        assert_eq!((world.asked(), keyrings.failovers()), ((3, 2), 2), "back to the primary");
        world.kek.become_(mood);
        world.clock.advance(TTL);
        unlock(&world, &keyrings, "a").await.unwrap();
        assert_eq!(world.heard().len(), 1, "a new outage is told anew");
    }
}

/// The primary hangs: half of the time is the escrow's.
#[tokio::test]
async fn a_primary_that_hangs_leaves_the_escrow_half_of_the_time() {
    let (world, keyrings) = World::ready_with_escrow(&["patients"]).await;
    world.kek.held.send_replace(true);
    let permit = world.permit(Action::Seal, "patients");
    let waiting = Arc::clone(&keyrings);
    let task = tokio::spawn(async move { waiting.unlock_to_seal(&permit).await.map(drop) });
    settle_tasks().await;
    world.clock.advance(Duration::from_millis(2_600));
    settle_tasks().await;
    world.clock.advance(Duration::from_millis(100));
    task.await.unwrap().unwrap();
    assert_eq!(keyrings.failovers(), 1);
}

#[tokio::test]
async fn a_primary_that_refuses_is_not_stood_in_for_even_if_it_goes_away_afterwards() {
    let (world, keyrings) = World::ready_with_escrow(&["a", "b"]).await;
    unlock(&world, &keyrings, "a").await.unwrap();
    world.kek.become_(Mood::Denied);
    assert!(why(unlock(&world, &keyrings, "b").await).contains("primary refused"));
    assert_eq!((keyrings.cache_stats().keys, keyrings.cache_stats().denied), (0, 1));
    assert!(keyrings.refused(world.kek.name()));
    world.kek.become_(Mood::Unreachable);
    let told = why(unlock(&world, &keyrings, "a").await);
    assert!(told.contains("refused before it went away"), "{told}");
    assert_eq!((world.backup().unwraps(), keyrings.failovers(), world.heard()), (0, 0, vec![]));
    world.kek.become_(Mood::Good);
    unlock(&world, &keyrings, "a").await.unwrap();
    world.kek.become_(Mood::Unreachable);
    unlock(&world, &keyrings, "b").await.unwrap();
    assert_eq!(keyrings.failovers(), 1, "it opened again, so its next outage is an outage");
}

#[tokio::test]
async fn a_refusal_that_a_canary_meets_counts_as_one_that_a_request_meets() {
    let (world, keyrings) = World::ready_with_escrow(&["patients"]).await;
    keyrings.evict(world.kek.name());
    world.kek.become_(Mood::Unreachable);
    assert!(unlock(&world, &keyrings, "patients").await.is_err());
    assert_eq!(world.backup().unwraps(), 0);
}

/// Nobody may have called in between: a canary that opens ends an outage and a refusal as an unwrap does.
#[tokio::test]
async fn a_canary_that_opens_again_ends_a_refusal_and_an_outage() {
    let (world, keyrings) = World::ready_with_escrow(&["a", "b"]).await;
    world.kek.become_(Mood::Unreachable);
    unlock(&world, &keyrings, "a").await.unwrap();
    keyrings.recovered(world.kek.name());
    unlock(&world, &keyrings, "b").await.unwrap();
    assert_eq!(world.heard().len(), 2, "two outages are told");
    keyrings.evict(world.kek.name());
    keyrings.recovered(world.backup().name());
    assert!(unlock(&world, &keyrings, "a").await.is_err(), "the escrow's recovery is its own");
    keyrings.recovered(world.kek.name());
    assert!(!keyrings.refused(world.kek.name()));
    unlock(&world, &keyrings, "a").await.unwrap();
}

#[tokio::test]
async fn a_refusal_drops_what_was_given_by_the_one_that_refuses_and_in_its_stead() {
    let (world, keyrings) = World::ready_with_escrow(&["a", "b"]).await;
    unlock(&world, &keyrings, "a").await.unwrap();
    world.kek.become_(Mood::Unreachable);
    unlock(&world, &keyrings, "b").await.unwrap();
    keyrings.evict(world.backup().name());
    assert_eq!(keyrings.cache_stats().keys, 1, "the escrow refused: what the primary gave stays");
    unlock(&world, &keyrings, "a").await.unwrap();
    unlock(&world, &keyrings, "b").await.unwrap();
    keyrings.evict(world.kek.name());
    assert_eq!(keyrings.cache_stats().keys, 0, "the primary refused: nothing it wraps serves on");
}

#[tokio::test]
async fn with_both_away_nothing_is_unlocked_and_both_are_named() {
    let (world, keyrings) = World::ready_with_escrow(&["patients"]).await;
    world.kek.become_(Mood::Unreachable);
    for mood in [Mood::Unreachable, Mood::Denied] {
        world.backup().become_(mood);
        let told = why(unlock(&world, &keyrings, "patients").await);
        assert!(told.contains("primary is unreachable") && told.contains("backup"), "{told}");
    }
    assert!(!keyrings.refused(world.backup().name()), "the escrow's refusal is its own");
    world.backup().become_(Mood::Good);
    unlock(&world, &keyrings, "patients").await.unwrap();
}

#[tokio::test]
async fn no_key_is_made_while_one_of_them_is_away_and_the_refusal_names_it() {
    let (world, keyrings) = World::ready_with_escrow(&[]).await;
    for (kek, name) in [(&world.kek, "primary"), (world.backup(), "backup")] {
        for mood in [Mood::Unreachable, Mood::Denied, Mood::Confused] {
            kek.become_(mood);
            let refused = world.create(&keyrings, "patients", 10).await;
            assert!(matches!(&refused, Err(ApplyError::Unavailable(why)) if why.contains(name)), "{refused:?}");
            kek.become_(Mood::Good);
        }
    }
    assert_eq!(keyrings.head().unwrap().changes, 1, "nothing was written");
    let world = World::with_escrow();
    world.backup().become_(Mood::Unreachable);
    assert!(matches!(world.found().await, Err(ApplyError::Unavailable(why)) if why.contains("backup")));
}

/// Somebody who can write rows and could seal them still cannot pass one wrap off as the other.
#[tokio::test]
async fn wraps_that_changed_their_roles_do_not_open() {
    let (world, keyrings) = World::ready_with_escrow(&["patients"]).await;
    let open = keyrings.inner.opened().unwrap();
    let ring = keyrings.inner.ring(&open, &name("patients")).await.unwrap().unwrap();
    let version = &ring.versions[0];
    let (clock, deadline) = (world.shared_clock(), world.soon());
    let [(primary, by_primary), (escrow, by_backup)] = &version.wraps[..] else { panic!("two wraps") };
    let swapped = [(*escrow, by_primary.clone()), (*primary, by_backup.clone())];
    let refused = keyrings.inner.keks.unwrap(&clock, &swapped, &version.owner, deadline).await.err();
    assert_eq!(refused, Some(keks::NotGiven::BadWrap("primary".parse().unwrap())));
    world.kek.become_(Mood::Unreachable);
    let refused = keyrings.inner.keks.unwrap(&clock, &swapped, &version.owner, deadline).await.err();
    assert!(
        matches!(&refused, Some(keks::NotGiven::Away(why)) if why.contains("the wrap by backup does not open")),
        "an outage of the primary does not turn into a damaged key: {refused:?}"
    );
    keyrings.inner.keks.unwrap(&clock, &version.wraps, &version.owner, deadline).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_store_opens_with_the_escrow_alone_at_start_and_as_the_only_one_configured() {
    let (mut world, _) = World::ready_with_escrow(&["patients"]).await;
    world.kek.become_(Mood::Unreachable);
    let keyrings = world.admitted().await;
    assert!(keyrings.failovers() >= 2, "the store key and the pseudonym key");
    unlock(&world, &keyrings, "patients").await.unwrap();
    // The primary is lost for good: the escrow becomes the primary.
    world.kek = world.escrow.take().unwrap();
    let keyrings = world.admitted().await;
    unlock(&world, &keyrings, "patients").await.unwrap();
    assert_eq!((keyrings.missing(), keyrings.failovers()), (vec![], 0));
}

#[tokio::test]
async fn an_escrow_that_was_configured_later_is_missing_in_the_older_keys_and_not_in_the_newer() {
    let mut world = World::new();
    world.found().await.unwrap();
    let keyrings = world.admitted().await;
    world.create(&keyrings, "old", 10).await.unwrap();
    world.escrow = World::with_escrow().escrow;
    let keyrings = world.admitted().await;
    assert_eq!(keyrings.health(), KeyringHealth::Open);
    assert_eq!(keyrings.missing(), [("backup".parse().unwrap(), 3)]);
    world.create(&keyrings, "new", 11).await.unwrap();
    assert_eq!(keyrings.missing(), [("backup".parse().unwrap(), 3)]);
    world.kek.become_(Mood::Unreachable);
    unlock(&world, &keyrings, "new").await.unwrap();
    assert!(why(unlock(&world, &keyrings, "old").await).contains("primary is unreachable"));
    assert_eq!(world.admitted_missing().await, [("backup".parse().unwrap(), 3)]);
}

impl World {
    /// What a restart counts, with the primary back.
    async fn admitted_missing(&self) -> Vec<(KekName, usize)> {
        self.kek.become_(Mood::Good);
        self.admitted().await.missing()
    }
}

#[tokio::test]
async fn a_development_escrow_does_not_open_a_production_store() {
    let mut world = World::with_escrow();
    world.settings.environment = Environment::Production;
    world.kek.hardware.store(true, Ordering::SeqCst);
    let refused = world.found().await;
    assert!(
        matches!(&refused, Err(ApplyError::Refused(why)) if why.contains("backup is for development")),
        "{refused:?}"
    );
}
