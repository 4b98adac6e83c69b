//! Would a backup and the escrow alone bring the keys back? A drill rebuilds the store in a temporary directory, with one
//! key-encryption key and no other, unwraps its keys, opens the canaries of the backup, and files the result in the
//! production log, signed off by somebody. It never touches the production store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::{self, AppendError, Event, Outcome};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::durable::{Disk, DurableError, Lock, TemporaryDir};
use crate::kek::{self, Settings};
use crate::keyring::{ApplyError, Escrow, Keyrings, Proof, Standing, StoreHead};
use crate::names::{KekName, KeyVersionId, PrincipalName};
use crate::operations::canary;
use crate::store::{StoreError, sqlite};

use super::super::cut_short::CutShort;
use super::super::start::{StartError, pinned};
use super::files::{self, FileError};
use super::manifest::{Backup, BadBackup, Manifest, STORE};
use super::restore::{RestoreError, fits};
use super::{Tell, admit, in_file, one_kek, open_log, pinned_by, record};

/// The schema of a report.
const SCHEMA: u32 = 1;
/// Failures that a report names.
const NAMED: usize = 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct DrillOptions {
    /// The backup.
    pub from: PathBuf,
    /// The digest that its manifest must have.
    pub digest: Option<String>,
    /// The key-encryption key that must suffice; without one, the configured escrow.
    pub kek: Option<KekName>,
    /// Of how many keys one is unwrapped; 1 means all.
    pub every: u64,
    /// Why: a closed code.
    pub trigger: &'static str,
    /// Who answers for it.
    pub signed_off_by: PrincipalName,
    /// Who asks: a number of the operating system.
    pub uid: u32,
    /// Where the report goes. Without one it must be possible to record it at once.
    pub report: Option<PathBuf>,
}

/// What a drill showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillReport {
    /// 1.
    pub schema: u32,
    /// When it ended, as RFC 3339 in UTC.
    pub done: String,
    /// Whether everything that was asked for came back.
    pub passed: bool,
    /// The digest of the backup's manifest.
    pub backup: String,
    /// When the backup was made.
    pub made: String,
    /// The store's id.
    pub store: String,
    /// Where its chain ends.
    pub head: String,
    /// The key-encryption key that stood alone.
    pub kek: String,
    /// Keys in the backup that are not destroyed.
    pub keys: u64,
    /// How many of them were asked for.
    pub asked: u64,
    /// How many were unwrapped to what they were.
    pub opened: u64,
    /// Canaries in the backup, but for those of keyrings that do without an escrow.
    pub canaries: u64,
    /// How many opened.
    pub canaries_opened: u64,
    /// Keys that have no wrap by the escrow by their keyring's choice: none was asked for, and all are lost with the primary.
    #[serde(default)]
    pub unescrowed: u64,
    /// The first of those keyrings.
    #[serde(default)]
    pub without_escrow: Vec<String>,
    /// The first things that did not come back, and why.
    pub failures: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// Why it was held.
    pub trigger: String,
    /// Who answers for it.
    pub signed_off_by: String,
    /// The number of the operating system's user who ran it.
    pub os_user: u32,
    /// Whether the production log has it.
    pub recorded: bool,
}

/// Why there was no drill, or no record of it.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The backup is not to be relied on.
    #[error(transparent)]
    Bad(#[from] BadBackup),
    /// The backup is not of this configuration's store.
    #[error(transparent)]
    Unfit(#[from] RestoreError),
    /// No escrow is configured and none was named.
    #[error("no escrow is configured")]
    NoEscrow,
    /// The configuration has no such key.
    #[error("there is no [kek.{0}]")]
    NoKek(KekName),
    /// The backup is of another store than the log.
    #[error("the drill was of store {drilled}, and this log is that of store {ours}")]
    OtherStore {
        /// Whose backup it was.
        drilled: String,
        /// Whose log it is.
        ours: String,
    },
    /// This log knows of no such backup.
    #[error("this log has no record of the backup {0}")]
    UnknownBackup(String),
    /// The log cannot be read back.
    #[error("cannot read the audit log")]
    Unread(#[from] audit::ReadError),
    /// The log does not say which store it belongs to.
    #[error(transparent)]
    Unpinned(#[from] StartError),
    /// The result could not be recorded at once.
    #[error("the result cannot be recorded now: {0}")]
    CannotRecord(String),
    /// There is no room for the store.
    #[error("cannot rebuild the store")]
    Work(#[from] DurableError),
    /// A file cannot be copied.
    #[error("cannot copy a file")]
    File(#[from] FileError),
    /// The key-encryption key is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// The store does not open.
    #[error("the rebuilt store does not open")]
    Store(#[from] StoreError),
    /// It is not admitted by this key-encryption key alone.
    #[error("the drill FAILED: the store does not open by {0} alone")]
    NotAdmitted(KekName, #[source] ApplyError),
    /// The report is none.
    #[error("{} is no report of a drill: {why}", path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The log does not open.
    #[error("cannot open the audit log")]
    Log(#[from] audit::OpenError),
    /// The log takes no records.
    #[error("the audit log did not take the result")]
    Append(#[from] AppendError),
}

impl DrillError {
    /// What the operator should do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Bad(bad) => bad.hint(),
            Self::Unfit(_) => "drill with the configuration of the store that was backed up",
            Self::NoEscrow => "name an escrow in [keyring], rewrap, and back up anew; or try one key with --kek NAME",
            Self::NoKek(_) => "name one of the configuration",
            Self::OtherStore { .. } => "record it in the log of its own store",
            Self::UnknownBackup(_) => {
                "record it on the host that made the backup, whose log has store.backed_up with this digest. A backup that a \
                 running sidecar had to record is recorded once that sidecar runs: start it first. One that nobody \
                 recorded is no evidence"
            }
            Self::Unread(_) | Self::Unpinned(_) => "`keyward audit verify` says what is wrong with the log",
            Self::CannotRecord(_) => {
                "give --report FILE, and record it while the sidecar is stopped: keyward drill record FILE"
            }
            Self::NotAdmitted(..) => {
                "find out why before the primary is lost: is the escrow reachable, and did it wrap every key of this backup?"
            }
            Self::NoReport { .. } => "name a file that `keyward drill restore --report` wrote",
            Self::Log(audit::OpenError::Missing { .. }) => "name the configuration of the production sidecar",
            Self::Log(_) | Self::Append(_) => {
                "the report is not recorded: `keyward audit verify`, then `keyward drill record`"
            }
            Self::Work(DurableError::AlreadyLocked { .. }) => "stop the sidecar first",
            Self::Work(_) | Self::File(_) | Self::Store(_) => "see that the temporary directory has room for the store",
            Self::Kek(_) => "check [kek.NAME] of that key",
        }
    }
}

/// Holds a drill and records it, or writes its report where that is not possible now.
pub async fn drill(
    config: &Config,
    options: &DrillOptions,
    clock: SharedClock,
    tell: Tell<'_>,
) -> Result<DrillReport, DrillError> {
    let (disk, began) = (Disk::real(), clock.mono());
    let settings = chosen(config, options.kek.as_ref())?;
    // Asked now and not held: a drill must not keep the sidecar from starting.
    if let (Err(why), None) = (production(config, &disk), &options.report) {
        return Err(DrillError::CannotRecord(why));
    }
    let backup = Backup::open(&options.from, options.digest.as_deref())?;
    fits(config, &backup.manifest)?;
    let verified = backup.check(&mut |done, all| tell("checking the backup", done, all))?;
    let known = verified.store_head.as_deref().and_then(|head| head.parse().ok());
    let kek = settings.name().clone();
    let shown = show(config, options, &backup, (settings, known), &clock, tell).await;
    // What did not come back is the result that matters most: it is recorded like any other.
    let (mut report, failed) = match shown {
        Ok(report) => (report, None),
        Err(DrillError::NotAdmitted(kek, error)) => {
            let mut report = report(
                &backup,
                options,
                &kek,
                Proof::default(),
                Canaries { failures: vec![error.to_string()], ..Canaries::default() },
            );
            report.passed = false;
            (report, Some(DrillError::NotAdmitted(kek, error)))
        }
        Err(error) => return Err(error),
    };
    report.kek = kek.to_string();
    report.done = clock.wall().rfc3339_millis();
    report.duration_ms = u64::try_from(clock.mono().since(began).as_millis()).unwrap_or(u64::MAX);
    if let Ok(_lock) = production(config, &disk) {
        match append(config, &report, &clock, &disk).await {
            Ok(()) => report.recorded = true,
            Err(DrillError::UnknownBackup(_)) if options.report.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(path) = &options.report {
        let text = serde_json::to_vec_pretty(&report);
        let text = text.map_err(|error| DrillError::NoReport { path: path.clone(), why: error.to_string() })?;
        disk.write_new(path, &text, 0o600)?;
    }
    failed.map_or(Ok(report), Err)
}

/// The store of the backup, opened by one key-encryption key alone, in a directory that goes away.
async fn show(
    config: &Config,
    options: &DrillOptions,
    backup: &Backup,
    (settings, known): (Settings, Option<StoreHead>),
    clock: &SharedClock,
    tell: Tell<'_>,
) -> Result<DrillReport, DrillError> {
    let (disk, work) = (Disk::real(), TemporaryDir::make("keyward-drill")?);
    let settings = apart(config, settings, &disk, work.path())?;
    let kek = settings.name().clone();
    let file = in_file(work.path().join(STORE));
    files::copy(&disk, &backup.path(STORE)?, &file.path)?;
    let keks = one_kek(config, settings, clock, &disk).await?;
    tell("verifying the store", 0, 1);
    let admitted = admit(sqlite::open(&file).await?, keks, config, clock, pinned_by(&backup.manifest, known)).await;
    let keyrings = admitted.map_err(|error| DrillError::NotAdmitted(kek.clone(), error))?;
    let all = backup.manifest.rows.keys;
    let is_escrow = config.keks.escrow.as_ref().is_some_and(|escrow| *escrow.name() == kek);
    let standing = if is_escrow { Standing::Escrow } else { Standing::Alone };
    let proof = keyrings.prove(standing, options.every, &mut |done| tell("unwrapping keys", done, all)).await;
    let proof = proof.map_err(|error| DrillError::NotAdmitted(kek.clone(), error))?;
    let canaries = open_canaries(&keyrings, &backup.manifest, (&kek, standing), tell).await;
    let mut report = report(backup, options, &kek, proof, canaries);
    report.passed &= keyrings.head() == Some(backup.head);
    Ok(report)
}

/// Records a drill that was held while the sidecar ran, or on another machine.
pub async fn record_drill(config: &Config, path: &Path, clock: SharedClock) -> Result<DrillReport, DrillError> {
    let none = |why: String| DrillError::NoReport { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|error| none(error.to_string()))?;
    let mut report: DrillReport = serde_json::from_slice(&text).map_err(|error| none(error.to_string()))?;
    if report.recorded {
        return Err(none("it is recorded already".to_owned()));
    }
    let disk = Disk::real();
    let _lock = disk.lock_exclusive(&config.state.lock())?;
    if report.schema != SCHEMA {
        return Err(none(format!("it has schema {}, this keyward knows {SCHEMA}", report.schema)));
    }
    // A passed drill has opened what it asked for, whatever the file says of itself.
    report.passed &= report.asked > 0 && report.opened == report.asked && report.canaries_opened == report.canaries;
    append(config, &report, &clock, &disk).await?;
    report.recorded = true;
    let mut text = serde_json::to_vec_pretty(&report).map_err(|error| none(error.to_string()))?;
    text.push(b'\n');
    disk.write_atomic(path, &text, 0o600)?;
    Ok(report)
}

/// The one that is named, or the escrow.
fn chosen(config: &Config, kek: Option<&KekName>) -> Result<Settings, DrillError> {
    match kek {
        Some(name) => config.keks.named(name).cloned().ok_or_else(|| DrillError::NoKek(name.clone())),
        None => config.keks.escrow.clone().ok_or(DrillError::NoEscrow),
    }
}

/// The lock of the production state, if its log can be written now.
fn production(config: &Config, disk: &Disk) -> Result<Lock, String> {
    if !config.state.log().exists() {
        return Err("there is no production log on this machine".to_owned());
    }
    CutShort::check(&config.state).map_err(|what| what.to_string())?;
    disk.lock_exclusive(&config.state.lock()).map_err(|_| "the sidecar runs".to_owned())
}

/// A refused PIN is remembered beside the production state where there is one, else in the drill's own directory.
fn apart(config: &Config, mut settings: Settings, disk: &Disk, work: &Path) -> Result<Settings, DurableError> {
    if let Settings::Pkcs11(token) = &mut settings
        && !config.state.latches().exists()
    {
        token.state_dir = work.join("kek");
        disk.create_dir(&token.state_dir, 0o700)?;
    }
    Ok(settings)
}

/// How many canaries opened, how many could not by choice, and what is wrong with the others.
#[derive(Default)]
struct Canaries {
    opened: u64,
    unescrowed: u64,
    failures: Vec<String>,
}

async fn open_canaries(
    keyrings: &Keyrings,
    manifest: &Manifest,
    (kek, standing): (&KekName, Standing),
    tell: Tell<'_>,
) -> Canaries {
    let all = u64::try_from(manifest.canaries.len()).unwrap_or(u64::MAX);
    let mut canaries = Canaries::default();
    for (done, one) in (1..).zip(&manifest.canaries) {
        let version = one.version.parse::<KeyVersionId>().map_err(|error| error.to_string());
        let tried = match version {
            Err(why) => Err(why),
            Ok(version) if standing == Standing::Escrow && does_without(keyrings, version, kek).await => {
                canaries.unescrowed += 1;
                continue;
            }
            Ok(version) => match keyrings.canary_key(version).await {
                Err(error) => Err(error.to_string()),
                Ok(key) => canary::opens(&key, &one.sealed).map_err(|error| format!("{error:?}")),
            },
        };
        match tried {
            Ok(()) => canaries.opened += 1,
            Err(why) => canaries.failures.push(format!("the canary of {}: {why}", one.keyring)),
        }
        tell("opening canaries", done, all);
    }
    canaries
}

/// Whether a version has no wrap by the escrow because its keyring asks for none.
async fn does_without(keyrings: &Keyrings, version: KeyVersionId, escrow: &KekName) -> bool {
    let Ok(Some(view)) = keyrings.locate(version).await else { return false };
    let by = |wrap: &String| wrap.split_once(' ').is_some_and(|(name, _)| name == escrow.as_str());
    view.limits.escrow() == Escrow::No && view.version(version).is_some_and(|version| !version.keks.iter().any(by))
}

fn report(backup: &Backup, options: &DrillOptions, kek: &KekName, proof: Proof, canaries: Canaries) -> DrillReport {
    let manifest = &backup.manifest;
    let Canaries { opened: canaries_opened, unescrowed, failures: more } = canaries;
    let all = u64::try_from(manifest.canaries.len()).unwrap_or(u64::MAX);
    let canaries = all.saturating_sub(unescrowed);
    let passed = proof.holds() && canaries_opened == canaries && (all > 0 || manifest.rows.keyrings <= 1);
    let mut failures: Vec<String> = proof.failures.iter().map(|(id, why)| format!("key {id}: {why}")).collect();
    failures.extend(more);
    if all == 0 && !passed {
        failures.push("the backup has no canaries: it was made without a key-encryption key".to_owned());
    }
    failures.truncate(NAMED);
    DrillReport {
        schema: SCHEMA,
        done: String::new(),
        passed,
        backup: backup.digest.clone(),
        made: manifest.made.clone(),
        store: manifest.store.clone(),
        head: manifest.head.clone(),
        kek: kek.to_string(),
        keys: proof.keys,
        asked: proof.asked,
        opened: proof.opened,
        canaries,
        canaries_opened,
        unescrowed: proof.unescrowed,
        without_escrow: proof.without_escrow,
        failures,
        duration_ms: 0,
        trigger: options.trigger.to_owned(),
        signed_off_by: options.signed_off_by.to_string(),
        os_user: options.uid,
        recorded: false,
    }
}

/// The head of the backup has a name of its own among the facts: `store_head` would make an older store acceptable.
async fn append(config: &Config, report: &DrillReport, clock: &SharedClock, disk: &Disk) -> Result<(), DrillError> {
    let (log, opened) = open_log(config, clock, disk)?;
    let ours = pinned(&log, &opened)?.store;
    if report.store != ours {
        log.drain().await?;
        return Err(DrillError::OtherStore { drilled: report.store.clone(), ours });
    }
    // That a backup which nobody knows does not come back is evidence of something, that it does is none.
    if report.passed && !knows(&log, &report.backup)? {
        log.drain().await?;
        return Err(DrillError::UnknownBackup(report.backup.clone()));
    }
    let outcome = if report.passed { Outcome::Done } else { Outcome::Failed };
    let facts = vec![
        ("backup_digest", report.backup.clone()),
        ("backup_head", report.head.clone()),
        ("canaries", format!("{} of {}", report.canaries_opened, report.canaries)),
        ("duration_ms", report.duration_ms.to_string()),
        ("kek", report.kek.clone()),
        ("keys", report.keys.to_string()),
        ("keys_opened", format!("{} of {}", report.opened, report.asked)),
        ("os_user", report.os_user.to_string()),
        ("signed_off_by", report.signed_off_by.clone()),
        ("trigger", report.trigger.clone()),
        ("unescrowed", report.unescrowed.to_string()),
    ];
    record(&log, clock, (Event::DrillDone, outcome), facts).await?;
    Ok(log.drain().await?)
}

/// Whether this log, or the one that it goes on from, is known to have made this backup: it says so of each that it made,
/// and of the one that it was restored from. A drill says it too, and proves nothing.
fn knows(log: &audit::Log, backup: &str) -> Result<bool, audit::ReadError> {
    let (mut known, digest) = (false, format!("\"{backup}\""));
    let of = [Event::StoreBackedUp, Event::StoreRestored, Event::StoreRebased].map(Event::name);
    super::each_record(log, |record| {
        if !record.windows(digest.len()).any(|word| word == digest.as_bytes()) {
            return;
        }
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(record) else { return };
        let fact = record.get("facts").and_then(|facts| facts.get("backup_digest"));
        let event = record.get("event").and_then(serde_json::Value::as_str).unwrap_or_default();
        known |= of.contains(&event) && fact.and_then(serde_json::Value::as_str) == Some(backup);
    })?;
    Ok(known)
}
