//! Past the hard limit a version seals no more, whoever was to rotate it; it opens on.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// So much later, with the store and the clocks looked at.
    async fn later(&self, keyrings: &Keyrings, time: Duration) {
        self.clock.advance(time);
        keyrings.catch_up().await.unwrap();
        keyrings.sweep();
    }
}

#[tokio::test]
async fn a_version_past_the_hard_limit_seals_no_more_and_opens_on_until_it_is_rotated() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let old = keyrings.find(&name("patients")).await.unwrap().unwrap().versions[0].id;
    world.later(&keyrings, YEARS - SECOND).await;
    drop(keyrings.unlock_to_seal(&world.permit(Action::Seal, "patients")).await.unwrap());
    world.later(&keyrings, SECOND).await;
    for keyrings in [&keyrings, &world.admitted().await] {
        let permit = world.permit(Action::Seal, "patients");
        assert_eq!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::Spent));
        drop(keyrings.unlock_opening(&world.permit(Action::Open, "patients"), old).await.unwrap());
    }
    let rotate = Change::Rotate { keyring: name("patients"), trigger: Trigger::Schedule, expect: None };
    world.change(&keyrings, rotate, 50).await.unwrap();
    drop(keyrings.unlock_to_seal(&world.permit(Action::Seal, "patients")).await.unwrap());
    drop(keyrings.unlock_opening(&world.permit(Action::Open, "patients"), old).await.unwrap());
}

#[tokio::test]
async fn no_partition_is_made_under_a_version_that_seals_no_more() {
    let (world, keyrings) = World::ready().await;
    let Change::Create { name, required_context, subject_key, suite, limits, .. } = create("charts") else { panic!() };
    let partition_key = Some("patient".to_owned());
    let change = Change::Create { name, required_context, subject_key, suite, partition_key, limits };
    world.change(&keyrings, change, 10).await.unwrap();
    let permit = world.permit(Action::Seal, "charts");
    assert!(keyrings.missing_partition(&permit, "p1").await.unwrap().is_some());
    world.later(&keyrings, YEARS).await;
    let permit = world.permit(Action::Seal, "charts");
    assert_eq!(keyrings.missing_partition(&permit, "p1").await.err(), Some(UnlockError::Spent));
}

#[tokio::test]
async fn a_clock_that_jumped_stops_no_sealing_before_it_has_lasted_an_hour() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.clock.step_wall(Wall(NOON.0 + 3 * 365 * 86_400_000_000));
    world.later(&keyrings, SECOND).await;
    drop(keyrings.unlock_to_seal(&world.permit(Action::Seal, "patients")).await.unwrap());
    world.later(&keyrings, Duration::from_secs(3_600)).await;
    let permit = world.permit(Action::Seal, "patients");
    assert_eq!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::Spent));
}
