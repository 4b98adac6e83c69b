//! Founding and admission: which store may serve under which configuration.

use super::*;

#[tokio::test]
async fn a_founded_store_is_admitted_with_the_genesis_it_was_founded_with() {
    let world = World::new();
    let founded = world.found().await.unwrap();
    let keyrings = world.open().await;
    assert_eq!(keyrings.admit().await.unwrap(), founded);
    assert_eq!((founded.environment, founded.created), (Environment::Development, NOON));
    assert_eq!(keyrings.health(), KeyringHealth::Open);
    assert_eq!(keyrings.head().unwrap().changes, 1);
    assert_eq!(keyrings.admit().await.unwrap(), founded, "admitting twice is admitting once");
    assert_ne!(World::new().found().await.unwrap().store, founded.store);
}

#[tokio::test]
async fn a_store_is_founded_once() {
    let world = World::new();
    let first = world.found().await.unwrap();
    assert_eq!(world.found().await, Err(ApplyError::Founded));
    assert_eq!(world.readmit().await.unwrap(), first);
}

#[tokio::test]
async fn an_empty_store_is_not_admitted() {
    assert_eq!(World::new().readmit().await, Err(ApplyError::NotFounded));
}

#[tokio::test]
async fn until_a_store_is_admitted_everything_is_unavailable_and_says_why() {
    let (world, _) = World::with_keyrings(&["patients"]).await;
    let keyrings = world.open().await;
    assert_eq!(keyrings.health(), KeyringHealth::Waiting("waiting for the key-encryption key primary".to_owned()));
    world.kek.become_(Mood::Unreachable);
    let refused = keyrings.admit().await;
    assert!(matches!(&refused, Err(ApplyError::Unavailable(why)) if why.contains("unreachable")), "{refused:?}");
    assert!(matches!(keyrings.health(), KeyringHealth::Waiting(why) if why.contains("primary is unreachable")));
    let name: KeyringName = "patients".parse().unwrap();
    let (seal, open) = (world.permit(Action::Seal, "patients"), world.permit(Action::Open, "patients"));
    assert!(matches!(keyrings.unlock_to_seal(&seal).await.err(), Some(UnlockError::Unavailable(_))));
    let version = KeyVersionId([0; 8]);
    assert!(matches!(keyrings.unlock_opening(&open, version).await.err(), Some(UnlockError::Unavailable(_))));
    assert!(matches!(
        keyrings.list(&world.permit(Action::KeyringList, "x"), None, 9).await,
        Err(UnlockError::Unavailable(_))
    ));
    assert!(matches!(keyrings.settle(&name, 10).await, Err(UnlockError::Unavailable(_))));
    assert!(matches!(world.create(&keyrings, "more", 99).await, Err(ApplyError::Unavailable(_))));
    assert!(matches!(keyrings.find(&name).await, Err(UnlockError::Unavailable(_))));
    assert_eq!(keyrings.pseudonym(&Tenant::default(), "p1"), None);
    world.kek.become_(Mood::Good);
    keyrings.admit().await.unwrap();
    assert!(keyrings.unlock_to_seal(&seal).await.is_ok());
}

#[tokio::test]
async fn a_development_kek_neither_founds_nor_opens_a_production_store() {
    let mut world = World::new();
    world.settings.environment = Environment::Production;
    assert!(matches!(world.found().await, Err(ApplyError::Refused(why)) if why.contains("primary is for development")));
    world.kek.hardware.store(true, Ordering::SeqCst);
    world.found().await.unwrap();
    world.readmit().await.unwrap();
    world.kek.hardware.store(false, Ordering::SeqCst);
    assert!(matches!(world.readmit().await, Err(ApplyError::Refused(_))));
}

#[tokio::test]
async fn the_environment_of_the_configuration_must_be_that_of_the_store() {
    let mut world = World::new();
    world.kek.hardware.store(true, Ordering::SeqCst);
    world.found().await.unwrap();
    world.settings.environment = Environment::Production;
    let refused = world.readmit().await;
    assert!(
        matches!(&refused, Err(ApplyError::Refused(why)) if why.contains("is for development and the configuration says production")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn production_refuses_a_key_that_was_marked_in_development() {
    let mut world = World::new();
    world.kek.hardware.store(true, Ordering::SeqCst);
    world.settings.environment = Environment::Production;
    world.found().await.unwrap();
    let keyrings = world.admitted().await;
    let (inner, open) = (&keyrings.inner, keyrings.inner.opened().unwrap());
    let (id, name) = (KeyVersionId([9; 8]), "default/smuggled".to_owned());
    let key = draft::NewKey {
        store: open.system.genesis.store,
        environment: Environment::Development,
        id,
        owner: name.clone(),
        purpose: "data",
        keyring: name,
        created: NOON,
        suite: Some(Suite::Xaes),
        epoch: None,
        lookup: None,
        escrow: Escrow::Yes,
        life: None,
    };
    let (_, key) = key.make(&world.keks(), world.soon()).await.unwrap();
    let mut plan =
        plan::plan(&world.order(create("smuggled"), 5), None, &life::Facts::default(), inner.now(&open)).unwrap();
    plan.ring.add(key);
    let draft =
        draft::Draft { kind: plan.kind, at: NOON, intent: None, rings: vec![plan.ring], partitions: Vec::new() };
    let drafted = draft.seal(&open.system.rows, open.head()).unwrap();
    inner.writer.commit(drafted.writes).await.unwrap();
    let refused = world.readmit().await;
    assert!(matches!(&refused, Err(ApplyError::Refused(why)) if why.contains("0909090909090909")), "{refused:?}");
}

#[tokio::test]
async fn another_kek_of_the_same_name_does_not_open_the_store() {
    let (mut world, _) = World::ready().await;
    world.kek = software(&world.dir.path().join("other"), "primary");
    let refused = world.readmit().await;
    assert!(
        matches!(&refused, Err(ApplyError::Tampered(why)) if why.contains("primary is not the key-encryption key")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_kek_of_another_name_is_told_which_one_the_store_needs() {
    let (mut world, _) = World::ready().await;
    world.kek = software(&world.dir.path().join("kek"), "secondary");
    let refused = world.readmit().await;
    assert!(
        matches!(&refused, Err(ApplyError::Refused(why)) if why.contains("wrapped by primary v1, not by secondary")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn pseudonyms_are_stable_for_a_tenant_and_differ_between_tenants_subjects_and_stores() {
    let (world, keyrings) = World::ready().await;
    let (a, b): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
    let first = keyrings.pseudonym(&a, "p1").unwrap();
    assert_eq!(keyrings.pseudonym(&a, "p1"), Some(first));
    assert_eq!(world.admitted().await.pseudonym(&a, "p1"), Some(first), "also after a restart");
    assert_ne!(keyrings.pseudonym(&b, "p1"), Some(first));
    assert_ne!(keyrings.pseudonym(&a, "p2"), Some(first));
    let (_other, elsewhere) = World::ready().await;
    assert_ne!(elsewhere.pseudonym(&a, "p1"), Some(first));
}

#[tokio::test]
async fn keyrings_that_were_shut_stay_shut_whatever_ends_later() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let permit = world.permit(Action::Seal, "patients");
    drop(keyrings.unlock_to_seal(&permit).await.unwrap());
    world.kek.held.send_replace(true);
    let change = tokio::spawn(change::carry_out(Arc::clone(&keyrings.inner), world.order(create("late"), 30)));
    settle_tasks().await;
    keyrings.shut("the log is that of another store");
    world.kek.held.send_replace(false);
    change.await.unwrap().unwrap();
    assert_eq!(keyrings.health(), KeyringHealth::Waiting("the log is that of another store".to_owned()));
    assert!(matches!(keyrings.admit().await, Err(ApplyError::Unavailable(why)) if why.contains("another store")));
    assert!(matches!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::Unavailable(_))));
    assert_eq!(keyrings.cache_stats().keys, 0);
}
