//! A file of lines and the position of its sink, over every failing step and every kind of crash: no record is missing
//! afterwards, and no line is half a one.

use super::*;
use keyward::durable::faults::{Fault, Loss, Step};
use keyward::sinks::{FileSettings, Follower, Format, Settings as SinkSettings, Target};

/// Follows the log to its end, or to the first problem.
async fn follow(log: &Log, dir: &Path, disk: Disk) -> bool {
    let file = FileSettings { path: dir.join("events.jsonl"), rotate: 4096, keep: 0 };
    let settings = SinkSettings { name: "watch".parse().unwrap(), format: Format::Native, target: Target::File(file) };
    let (_stop, stopped) = tokio::sync::watch::channel(true);
    let follower = Follower::new(settings, log.clone(), clock(), dir.join("sinks"), stopped).on(disk);
    let standing = follower.standing();
    follower.follow().await;
    standing.borrow().problem.is_none()
}

/// The index of each line, oldest file first.
fn indices(dir: &Path) -> Vec<u64> {
    let paths = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort_by_key(|path| (path.file_name().unwrap() == "events.jsonl", path.clone()));
    let text: String = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(text.is_empty() || text.ends_with('\n'));
    let line = |line: &str| -> u64 {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["record"]["index"].as_u64().unwrap()
    };
    text.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failing_step_and_no_crash_loses_a_record_for_a_sink() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(home.path());
    let log = create(&settings, &clock(), &disk(), Limits::default()).unwrap();
    // Several batches, and files in each.
    append(&log, 0..40).await;
    let faults = [Fault::Fail, Fault::NoSpace, Fault::FailPersisted, Fault::Short(5), Fault::Torn(5), Fault::PowerOff];
    let mut failed = 0;
    for (kind, fault) in faults.into_iter().enumerate() {
        for nth in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let plan = Faults::seeded(nth);
            plan.plan(Step::Any, nth, fault);
            let fine = follow(&log, dir.path(), plan.disk()).await;
            let loss = [Loss::Unsynced, Loss::Some, Loss::Nothing][(usize::try_from(nth).unwrap() + kind) % 3];
            let over = plan.steps(Step::Any) <= nth;
            plan.restart(loss).unwrap();
            failed += u32::from(!fine);
            append(&log, 0..3).await;
            assert!(follow(&log, dir.path(), disk()).await, "{fault:?} at {nth}");
            let all = indices(dir.path());
            let mut next = 0;
            for index in all {
                assert!(index <= next, "{fault:?} at {nth}, {loss:?}: {index} follows {next}");
                next = next.max(index + 1);
            }
            assert_eq!(next, log.health().records, "{fault:?} at {nth}, {loss:?}");
            if over {
                break;
            }
        }
    }
    assert!(failed > 50, "{failed}");
    log.drain().await.unwrap();
}
