//! Disks that fail while the log runs: it closes, answers nothing, and recovers at the next start.

use super::*;
use keyward::audit::{AppendError, State};
use keyward::durable::faults::{Fault, Loss, Step};

/// A log over a disk on which the next step of a kind fails.
async fn failing(step: Step, fault: Fault) -> (tempfile::TempDir, Settings, Arc<ManualClock>, Arc<Faults>, Log) {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    drop(create(&settings, &clock, &disk(), Limits::default()).unwrap());
    let faults = Faults::seeded(3);
    let (log, _) = open(&settings, &clock, &faults.disk()).unwrap();
    append(&log, 0..3).await;
    faults.plan(step, 0, fault);
    (dir, settings, clock, faults, log)
}

/// LOG-18
#[tokio::test]
async fn a_failed_write_or_sync_closes_the_log_and_answers_nothing() {
    for step in [Step::Write, Step::Sync] {
        for fault in [Fault::Fail, Fault::FailPersisted, Fault::Torn(100), Fault::NoSpace] {
            let (_dir, settings, clock, faults, log) = failing(step, fault).await;
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let log = log.clone();
                    tokio::spawn(
                        async move { log.append(record(&format!("x{n}")), "outcome", NEVER).await.map(|_| ()) },
                    )
                })
                .collect();
            for task in tasks {
                assert!(matches!(task.await.unwrap(), Err(AppendError::Closed(_))), "{step:?} {fault:?}");
            }
            let later = log.append(record("later"), (), NEVER).await;
            assert!(matches!(later, Err(AppendError::Closed(_))), "nothing is tried again");
            let counted = log.append_summarised(&Actor::Unknown, "no_permit", (), NEVER).await;
            assert!(matches!(counted, Err(AppendError::Closed(_))));
            assert!(matches!(log.health().state, State::Closed(_)));
            assert!(log.drain().await.is_err());
            faults.restart(Loss::Unsynced).unwrap();
            drop(log);
            let (log, _) = open(&settings, &clock, &disk()).unwrap();
            append(&log, 0..1).await;
            proven(&settings).unwrap();
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_recovered_from() {
    let (_dir, settings, clock, faults, log) = failing(Step::Write, Fault::NoSpace).await;
    let told = log.append(record("x"), (), NEVER).await;
    assert!(matches!(&told, Err(AppendError::Closed(why)) if why.contains("no space left")), "{told:?}");
    faults.restart(Loss::Nothing).unwrap();
    drop(log);
    let (log, opened) = open(&settings, &clock, &disk()).unwrap();
    append(&log, 0..1).await;
    assert_eq!(opened.recovered.len(), 0, "nothing was written, nothing is torn");
}

#[tokio::test]
async fn a_short_write_is_carried_on() {
    let (_dir, _settings, _clock, _faults, log) = failing(Step::Write, Fault::Short(10)).await;
    append(&log, 0..1).await;
}

#[tokio::test]
async fn a_slow_disk_delays_the_answer_and_changes_nothing_else() {
    let (_dir, settings, _clock, _faults, log) = failing(Step::Sync, Fault::Delay(Duration::from_millis(20))).await;
    append(&log, 0..5).await;
    log.drain().await.unwrap();
    proven(&settings).unwrap();
}

/// LOG-18: what is not synced is not acknowledged, whatever reached the disk by luck.
#[tokio::test]
async fn a_checkpoint_that_cannot_be_stored_closes_the_log() {
    let (_dir, settings, clock, faults, log) = failing(Step::Entry, Fault::Fail).await;
    clock.advance(Duration::from_secs(1));
    let closed = async {
        while matches!(log.health().state, State::Open) {
            tokio::task::yield_now().await;
        }
    };
    closed.await;
    assert!(matches!(&log.health().state, State::Closed(why) if why.contains("checkpoint")));
    faults.restart(Loss::Unsynced).unwrap();
    drop(log);
    open(&settings, &clock, &disk()).unwrap();
}

/// LOG-19
#[tokio::test]
async fn a_torn_tail_is_moved_aside_and_recorded() {
    let (_dir, settings, clock, faults, log) = failing(Step::Write, Fault::Torn(150)).await;
    assert!(log.append(record("torn"), (), NEVER).await.is_err());
    faults.restart(Loss::Nothing).unwrap();
    drop(log);
    let before = std::fs::read(segment(&settings)).unwrap();
    assert_eq!(finding(&settings).rule.clause(), "LOG-3");
    let (log, opened) = open(&settings, &clock, &disk()).unwrap();
    let [torn] = opened.recovered.as_slice() else { panic!("{opened:?}") };
    assert_eq!(torn.bytes, 150);
    let kept = std::fs::read(settings.dir.join(&torn.file)).unwrap();
    assert!(before.ends_with(&kept) && kept.len() == 150);
    let last = log.read(opened.next_index - 2, 1).unwrap().remove(0).1;
    let last = String::from_utf8(last).unwrap();
    assert!(last.contains("log.recovered") && last.contains(&torn.file) && last.contains("\"torn_bytes\":\"150\""));
    log.drain().await.unwrap();
    drop(log);
    proven(&settings).unwrap();
    let (_, again) = open(&settings, &clock, &disk()).unwrap();
    assert!(again.recovered.is_empty(), "it is recorded once");
    std::fs::write(settings.dir.join(&torn.file), b"something else").unwrap();
    assert_eq!(finding(&settings).rule.clause(), "LOG-19");
}

/// LOG-2
#[tokio::test]
async fn founding_that_stops_at_any_step_leaves_nothing_that_opens_as_a_log() {
    let clock = clock();
    for step in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let faults = Faults::seeded(step);
        faults.plan(Step::Any, step, Fault::PowerOff);
        let founded = create(&settings, &clock, &faults.disk(), Limits::default());
        let finished = founded.is_ok();
        drop(founded);
        faults.restart(if step % 2 == 0 { Loss::Unsynced } else { Loss::Some }).unwrap();
        match open(&settings, &clock, &disk()) {
            Ok((log, _)) => append(&log, 0..1).await,
            Err(OpenError::Missing { .. } | OpenError::Unfinished { .. }) => assert!(!finished, "step {step}"),
            Err(error) => panic!("step {step}: {error}"),
        }
    }
}
