//! Thousands of crashes, each seeded: whatever was acknowledged is there afterwards, in order, without a gap (LOG-18).
//! The same suite, run over a disk whose syncs do nothing, must see records vanish: else it would prove nothing.

use super::*;
use keyward::durable::faults::{Fault, Loss, Step};

/// Crashes of the suite; one in eight of them again over syncs that do nothing.
const SEEDS: u64 = 2400;

/// A seed's choices: SplitMix64.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn fault(&mut self) -> Fault {
        // A frame of one record has some 400 bytes, one of many records thousands.
        let bytes = usize::try_from(self.below(1200)).unwrap();
        match self.below(8) {
            0 => Fault::Fail,
            1 => Fault::FailPersisted,
            2 => Fault::Short(bytes),
            3 => Fault::NoSpace,
            4 | 5 => Fault::PowerOff,
            _ => Fault::Torn(bytes),
        }
    }

    fn step(&mut self) -> Step {
        match self.below(4) {
            0 | 1 => Step::Write,
            2 => Step::Sync,
            _ => Step::Any,
        }
    }

    fn loss(&mut self) -> Loss {
        match self.below(4) {
            0 => Loss::Nothing,
            1 => Loss::Unsynced,
            _ => Loss::Some,
        }
    }
}

/// What one crash showed.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: usize,
    refused: usize,
    torn: usize,
    lives: usize,
}

/// Lives of one log, each ended by a crash; gives what was wrong with what came back.
async fn lives(seed: u64, syncs_work: bool) -> Result<Tally, String> {
    let mut choices = Choices(seed);
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let limits = Limits { segment_bytes: 2000 + choices.below(20_000), ..Limits::default() };
    drop(create(&settings, &clock, &disk(), limits).unwrap());
    let mut tally = Tally::default();
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for life in 0..=choices.below(3) {
        let faults = Faults::seeded(seed ^ life);
        if !syncs_work {
            faults.syncs_do_nothing();
        }
        if choices.below(8) > 0 {
            let step = choices.step();
            let latest = if step == Step::Any { 40 } else { 12 };
            faults.plan(step, choices.below(latest), choices.fault());
        }
        let opened = unlocked(|| Log::open(&settings, clock.clone(), &faults.disk(), limits));
        if let Ok((log, opened)) = &opened {
            tally.torn += opened.recovered.len();
            let (mut now, refused) = live(log, &clock, &mut choices, &format!("{seed}-{life}")).await;
            tally.refused += refused;
            acknowledged.append(&mut now);
        }
        // A start that fails closed under a fault is fine; one that calls the log damaged is not.
        if let Err(error @ (OpenError::Damaged(_) | OpenError::Unfinished { .. })) = &opened {
            return Err(format!("life {life}: {error}"));
        }
        faults.restart(choices.loss()).unwrap();
        drop(opened);
        let drain = choices.below(2) == 0;
        let name = |why: String| format!("life {life}: {why}");
        present(&settings, &acknowledged).map_err(name)?;
        tally.torn += check(&settings, &clock, limits, &acknowledged, drain).await.map_err(name)?;
        tally.lives += 1;
    }
    tally.acknowledged = acknowledged.len();
    Ok(tally)
}

/// Requests from several tasks at once, time passing between them; gives what was acknowledged.
async fn live(log: &Log, clock: &ManualClock, choices: &mut Choices, name: &str) -> (Vec<(u64, String)>, usize) {
    let clients = 1 + choices.below(12);
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (log, name, requests) = (log.clone(), name.to_owned(), 1 + choices.below(6));
            let continued = choices.below(80) == 0;
            tokio::spawn(async move {
                let mut told = (Vec::new(), 0);
                for n in 0..requests {
                    let request = format!("{name}-{client}-{n}");
                    let mut record = record(&request);
                    if continued {
                        record.subjects = (0..1001u128).map(u128::to_be_bytes).collect();
                    }
                    match log.append(record, (), NEVER).await {
                        Ok(receipt) => told.0.push((receipt.index(), request)),
                        Err(_) => told.1 += 1,
                    }
                }
                told
            })
        })
        .collect();
    for _ in 0..choices.below(4) {
        clock.advance(Duration::from_millis(700 + choices.below(70_000)));
        tokio::task::yield_now().await;
    }
    let mut all = (Vec::new(), 0);
    for task in tasks {
        let (acknowledged, refused) = task.await.unwrap();
        all.0.extend(acknowledged);
        all.1 += refused;
    }
    if choices.below(3) == 0 {
        let _may_fail = log.drain().await;
    }
    all
}

/// Looks for every acknowledged record in the bytes that survived, whatever the log makes of them.
fn present(settings: &Settings, acknowledged: &[(u64, String)]) -> Result<(), String> {
    let mut paths: Vec<_> =
        std::fs::read_dir(settings.dir.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let bytes: Vec<u8> = paths.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let text = String::from_utf8_lossy(&bytes);
    let names: std::collections::HashSet<&str> =
        text.split("\"request\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    match acknowledged.iter().find(|(_, request)| !names.contains(request.as_str())) {
        Some((index, request)) => Err(format!("record {index} ({request}) was acknowledged and is lost")),
        None => Ok(()),
    }
}

/// Opens what a restart sees: every acknowledged record is there, nothing is missing between, and the log goes on.
async fn check(
    settings: &Settings,
    clock: &Arc<ManualClock>,
    limits: Limits,
    acknowledged: &[(u64, String)],
    drain: bool,
) -> Result<usize, String> {
    let (log, opened) =
        unlocked(|| Log::open(settings, clock.clone(), &disk(), limits)).map_err(|error| format!("open: {error}"))?;
    let records = log.read(0, usize::MAX).map_err(|error| error.to_string())?;
    if !records.iter().map(|(index, _)| *index).eq(0..opened.next_index) {
        return Err("the indices have a gap".to_owned());
    }
    for (index, request) in acknowledged {
        let at = usize::try_from(*index).unwrap();
        let found = records.get(at).map(|(_, record)| String::from_utf8_lossy(record).into_owned()).unwrap_or_default();
        if !found.contains(&format!("\"request\":\"{request}\"")) {
            return Err(format!("record {index} ({request}) was acknowledged and is lost"));
        }
    }
    let next = log.append(record("after"), (), NEVER).await.map_err(|error| error.to_string())?;
    if next.index() < opened.next_index {
        return Err("an index was given twice".to_owned());
    }
    if drain {
        log.drain().await.map_err(|error| error.to_string())?;
    }
    drop(log);
    let verified = proven(settings).map_err(|error| format!("verify: {error}"))?;
    if verified.records > opened.next_index {
        Ok(opened.recovered.len())
    } else {
        Err("the record after the crash is lost".to_owned())
    }
}

/// Runs seeds on all cores; gives the sums and the seeds that went wrong.
fn run(seeds: impl Iterator<Item = u64>, syncs_work: bool) -> (Tally, Vec<(u64, String)>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let room = Arc::new(tokio::sync::Semaphore::new(8));
        let mut tasks = tokio::task::JoinSet::new();
        for seed in seeds {
            let permit = Arc::clone(&room).acquire_owned().await.unwrap();
            tasks.spawn(async move {
                let _permit = permit;
                (seed, lives(seed, syncs_work).await)
            });
        }
        let (mut sum, mut wrong) = (Tally::default(), Vec::new());
        while let Some(done) = tasks.join_next().await {
            match done.unwrap() {
                (_, Ok(tally)) => {
                    sum.acknowledged += tally.acknowledged;
                    sum.refused += tally.refused;
                    sum.torn += tally.torn;
                    sum.lives += tally.lives;
                }
                (seed, Err(why)) => wrong.push((seed, why)),
            }
        }
        wrong.sort();
        (sum, wrong)
    })
}

#[test]
fn no_acknowledged_record_is_lost_in_thousands_of_crashes() {
    let (sum, wrong) = run(0..SEEDS, true);
    assert!(wrong.is_empty(), "{} of {SEEDS} seeds lost records or order: {:?}", wrong.len(), wrong.first());
    // The suite must have been where it hurts: crashes that refused requests, and torn tails.
    assert!(sum.lives as u64 > SEEDS && sum.acknowledged > 20_000 && sum.refused > 1000 && sum.torn > 50, "{sum:?}");
    println!("{sum:?}");
}

#[test]
fn the_same_crashes_lose_records_when_syncs_do_nothing() {
    let (_, wrong) = run((0..SEEDS).step_by(8), false);
    let lost = wrong.iter().filter(|(_, why)| why.contains("acknowledged and is lost")).count();
    assert!(lost > 50, "the suite would not notice a log that never syncs: {lost} of {} seeds", SEEDS / 8);
    println!("{lost} of {} seeds lost records, {} went wrong", SEEDS / 8, wrong.len());
}

/// Other tests of this program start processes: between fork and exec such a child holds a copy of every lock.
pub(super) fn unlocked<T>(mut open: impl FnMut() -> Result<T, OpenError>) -> Result<T, OpenError> {
    for _ in 0..500 {
        match open() {
            Err(OpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            ended => return ended,
        }
    }
    open()
}
