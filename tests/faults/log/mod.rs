//! The audit log under crashes, failing disks and hands that change its files.
#![expect(clippy::disallowed_methods, reason = "the tests play whoever changes files behind the log's back")]

mod crashes;
mod damage;
mod disks;
mod exports;
mod keys;
mod sinks;
mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward::audit::verify::{Verified, VerifyError, verify};
use keyward::audit::{
    Actor, Durability, Event, Finding, Founding, Group, Limits, Log, OpenError, Opened, Outcome, Record, Settings,
    Source,
};
use keyward::clock::{Deadline, ManualClock, Mono, Wall};
use keyward::durable::Disk;
use keyward::durable::faults::Faults;
use keyward::names::StoreId;

const NEVER: Deadline = Deadline(Mono(u64::MAX));

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.join("audit"),
        durability: Durability::Synced,
        disk_budget: 1 << 30,
        heartbeat: Duration::from_secs(60),
        refusals_per_second: 100,
    }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Wall(1_795_000_000_000_000))
}

fn create(settings: &Settings, clock: &Arc<ManualClock>, disk: &Disk, limits: Limits) -> Result<Log, OpenError> {
    let founding = Founding { store: StoreId([7; 16]), environment: "development", store_key_check: [1; 16] };
    Log::create(settings, &founding, clock.clone(), disk, limits)
}

fn open(settings: &Settings, clock: &Arc<ManualClock>, disk: &Disk) -> Result<(Log, Opened), OpenError> {
    Log::open(settings, clock.clone(), disk, Limits::default())
}

/// A disk that works. Its syncs cost nothing, since no test here cuts the real power.
fn disk() -> Disk {
    Faults::seeded(0).disk()
}

/// A record that is told from every other by its request id.
fn record(request: &str) -> Record {
    Record {
        event: Event::DataSealed,
        outcome: Outcome::Done,
        reason: None,
        actor: Actor::Unknown,
        source: Source::DataSocket,
        request: Some(request.parse().unwrap()),
        purpose: None,
        groups: vec![Group { keyring: "patients".parse().unwrap(), version: None, done: 1, failed: vec![] }],
        orphans: vec![],
        subjects: vec![],
        items_digest: None,
        policy: None,
        intent: None,
        facts: vec![],
    }
}

async fn append(log: &Log, requests: std::ops::Range<u32>) {
    for n in requests {
        let _receipt = log.append(record(&format!("r{n}")), (), NEVER).await.unwrap();
    }
}

fn segment(settings: &Settings) -> PathBuf {
    settings.dir.join("wal").join("00000000000000000000.wal")
}

fn proven(settings: &Settings) -> Result<Verified, VerifyError> {
    verify(&settings.dir, None, None, &mut |_| {})
}

/// What verification finds wrong; panics when it finds nothing.
#[track_caller]
fn finding(settings: &Settings) -> Finding {
    match proven(settings) {
        Err(VerifyError::Broken(finding)) => finding,
        other => panic!("nothing was found: {other:?}"),
    }
}
