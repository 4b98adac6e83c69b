//! Edits of the database file: each is found at the next admission and names the row.

use super::*;

async fn world() -> World {
    World::with_keyrings(&["patients", "staff"]).await.0
}

/// Every column of every table, and what the refusal must name.
const EDITS: &[(&str, &str)] = &[
    ("UPDATE genesis SET generation = 2", "the genesis row"),
    ("UPDATE genesis SET body = replace(body, 'development', 'production')", "the genesis row"),
    ("UPDATE genesis SET body = replace(body, '\"store\":\"', '\"store\":\"00')", "the genesis row"),
    ("UPDATE genesis SET tag = zeroblob(32)", "the genesis row"),
    ("UPDATE keyrings SET name = 'default/x' WHERE name = 'default/staff'", "keyring default/x"),
    ("UPDATE keyrings SET generation = 2 WHERE name = 'default/staff'", "keyring default/staff"),
    (
        "UPDATE keyrings SET body = replace(body, '\"patient\"', '\"p\"') WHERE name = 'default/staff'",
        "keyring default/staff",
    ),
    ("UPDATE keyrings SET tag = zeroblob(32) WHERE name = 'default/staff'", "keyring default/staff"),
    ("UPDATE keys SET id = x'0102030405060708' WHERE keyring = 'default/staff'", "0102030405060708 of default/staff"),
    ("UPDATE keys SET purpose = 'log' WHERE keyring = 'default/staff'", "the log key"),
    ("UPDATE keys SET keyring = 'default/patients' WHERE keyring = 'default/staff'", "of default/patients"),
    ("UPDATE keys SET parent = 'kek:other' WHERE keyring = 'default/staff'", "of default/staff"),
    ("UPDATE keys SET state = 'deactivated' WHERE keyring = 'default/staff'", "of default/staff"),
    ("UPDATE keys SET generation = 2 WHERE keyring = 'default/staff'", "of default/staff"),
    (
        "UPDATE keys SET body = replace(body, '\"suite\":2', '\"suite\":1') WHERE keyring = 'default/staff'",
        "of default/staff",
    ),
    ("UPDATE keys SET wraps = CAST(wraps || x'00' AS BLOB) WHERE keyring = 'default/staff'", "of default/staff"),
    ("UPDATE keys SET wraps = x'' WHERE keyring = 'default/staff'", "of default/staff"),
    ("UPDATE keys SET tag = zeroblob(32) WHERE keyring = 'default/staff'", "of default/staff"),
    ("UPDATE changes SET seq = 4 WHERE seq = 3", "change 4"),
    ("UPDATE changes SET previous = zeroblob(32) WHERE seq = 2", "change 2"),
    ("UPDATE changes SET body = replace(body, '\"intent\":11', '\"intent\":12') WHERE seq = 3", "change 3"),
    ("UPDATE changes SET tag = zeroblob(32) WHERE seq = 2", "change 2"),
    ("UPDATE keys SET wraps = x'0102' WHERE purpose = 'store'", "the store key"),
    ("UPDATE keys SET body = replace(body, '\"created\":1', '\"created\":2') WHERE purpose = 'store'", "the store key"),
    ("UPDATE keys SET state = 'destroyed' WHERE purpose = 'pseudonym'", "the pseudonym key"),
];

/// Rows taken out.
const DELETIONS: &[(&str, &str)] = &[
    ("DELETE FROM genesis", "the genesis row"),
    ("DELETE FROM keyrings WHERE name = 'default/staff'", "keyring default/staff"),
    ("DELETE FROM keys WHERE keyring = 'default/staff'", "its row has been deleted"),
    ("DELETE FROM keys WHERE purpose = 'store'", "the store key"),
    ("DELETE FROM keys WHERE purpose = 'pseudonym'", "its row has been deleted"),
    ("DELETE FROM changes WHERE seq = 2", "change 3"),
    ("DELETE FROM changes WHERE seq = 1", "change 2"),
    ("DELETE FROM changes WHERE seq = 3", "keyring default/staff"),
    (
        "DELETE FROM keyrings WHERE name = 'default/staff'; DELETE FROM keys WHERE keyring = 'default/staff'",
        "default/staff",
    ),
];

#[tokio::test]
async fn an_edit_of_any_column_is_found_and_names_the_row() {
    let world = world().await;
    let old = world.copy();
    for (edit, row) in EDITS.iter().chain(DELETIONS) {
        world.put_back(&old);
        world.readmit().await.unwrap();
        world.edit(edit);
        match world.readmit().await {
            Err(ApplyError::Tampered(why)) => {
                assert!(why.contains(row), "{edit}: {why}");
                assert!(why.contains("restore the database from a backup"), "{edit}: {why}");
            }
            other => panic!("{edit}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refused_store_unlocks_nothing() {
    let world = world().await;
    world.edit("UPDATE keys SET state = 'deactivated' WHERE keyring = 'default/staff'");
    let keyrings = world.open().await;
    keyrings.admit().await.unwrap_err();
    let untouched = world.permit(Action::Seal, "patients");
    assert!(matches!(keyrings.unlock_to_seal(&untouched).await.err(), Some(UnlockError::Unavailable(_))));
    assert!(matches!(keyrings.health(), KeyringHealth::Waiting(why) if why.contains("default/staff")));
}

#[tokio::test]
async fn the_wrap_of_another_key_does_not_pass_for_this_one() {
    let world = world().await;
    world.edit(
        "UPDATE keys SET wraps = (SELECT wraps FROM keys WHERE keyring = 'default/patients') WHERE keyring = 'default/staff'",
    );
    assert!(matches!(world.readmit().await, Err(ApplyError::Tampered(why)) if why.contains("of default/staff")));
}

#[tokio::test]
async fn an_older_copy_of_a_row_is_found_although_its_seal_is_genuine() {
    let key = "DELETE FROM keys WHERE keyring = 'default/staff';
               INSERT INTO keys SELECT * FROM old.keys WHERE keyring = 'default/staff';";
    let head = "DELETE FROM keyrings WHERE name = 'default/staff';
                INSERT INTO keyrings SELECT * FROM old.keyrings WHERE name = 'default/staff';";
    for back in [key.to_owned(), head.to_owned(), format!("{key} {head}")] {
        let (world, keyrings) = World::with_keyrings(&["patients", "staff"]).await;
        let old = world.copy();
        set_state(&keyrings, "default/staff", KeyState::Suspended).await;
        world.readmit().await.unwrap();
        world.edit(&format!("ATTACH '{old}' AS old; {back} DETACH old"));
        let refused = world.readmit().await;
        let found = |why: &str| why.contains("default/staff") && why.contains("not the one that the last change wrote");
        assert!(matches!(&refused, Err(ApplyError::Tampered(why)) if found(why)), "{refused:?}");
    }
}

/// The limit of what a store can prove by itself, and what the log's heartbeats are for.
#[tokio::test]
async fn an_older_copy_of_the_whole_store_passes_but_its_head_is_another() {
    let (world, keyrings) = World::with_keyrings(&["patients"]).await;
    let old = world.copy();
    let before = keyrings.head().unwrap();
    world.create(&keyrings, "staff", 11).await.unwrap();
    let after = keyrings.head().unwrap();
    assert_eq!((before.changes, after.changes), (2, 3));
    drop(keyrings);
    world.put_back(&old);
    assert_eq!(world.admitted().await.head(), Some(before));
}

/// Writes the keyring's keys in another state, whether or not a change could bring them there.
pub(super) async fn set_state(keyrings: &Keyrings, keyring: &str, state: KeyState) {
    let (inner, open) = (&keyrings.inner, keyrings.inner.opened().unwrap());
    let loaded = inner.load(&open, keyring).await.unwrap().unwrap();
    let mut ring = draft::RingDraft::of(&loaded);
    for key in &loaded.rows.keys {
        let edit = |key: &mut crate::store::SealedKey, body: &mut bodies::KeyBody| {
            state.name().clone_into(&mut key.row.state);
            let made = body.moves[KeyState::PreActive.name()].clone();
            body.moves.retain(|state, _| state == KeyState::PreActive.name());
            body.moves.insert(state.name().to_owned(), made);
        };
        ring.change(key.row.id, edit).unwrap();
    }
    let draft = draft::Draft { kind: "test", at: NOON, intent: None, rings: vec![ring], partitions: Vec::new() };
    let drafted = draft.seal(&open.system.rows, open.head()).unwrap();
    inner.writer.commit(drafted.writes).await.unwrap();
}

/// Found again, neither is news: the log takes one record of them and not one every ten seconds.
#[tokio::test]
async fn every_keyring_that_is_found_edited_is_named_and_not_the_last_one_alone() {
    let (world, keyrings) = World::with_keyrings(&["patients", "staff", "whole"]).await;
    world.edit("UPDATE keys SET state = 'suspended' WHERE keyring IN ('default/patients', 'default/staff')");
    let mut told = Vec::new();
    for _ in 0..2 {
        let listed = keyrings.list(&world.permit(Action::KeyringList, "any"), None, 100).await.unwrap();
        assert_eq!(listed.len(), 1);
        told.push(keyrings.damage().unwrap());
    }
    assert!(told[0].contains("of default/patients") && told[0].contains("of default/staff"), "{told:?}");
    assert!(!told[0].contains("whole"), "{told:?}");
    assert_eq!(told[0], told[1]);
}
