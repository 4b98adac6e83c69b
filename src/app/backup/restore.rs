//! How do store and log come back? Everything in the backup is checked before anything is written; the store is admitted
//! by the key-encryption keys at hand, copied to where the configuration has it and compared row by row; then a new log
//! begins, which names the one in the backup and where that ended.
//!
//! A new log and not the old one going on: records that were made after the backup may be known to auditors and witnesses,
//! and a log that signs others in their place would contradict itself.
//!
//! Crash state: from before the first write until after the last, `restoring` stands in the state directory. While it does,
//! no sidecar starts, and only a restore of the same backup goes on, from the beginning.

use std::path::{Path, PathBuf};

use crate::audit::verify::{Verified, VerifyError};
use crate::audit::{self, AppendError, Event, Log, Outcome};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::durable::{Disk, DurableError, Lock};
use crate::keyring::{ApplyError, Pinned, StoreHead};
use crate::store::{self, CopyError, Settings, StoreError, sqlite};
use crate::{crypto, kek};

use super::super::cut_short::JOINING;
use super::super::start::StartError;
use super::super::store::{described, emptied, without_mirror};
use super::custodians::{CustodyUnread, roster_fact};
use super::files::{self, Digest, FileError};
use super::manifest::{Backup, BadBackup, LOG, LogFacts, Manifest, OLDER_LOGS, STORE};
use super::{Tell, admit, all_keks, in_file, pinned_by, rebase, record};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The backup.
    pub from: PathBuf,
    /// The digest that its manifest must have.
    pub digest: Option<String>,
    /// The log was not lost: only the store comes back.
    pub store_only: bool,
    /// How many changes the operator knows to be lost.
    pub accept_lost_changes: Option<u64>,
    /// Who asks: a number of the operating system.
    pub uid: u32,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// The digest of its manifest.
    pub digest: String,
    /// Where the store is.
    pub store: String,
    /// The key of the new log, as a vkey; None where the log stayed.
    pub log_key: Option<String>,
    /// Changes that the log knows and the store no longer has.
    pub lost: u64,
    /// Whether it has custodians, who approve it before it is served.
    pub held: bool,
}

/// Why nothing was restored, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not to be relied on.
    #[error(transparent)]
    Bad(#[from] BadBackup),
    /// The configuration is for another environment.
    #[error("the backup is of a {0} store, the configuration is for {1}")]
    Environment(String, &'static str),
    /// The configuration pins another store.
    #[error("keyring.store_key_check pins another store key than the backup's")]
    OtherStoreKey,
    /// The state directory cannot be used.
    #[error("cannot use the state directory")]
    State(#[source] DurableError),
    /// There is a store already.
    #[error("there is a store already: {0}")]
    HasStore(String),
    /// There is a log already.
    #[error("there is a log already: {}", .0.display())]
    HasLog(PathBuf),
    /// There is no log that could stay.
    #[error("there is no log in {}", .0.display())]
    NoLog(PathBuf),
    /// Another restore was cut short.
    #[error("another restore was cut short here: {0}")]
    OtherUnfinished(String),
    /// The log that stayed belongs to another store.
    #[error("the log in {} belongs to another store than the backup", .0.display())]
    OtherLog(PathBuf),
    /// The log that stayed is not the backup's log gone on.
    #[error("the log that stayed does not go on from the one in the backup")]
    OtherHistory(#[source] VerifyError),
    /// Its chain took another way.
    #[error("the log names change {0} otherwise than the backup: the two went different ways")]
    Forked(u64),
    /// Nobody said that these changes may be lost.
    #[error("the backup ends at change {backup}, the log knows {known}: restoring it loses {} changes", known - backup)]
    Lost {
        /// Where the backup ends.
        backup: u64,
        /// Where the log knows the store to end.
        known: u64,
    },
    /// A file cannot be copied.
    #[error("cannot copy a file")]
    File(#[from] FileError),
    /// A file cannot be written.
    #[error("cannot write the state directory")]
    Write(#[from] DurableError),
    /// A key-encryption key is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// No key-encryption key opened the store key, or a row does not verify.
    #[error("the store in the backup is not admitted")]
    NotAdmitted(#[source] ApplyError),
    /// The store cannot be read or made.
    #[error("cannot make the store")]
    Store(#[from] StoreError),
    /// It was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The log cannot be made or opened.
    #[error("cannot make the audit log")]
    Log(#[from] audit::OpenError),
    /// It cannot be read back.
    #[error("cannot read the audit log")]
    Unread(#[from] audit::ReadError),
    /// It does not say which store it belongs to.
    #[error(transparent)]
    Unpinned(#[from] StartError),
    /// The log takes no records.
    #[error("cannot write the audit log")]
    Append(#[from] AppendError),
    /// It is not known whose the store is.
    #[error(transparent)]
    Custody(#[from] CustodyUnread),
}

impl RestoreError {
    /// What the operator should do.
    pub fn hint(&self, config: &Config) -> String {
        let again = "then run the same command again";
        match self {
            Self::Bad(bad) => bad.hint().to_owned(),
            Self::Environment(..) => "the environment of a store never changes: use its own configuration".to_owned(),
            Self::OtherStoreKey => "use the configuration of the store that was backed up".to_owned(),
            Self::State(DurableError::AlreadyLocked { .. }) => "stop the sidecar first".to_owned(),
            Self::State(_) => "check the owner and mode of the parent directory".to_owned(),
            Self::HasStore(_) => {
                "never remove a store that may hold the only wraps of keys: move it aside first; a log that is newer than \
                 the backup stays, and `keyward restore --store-only` goes on with it"
                    .to_owned()
            }
            Self::HasLog(_) => {
                "if only the store was lost, keep the log and add --store-only; else move the log aside and keep it".to_owned()
            }
            Self::NoLog(_) => "the log was lost as well: leave --store-only out".to_owned(),
            Self::OtherUnfinished(which) if which == JOINING => {
                "an `init --join` was cut short there: move the state directory aside, or name another state_dir".to_owned()
            }
            Self::OtherUnfinished(which) => {
                format!("finish that one first (keyward restore {which}), or name another state_dir")
            }
            Self::OtherLog(_) | Self::OtherHistory(_) | Self::Forked(_) => {
                "this backup is not one of this sidecar's: take the right one, or restore into another state_dir".to_owned()
            }
            Self::Lost { backup, known } => format!(
                "look for a newer backup first. Keys made in changes {} to {known} are gone with everything sealed under \
                 them; states and destructions decided there are undone. To go on: --accept-lost-changes {}",
                backup + 1,
                known - backup
            ),
            Self::NotAdmitted(ApplyError::Unavailable(_)) => {
                format!("make one of the key-encryption keys that the manifest names reachable, {again}")
            }
            Self::NotAdmitted(_) => {
                "nothing was restored; see what the error says, or take an older backup".to_owned()
            }
            Self::Kek(_) => "check [kek.NAME] of that key; one that is lost for good may be left out of the configuration".to_owned(),
            Self::Store(StoreError::Exists(_)) | Self::Copy(CopyError::NotEmpty(_)) => format!(
                "only if {} holds nothing but an unfinished restore, empty it ({}), {again}",
                described(&config.store),
                emptied(config)
            ),
            Self::Store(_) | Self::Copy(_) => {
                format!("see that {} can be used; no sidecar starts before it is done; {again}", described(&config.store))
            }
            _ => format!("no sidecar starts before it is done: correct what the error says, {again}"),
        }
    }
}

/// Puts store and log back, or the store alone.
pub async fn restore(
    config: &Config,
    options: &RestoreOptions,
    clock: SharedClock,
    tell: Tell<'_>,
) -> Result<Restored, RestoreError> {
    let backup = Backup::open(&options.from, options.digest.as_deref())?;
    fits(config, &backup.manifest)?;
    let verified = backup.check(&mut |done, all| tell("checking the backup", done, all))?;
    let disk = Disk::real();
    let work = Work { config, options, backup: &backup, disk: &disk, clock: &clock };
    let _lock = work.lock()?;
    let unfinished = work.unfinished()?;
    if options.store_only {
        return rebase::rebase(&work, unfinished, tell).await;
    }
    if unfinished {
        work.discard(true)?;
    } else {
        work.is_empty().await?;
    }
    let Verified { store_head, .. } = &verified;
    let known = store_head.as_deref().and_then(|head| head.parse().ok());
    let custodians = work.admit(pinned_by(&backup.manifest, known), tell).await?;
    work.begin()?;
    work.store(tell).await?;
    let held = custodians.is_some();
    let log_key = work.log(custodians).await?;
    work.end()?;
    Ok(Restored { held, ..work.restored(Some(log_key), 0) })
}

/// Before anything is written.
pub(super) fn fits(config: &Config, manifest: &Manifest) -> Result<(), RestoreError> {
    let environment = config.environment.name();
    if manifest.environment != environment {
        return Err(RestoreError::Environment(manifest.environment.clone(), environment));
    }
    let foreign = |check: [u8; 16]| hex::encode(check) != manifest.store_key_check;
    if config.store_key_check.is_some_and(foreign) { Err(RestoreError::OtherStoreKey) } else { Ok(()) }
}

/// A fact of a record, where there is one.
pub(super) type Fact = Option<(&'static str, String)>;

/// What a restore that was cut short left, in the names of what is set aside.
const CUT_SHORT: &str = "cut-short";

/// One restore.
pub(super) struct Work<'a> {
    pub(super) config: &'a Config,
    pub(super) options: &'a RestoreOptions,
    pub(super) backup: &'a Backup,
    pub(super) disk: &'a Disk,
    pub(super) clock: &'a SharedClock,
}

impl Work<'_> {
    fn lock(&self) -> Result<Lock, RestoreError> {
        let state = &self.config.state;
        for dir in [state.0.clone(), state.latches()] {
            if !dir.exists() {
                self.disk.create_dir(&dir, 0o700).map_err(RestoreError::State)?;
            }
        }
        self.disk.lock_exclusive(&state.lock()).map_err(RestoreError::State)
    }

    /// Whether a restore of this backup was cut short here.
    fn unfinished(&self) -> Result<bool, RestoreError> {
        let marker = self.config.state.restoring();
        match std::fs::read_to_string(&marker) {
            Ok(text) if text == self.marker() => Ok(true),
            Ok(text) => Err(RestoreError::OtherUnfinished(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FileError::Read { path: marker, source }.into()),
        }
    }

    /// Which restore it is: one of the same backup that keeps the log is another one.
    fn marker(&self) -> String {
        format!("--digest {}{}", self.backup.digest, if self.options.store_only { " --store-only" } else { "" })
    }

    /// Nothing is there that could be written over, the logs of earlier restores among it.
    async fn is_empty(&self) -> Result<(), RestoreError> {
        self.has_no_store().await?;
        let logs = [self.config.audit.dir.clone(), self.config.state.older_logs()];
        logs.into_iter().find(|log| log.exists()).map_or(Ok(()), |log| Err(RestoreError::HasLog(log)))
    }

    /// A store that is there may be the only one that others use: nothing is begun beside it.
    pub(super) async fn has_no_store(&self) -> Result<(), RestoreError> {
        let there = match &self.config.store {
            Settings::Sqlite(file) => file.path.exists(),
            // A copy has its genesis row last: what has none is unfinished, and `create` says what to do about it.
            Settings::Postgresql(_) => match store::open(&without_mirror(&self.config.store)).await {
                Ok(opened) => opened.reader().genesis().await?.is_some(),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Unsuitable(_))) => return Err(error.into()),
                Err(_) => false,
            },
        };
        if there { Err(RestoreError::HasStore(described(&self.config.store))) } else { Ok(()) }
    }

    /// Sets aside what a restore that was cut short has written. All of it should come from the backup that is here; but
    /// somebody may have put his own store back by hand since.
    pub(super) fn discard(&self, log: bool) -> Result<(), RestoreError> {
        if let Settings::Sqlite(file) = &self.config.store {
            files::set_store_aside(self.disk, &file.path, CUT_SHORT)?;
        }
        self.remove_store(&self.work_store())?;
        let dir = &self.config.audit.dir;
        if log && dir.exists() {
            files::set_aside(self.disk, dir, CUT_SHORT)?;
        }
        Ok(())
    }

    /// Crash state: from here on no sidecar starts.
    pub(super) fn begin(&self) -> Result<(), RestoreError> {
        Ok(self.disk.write_atomic(&self.config.state.restoring(), self.marker().as_bytes(), 0o600)?)
    }

    /// Crash state: after this the state is whole. A mirror shows the keyrings of the store before.
    pub(super) fn end(&self) -> Result<(), RestoreError> {
        self.remove_store(&self.config.state.mirror())?;
        self.remove_store(&self.work_store())?;
        Ok(self.disk.remove_file(&self.config.state.restoring())?)
    }

    /// A copy of the store, admitted: before anything is put in place, so that a backup that is not admitted, or a
    /// key-encryption key that is away, leaves nothing behind.
    /// What a record says of the store's custodians.
    pub(super) async fn admit(&self, pinned: Pinned, tell: Tell<'_>) -> Result<Fact, RestoreError> {
        let file = in_file(self.work_store());
        self.remove_store(&file.path)?;
        self.copy(STORE, &file.path)?;
        let admitted = self.admit_copy(&file, pinned, tell).await;
        if admitted.is_err() {
            self.remove_store(&file.path)?;
        }
        admitted
    }

    async fn admit_copy(&self, file: &sqlite::Settings, pinned: Pinned, tell: Tell<'_>) -> Result<Fact, RestoreError> {
        let keks = all_keks(self.config, self.clock, self.disk).await?;
        tell("verifying the store", 0, 1);
        let admitted = admit(sqlite::open(file).await?, keks, self.config, self.clock, pinned).await;
        let keyrings = admitted.map_err(RestoreError::NotAdmitted)?;
        if keyrings.head() != Some(self.backup.head) {
            let path = self.backup.dir.join(STORE);
            let what = "its chain of changes does not end where the manifest says".to_owned();
            return Err(BadBackup::File { path, what }.into());
        }
        Ok(roster_fact(&keyrings).await?)
    }

    /// The admitted copy into its place, compared row by row.
    pub(super) async fn store(&self, tell: Tell<'_>) -> Result<(), RestoreError> {
        let target = without_mirror(&self.config.store);
        let from = sqlite::look(&in_file(self.work_store())).await?;
        let into = store::create(&target).await?;
        let mut told = |at: store::Progress| tell("restoring the store", at.done, at.all);
        store::copy(from, into, &mut told).await?;
        Ok(())
    }

    /// The log of the backup beside the ones before it, and a new one that names it.
    async fn log(&self, custodians: Fact) -> Result<String, RestoreError> {
        let Manifest { log: LogFacts { origin, records, root, .. }, store_key_check, .. } = &self.backup.manifest;
        let volume = origin.rsplit('/').next().unwrap_or_default();
        let older = self.config.state.older_logs();
        for (folder, place) in [(LOG, older.join(volume)), (OLDER_LOGS, older.clone())] {
            for (path, _) in self.backup.listed(folder) {
                let to = place.join(path);
                files::make_dirs(self.disk, &self.config.state.0, to.parent().unwrap_or(&older))?;
                if to.exists() {
                    self.disk.remove_file(&to)?;
                }
                self.copy(&format!("{folder}/{path}"), &to)?;
                self.disk.sync_dir(to.parent().unwrap_or(&older))?;
            }
        }
        let damaged = |what: &str| BadBackup::Manifest { path: self.backup.dir.clone(), what: what.to_owned() };
        let mut check = [0; 16];
        hex::decode_to_slice(store_key_check, &mut check).map_err(|_| damaged("its store key check is none"))?;
        let founding = audit::Founding {
            store: self.backup.manifest.store.parse().map_err(|_| damaged("its store id is none"))?,
            environment: self.config.environment.name(),
            store_key_check: check,
        };
        let limits = audit::Limits::default();
        let log = Log::create(&self.config.audit, &founding, self.clock.clone(), self.disk, limits)?;
        let mut facts = self.facts(custodians);
        facts.extend([
            ("old_origin", origin.clone()),
            ("old_records", records.to_string()),
            ("old_root", root.clone()),
        ]);
        record(&log, self.clock, (Event::StoreRestored, Outcome::Done), facts).await?;
        let key = log.verifier_key().to_text();
        log.drain().await?;
        Ok(key)
    }

    /// What every record of a restore says.
    pub(super) fn facts(&self, custodians: Fact) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("backup_digest", self.backup.digest.clone()),
            ("os_user", self.options.uid.to_string()),
            ("store_head", self.backup.head.to_string()),
        ];
        facts.extend(custodians);
        facts
    }

    pub(super) fn restored(&self, log_key: Option<String>, lost: u64) -> Restored {
        Restored {
            manifest: self.backup.manifest.clone(),
            digest: self.backup.digest.clone(),
            store: described(&self.config.store),
            log_key,
            lost,
            held: false,
        }
    }

    /// Copies a listed file; what is written is what the manifest lists.
    fn copy(&self, listed: &str, to: &Path) -> Result<(), RestoreError> {
        let from = self.backup.path(listed)?;
        let Digest { sha256, .. } = files::copy(self.disk, &from, to)?;
        let facts = self.backup.manifest.files.iter().find(|file| file.path == listed);
        if facts.is_some_and(|facts| facts.sha256 == sha256) {
            return Ok(());
        }
        Err(BadBackup::File { path: from, what: "it was changed while it was copied".to_owned() }.into())
    }

    fn work_store(&self) -> PathBuf {
        self.config.state.0.join("restoring.sqlite")
    }

    fn remove_store(&self, path: &Path) -> Result<(), RestoreError> {
        Ok(sqlite::remove(self.disk, path)?)
    }
}

/// How many changes are lost when a store ends here that was known to end there; an error if it took another way.
pub(super) fn lost(backup: StoreHead, known: Option<StoreHead>) -> Result<u64, RestoreError> {
    let Some(known) = known else { return Ok(0) };
    if known.changes == backup.changes && !crypto::constant_time_eq(&known.digest, &backup.digest) {
        return Err(RestoreError::Forked(known.changes));
    }
    Ok(known.changes.saturating_sub(backup.changes))
}
