//! What a key is used for is in the store before it happens, over restarts and sidecars.

use super::*;
use crate::store::UsageRow;

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    async fn version(&self, keyrings: &Keyrings) -> KeyVersionId {
        keyrings.find(&"patients".parse().unwrap()).await.unwrap().unwrap().versions[0].id
    }

    async fn seals(&self, keyrings: &Keyrings, messages: u64, bytes: u64) -> Result<(), UnlockError> {
        let permit = self.permit(Action::Seal, "patients");
        keyrings.unlock_sealing(&permit, Load { messages, bytes }).await.map(drop)
    }

    async fn notes_an_opening(&self, keyrings: &Keyrings) {
        let (permit, version) = (self.permit(Action::Open, "patients"), self.version(keyrings).await);
        keyrings.unlock_opening(&permit, version).await.map(drop).unwrap();
        // The note is a read and a write of the store, beside the request; each of these waits for its turn there.
        for _ in 0..10 {
            settle_tasks().await;
            self.rows(keyrings).await;
        }
    }

    async fn rows(&self, keyrings: &Keyrings) -> Vec<UsageRow> {
        keyrings.inner.writer.usage(None).await.unwrap()
    }

    /// Another sidecar of the fleet, by its log.
    pub(super) async fn named(&self, volume: u8) -> Arc<Keyrings> {
        let keyrings = self.open().await;
        let genesis = self.admitted().await.inner.opened().unwrap().system.genesis.clone();
        keyrings.pin(Pinned {
            store: genesis.store.to_string(),
            store_key_check: hex::encode(genesis.store_key_check),
            head: None,
            abandoned: Vec::new(),
            log: format!("keyward/{}/{}", genesis.store, hex::encode([volume; 16])),
        });
        keyrings.admit().await.unwrap();
        keyrings
    }
}

#[tokio::test]
async fn what_is_sealed_is_in_the_store_before_the_key_is_given_and_a_restart_counts_on() {
    let (world, mut keyrings) = World::with_keyrings(&["patients"]).await;
    let version = world.version(&keyrings).await;
    let (mut messages, mut bytes) = (0, 0);
    for round in 1..=5 {
        for _ in 0..20 {
            world.seals(&keyrings, 7, 1_000).await.unwrap();
            (messages, bytes) = (messages + 7, bytes + 1_000);
            let stored = keyrings.usage(version).await.unwrap();
            assert!(stored.messages >= messages && stored.bytes >= bytes, "{stored:?}");
        }
        let rows = world.rows(&keyrings).await;
        assert_eq!((rows.len(), rows[0].generation), (1, round), "one write serves many requests");
        keyrings = world.admitted().await;
    }
    let stored = keyrings.usage(version).await.unwrap();
    assert!(stored.messages < messages + 5 * 2_100, "a restart loses the rest of a block: {stored:?}");
}

#[tokio::test]
async fn the_use_of_a_key_is_the_sum_over_its_sidecars() {
    let (world, _) = World::with_keyrings(&["patients"]).await;
    let (one, two) = (world.named(1).await, world.named(2).await);
    world.seals(&one, 10_000, 1).await.unwrap();
    world.seals(&two, 20_000, 1).await.unwrap();
    let rows = world.rows(&one).await;
    assert_eq!(rows.iter().map(|row| row.sidecar.0[0]).collect::<Vec<_>>(), [1, 2]);
    let version = world.version(&one).await;
    let (told, other) = (one.usage(version).await.unwrap(), two.usage(version).await.unwrap());
    assert!(told == other && told.messages >= 30_000, "{told:?}");
}

#[tokio::test]
async fn an_opening_is_noted_by_its_day_and_covers_the_next() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let (version, today) = (world.version(&keyrings).await, Day::of(world.clock.wall()));
    world.notes_an_opening(&keyrings).await;
    let noted = Tally { messages: 0, bytes: 0, opened: Day(today.0 + 1) };
    assert_eq!(keyrings.usage(version).await.unwrap(), noted);
    // A step of the clock is not another day until it has lasted.
    world.clock.step_wall(Wall(NOON.0 + 400 * 86_400_000_000));
    keyrings.sweep();
    world.notes_an_opening(&keyrings).await;
    assert_eq!(keyrings.usage(version).await.unwrap(), noted);
    world.clock.step_wall(NOON);
    keyrings.sweep();
    for day in 1..4 {
        world.clock.advance(DAY);
        keyrings.sweep();
        world.notes_an_opening(&keyrings).await;
        let opened = keyrings.usage(version).await.unwrap().opened;
        assert_eq!(opened, Day(today.0 + day + 1), "day {day}");
    }
}

#[tokio::test]
async fn a_count_that_was_edited_or_put_back_is_found_and_seals_nothing() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    world.seals(&keyrings, 1, 1).await.unwrap();
    let old = world.copy();
    world.seals(&keyrings, 100_000, 1).await.unwrap();
    world.edit(&format!(
        "ATTACH '{old}' AS old; DELETE FROM usage; INSERT INTO usage SELECT * FROM old.usage; DETACH old"
    ));
    assert_eq!(world.seals(&keyrings, 1_000_000, 1).await, Err(UnlockError::Tampered));
    assert!(keyrings.damage().unwrap().contains("has become older"));
    world.edit("UPDATE usage SET body = replace(body, '\"messages\":', '\"messages\":1')");
    assert_eq!(world.seals(&*world.admitted().await, 1, 1).await, Err(UnlockError::Tampered));
}

/// Two processes that took themselves for one sidecar, from a copied machine say, lose blocks and no count.
#[tokio::test]
async fn two_sidecars_under_one_name_count_too_much_and_never_too_little() {
    let (world, one) = World::with_keyrings(&["patients"]).await;
    let two = world.admitted().await;
    let version = world.version(&one).await;
    let mut sealed = 0;
    for round in 0..20 {
        for keyrings in [&one, &two] {
            world.seals(keyrings, 900 * round, 1).await.unwrap();
            sealed += 900 * round;
        }
        assert!(one.usage(version).await.unwrap().messages >= sealed);
    }
}

#[tokio::test]
async fn requests_at_the_same_time_share_reservations_and_are_all_counted() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (permit, keyrings) = (world.permit(Action::Seal, "patients"), Arc::clone(&keyrings));
            tokio::spawn(
                async move { keyrings.unlock_sealing(&permit, Load { messages: 100, bytes: 100 }).await.map(drop) },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let stored = keyrings.usage(world.version(&keyrings).await).await.unwrap();
    assert!(stored.messages >= 5_000, "{stored:?}");
    assert!(world.rows(&keyrings).await[0].generation < 12, "{:?}", world.rows(&keyrings).await);
}

fn schedule(version: KeyVersionId) -> Change {
    let step = life::Step::ScheduleDestroy { days: 7, statement: life::Statement([7; 32]) };
    Change::Step { keyring: name("patients"), version, step, reason: life::Reason::Retired }
}

fn rotation() -> Change {
    Change::Rotate { keyring: name("patients"), trigger: life::Trigger::Usage, expect: None }
}

#[tokio::test]
async fn a_count_of_another_sidecar_that_was_deleted_or_put_back_destroys_nothing_also_over_a_restart() {
    for edit in [
        "DELETE FROM usage WHERE sidecar = x'02020202020202020202020202020202'",
        "ATTACH 'OLD' AS old; DELETE FROM usage; INSERT INTO usage SELECT * FROM old.usage; DETACH old",
    ] {
        let (world, one) = World::with_keyrings(&["patients"]).await;
        let version = world.version(&one).await;
        let two = world.named(2).await;
        world.seals(&two, 1, 1).await.unwrap();
        let old = world.copy();
        world.seals(&two, 1 << 20, 1).await.unwrap();
        world.change(&one, rotation(), 20).await.unwrap();
        world.clock.advance(60 * DAY);
        world.edit(&edit.replace("OLD", &old));
        let restarted = world.named(1).await;
        let refused = world.change(&restarted, schedule(version), 21).await;
        assert!(matches!(&refused, Err(ApplyError::Tampered(why)) if why.contains("count")), "{edit}: {refused:?}");
        assert!(restarted.damage().unwrap().contains("a row has been deleted"), "{edit}");
    }
}

#[tokio::test]
async fn a_count_of_another_sidecar_that_was_deleted_is_missed_while_a_sidecar_runs() {
    let (world, one) = World::with_keyrings(&["patients"]).await;
    let two = world.named(2).await;
    world.seals(&two, 7, 7).await.unwrap();
    world.seals(&one, 1, 1).await.unwrap();
    world.edit("DELETE FROM usage WHERE sidecar = x'02020202020202020202020202020202'");
    assert_eq!(world.seals(&one, 1 << 20, 1).await, Err(UnlockError::Tampered));
    assert!(one.damage().unwrap().contains("a row has been deleted"));
}
