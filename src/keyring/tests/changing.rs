//! Changes to keys: once, whole, under an authority, and visible only when durable.

use super::*;

#[tokio::test]
async fn a_created_keyring_is_there_at_once_and_after_a_restart() {
    let (world, keyrings) = World::ready().await;
    let made = world.create(&keyrings, "north/patients", 10).await.unwrap().keyring;
    assert_eq!((made.name.clone(), made.generation, made.created), (name("north/patients"), 1, NOON));
    assert_eq!(
        (made.required_context.clone(), made.subject_key.clone()),
        (vec!["patient".to_owned()], Some("patient".to_owned()))
    );
    let [version] = made.versions.as_slice() else { panic!("one version") };
    assert_eq!((version.state, version.suite, version.created), (KeyState::Active, Some(Suite::XaesCommitted), NOON));
    assert_eq!(version.keks, ["primary v1"]);
    for keyrings in [Arc::clone(&keyrings), world.admitted().await] {
        assert_eq!(*keyrings.find(&made.name).await.unwrap().unwrap(), made);
        assert_eq!(*keyrings.locate(version.id).await.unwrap().unwrap(), made);
        assert_eq!(
            keyrings.list(&world.permit(Action::KeyringList, "x"), None, 100).await.unwrap(),
            [Arc::new(made.clone())]
        );
        assert_eq!(keyrings.head().unwrap().changes, 2);
    }
}

#[tokio::test]
async fn one_intent_is_carried_out_once() {
    let (world, keyrings) = World::ready().await;
    let first = world.create(&keyrings, "patients", 10).await.unwrap();
    assert_eq!(world.create(&keyrings, "patients", 10).await.unwrap().keyring, first.keyring);
    let restarted = world.admitted().await;
    assert_eq!(world.create(&restarted, "patients", 10).await.unwrap().keyring, first.keyring);
    assert_eq!(restarted.head().unwrap().changes, 2);
    assert_eq!(world.create(&restarted, "patients", 11).await, Err(ApplyError::Exists(name("patients"))));
}

#[tokio::test]
async fn settling_tells_a_change_that_happened_from_one_that_did_not() {
    let (world, keyrings) = World::ready().await;
    world.create(&keyrings, "patients", 10).await.unwrap();
    for keyrings in [keyrings, world.admitted().await] {
        assert_eq!(keyrings.settle(&name("patients"), 10).await.unwrap().unwrap().name, name("patients"));
        assert_eq!(keyrings.settle(&name("patients"), 11).await, Ok(None), "another intent made it");
        assert_eq!(keyrings.settle(&name("staff"), 10).await, Ok(None));
    }
}

#[tokio::test]
async fn a_change_whose_caller_went_away_is_finished() {
    let (world, keyrings) = World::ready().await;
    world.kek.held.send_replace(true);
    let work = change::carry_out(Arc::clone(&keyrings.inner), world.order(create("patients"), 10));
    let caller = tokio::spawn(async move { tokio::spawn(work).await });
    settle_tasks().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    world.kek.held.send_replace(false);
    // The next change takes its turn behind the abandoned one.
    world.create(&keyrings, "staff", 11).await.unwrap();
    assert!(keyrings.settle(&name("patients"), 10).await.unwrap().is_some());
}

#[tokio::test]
async fn changes_at_the_same_time_all_happen() {
    let (world, keyrings) = World::ready().await;
    let names: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let all = names.iter().zip(10..).map(|(name, intent)| {
        tokio::spawn(change::carry_out(Arc::clone(&keyrings.inner), world.order(create(name), intent)))
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(keyrings.head().unwrap().changes, 13);
    assert_eq!(
        world.admitted().await.list(&world.permit(Action::KeyringList, "x"), None, 100).await.unwrap().len(),
        12
    );
}

#[tokio::test]
async fn two_sidecars_on_one_store_take_turns_and_one_name_is_made_once() {
    let (world, one) = World::ready().await;
    let two = world.admitted().await;
    world.create(&one, "a", 10).await.unwrap();
    world.create(&two, "b", 20).await.unwrap();
    assert!(two.find(&name("a")).await.unwrap().is_some(), "read again after the conflict");
    let (first, second) = tokio::join!(world.create(&one, "c", 11), world.create(&two, "c", 21));
    let outcomes = [first.map(drop), second.map(drop)];
    assert!(outcomes.contains(&Ok(())) && outcomes.contains(&Err(ApplyError::Exists(name("c")))), "{outcomes:?}");
    let restarted = world.admitted().await;
    assert_eq!(restarted.head().unwrap().changes, 4);
}

#[tokio::test]
async fn an_edit_found_during_a_change_stops_it() {
    let (world, one) = World::ready().await;
    let two = world.admitted().await;
    world.create(&two, "b", 20).await.unwrap();
    world.edit("UPDATE keys SET state = 'destroyed' WHERE keyring = 'default/b'");
    assert!(matches!(world.create(&one, "a", 10).await, Err(ApplyError::Tampered(why)) if why.contains("default/b")));
}

#[tokio::test]
async fn a_key_that_the_kek_does_not_give_back_is_never_stored() {
    for mood in [Mood::Confused, Mood::Unreachable, Mood::Denied, Mood::Late] {
        let (world, keyrings) = World::ready().await;
        world.kek.become_(mood);
        assert!(matches!(world.create(&keyrings, "patients", 10).await, Err(ApplyError::Unavailable(_))));
        world.kek.become_(Mood::Good);
        assert_eq!(keyrings.find(&name("patients")).await, Ok(None));
        assert_eq!(world.admitted().await.head().unwrap().changes, 1);
        world.create(&keyrings, "patients", 11).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_is_applied_under_a_recorded_intent_and_named_by_it() {
    let (world, keyrings) = World::ready().await;
    let log = world.log(&keyrings);
    let covered = world.authority(Action::KeyringCreate, "patients");
    let intent = world.intent(&log).await;
    let index = intent.index();
    let applied = keyrings.apply(&create("patients"), &covered, intent).await.unwrap();
    assert_eq!(*keyrings.find(&name("patients")).await.unwrap().unwrap(), applied.keyring);
    assert!(keyrings.settle(&name("patients"), index).await.unwrap().is_some());
    let other = world.authority(Action::KeyringCreate, "staff");
    let intent = world.intent(&log).await;
    assert_eq!(keyrings.apply(&create("more"), &other, intent).await, Err(ApplyError::NotCovered));
    let intent = world.intent(&log).await;
    assert_eq!(keyrings.apply(&create("patients"), &covered, intent).await, Err(ApplyError::Exists(name("patients"))));
    assert_eq!(keyrings.head().unwrap().changes, 2);
}

#[tokio::test]
async fn founding_authority_covers_the_creation_of_its_own_keyring_only() {
    let (world, _) = World::ready().await;
    let of = |authority: &Authority, keyring: &str| plan::covered(&create(keyring), authority).map(drop);
    let authority = world.authority(Action::KeyringCreate, "patients");
    assert_eq!(of(&authority, "patients"), Ok(()));
    assert_eq!(of(&authority, "staff"), Err(ApplyError::NotCovered));
    assert_eq!(of(&authority, "north/patients"), Err(ApplyError::NotCovered));
}

#[test]
fn a_keyring_that_no_value_could_satisfy_is_refused() {
    let with = |required: &[&str], subject: Option<&str>| {
        plan::check(&Change::Create {
            name: name("patients"),
            required_context: required.iter().map(|key| (*key).to_owned()).collect(),
            subject_key: subject.map(str::to_owned),
            suite: Suite::Xaes,
            partition_key: None,
            limits: KeyLimits::default(),
        })
    };
    assert_eq!(with(&["patient", "path"], Some("patient")), Ok(()));
    assert_eq!(with(&[], None), Ok(()));
    for (required, subject) in [
        (&["a", "a"][..], None),
        (&[""], None),
        (&["kw.keyring"], None),
        (&["a"], Some("b")),
        (&[&"x".repeat(256)], None),
    ] {
        assert!(matches!(with(required, subject), Err(ApplyError::Invalid(_))), "{required:?}");
    }
    let many: Vec<String> = (0..63).map(|n| format!("k{n}")).collect();
    assert!(with(&many.iter().map(String::as_str).collect::<Vec<_>>(), None).is_err());
}

#[test]
fn a_key_id_that_is_taken_is_drawn_again() {
    let refused = std::cell::RefCell::new(Vec::new());
    let id = change::fresh_id(|id| {
        refused.borrow_mut().push(id);
        refused.borrow().len() < 3
    });
    assert_eq!(refused.borrow().last(), id.ok().as_ref());
    assert_eq!(refused.borrow().len(), 3);
}
