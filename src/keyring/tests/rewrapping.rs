//! Keys whose wraps are behind: by an older version, by the wrong one, by one that retires.

use super::keks::{NotGiven, NotRewrapped, Wrapped};
use super::wraps::Owner;
use super::*;
use crate::kek::WrapRole::{self, Escrow, Primary};
use crate::names::{KeyVersionId, StoreId};

/// Wraps of one key and what they are bound to.
type Wraps = Vec<(WrapRole, Wrap)>;

fn owner() -> Owner {
    Owner { store: StoreId([1; 16]), owner: "default/patients".into(), key: KeyVersionId([2; 8]), created: NOON }
}

impl World {
    async fn made(&self, keks: &Keks) -> (DataKey, Wraps) {
        keks.make(&owner(), super::Escrow::Yes, self.soon()).await.unwrap()
    }

    async fn rewrapped(&self, keks: &Keks, wraps: &Wraps) -> Wraps {
        assert!(keks.behind(wraps, super::Escrow::Yes));
        let done = keks.rewrap(&self.shared_clock(), wraps, &owner(), super::Escrow::Yes, self.soon()).await.unwrap();
        assert!(!keks.behind(&done.wraps, super::Escrow::Yes));
        done.wraps
    }

    async fn unrewrapped(&self, keks: &Keks, wraps: &Wraps) -> NotRewrapped {
        keks.rewrap(&self.shared_clock(), wraps, &owner(), super::Escrow::Yes, self.soon()).await.unwrap_err()
    }

    async fn opened(&self, keks: &Keks, wraps: &Wraps) -> Result<([u8; 16], String), NotGiven> {
        let given = keks.unwrap(&self.shared_clock(), wraps, &owner(), self.soon()).await?;
        Ok((given.key.check_value(), given.by.to_string()))
    }

    pub(super) fn rotate(&self, file: &str) -> u32 {
        SoftwareKek::rotate_file(&Disk::real(), &self.dir.path().join(file), None).unwrap().0
    }

    /// A KEK beside those of the world.
    pub(super) fn another(&self, name: &str) -> Arc<Tempered> {
        software(&self.dir.path().join(name), name)
    }

    pub(super) fn keks_of(
        &self,
        primary: &Arc<Tempered>,
        escrow: Option<&Arc<Tempered>>,
        retiring: &[&Arc<Tempered>],
    ) -> Keks {
        let of = |kek: &Arc<Tempered>| Arc::clone(kek) as Arc<dyn Kek>;
        let keks = Keks::new(of(primary), escrow.map(of), EventSink::new(self.events.clone()));
        keks.with_retiring(retiring.iter().map(|kek| of(kek)).collect())
    }
}

fn by(counted: &Wrapped, kek: &KekName) -> u64 {
    counted.each().filter(|(name, ..)| *name == kek).map(|(.., count)| count).sum()
}

fn shown(wraps: &Wraps) -> Vec<(WrapRole, String)> {
    wraps.iter().map(|(role, wrap)| (*role, format!("{} v{}", wrap.kek, wrap.kek_version))).collect()
}

#[tokio::test]
async fn a_rotated_primary_wraps_anew_and_the_escrow_keeps_what_it_has() {
    let world = World::with_escrow();
    let keks = world.keks();
    let (key, wraps) = world.made(&keks).await;
    assert!(!keks.behind(&wraps, super::Escrow::Yes));
    assert_eq!(world.rotate("kek"), 2);
    assert!(keks.behind(&wraps, super::Escrow::Yes));
    world.kek.unwraps.store(0, Ordering::SeqCst);
    let newer = world.rewrapped(&keks, &wraps).await;
    assert_eq!(shown(&newer), [(Primary, "primary v2".into()), (Escrow, "backup v1".into())]);
    assert_eq!(newer[1], wraps[1]);
    assert_eq!(world.kek.unwraps(), 2, "one to open the key, one to prove the new wrap");
    assert_eq!(world.opened(&keks, &newer).await.unwrap(), (key.check_value(), "primary".into()));
    assert_eq!(world.opened(&keks, &wraps).await.unwrap().0, key.check_value(), "the older version opens still");
}

#[tokio::test]
async fn what_is_not_behind_is_given_back_as_it_is() {
    let world = World::with_escrow();
    let keks = world.keks();
    let (_, wraps) = world.made(&keks).await;
    let same = keks.rewrap(&world.shared_clock(), &wraps, &owner(), super::Escrow::Yes, world.soon()).await.unwrap();
    assert_eq!((same.wraps, same.mended), (wraps, vec![]));
}

#[tokio::test]
async fn an_escrow_that_comes_later_wraps_the_older_keys_and_one_that_goes_leaves_them() {
    let world = World::with_escrow();
    let alone = world.keks_of(&world.kek, None, &[]);
    let (key, wraps) = world.made(&alone).await;
    let both = world.rewrapped(&world.keks(), &wraps).await;
    assert_eq!(shown(&both), [(Primary, "primary v1".into()), (Escrow, "backup v1".into())]);
    assert_eq!(both[0], wraps[0]);
    world.kek.become_(Mood::Unreachable);
    assert_eq!(world.opened(&world.keks(), &both).await.unwrap(), (key.check_value(), "backup".into()));
    world.kek.become_(Mood::Good);
    assert_eq!(world.rewrapped(&alone, &both).await, wraps, "what nobody answers for any more is dropped");
}

#[tokio::test]
async fn another_product_takes_over_and_the_retiring_one_opens_until_everything_is_rewrapped() {
    let world = World::new();
    let (key, wraps) = world.made(&world.keks()).await;
    let new = world.another("new");
    let keks = world.keks_of(&new, None, &[&world.kek]);
    assert_eq!(world.opened(&keks, &wraps).await.unwrap(), (key.check_value(), "primary".into()));
    assert_eq!(shown(&world.made(&keks).await.1), [(Primary, "new v1".into())], "it wraps nothing");
    let mut counted = Wrapped::default();
    counted.add(&wraps);
    assert_eq!(by(&counted, world.kek.name()), 1);
    let newer = world.rewrapped(&keks, &wraps).await;
    assert_eq!(shown(&newer), [(Primary, "new v1".into())]);
    let mut counted = Wrapped::default();
    counted.add(&newer);
    assert_eq!((by(&counted, world.kek.name()), by(&counted, new.name())), (0, 1));
    let removed = world.keks_of(&new, None, &[]);
    assert_eq!(world.opened(&removed, &newer).await.unwrap(), (key.check_value(), "new".into()));
    assert_eq!(world.opened(&removed, &wraps).await, Err(NotGiven::Foreign));
}

#[tokio::test]
async fn a_retiring_one_is_not_asked_where_the_primary_or_the_escrow_has_a_wrap() {
    let world = World::with_escrow();
    let old = world.another("old");
    let (_, both) = world.made(&world.keks_of(&world.kek, None, &[])).await;
    let by_old = {
        let keks = world.keks_of(&old, None, &[]);
        let key = world.opened(&world.keks(), &both).await.unwrap();
        assert_eq!(key.1, "primary");
        world.made(&keks).await.1
    };
    let keks = world.keks_of(&world.kek, None, &[&old]);
    let mixed = vec![both[0].clone(), (Escrow, by_old[0].1.clone())];
    old.unwraps.store(0, Ordering::SeqCst);
    for mood in [Mood::Unreachable, Mood::Denied] {
        world.kek.become_(mood);
        assert!(world.opened(&keks, &mixed).await.is_err());
    }
    assert_eq!(old.unwraps(), 0);
}

#[tokio::test]
async fn retiring_ones_are_asked_in_their_order_and_a_refusal_ends_it() {
    let world = World::with_escrow();
    let backup = world.escrow.as_ref().unwrap();
    let (_, wraps) = world.made(&world.keks()).await;
    let new = world.another("new");
    let keks = world.keks_of(&new, None, &[&world.kek, backup]);
    assert_eq!(world.opened(&keks, &wraps).await.unwrap().1, "primary");
    world.kek.become_(Mood::Unreachable);
    assert_eq!(world.opened(&keks, &wraps).await.unwrap().1, "backup");
    world.kek.become_(Mood::Denied);
    assert!(matches!(world.opened(&keks, &wraps).await, Err(NotGiven::Refused(kek, _)) if kek == *world.kek.name()));
}

#[tokio::test]
async fn keks_that_change_their_roles_wrap_anew_in_the_new_ones() {
    let world = World::with_escrow();
    let backup = world.escrow.as_ref().unwrap();
    let (key, wraps) = world.made(&world.keks()).await;
    let swapped = world.keks_of(backup, Some(&world.kek), &[]);
    assert_eq!(world.opened(&swapped, &wraps).await.unwrap(), (key.check_value(), "backup".into()));
    let newer = world.rewrapped(&swapped, &wraps).await;
    assert_eq!(shown(&newer), [(Primary, "backup v1".into()), (Escrow, "primary v1".into())]);
}

#[tokio::test]
async fn a_damaged_wrap_and_one_of_a_lost_version_are_mended_by_the_other() {
    let world = World::with_escrow();
    let keks = world.keks();
    let (key, wraps) = world.made(&keks).await;
    let mut damaged = wraps.clone();
    damaged[0].1.blob[30] ^= 1;
    let mut lost = wraps.clone();
    lost[0].1.kek_version = 7;
    for broken in [damaged, lost] {
        let done =
            keks.rewrap(&world.shared_clock(), &broken, &owner(), super::Escrow::Yes, world.soon()).await.unwrap();
        assert_eq!(done.mended, [world.kek.name().clone()]);
        assert_eq!(done.wraps[1], wraps[1]);
        assert_eq!(world.opened(&keks, &done.wraps).await.unwrap(), (key.check_value(), "primary".into()));
    }
}

#[tokio::test]
async fn nothing_is_rewrapped_past_a_refusal_nor_without_every_one_that_wraps() {
    let world = World::with_escrow();
    let (keks, backup) = (world.keks(), world.escrow.as_ref().unwrap());
    let (_, wraps) = world.made(&keks).await;
    world.rotate("kek");
    world.kek.become_(Mood::Denied);
    backup.unwraps.store(0, Ordering::SeqCst);
    let refused = |error| matches!(error, NotRewrapped::Closed(NotGiven::Refused(kek, _)) if kek == *world.kek.name());
    assert!(refused(world.unrewrapped(&keks, &wraps).await));
    world.kek.become_(Mood::Unreachable);
    assert!(matches!(world.unrewrapped(&keks, &wraps).await, NotRewrapped::Closed(NotGiven::Away(_))));
    assert_eq!(backup.unwraps(), 0, "nobody goes around a refusal, nor around the outage after it");
    world.kek.become_(Mood::Good);
    world.rotate("backup");
    backup.become_(Mood::Unreachable);
    assert!(matches!(world.unrewrapped(&keks, &wraps).await, NotRewrapped::NotWrapped(_)));
}

#[tokio::test]
async fn wraps_of_two_keys_are_not_made_one() {
    let world = World::with_escrow();
    let keks = world.keks();
    let ((_, one), (_, two)) = (world.made(&keks).await, world.made(&keks).await);
    let mixed = vec![one[0].clone(), two[1].clone()];
    world.rotate("kek");
    let contradicts =
        |error, kek: &Arc<Tempered>| matches!(error, NotRewrapped::Contradicts(its) if its == *kek.name());
    assert!(contradicts(world.unrewrapped(&keks, &mixed).await, world.escrow.as_ref().unwrap()));
    world.kek.become_(Mood::Confused);
    assert!(contradicts(world.unrewrapped(&keks, &one).await, &world.kek), "nor does a KEK that gives another key");
}

#[tokio::test]
async fn a_wrap_by_a_newer_version_than_ours_is_not_behind() {
    let world = World::new();
    let as_it_was = std::fs::read(world.dir.path().join("kek")).unwrap();
    Disk::real().write_new(&world.dir.path().join("not-rotated"), &as_it_was, 0o600).unwrap();
    let ours = world.keks_of(&software(&world.dir.path().join("not-rotated"), "primary"), None, &[]);
    world.rotate("kek");
    let (_, wraps) = world.made(&world.keks()).await;
    assert_eq!(shown(&wraps), [(Primary, "primary v2".into())]);
    assert!(!ours.behind(&wraps, super::Escrow::Yes));
}

#[tokio::test]
async fn many_keys_are_rewrapped_at_once() {
    let world = World::new();
    let keks = Arc::new(world.keks());
    let mut tasks = tokio::task::JoinSet::new();
    let (_, wraps) = world.made(&keks).await;
    world.rotate("kek");
    world.kek.unwraps.store(0, Ordering::SeqCst);
    world.kek.held.send_replace(true);
    for _ in 0..32 {
        let (keks, clock, wraps, soon) = (keks.clone(), world.shared_clock(), wraps.clone(), world.soon());
        tasks
            .spawn(async move { keks.rewrap(&clock, &wraps, &owner(), super::Escrow::Yes, soon).await.unwrap().wraps });
    }
    settle_tasks().await;
    assert_eq!(world.kek.unwraps(), 32, "none waits for another");
    world.kek.held.send_replace(false);
    let done = tasks.join_all().await;
    assert!(done.iter().all(|wraps| !keks.behind(wraps, super::Escrow::Yes)));
}

#[tokio::test]
async fn wraps_are_counted_by_name_and_version() {
    let world = World::with_escrow();
    let keks = world.keks();
    let mut counted = Wrapped::default();
    counted.add(&world.made(&keks).await.1);
    world.rotate("backup");
    counted.add(&world.made(&keks).await.1);
    let told: Vec<_> = counted.each().map(|(kek, version, count)| (kek.as_str(), version, count)).collect();
    assert_eq!(told, [("backup", 1, 1), ("backup", 2, 1), ("primary", 1, 2)]);
    assert_eq!(by(&counted, world.escrow.as_ref().unwrap().name()), 2);
    assert_eq!(keks.at_once(), 2, "each takes one call at a time here");
}
