//! All keys of a store move to the current versions of the key-encryption keys: whole, resumable, without a moment in
//! which a key is lost.

use super::*;
use crate::kek::WrapRole;

impl World {
    /// A store with so many keyrings, and the primary rotated since.
    async fn rotated(keyrings: usize) -> (Self, Arc<Keyrings>, Vec<String>) {
        let names: Vec<String> = (0..keyrings).map(|n| format!("k{n:04}")).collect();
        let world = Self::new();
        world.found().await.unwrap();
        let open = world.admitted().await;
        for (name, intent) in names.iter().zip(10..) {
            world.create(&open, name, intent).await.unwrap();
        }
        assert_eq!(world.rotate("kek"), 2);
        (world, open, names)
    }

    async fn unlock_all(&self, keyrings: &Arc<Keyrings>, names: &[String]) {
        for name in names {
            drop(keyrings.unlock_to_seal(&self.permit(Action::Seal, name)).await.unwrap());
        }
    }
}

/// The whole of it, and a survey afterwards.
async fn job(keyrings: &Arc<Keyrings>, intent: u64) -> Result<RewrapReport, ApplyError> {
    let inner = Arc::clone(&keyrings.inner);
    let far = inner.clock.mono().plus(Duration::from_secs(3_600));
    let step = rewrap::step(inner, intent, None, far).await?;
    if let Some(error) = step.stopped {
        return Err(error);
    }
    assert_eq!(step.next, None);
    let after = keyrings.wraps().await?;
    let behind = step.report.rewrapped + after.behind;
    Ok(RewrapReport { keys: after.keys, behind, wraps: after.wraps, ..step.report })
}

fn counts(report: &RewrapReport) -> Vec<(String, u64)> {
    report.wraps.iter().map(|(kek, version, count)| (format!("{kek} v{version}"), *count)).collect()
}

#[tokio::test]
async fn every_key_moves_to_the_new_version_and_opens_by_it_alone() {
    let (world, keyrings, names) = World::rotated(7).await;
    let before = keyrings.wraps().await.unwrap();
    assert_eq!((before.keys, before.behind, counts(&before)), (9, 9, vec![("primary v1".into(), 9)]));
    assert!(!before.is_complete());
    let report = job(&keyrings, 50).await.unwrap();
    assert_eq!((report.keys, report.rewrapped, report.failed), (9, 9, 0), "keyward's own two keys too");
    assert_eq!(counts(&report), [("primary v2".into(), 9)]);
    assert!(report.is_complete());
    assert_eq!(report.wraps_by(&"primary".parse().unwrap(), Some(1)), 0);
    let changes = keyrings.head().unwrap().changes;
    assert_eq!(changes, 9, "one transaction for all of them");
    let restarted = world.admitted().await;
    world.unlock_all(&restarted, &names).await;
    let again = job(&restarted, 51).await.unwrap();
    assert_eq!((again.rewrapped, again.is_complete(), restarted.head().unwrap().changes), (0, true, changes));
}

#[tokio::test]
async fn an_escrow_that_was_configured_later_gets_its_wraps_by_a_rewrapping() {
    let mut world = World::new();
    world.found().await.unwrap();
    let keyrings = world.admitted().await;
    world.create(&keyrings, "patients", 10).await.unwrap();
    world.escrow = World::with_escrow().escrow;
    let keyrings = world.admitted().await;
    assert_eq!(keyrings.missing().len(), 1);
    assert!(job(&keyrings, 50).await.unwrap().is_complete());
    assert_eq!(keyrings.missing(), []);
    let rows = keyrings.inner.writer.ring("default/patients".to_owned()).await.unwrap().unwrap();
    let roles: Vec<WrapRole> = wraps::decode(&rows.keys[0].wraps).unwrap().into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, [WrapRole::Primary, WrapRole::Escrow]);
    world.kek.become_(Mood::Unreachable);
    let keyrings = world.admitted().await;
    world.unlock_all(&keyrings, &["patients".to_owned()]).await;
}

#[tokio::test]
async fn a_kek_that_goes_away_in_the_middle_loses_nothing_and_the_next_run_does_the_rest() {
    let (world, keyrings, names) = World::rotated(5).await;
    for mood in [Mood::Unreachable, Mood::Denied] {
        world.kek.become_(mood);
        let refused = job(&keyrings, 50).await.unwrap_err();
        assert!(refused.to_string().contains("start it again"), "{refused}");
        world.kek.become_(Mood::Good);
        world.unlock_all(&world.admitted().await, &names).await;
    }
    world.kek.become_(Mood::Confused);
    let report = job(&keyrings, 50).await.unwrap();
    assert_eq!((report.rewrapped, report.failed), (0, 7), "a key that is another one replaces nothing");
    world.kek.become_(Mood::Good);
    assert!(job(&keyrings, 51).await.unwrap().is_complete());
}

#[tokio::test]
async fn two_sidecars_share_the_work_and_a_change_in_between_is_kept() {
    let (world, one, mut names) = World::rotated(6).await;
    let two = world.admitted().await;
    world.create(&two, "late", 70).await.unwrap();
    names.push("late".to_owned());
    let rotate = Change::Rotate { keyring: name("k0000"), trigger: Trigger::Incident, expect: None };
    let (first, second, rotated) = tokio::join!(job(&one, 50), job(&two, 60), world.change(&two, rotate, 71));
    assert_eq!(rotated.unwrap().keyring.versions.len(), 2);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.rewrapped + second.rewrapped >= 8, "{first:?} {second:?}");
    let left = job(&one, 51).await.unwrap();
    assert!(left.is_complete(), "{left:?}");
    assert_eq!(left.wraps_by(&"primary".parse().unwrap(), Some(1)), 0);
    world.unlock_all(&world.admitted().await, &names).await;
}

#[tokio::test]
async fn a_keyring_with_more_keys_than_a_transaction_takes_is_moved_in_parts() {
    let (world, keyrings, _) = World::rotated(1).await;
    for intent in 100..605 {
        let rotate = Change::Rotate { keyring: name("k0000"), trigger: Trigger::Usage, expect: None };
        world.change(&keyrings, rotate, intent).await.unwrap();
    }
    assert_eq!(world.rotate("kek"), 3);
    let before = keyrings.head().unwrap().changes;
    let report = job(&keyrings, 50).await.unwrap();
    assert_eq!((report.keys, report.rewrapped, report.is_complete()), (508, 508, true));
    assert_eq!(keyrings.head().unwrap().changes - before, 3, "500 keys, the rest, and keyward's own");
    let restarted = world.admitted().await;
    assert_eq!(restarted.find(&name("k0000")).await.unwrap().unwrap().versions.len(), 506);
}

#[tokio::test]
async fn a_key_that_nobody_opens_is_named_and_the_others_move() {
    let (mut world, keyrings, _) = World::rotated(3).await;
    // Somebody replaced the token's key: what it had wrapped is lost, what it wraps from now on is not.
    let lost = world.another("other");
    world.kek = software(&world.dir.path().join("kek"), "primary");
    let keks = world.keks_of(&lost, None, &[]);
    let store = world.store().await;
    let foreign = Keyrings::open(store, keks, world.shared_clock(), world.settings.clone());
    assert!(matches!(foreign.admit().await, Err(ApplyError::Refused(why)) if why.contains("configure")));
    let rows = keyrings.inner.writer.ring("default/k0001".to_owned()).await.unwrap().unwrap();
    let (open, loaded) = (keyrings.inner.opened().unwrap(), rows.keys[0].row.id);
    let ring = keyrings.inner.load(&open, "default/k0001").await.unwrap().unwrap();
    let mut draft = draft::RingDraft::of(&ring);
    draft.change(loaded, |key, _| *key.wraps.last_mut().unwrap() ^= 1).unwrap();
    let draft = draft::Draft { kind: "test", at: NOON, intent: None, rings: vec![draft], partitions: vec![] };
    assert!(keyrings.inner.commit(&open, draft).await.is_ok());
    let report = job(&keyrings, 50).await.unwrap();
    assert_eq!((report.rewrapped, report.failed, report.is_complete()), (4, 1, false));
    assert_eq!(report.failures[0].0, loaded);
    assert!(report.failures[0].1.contains("its wrap by primary does not open"), "{report:?}");
    assert_eq!(report.wraps_by(&"primary".parse().unwrap(), Some(1)), 1, "so the old version is still needed");
}

#[tokio::test]
async fn a_part_ends_at_its_time_after_a_whole_page_and_says_where_to_go_on() {
    let (world, keyrings, names) = World::rotated(3).await;
    let now = world.clock.mono();
    let part = rewrap::step(Arc::clone(&keyrings.inner), 50, None, now).await.unwrap();
    assert_eq!((part.report.rewrapped, part.next.as_deref()), (5, Some("kw.system")));
    let rest = rewrap::step(Arc::clone(&keyrings.inner), 51, part.next, now).await.unwrap();
    assert_eq!((rest.report.rewrapped, rest.next), (0, None));
    world.unlock_all(&world.admitted().await, &names).await;
}

#[tokio::test]
async fn a_sidecar_that_is_behind_stores_no_key_under_a_retired_version() {
    let world = World::new();
    world.found().await.unwrap();
    let one = world.admitted().await;
    world.create(&one, "patients", 10).await.unwrap();
    world.create(&one, "staff", 11).await.unwrap();
    // A second sidecar that does not take up version 2: its key-encryption key is a copy from before the rotation.
    let file = std::fs::read(world.dir.path().join("kek")).unwrap();
    Disk::real().write_new(&world.dir.path().join("older"), &file, 0o600).unwrap();
    let older = software(&world.dir.path().join("older"), "primary");
    let keks = world.keks_of(&older, None, &[]);
    let two = Keyrings::open(world.store().await, keks, world.shared_clock(), world.settings.clone());
    two.admit().await.unwrap();
    assert_eq!(world.rotate("kek"), 2);
    let retire = |version| retire::retire(&one.inner, 60, ("primary".parse().unwrap(), version), None);
    assert_eq!(retire(Some(1)).await.unwrap(), Retirement::Needed(4));
    assert!(job(&one, 50).await.unwrap().is_complete());
    for version in [Some(2), Some(7), None] {
        assert_eq!(retire(version).await.unwrap(), Retirement::Wraps(2));
    }
    let foreign = retire::retire(&one.inner, 61, ("primry".parse().unwrap(), Some(1)), None).await.unwrap_err();
    assert!(matches!(foreign, ApplyError::Unknown(_)), "{foreign:?}");
    assert!(matches!(retire(Some(1)).await.unwrap(), Retirement::Done(report) if report.keys == 4));
    let changes = one.head().unwrap().changes;
    assert!(matches!(retire(Some(1)).await.unwrap(), Retirement::Done(_)));
    assert_eq!(one.head().unwrap().changes, changes, "retired once");
    let refused = world.create(&two, "late", 70).await.unwrap_err();
    assert!(matches!(&refused, ApplyError::Unavailable(why) if why.contains("primary v1 is retired")), "{refused:?}");
    world.create(&one, "late", 71).await.unwrap();
    let names = ["patients", "staff", "late"].map(str::to_owned);
    world.unlock_all(&world.admitted().await, &names).await;
}

#[tokio::test]
async fn one_edited_keyring_holds_up_neither_a_list_nor_a_rewrapping_and_is_named() {
    let (world, keyrings, mut names) = World::rotated(6).await;
    world.edit("UPDATE keys SET state = 'suspended' WHERE keyring = 'default/k0002'");
    let report = job(&keyrings, 50).await.unwrap();
    assert_eq!((report.rewrapped, report.failed), (7, 0), "five data keys and keyward's own two");
    assert!(keyrings.damage().unwrap().contains("k0002"));
    let survey = keyrings.wraps().await.unwrap();
    assert_eq!((survey.damaged.as_slice(), survey.is_complete()), (&["default/k0002".to_owned()][..], false));
    let retired = retire::retire(&keyrings.inner, 51, ("primary".parse().unwrap(), Some(1)), None).await.unwrap_err();
    assert!(retired.to_string().contains("k0002"), "{retired}");
    names.remove(2);
    let listed = keyrings.list(&world.permit(Action::KeyringList, "any"), None, 100).await.unwrap();
    let listed: Vec<String> = listed.iter().map(|view| view.name.name().as_str().to_owned()).collect();
    assert_eq!(listed, names);
    world.unlock_all(&keyrings, &names).await;
}
