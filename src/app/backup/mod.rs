//! How do store and log survive the loss of the machine? A backup holds both, restore puts them back, a drill proves that
//! the escrow alone would do. A backup also copies what runs; a restore wants the sidecar stopped. None unwraps what it does
//! not compare.
//!
//! Reading order: `manifest` (what a backup is, and when it is one), `make`, `notice`, `restore`, `rebase`, `in_place`, `drill`.

mod custodians;
mod drill;
mod files;
mod in_place;
mod make;
mod manifest;
mod notice;
mod rebase;
mod restore;

use std::sync::Arc;

use crate::audit::{self, Actor, AppendError, Event, Log, Outcome, Record, Source};
use crate::clock::{Deadline, SharedClock};
use crate::config::Config;
use crate::durable::Disk;
use crate::kek::{self, Kek, Settings};
use crate::keyring::{ApplyError, Keks, Keyrings, Pinned, StoreHead};
use crate::store::{Opened, sqlite};

use super::standing::Started;

pub use custodians::NotAllowed;
pub use drill::{DrillError, DrillOptions, DrillReport, drill, record_drill};
use files::FileError;
pub(super) use files::set_aside;
pub use in_place::{Declared, InPlaceError, declare};
pub use make::{BackupError, BackupOptions, Made, back_up};
pub use manifest::Manifest;
pub(super) use notice::record_notices;
pub use restore::{RestoreError, RestoreOptions, Restored, restore};

/// Tells what is being done: a word, how far, of how much.
pub type Tell<'a> = &'a mut (dyn FnMut(&'static str, u64, u64) + Send);

/// How long the log may take for one record.
const APPEND_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// How long another process may keep a database file of ours.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

/// All configured key-encryption keys; one that is away starts too.
pub(super) async fn all_keks(config: &Config, clock: &SharedClock, disk: &Disk) -> Result<Keks, kek::StartError> {
    let start = async |settings: &Settings| start(config, settings.clone(), clock, disk).await;
    let Started { primary, escrow, retiring } = Started::of(&config.keks, start).await?;
    let (events, _unheard) = super::events::queue(16);
    Ok(Keks::new(primary, escrow, events).with_retiring(retiring))
}

/// One key-encryption key and no other.
async fn one_kek(
    config: &Config,
    settings: Settings,
    clock: &SharedClock,
    disk: &Disk,
) -> Result<Keks, kek::StartError> {
    let (events, _unheard) = super::events::queue(16);
    Ok(Keks::new(start(config, settings, clock, disk).await?, None, events))
}

async fn start(
    config: &Config,
    settings: Settings,
    clock: &SharedClock,
    disk: &Disk,
) -> Result<Arc<dyn Kek>, kek::StartError> {
    let (events, _unheard) = super::events::queue(16);
    kek::start(settings, super::deployment(config.environment), clock.clone(), disk.clone(), events).await
}

/// Opens the keyrings of a store and verifies every row.
pub(super) async fn admit(
    store: Opened,
    keks: Keks,
    config: &Config,
    clock: &SharedClock,
    pinned: Pinned,
) -> Result<Arc<Keyrings>, ApplyError> {
    let keyrings = Keyrings::open(store, keks, clock.clone(), config.keyring.clone());
    keyrings.pin(pinned);
    keyrings.admit().await?;
    Ok(keyrings)
}

/// A store in a file.
fn in_file(path: std::path::PathBuf) -> sqlite::Settings {
    sqlite::Settings { path, busy_timeout: BUSY }
}

pub(super) fn open_log(
    config: &Config,
    clock: &SharedClock,
    disk: &Disk,
) -> Result<(Log, audit::Opened), audit::OpenError> {
    Log::open(&config.audit, clock.clone(), disk, audit::Limits::default())
}

/// Every committed record of a log, oldest first.
fn each_record(log: &Log, mut tell: impl FnMut(&[u8])) -> Result<(), audit::ReadError> {
    let mut next = 0;
    loop {
        let page = log.read(next, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        next = last.saturating_add(1);
        page.iter().for_each(|(_, record)| tell(record));
    }
}

/// Records that are read at once.
const PAGE: usize = 1_000;

/// A record of what an operator of this machine did, who is no principal of the sidecar: the operating system knows them.
pub(super) async fn record(
    log: &Log,
    clock: &SharedClock,
    (event, outcome): (Event, Outcome),
    facts: Vec<(&'static str, String)>,
) -> Result<(), AppendError> {
    let record = Record {
        event,
        outcome,
        reason: None,
        actor: Actor::Sidecar,
        source: Source::Internal,
        request: None,
        purpose: None,
        groups: Vec::new(),
        orphans: Vec::new(),
        subjects: Vec::new(),
        items_digest: None,
        policy: None,
        intent: None,
        facts,
    };
    log.append(record, (), Deadline(clock.mono().plus(APPEND_TIME))).await?.into_outcome();
    Ok(())
}

/// What the log in a backup says of its store.
fn pinned_by(manifest: &Manifest, head: Option<StoreHead>) -> Pinned {
    Pinned {
        store: manifest.store.clone(),
        store_key_check: manifest.store_key_check.clone(),
        head,
        abandoned: Vec::new(),
        log: manifest.log.origin.clone(),
    }
}
