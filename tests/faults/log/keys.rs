//! The key of the log changes: both keys sign, then the new one alone; nobody else's key gets in between, and a crash
//! anywhere leaves a log that goes on (LOG-32, LOG-33).

use super::crashes::unlocked;
use super::exports::{exported, forged_by, keys, nth, put};
use super::*;
use keyward::audit::{Keys, RotateError, Rotated, VerifierKey};
use keyward::crypto::SigningKey;
use keyward::durable::faults::{Fault, Loss, Step};

const DAY: Duration = Duration::from_secs(86_400);

async fn rotate(log: &Log, overlap: Duration) -> Result<Rotated, RotateError> {
    let record = Record { groups: vec![], ..record("ceremony-1") };
    let facts = vec![("ceremony", "c1".to_owned())];
    log.rotate_key(Record { facts, ..record }, overlap, NEVER).await
}

fn read(settings: &Settings, name: &str) -> String {
    std::fs::read_to_string(settings.dir.join(name)).unwrap()
}

fn signatures(note: &str) -> usize {
    note.lines().filter(|line| line.starts_with('\u{2014}')).count()
}

fn trusts(dir: &Path, key: &VerifierKey) -> Result<Verified, VerifyError> {
    verify(dir, Some(key), None, &mut |_| {})
}

/// Lets time pass until the log has made a checkpoint over everything.
async fn covered(log: &Log, clock: &ManualClock, more: Duration) {
    let _receipt = log.append(record("later"), (), NEVER).await.unwrap();
    let wanted = *log.committed().borrow();
    clock.advance(more);
    log.checkpointed().wait_for(|size| *size >= wanted).await.unwrap();
}

fn named(result: Result<Verified, VerifyError>) -> &'static str {
    match result {
        Err(VerifyError::Broken(found)) => found.rule.clause(),
        other => panic!("{other:?}"),
    }
}

/// A log whose key was changed twice.
async fn rotated_twice() -> (tempfile::TempDir, Settings, Arc<ManualClock>, [Rotated; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    append(&log, 0..5).await;
    let first = rotate(&log, DAY).await.unwrap();
    covered(&log, &clock, DAY).await;
    covered(&log, &clock, Duration::from_secs(2)).await;
    let second = rotate(&log, Duration::ZERO).await.unwrap();
    covered(&log, &clock, Duration::from_secs(2)).await;
    log.drain().await.unwrap();
    (dir, settings, clock, [first, second])
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_sign_for_the_overlap_and_then_the_new_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    let founding = log.verifier_key().clone();
    append(&log, 0..5).await;
    let rotated = rotate(&log, DAY).await.unwrap();
    assert_eq!((&rotated.old, rotated.index), (&founding, 7));
    let note = read(&settings, "checkpoint");
    let both = [founding.open(&note), rotated.key.open(&note)];
    assert_eq!((both[0], signatures(&note)), (both[1], 2));
    assert_eq!(both[0].unwrap().size, 8, "the first checkpoint of the new key covers its record");
    assert_eq!(log.signing_key(), founding, "the old one is needed still");
    covered(&log, &clock, Duration::from_secs(3)).await;
    assert_eq!(signatures(&read(&settings, "checkpoint")), 2);
    covered(&log, &clock, DAY).await;
    covered(&log, &clock, Duration::from_secs(2)).await;
    let note = read(&settings, "checkpoint");
    assert_eq!((founding.open(&note).is_ok(), rotated.key.open(&note).is_ok(), signatures(&note)), (false, true, 1));
    assert_eq!(log.signing_key(), rotated.key);
    assert!(!settings.dir.join("checkpoint.key.next").exists(), "the old private key is gone");
    log.drain().await.unwrap();
    let told = [&founding, &rotated.key].map(|key| trusts(&settings.dir, key).unwrap());
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].keys, [founding.clone(), rotated.key.clone()]);
    drop(log);
    let (log, _) = open(&settings, &clock, &disk()).unwrap();
    assert_eq!((log.verifier_key(), log.signing_key()), (&founding, rotated.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_follow_each_other_in_exports_and_from_any_of_them() {
    let (dir, settings, _clock, [first, second]) = rotated_twice().await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    for place in [&settings.dir, &out] {
        let told = [&first.old, &first.key, &second.key].map(|key| trusts(place, key).unwrap());
        assert_eq!(told[0].keys, [first.old.clone(), first.key.clone(), second.key.clone()]);
        assert!(told.iter().all(|one| one == &told[0]));
    }
    let proof = keyward::audit::prove::prove(&out, first.index, Some(&first.old), &mut |_| {}).unwrap();
    assert!(proof.check(&keys(&settings)).is_ok());
    assert!(proof.check(&Keys::founding_only(second.key)).is_ok());
    assert!(proof.check(&Keys::founding_only(first.key)).is_err(), "its turn is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_rotation_ends_the_overlap_of_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    let first = rotate(&log, DAY).await.unwrap();
    let second = rotate(&log, DAY).await.unwrap();
    assert_eq!(second.old, first.key);
    let note = read(&settings, "checkpoint");
    assert_eq!(first.old.open(&note).ok(), None);
    assert!(first.key.open(&note).is_ok() && second.key.open(&note).is_ok());
    log.drain().await.unwrap();
    drop(log);
    assert_eq!(trusts(&settings.dir, &first.old).unwrap().keys.len(), 3);
    drop(open(&settings, &clock, &disk()).unwrap());
    assert_eq!(trusts(&settings.dir, &first.old).unwrap().keys.len(), 3);
}

/// Whoever can write the files and has no key of the log.
#[tokio::test(flavor = "multi_thread")]
async fn every_edit_of_the_chain_of_keys_is_caught() {
    let (dir, settings, clock, [first, second]) = rotated_twice().await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let stranger = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let strange = VerifierKey::new(keys(&settings).origin().clone(), stranger.public());
    let lines = |keys: &[&VerifierKey]| keys.iter().map(|key| key.to_text() + "\n").collect::<String>();
    let texts = [
        (lines(&[]), "LOG-14"),
        (lines(&[&first.key]), "LOG-14"),
        (lines(&[&second.key, &first.key]), "LOG-14"),
        (lines(&[&strange, &second.key]), "LOG-14"),
        (lines(&[&first.key, &strange]), "LOG-14"),
        (lines(&[&first.key, &second.key, &strange]), "LOG-32"),
        (lines(&[&first.key, &first.key, &second.key]), "LOG-32"),
        ("nonsense\n".to_owned(), "LOG-32"),
    ];
    let good = read(&settings, "successors");
    for (text, clause) in texts {
        std::fs::write(settings.dir.join("successors"), &text).unwrap();
        assert_eq!(named(trusts(&settings.dir, &first.old)), clause, "{text}");
        let opened = open(&settings, &clock, &disk());
        assert!(matches!(opened, Err(OpenError::Damaged(_) | OpenError::Key(_))), "{text}: {opened:?}");
    }
    std::fs::write(settings.dir.join("successors"), &good).unwrap();
    // In an export a key that nothing shows to have signed says nothing; every other edit is named.
    let whole = exports::files(&out);
    let mut cut = whole.clone();
    cut.remove("handovers");
    put(&out, &cut);
    assert_eq!(named(trusts(&out, &first.old)), "LOG-32");
    let handovers = String::from_utf8(whole["handovers"].clone()).unwrap();
    for at in (0..handovers.len()).step_by(3) {
        let mut bytes = handovers.clone().into_bytes();
        bytes[at] ^= 1;
        let mut changed = whole.clone();
        changed.insert("handovers".into(), bytes);
        put(&out, &changed);
        let found = trusts(&out, &first.old);
        assert!(found.is_err(), "byte {at}");
    }
    // The stranger signs a checkpoint and claims to have followed the founding key.
    put(&out, &whole);
    let records = exports::records(&settings);
    let forged = forged_by(&settings, &records, &[&stranger], &lines(&[&strange]));
    put(&out, &forged);
    assert_eq!(named(trusts(&out, &first.old)), "LOG-32");
}

/// The old key alone, once it was stolen, names a key of the thief: only who knows the true next key sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_old_key_deceives_nobody_who_knows_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    let stolen = exports::signing(&settings);
    let rotated = rotate(&log, Duration::ZERO).await.unwrap();
    let newest = read(&settings, "checkpoint");
    log.drain().await.unwrap();
    let out = dir.path().join("out");
    let records = exports::records(&settings);
    put(&out, &forged_by(&settings, &records[..usize::try_from(rotated.index).unwrap()], &[&stolen], ""));
    assert!(trusts(&out, &rotated.old).is_ok(), "a shorter log of the old key, as LOG-17 says");
    assert_eq!(named(trusts(&out, &rotated.key)), "LOG-15");
    let since = verify(&out, Some(&rotated.old), Some(&newest), &mut |_| {});
    assert_eq!(named(since), "LOG-17");
}

/// A crash at every step of a rotation and of the end of its overlap: the log opens, verifies from its founding key, and
/// what was answered holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_off_anywhere_is_complete_or_never_was() {
    let mut outcomes = [0; 2];
    for seed in 0..400_u64 {
        let dir = tempfile::tempdir().unwrap();
        let (settings, clock) = (settings(dir.path()), clock());
        drop(create(&settings, &clock, &disk(), Limits::default()).unwrap());
        let faults = Faults::seeded(seed);
        let opened = unlocked(|| Log::open(&settings, clock.clone(), &faults.disk(), Limits::default()));
        let (log, _) = opened.unwrap();
        append(&log, 0..2).await;
        let fault = [Fault::PowerOff, Fault::Fail, Fault::FailPersisted, Fault::Torn(40), Fault::NoSpace][nth(seed, 5)];
        let overlap = if seed % 2 == 0 { Duration::ZERO } else { Duration::from_secs(2) };
        faults.plan(Step::Any, seed / 10, fault);
        let answered = rotate(&log, overlap).await;
        if let Ok(_receipt) = log.append(record("after"), (), NEVER).await {
            clock.advance(Duration::from_secs(3));
            let _ended = log.drain().await;
        }
        faults.restart([Loss::Unsynced, Loss::Some, Loss::Nothing][nth(seed, 3)]).unwrap();
        drop(log);
        let opened = unlocked(|| open(&settings, &clock, &disk()));
        let (log, _) = opened.unwrap_or_else(|error| panic!("{seed} {fault:?}: {error}"));
        let founding = log.verifier_key().clone();
        covered(&log, &clock, Duration::from_secs(5)).await;
        covered(&log, &clock, Duration::from_secs(5)).await;
        log.drain().await.unwrap();
        let told = trusts(&settings.dir, &founding).unwrap_or_else(|error| panic!("{seed} {fault:?}: {error}"));
        if let Ok(rotated) = &answered {
            assert_eq!(told.keys, [rotated.old.clone(), rotated.key.clone()], "{seed}: what was answered holds");
            assert_eq!(log.signing_key(), rotated.key, "{seed}");
        }
        assert!(!settings.dir.join("checkpoint.key.next").exists(), "{seed}: nothing is left half-way");
        outcomes[usize::from(answered.is_ok())] += 1;
        if answered.is_ok() && faults.steps(Step::Any) < seed / 10 {
            break;
        }
    }
    assert!(outcomes[0] > 20 && outcomes[1] > 5, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_answers_from_the_page_cache_lets_the_new_key_sign_once_its_record_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { durability: Durability::Written, ..settings(dir.path()) };
    let clock = clock();
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    let rotating = {
        let log = log.clone();
        tokio::spawn(async move { rotate(&log, Duration::ZERO).await })
    };
    while !rotating.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let rotated = rotating.await.unwrap().unwrap();
    log.drain().await.unwrap();
    assert_eq!(trusts(&settings.dir, &rotated.old).unwrap().keys.len(), 2);
}
