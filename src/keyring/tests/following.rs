//! Whoever revokes a key hears who may still use it, and until when.

use super::*;
use crate::keyring::life::{Reason, Step};

impl World {
    async fn suspend(&self, keyrings: &Keyrings, intent: u64) -> u64 {
        let version = keyrings.find(&name("patients")).await.unwrap().unwrap().versions[0].id;
        let change =
            Change::Step { keyring: name("patients"), version, step: Step::Suspend, reason: Reason::Suspicion };
        self.change(keyrings, change, intent).await.unwrap();
        keyrings.head().unwrap().changes
    }
}

fn behind(following: &Following) -> Vec<(&str, u64, Wall)> {
    following.behind.iter().map(|one| (one.sidecar.as_str(), one.followed, one.until)).collect()
}

#[tokio::test]
async fn a_sidecar_that_stopped_is_named_until_its_lease_is_over_and_one_that_followed_is_not() {
    let (mut world, _) = World::with_keyrings(&["patients"]).await;
    world.settings.store_offline_max = Duration::from_secs(300);
    let (one, two, three) = (world.named(1).await, world.named(2).await, world.named(3).await);
    for keyrings in [&one, &two, &three] {
        keyrings.acknowledge().await.unwrap();
    }
    let before = one.head().unwrap().changes;
    world.clock.advance(Duration::from_secs(60));
    let change = world.suspend(&one, 30).await;
    // A minute, the lease of five, and half a minute for the commit and the clocks.
    let until = Wall(NOON.0 + 390 * 1_000_000);
    let (two_name, three_name) = (hex::encode([2; 16]), hex::encode([3; 16]));
    let following = one.following(Some(change)).await.unwrap();
    assert_eq!((following.change, following.others), (change, 2));
    assert_eq!(behind(&following), [(&*two_name, before, until), (&*three_name, before, until)]);
    assert_eq!(following.behind[0].heard, Some(NOON));
    two.catch_up().await.unwrap();
    assert_eq!(behind(&one.following(None).await.unwrap()).len(), 2, "it has followed, and has not said so yet");
    two.acknowledge().await.unwrap();
    assert_eq!(behind(&one.following(Some(change)).await.unwrap()), [(&*three_name, before, until)]);
    assert_eq!(behind(&one.following(Some(before)).await.unwrap()), []);
    world.clock.advance(Duration::from_secs(329));
    assert_eq!(behind(&two.following(Some(change)).await.unwrap()).len(), 2, "who made it has not said so either");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(behind(&two.following(Some(change)).await.unwrap()), [], "no lease outlives its time");
    assert!(matches!(one.following(Some(change + 1)).await, Err(ApplyError::Invalid(_))));
}

#[tokio::test]
async fn only_what_takes_something_away_is_said_at_once() {
    let (world, _) = World::with_keyrings(&["patients"]).await;
    let (one, two) = (world.named(1).await, world.named(2).await);
    for keyrings in [&one, &two] {
        keyrings.acknowledge().await.unwrap();
    }
    let rows = async || {
        let rows = one.inner.writer.sidecars().await.unwrap();
        rows.iter().map(|row| row.generation).collect::<Vec<_>>()
    };
    world.create(&one, "notes", 30).await.unwrap();
    two.catch_up().await.unwrap();
    for keyrings in [&one, &two] {
        keyrings.acknowledge().await.unwrap();
    }
    assert_eq!(rows().await, [1, 1], "a new keyring needs nobody's word");
    world.suspend(&one, 31).await;
    two.catch_up().await.unwrap();
    for _ in 0..3 {
        one.acknowledge().await.unwrap();
        two.acknowledge().await.unwrap();
    }
    assert_eq!(rows().await, [2, 2], "each says it once");
}
