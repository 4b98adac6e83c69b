//! The escrow as a keyring's choice: what wraps its keys then, how the choice changes, and what is never dropped.

use super::*;

fn made(name: &str, escrow: Escrow) -> Change {
    let Change::Create { name, required_context, subject_key, suite, partition_key, .. } = create(name) else {
        panic!("it is one")
    };
    let limits = KeyLimits { escrow: Some(escrow), ..KeyLimits::default() };
    Change::Create { name, required_context, subject_key, suite, partition_key, limits }
}

fn configure(limits: KeyLimits) -> Change {
    Change::Configure { keyring: name("patients"), limits }
}

fn choose(escrow: Escrow) -> Change {
    configure(KeyLimits { escrow: Some(escrow), ..KeyLimits::default() })
}

/// A store with an escrow, and `patients` with or without.
async fn world(escrow: Escrow) -> (World, Arc<Keyrings>) {
    let world = World::with_escrow();
    world.found().await.unwrap();
    let keyrings = world.admitted().await;
    world.change(&keyrings, made("patients", escrow), 10).await.unwrap();
    (world, keyrings)
}

/// `NAME vN` of every version of `patients`, look-up keys included.
async fn wraps(keyrings: &Keyrings) -> Vec<Vec<String>> {
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    let of_lookups = view.lookups.iter().flat_map(|lookup| &lookup.versions).map(|one| &one.version);
    view.versions.iter().chain(of_lookups).map(|version| version.keks.clone()).collect()
}

async fn rewrap(world: &World, keyrings: &Keyrings, intent: u64) -> RewrapStep {
    let far = world.clock.mono().plus(Duration::from_secs(3_600));
    rewrap::step(Arc::clone(&keyrings.inner), intent, None, far).await.unwrap()
}

fn lookup() -> Change {
    let change =
        LookupChange { keyring: name("patients"), name: "index/mrn".parse().unwrap(), verb: LookupVerb::Create };
    Change::Lookup(change)
}

#[tokio::test]
async fn a_keyring_without_an_escrow_needs_the_primary_alone_and_misses_nothing() {
    let (world, keyrings) = world(Escrow::No).await;
    world.escrow.as_ref().unwrap().become_(Mood::Unreachable);
    let rotate = Change::Rotate { keyring: name("patients"), trigger: Trigger::Usage, expect: None };
    world.change(&keyrings, rotate, 11).await.unwrap();
    world.change(&keyrings, lookup(), 12).await.unwrap();
    assert_eq!(wraps(&keyrings).await, [["primary v1"]; 3]);
    for keyrings in [&keyrings, &world.admitted().await] {
        assert_eq!(keyrings.missing(), []);
        let report = keyrings.wraps().await.unwrap();
        assert_eq!((report.keys, report.behind), (5, 0));
        let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
        assert_eq!(view.limits.escrow(), Escrow::No);
    }
    let refused = world.create(&keyrings, "staff", 13).await;
    assert!(
        matches!(refused, Err(ApplyError::Unavailable(_))),
        "one that asks for the escrow waits for it: {refused:?}"
    );
    world.kek.become_(Mood::Unreachable);
    world.escrow.as_ref().unwrap().become_(Mood::Good);
    let permit = world.permit(Action::Seal, "patients");
    let away = keyrings.unlock_to_seal(&permit).await.map(drop);
    assert!(matches!(away, Err(UnlockError::Unavailable(_))), "the escrow does not open it: {away:?}");
}

#[tokio::test]
async fn a_rewrapping_adds_and_drops_the_escrow_as_the_keyring_chooses() {
    let (world, keyrings) = world(Escrow::No).await;
    world.change(&keyrings, lookup(), 11).await.unwrap();
    world.change(&keyrings, choose(Escrow::Yes), 12).await.unwrap();
    assert_eq!(keyrings.wraps().await.unwrap().behind, 2);
    assert_eq!(keyrings.missing(), [("backup".parse().unwrap(), 2)]);
    let step = rewrap(&world, &keyrings, 13).await;
    assert_eq!((step.report.rewrapped, step.stopped), (2, None));
    assert_eq!(wraps(&keyrings).await, [["primary v1", "backup v1"]; 2]);
    assert_eq!(keyrings.missing(), []);
    world.change(&keyrings, choose(Escrow::No), 14).await.unwrap();
    let step = rewrap(&world, &keyrings, 15).await;
    assert_eq!((step.report.rewrapped, step.stopped), (2, None));
    for keyrings in [keyrings, world.admitted().await] {
        assert_eq!(wraps(&keyrings).await, [["primary v1"]; 2]);
        assert_eq!(keyrings.wraps().await.unwrap().behind, 0);
        let permit = world.permit(Action::Seal, "patients");
        assert!(keyrings.unlock_to_seal(&permit).await.is_ok());
    }
}

#[tokio::test]
async fn the_escrows_wrap_is_not_dropped_before_the_primary_has_opened_its_own() {
    let (world, keyrings) = world(Escrow::Yes).await;
    world.change(&keyrings, choose(Escrow::No), 11).await.unwrap();
    let both = [["primary v1", "backup v1"]];
    for mood in [Mood::Unreachable, Mood::Denied, Mood::Late, Mood::Corrupt] {
        world.kek.become_(mood);
        let step = rewrap(&world, &keyrings, 12).await;
        let stopped = step.stopped.is_some() || step.report.failed == 1;
        assert!(stopped && step.report.rewrapped == 0, "{step:?}");
        assert_eq!(wraps(&keyrings).await, both);
    }
    world.kek.become_(Mood::Good);
    keyrings.recovered(&"primary".parse().unwrap());
    assert_eq!(rewrap(&world, &keyrings, 13).await.report.rewrapped, 1);
    assert_eq!(wraps(&keyrings).await, [["primary v1"]]);
}

#[tokio::test]
async fn the_choice_of_an_escrow_stays_when_other_limits_change() {
    let (world, keyrings) = world(Escrow::No).await;
    let limits = KeyLimits { messages: Some(5), ..KeyLimits::default() };
    world.change(&keyrings, configure(limits), 11).await.unwrap();
    for keyrings in [&keyrings, &world.admitted().await] {
        let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
        assert_eq!((view.limits.messages, view.limits.escrow()), (Some(5), Escrow::No));
    }
    world.change(&keyrings, choose(Escrow::Yes), 12).await.unwrap();
    let view = keyrings.find(&name("patients")).await.unwrap().unwrap();
    assert_eq!(view.limits, KeyLimits::default());
}

#[tokio::test]
async fn by_the_escrow_alone_what_does_without_it_is_named_and_is_no_failure_and_by_another_key_it_is_one() {
    let (world, keyrings) = world(Escrow::No).await;
    world.change(&keyrings, lookup(), 11).await.unwrap();
    world.create(&keyrings, "staff", 12).await.unwrap();
    drop(keyrings);
    let escrow = Arc::clone(world.escrow.as_ref().unwrap()) as Arc<dyn Kek>;
    let keks = Keks::new(escrow, None, EventSink::new(world.events.clone()));
    let alone = Keyrings::open(world.store().await, keks, world.shared_clock(), world.settings.clone());
    alone.admit().await.unwrap();
    let proof = alone.prove(Standing::Escrow, 1, &mut |_| {}).await.unwrap();
    assert!(proof.holds(), "{proof:?}");
    assert_eq!((proof.keys, proof.asked, proof.opened, proof.unescrowed), (5, 3, 3, 2));
    assert_eq!((proof.without_escrow, proof.failures), (vec!["default/patients".to_owned()], Vec::new()));
    let proof = alone.prove(Standing::Alone, 1, &mut |_| {}).await.unwrap();
    assert!(!proof.holds(), "{proof:?}");
    assert_eq!((proof.asked, proof.opened, proof.unescrowed, proof.failures.len()), (5, 3, 0, 2));
}
