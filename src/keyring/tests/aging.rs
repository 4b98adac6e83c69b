//! Which keyrings a scheduler is told of, and what one rotation does when many want it.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn names(aged: &Aged) -> Vec<String> {
    aged.found.iter().map(|aging| aging.keyring.to_string()).collect()
}

#[tokio::test]
async fn only_keyrings_whose_period_ends_soon_are_read() {
    let (world, keyrings) = World::with_keyrings(&["a", "b"]).await;
    world.clock.advance(DAY * 30);
    world.create(&keyrings, "c", 20).await.unwrap();
    let (early, end) = (NOON, Wall(NOON.0 + 90 * 86_400_000_000));
    let none = keyrings.aging(early, None, 10).await.unwrap();
    assert_eq!((names(&none), none.keyrings, none.later), (vec![], 3, Some(end)));
    let some = keyrings.aging(end, None, 10).await.unwrap();
    assert_eq!(names(&some), ["default/a", "default/b"]);
    assert_eq!((some.found[0].activated, some.found[0].period), (NOON, QUARTER));
    let page = keyrings.aging(end, Some(&"a".parse().unwrap()), 1).await.unwrap();
    assert_eq!(names(&page), ["default/b"]);
    assert_eq!(names(&keyrings.aging(end, Some(&"b".parse().unwrap()), 1).await.unwrap()), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_that_is_nearly_used_up_is_told_of_at_once_and_once() {
    let (mut world, _) = World::with_keyrings(&["patients", "staff"]).await;
    world.settings.usage_limits = UsageLimits { messages: 1_000, bytes: 1 << 40 };
    let keyrings = world.admitted().await;
    assert!(!keyrings.used_up());
    let permit = world.permit(Action::Seal, "patients");
    drop(keyrings.unlock_sealing(&permit, Load { messages: 600, bytes: 1 }).await.unwrap());
    assert!(!keyrings.used_up());
    let aged = keyrings.aging(NOON, None, 10).await.unwrap();
    assert_eq!(names(&aged), ["default/patients"], "half of it is used");
    assert!(aged.found[0].used.messages >= 600 && aged.found[0].limits == world.settings.usage_limits);
    drop(keyrings.unlock_sealing(&permit, Load { messages: 350, bytes: 1 }).await.unwrap());
    assert_eq!((keyrings.used_up(), keyrings.used_up()), (true, false));
}

/// Twenty sidecars wake at once: one of them rotates, and the others find it done.
#[tokio::test]
async fn one_rotation_is_made_however_many_sidecars_want_it() {
    let (world, first) = World::with_keyrings(&["patients"]).await;
    let name: KeyringName = "patients".parse().unwrap();
    let due = first.find(&name).await.unwrap().unwrap().versions[0].id;
    let mut fleet = Vec::new();
    for _ in 0..20 {
        fleet.push(world.admitted().await);
    }
    let tasks = fleet.iter().zip(30..).map(|(keyrings, intent)| {
        let change = Change::Rotate { keyring: name.clone(), trigger: Trigger::Schedule, expect: Some(due) };
        tokio::spawn(change::carry_out(Arc::clone(&keyrings.inner), world.order(change, intent)))
    });
    let mut done = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert!(matches!(error, ApplyError::Superseded(_)), "{error:?}"),
        }
    }
    assert_eq!(done, 1);
    first.catch_up().await.unwrap();
    assert_eq!(first.find(&name).await.unwrap().unwrap().versions.len(), 2);
}
