//! A key for each patient: made once, used by nobody else, destroyed for good, and moved when the data key is rotated.

use super::*;
use crate::crypto::NONCE_BYTES;
use crate::keyring::life::{Forbidden, Reason, Statement, Step, Trigger};
use crate::names::Context;

/// The whole way of one value through the keyring, without the envelope.
pub(super) struct Value {
    version: KeyVersionId,
    bytes: Vec<u8>,
}

const ONE: Load = Load { messages: 1, bytes: 10 };
const HEADER: &[u8; 12] = b"twelve bytes";
const NONCE: &[u8; NONCE_BYTES] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

fn partitioned(name: &str) -> Change {
    let mut change = create(name);
    if let Change::Create { partition_key, .. } = &mut change {
        *partition_key = Some("patient".to_owned());
    }
    change
}

fn step(keyring: &str, step: PartitionStep) -> Change {
    Change::Partitions(PartitionChange { keyring: name(keyring), step })
}

async fn ready() -> (World, Arc<Keyrings>) {
    let (world, keyrings) = World::ready().await;
    world.change(&keyrings, partitioned("charts"), 10).await.unwrap();
    (world, keyrings)
}

async fn make(world: &World, keyrings: &Keyrings, patients: &[&str], intent: u64) -> u64 {
    let of = |patient: &&str| keyrings.partition_name(&name("charts"), patient).unwrap();
    let change = step("charts", PartitionStep::Make(patients.iter().map(of).collect()));
    world.change(keyrings, change, intent).await.unwrap().partitions.unwrap().done
}

async fn shred(world: &World, keyrings: &Keyrings, patient: &str, intent: u64) -> Result<Shredded, ApplyError> {
    let name = keyrings.partition_name(&name("charts"), patient).unwrap();
    let change = step("charts", PartitionStep::Shred { name, reason: "policy".to_owned() });
    Ok(world.change(keyrings, change, intent).await?.partitions.unwrap().shredded.unwrap())
}

async fn rotate(world: &World, keyrings: &Keyrings, intent: u64) {
    let change = Change::Rotate { keyring: name("charts"), trigger: Trigger::Incident, expect: None };
    world.change(keyrings, change, intent).await.unwrap();
}

fn context(patient: &str) -> Context {
    Context::parse([("patient".to_owned(), patient.to_owned())]).unwrap()
}

async fn seal(world: &World, keyrings: &Keyrings, patient: &str) -> Result<Value, UnlockError> {
    let permit = world.permit(Action::Seal, "charts");
    match keyrings.unlock_sealing_in(&permit, Some(patient), ONE).await? {
        Unlock::Ready(key) => {
            key.bind(&context(patient)).unwrap();
            let mut bytes = Vec::new();
            key.seal(HEADER, NONCE, b"aad", patient.as_bytes(), &mut bytes).unwrap();
            Ok(Value { version: key.version(), bytes })
        }
        Unlock::Needs(_) => Err(UnlockError::Unknown),
    }
}

async fn open(world: &World, keyrings: &Keyrings, patient: &str, value: &Value) -> Result<Vec<u8>, UnlockError> {
    let permit = world.permit(Action::Open, "charts");
    let key = keyrings.unlock_opening_in(&permit, value.version, Some(patient)).await?;
    let opened = key.open(HEADER, NONCE, b"aad", &value.bytes);
    opened.map(|plaintext| plaintext.expose().to_vec()).map_err(|_| UnlockError::Tampered)
}

/// Two patients with a value each.
async fn two() -> (World, Arc<Keyrings>, [Value; 2]) {
    let (world, keyrings) = ready().await;
    assert_eq!(make(&world, &keyrings, &["ada", "bob"], 11).await, 2);
    let values = [seal(&world, &keyrings, "ada").await.unwrap(), seal(&world, &keyrings, "bob").await.unwrap()];
    (world, keyrings, values)
}

#[tokio::test]
async fn a_partition_is_needed_before_it_is_made_and_opening_never_makes_it() {
    let (world, keyrings) = ready().await;
    assert_eq!(seal(&world, &keyrings, "ada").await.err(), Some(UnlockError::Unknown));
    let version = keyrings.find(&name("charts")).await.unwrap().unwrap().versions[0].id;
    let value = Value { version, bytes: vec![0; 48] };
    assert_eq!(open(&world, &keyrings, "ada", &value).await.err(), Some(UnlockError::Unknown));
    let permit = world.permit(Action::Seal, "charts");
    assert_eq!(keyrings.unlock_to_seal(&permit).await.err(), Some(UnlockError::NoPartition));
    assert_eq!(make(&world, &keyrings, &["ada"], 11).await, 1);
    let value = seal(&world, &keyrings, "ada").await.unwrap();
    assert_eq!(open(&world, &keyrings, "ada", &value).await.unwrap(), b"ada");
    assert_eq!(open(&world, &keyrings, "bob", &value).await.err(), Some(UnlockError::Unknown));
}

#[tokio::test]
async fn no_row_names_a_patient_and_no_two_patients_share_a_key() {
    let (world, keyrings, [ada, _]) = two().await;
    assert_eq!(open(&world, &keyrings, "bob", &ada).await.err(), Some(UnlockError::Tampered));
    make(&world, &keyrings, &["kunigunde"], 12).await;
    let file = std::fs::read(world.store_path()).unwrap();
    let wal = std::fs::read(world.store_path().with_extension("sqlite-wal")).unwrap_or_default();
    for bytes in [file, wal] {
        assert!(!bytes.windows(9).any(|window| window == b"kunigunde"));
    }
    let name_of = |keyring: &str, patient| keyrings.partition_name(&name(keyring), patient).unwrap();
    assert_ne!(name_of("charts", "ada"), name_of("charts", "bob"));
    assert_ne!(name_of("charts", "ada"), name_of("other", "ada"), "the same patient of another keyring");
}

#[tokio::test]
async fn a_key_serves_no_context_but_that_of_its_patient() {
    let (world, keyrings, _) = two().await;
    let permit = world.permit(Action::Seal, "charts");
    let Unlock::Ready(key) = keyrings.unlock_sealing_in(&permit, Some("ada"), ONE).await.unwrap() else { panic!() };
    assert!(key.bind(&context("ada")).is_ok());
    assert_eq!(key.bind(&context("bob")).err(), Some(BindError::Conflict));
}

#[tokio::test]
async fn values_open_after_a_restart_with_one_read_and_one_call_to_the_kek() {
    let (world, keyrings, [ada, bob]) = two().await;
    drop(keyrings);
    let keyrings = world.admitted().await;
    world.kek.unwraps.store(0, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(open(&world, &keyrings, "ada", &ada).await.unwrap(), b"ada");
        assert_eq!(open(&world, &keyrings, "bob", &bob).await.unwrap(), b"bob");
    }
    assert_eq!((world.kek.unwraps(), keyrings.cached_partitions()), (1, 2));
}

#[tokio::test]
async fn what_exists_is_not_made_again_whoever_was_first() {
    let (world, keyrings, [ada, _]) = two().await;
    let other = world.admitted().await;
    assert_eq!(make(&world, &other, &["ada", "cid"], 12).await, 1, "the store is asked after the conflict");
    assert_eq!(make(&world, &keyrings, &["cid", "ada", "bob"], 13).await, 0);
    let cid = seal(&world, &keyrings, "cid").await.unwrap();
    assert_eq!(open(&world, &other, "cid", &cid).await.unwrap(), b"cid");
    assert_eq!(open(&world, &other, "ada", &ada).await.unwrap(), b"ada");
    world.readmit().await.unwrap();
}

#[tokio::test]
async fn a_shredded_patient_is_gone_for_sealing_and_opening_and_the_other_stays() {
    let (world, keyrings, [ada, bob]) = two().await;
    let done = shred(&world, &keyrings, "ada", 12).await.unwrap();
    assert_eq!((done.at, &*done.actor, &*done.reason, done.intent, done.before), (NOON, "ada", "policy", 12, false));
    for keyrings in [&keyrings, &world.admitted().await] {
        assert_eq!(open(&world, keyrings, "ada", &ada).await.err(), Some(UnlockError::Shredded));
        assert_eq!(seal(&world, keyrings, "ada").await.err(), Some(UnlockError::Shredded));
        assert_eq!(open(&world, keyrings, "bob", &bob).await.unwrap(), b"bob");
        assert_eq!(make(&world, keyrings, &["ada"], 13).await, 0, "it is not made again");
    }
    let again = shred(&world, &keyrings, "ada", 14).await.unwrap();
    assert_eq!(again, Shredded { before: true, ..done });
    assert_eq!(keyrings.head().unwrap().changes, 4, "the second shredding changed nothing");
}

#[tokio::test]
async fn a_patient_who_was_never_sealed_for_can_be_shredded_and_never_made() {
    let (world, keyrings) = ready().await;
    assert!(!shred(&world, &keyrings, "eve", 11).await.unwrap().before);
    assert_eq!(make(&world, &keyrings, &["eve"], 12).await, 0);
    assert_eq!(seal(&world, &keyrings, "eve").await.err(), Some(UnlockError::Shredded));
    world.readmit().await.unwrap();
}

#[tokio::test]
async fn another_sidecar_forgets_a_shredded_key_with_its_next_look() {
    let (world, keyrings, [ada, _]) = two().await;
    let other = world.admitted().await;
    open(&world, &other, "ada", &ada).await.unwrap();
    shred(&world, &keyrings, "ada", 12).await.unwrap();
    assert_eq!(other.cached_partitions(), 1);
    other.catch_up().await.unwrap();
    assert_eq!(other.cached_partitions(), 0);
    assert_eq!(open(&world, &other, "ada", &ada).await.err(), Some(UnlockError::Shredded));
}

#[tokio::test]
async fn another_sidecar_that_hears_nothing_forgets_a_shredded_key_with_its_time_to_live() {
    let (world, keyrings, [ada, _]) = two().await;
    let other = world.admitted().await;
    open(&world, &other, "ada", &ada).await.unwrap();
    shred(&world, &keyrings, "ada", 12).await.unwrap();
    world.clock.advance(TTL - Duration::from_nanos(1));
    assert_eq!(open(&world, &other, "ada", &ada).await.unwrap(), b"ada");
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(open(&world, &other, "ada", &ada).await.err(), Some(UnlockError::Shredded));
}

#[tokio::test]
async fn a_partition_key_serves_no_longer_than_its_data_key() {
    let (world, keyrings, [ada, _]) = two().await;
    world.clock.advance(TTL / 2);
    open(&world, &keyrings, "ada", &ada).await.unwrap();
    world.kek.become_(Mood::Denied);
    keyrings.evict(world.kek.name());
    assert!(matches!(open(&world, &keyrings, "ada", &ada).await.err(), Some(UnlockError::Unavailable(_))));
    world.kek.become_(Mood::Good);
    open(&world, &keyrings, "ada", &ada).await.unwrap();
    world.clock.advance(TTL * 10);
    keyrings.sweep();
    assert_eq!((keyrings.cached_partitions(), keyrings.cache_stats().keys), (0, 0));
}

#[tokio::test]
async fn the_cache_of_partitions_stays_within_its_bound() {
    let (world, keyrings) = {
        let mut world = World::new();
        world.settings.cache_keys = 10;
        world.found().await.unwrap();
        let keyrings = world.admitted().await;
        (world, keyrings)
    };
    world.change(&keyrings, partitioned("charts"), 10).await.unwrap();
    let patients: Vec<String> = (0..100).map(|n| format!("patient {n}")).collect();
    let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
    assert_eq!(make(&world, &keyrings, &patients, 11).await, 100);
    world.kek.unwraps.store(0, Ordering::SeqCst);
    for patient in &patients {
        seal(&world, &keyrings, patient).await.unwrap();
    }
    assert!(keyrings.cached_partitions() <= 10, "{}", keyrings.cached_partitions());
    assert_eq!(world.kek.unwraps(), 0, "no key-encryption key ever sees a partition");
}

#[tokio::test]
async fn partitions_follow_a_rotated_data_key_page_by_page_and_old_values_stay_open() {
    let (world, keyrings, [ada, bob]) = two().await;
    let patients: Vec<String> = (0..7).map(|n| format!("patient {n}")).collect();
    make(&world, &keyrings, &patients.iter().map(String::as_str).collect::<Vec<_>>(), 12).await;
    shred(&world, &keyrings, "bob", 13).await.unwrap();
    rotate(&world, &keyrings, 14).await;
    assert_eq!(open(&world, &keyrings, "ada", &ada).await.unwrap(), b"ada");
    let mut left = Vec::new();
    let other = world.admitted().await;
    // Whoever asks goes on where the last one stopped.
    for (intent, keyrings) in (15..).zip([&keyrings, &other, &keyrings, &other]) {
        let applied = world.change(keyrings, step("charts", PartitionStep::Rewrap(3)), intent).await.unwrap();
        let PartitionsApplied { done, remaining, .. } = applied.partitions.unwrap();
        left.push((done, remaining));
    }
    assert_eq!(left, [(3, 5), (3, 2), (2, 0), (0, 0)]);
    for keyrings in [&keyrings, &other, &world.admitted().await] {
        assert_eq!(open(&world, keyrings, "ada", &ada).await.unwrap(), b"ada");
        assert_eq!(open(&world, keyrings, "bob", &bob).await.err(), Some(UnlockError::Shredded));
        let newer = seal(&world, keyrings, "ada").await.unwrap();
        assert_ne!(newer.version, ada.version);
        assert_eq!(open(&world, keyrings, "ada", &newer).await.unwrap(), b"ada");
    }
}

#[tokio::test]
async fn a_version_that_wraps_partitions_is_not_destroyed() {
    let (world, keyrings, _) = two().await;
    let old = keyrings.find(&name("charts")).await.unwrap().unwrap().versions[0].id;
    rotate(&world, &keyrings, 12).await;
    let schedule = Change::Step {
        keyring: name("charts"),
        version: old,
        step: Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) },
        reason: Reason::Retired,
    };
    let refused = world.change(&keyrings, schedule.clone(), 13).await;
    let expected = Forbidden::InUse { partitions: 2, keys: 0 };
    assert!(matches!(&refused, Err(ApplyError::Forbidden(why)) if *why == expected), "{refused:?}");
    world.change(&keyrings, step("charts", PartitionStep::Rewrap(PARTITION_BATCH)), 15).await.unwrap();
    let refused = world.change(&keyrings, schedule, 16).await;
    let used = |why: &Forbidden| matches!(why, Forbidden::InUse { .. });
    assert!(!matches!(&refused, Err(ApplyError::Forbidden(why)) if used(why)), "{refused:?}");
    world.readmit().await.unwrap();
}

#[tokio::test]
async fn a_version_is_not_destroyed_because_somebody_hid_the_partitions_that_it_wraps() {
    for edit in ["DELETE FROM partitions", "UPDATE partitions SET parent = x'0102030405060708'"] {
        let (world, keyrings, _) = two().await;
        let old = keyrings.find(&name("charts")).await.unwrap().unwrap().versions[0].id;
        rotate(&world, &keyrings, 12).await;
        world.edit(edit);
        let step = Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) };
        let schedule = Change::Step { keyring: name("charts"), version: old, step, reason: Reason::Retired };
        let refused = world.change(&keyrings, schedule, 13).await;
        let expected = Forbidden::InUse { partitions: 2, keys: 0 };
        assert!(matches!(&refused, Err(ApplyError::Forbidden(why)) if *why == expected), "{edit}: {refused:?}");
    }
}

#[tokio::test]
async fn an_edited_partition_stays_and_is_counted_and_all_behind_it_are_moved() {
    let (world, keyrings, _) = two().await;
    make(&world, &keyrings, &["cid", "dan"], 12).await;
    let old = keyrings.find(&name("charts")).await.unwrap().unwrap().versions[0].id;
    rotate(&world, &keyrings, 13).await;
    // The first by name is in the way of every page.
    world.edit("UPDATE partitions SET wrap = x'00' WHERE name = (SELECT min(name) FROM partitions)");
    let mut told = Vec::new();
    for intent in 14..18 {
        let moved = world.change(&keyrings, step("charts", PartitionStep::Rewrap(2)), intent).await.unwrap();
        let PartitionsApplied { done, remaining, damaged, .. } = moved.partitions.unwrap();
        told.push((done, remaining, damaged));
    }
    assert_eq!(told, [(2, 2, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1)]);
    assert!(keyrings.damage().unwrap().contains("of default/charts"));
    let step = Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) };
    let schedule = Change::Step { keyring: name("charts"), version: old, step, reason: Reason::Retired };
    let refused = world.change(&keyrings, schedule, 20).await;
    let expected = Forbidden::InUse { partitions: 1, keys: 0 };
    assert!(matches!(&refused, Err(ApplyError::Forbidden(why)) if *why == expected), "{refused:?}");
}

#[tokio::test]
async fn keyrings_without_partitions_and_too_large_changes_are_refused() {
    let (world, keyrings) = World::with_keyrings(&["plain"]).await;
    let some = PartitionName([7; 16]);
    let refused = world.change(&keyrings, step("plain", PartitionStep::Make(vec![some])), 20).await;
    assert!(matches!(refused, Err(ApplyError::Invalid(_))));
    let many = step(
        "plain",
        PartitionStep::Make(
            (0..=500_u16)
                .map(|n| {
                    let mut name = [0; 16];
                    name[..2].copy_from_slice(&n.to_be_bytes());
                    PartitionName(name)
                })
                .collect(),
        ),
    );
    assert!(matches!(plan::check(&many), Err(ApplyError::Invalid(_))));
}

/// What somebody with the right to edit the file can do, and what the refusal must name. `old` is a copy with both
/// patients alive; in the store `ada` is shredded and `cid` was made.
const EDITS: &[(&str, &str)] = &[
    ("UPDATE partitions SET state = 'active' WHERE state = 'destroyed'", "the partition"),
    ("UPDATE partitions SET wrap = x'00' WHERE state = 'active'", "its seal does not verify"),
    ("UPDATE partitions SET parent = x'0102030405060708' WHERE state = 'active'", "its seal does not verify"),
    ("UPDATE partitions SET generation = 9 WHERE state = 'active'", "its seal does not verify"),
    ("UPDATE partitions SET body = replace(body, 'schema', 'Schema')", "its seal does not verify"),
    ("UPDATE partitions SET tag = zeroblob(32)", "its seal does not verify"),
    (
        "UPDATE partitions SET name = x'00112233445566778899aabbccddeeff' WHERE state = 'destroyed'",
        "00112233445566778899aabbccddeeff",
    ),
    ("UPDATE partitions SET keyring = 'default/other' WHERE state = 'destroyed'", "its tombstone has been deleted"),
    ("DELETE FROM partitions WHERE state = 'destroyed'", "its tombstone has been deleted"),
    ("DELETE FROM partitions WHERE state = 'active'", "rows have been deleted"),
    ("DELETE FROM partitions", "its tombstone has been deleted"),
    (
        "ATTACH 'OLD' AS old;
         DELETE FROM partitions WHERE state = 'destroyed';
         INSERT OR IGNORE INTO partitions SELECT * FROM old.partitions; DETACH old",
        "an older copy of its row was put back",
    ),
    (
        "ATTACH 'OLD' AS old; DELETE FROM keyrings WHERE name = 'default/charts';
         INSERT INTO keyrings SELECT * FROM old.keyrings WHERE name = 'default/charts'; DETACH old",
        "not the one that the last change wrote",
    ),
    (
        "INSERT INTO partitions SELECT 'default/nowhere', name, parent, state, generation, body, wrap, tag FROM partitions",
        "account for 3",
    ),
];

#[tokio::test]
async fn an_edit_of_partitions_is_found_at_the_admission_and_named() {
    for (edit, named) in EDITS {
        let (world, keyrings, _) = two().await;
        let old = world.copy();
        make(&world, &keyrings, &["cid"], 12).await;
        shred(&world, &keyrings, "ada", 13).await.unwrap();
        world.readmit().await.unwrap();
        world.edit(&edit.replace("OLD", &old));
        match world.readmit().await {
            Err(ApplyError::Tampered(why)) => {
                assert!(why.contains(named), "{edit}: {why}");
                assert!(why.contains("restore the database from a backup"), "{edit}: {why}");
            }
            other => panic!("{edit}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_older_wrap_of_a_live_partition_is_found_by_the_sum() {
    let (world, keyrings, _) = two().await;
    let old = world.copy();
    rotate(&world, &keyrings, 12).await;
    world.change(&keyrings, step("charts", PartitionStep::Rewrap(PARTITION_BATCH)), 13).await.unwrap();
    world.readmit().await.unwrap();
    world.edit(&format!(
        "ATTACH '{old}' AS old; DELETE FROM partitions WHERE name = (SELECT min(name) FROM partitions);
         INSERT OR IGNORE INTO partitions SELECT * FROM old.partitions; DETACH old"
    ));
    let refused = world.readmit().await;
    let named = "one of them is not the one that the last change wrote";
    assert!(matches!(&refused, Err(ApplyError::Tampered(why)) if why.contains(named)), "{refused:?}");
}

#[tokio::test]
async fn while_it_runs_a_sidecar_refuses_a_tombstone_that_was_undone() {
    for edit in [
        "DELETE FROM partitions WHERE state = 'destroyed'",
        "ATTACH 'OLD' AS old; DELETE FROM partitions; INSERT INTO partitions SELECT * FROM old.partitions; DETACH old",
    ] {
        let (world, keyrings, [ada, _]) = two().await;
        let old = world.copy();
        shred(&world, &keyrings, "ada", 12).await.unwrap();
        world.edit(&edit.replace("OLD", &old));
        assert_eq!(open(&world, &keyrings, "ada", &ada).await.err(), Some(UnlockError::Tampered), "{edit}");
        assert_eq!(seal(&world, &keyrings, "ada").await.err(), Some(UnlockError::Tampered), "{edit}");
        assert!(keyrings.damage().unwrap().contains("of default/charts"));
        assert!(matches!(shred(&world, &keyrings, "ada", 13).await, Err(ApplyError::Tampered(_))));
    }
}

#[tokio::test]
async fn while_it_runs_a_sidecar_makes_no_second_key_for_a_patient_whose_row_was_deleted() {
    let (world, one, [ada, _]) = two().await;
    let (other, restarted) = (world.admitted().await, world.admitted().await);
    // `cid` came after both were started: one of them made it, the other heard of it.
    make(&world, &other, &["cid"], 12).await;
    restarted.catch_up().await.unwrap();
    world.edit("DELETE FROM partitions");
    let changes = one.head().unwrap().changes;
    for keyrings in [&one, &other, &restarted] {
        keyrings.evict_all();
        keyrings.catch_up().await.unwrap();
        assert_eq!(open(&world, keyrings, "ada", &ada).await.err(), Some(UnlockError::Tampered));
        for patient in ["ada", "cid"] {
            assert_eq!(seal(&world, keyrings, patient).await.err(), Some(UnlockError::Tampered), "{patient}");
            let name = keyrings.partition_name(&name("charts"), patient).unwrap();
            let made = world.change(keyrings, step("charts", PartitionStep::Make(vec![name])), 20).await;
            assert!(
                matches!(&made, Err(ApplyError::Tampered(why)) if why.contains("row has been deleted")),
                "{made:?}"
            );
            assert!(matches!(shred(&world, keyrings, patient, 21).await, Err(ApplyError::Tampered(_))));
        }
        assert!(keyrings.damage().unwrap().contains("of default/charts: its row has been deleted"));
        assert_eq!(seal(&world, keyrings, "eve").await.err(), Some(UnlockError::Unknown), "a new patient is new");
    }
    assert_eq!(one.head().unwrap().changes, changes + 1, "nothing was made but what was made before");
}

#[tokio::test]
async fn fifty_who_want_one_partition_at_once_read_its_row_once() {
    let (world, keyrings, [ada, _]) = two().await;
    keyrings.evict_all();
    let (world, ada) = (Arc::new(world), Arc::new(ada));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (world, keyrings, ada) = (Arc::clone(&world), Arc::clone(&keyrings), Arc::clone(&ada));
            tokio::spawn(async move { open(&world, &keyrings, "ada", &ada).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), b"ada");
    }
    assert_eq!(keyrings.cached_partitions(), 1);
}

#[tokio::test]
async fn what_a_rotation_leaves_behind_is_known_until_it_has_followed_also_after_a_restart() {
    let (world, keyrings) = ready().await;
    make(&world, &keyrings, &["ada", "bob", "eve"], 20).await;
    assert_eq!(keyrings.partitions_elsewhere().await.unwrap(), []);
    rotate(&world, &keyrings, 30).await;
    let left = [Elsewhere { keyring: name("charts"), trigger: Trigger::Incident, partitions: 3 }];
    assert_eq!(keyrings.partitions_elsewhere().await.unwrap(), left);
    assert_eq!(world.admitted().await.partitions_elsewhere().await.unwrap(), left);
    world.change(&keyrings, step("charts", PartitionStep::Rewrap(2)), 40).await.unwrap();
    assert_eq!(keyrings.partitions_elsewhere().await.unwrap()[0].partitions, 1);
    world.change(&keyrings, step("charts", PartitionStep::Rewrap(2)), 41).await.unwrap();
    assert_eq!(keyrings.partitions_elsewhere().await.unwrap(), []);
}
