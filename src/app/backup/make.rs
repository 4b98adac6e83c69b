//! How is a backup made? The log, then the store, row by row as of one moment, verified under its store key; the manifest
//! last, and only then the record in the production log.
//!
//! A sidecar that runs goes on: its log is only ever added to and is cut at its last whole frame, and the store is read in
//! one transaction beside it. The log comes first, so that the store has everything that the copied log knows; the other
//! way round a restore would refuse the store as older. What was acknowledged before the beginning is in both.
//!
//! The record comes after the manifest: a record of a backup that is none would be believed on the day that it is needed.
//! A backup holds wrapped keys only, and never the key that signs the log's checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::verify::{SEGMENTS, Verified, VerifyError, files as log_files, verify, whole};
use crate::audit::{self, AppendError, Event, Outcome};
use crate::ceremony::CeremonyId;
use crate::clock::SharedClock;
use crate::config::{Config, PolicyReadError};
use crate::durable::{Disk, DurableError};
use crate::keyring::{self, ApplyError, Keyrings, Pinned, StoreHead, UnlockError};
use crate::operations::{ItemError, canary};
use crate::store::{self, CopyError, Counts, Reader, Snapshot, StoreError, sqlite};
use crate::{crypto, kek};

use super::super::cut_short::CutShort;
use super::super::start::StartError;
use super::super::store::without_mirror;
use super::custodians::{self, NotAllowed};
use super::files::{self, Digest, FileError};
use super::manifest::{
    CONFIG, Canary, FileFacts, KekFacts, LOG, LogFacts, MANIFEST, Manifest, OLDER_LOGS, Rows, SCHEMA, STORE,
};
use super::notice::Notice;
use super::{Tell, admit, all_keks, in_file, open_log, record};

/// Canaries of one backup at most: each costs a call of a key-encryption key, here and in every drill.
const CANARIES: usize = 1_000;
/// How long the sidecar that runs may take to record a backup.
const RECORDED: Duration = Duration::from_secs(30);
/// How long SQLite may take to put its helper files away.
const TIDY: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The new directory.
    pub to: PathBuf,
    /// Copy without verifying: no key-encryption key can be reached.
    pub without_kek: bool,
    /// Who asks: a number of the operating system.
    pub uid: u32,
}

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it holds.
    pub manifest: Manifest,
    /// Of the manifest, in hexadecimal: names the backup in the log.
    pub digest: String,
    /// Whether the log has it; else the sidecar that runs here records it when it comes to it.
    pub recorded: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// There is none, or it is somebody else's.
    #[error("cannot use the state directory")]
    State(#[source] DurableError),
    /// A restore was cut short, or a joining: what is there is not whole.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// A file cannot be read or written.
    #[error("cannot copy a file")]
    File(#[from] FileError),
    /// The backup's directory cannot be written.
    #[error("cannot write the backup")]
    Write(#[from] DurableError),
    /// The log, or its copy, does not verify.
    #[error("the copied log does not verify")]
    LogCopy(#[from] VerifyError),
    /// It does not say which store it belongs to.
    #[error(transparent)]
    Unpinned(#[from] StartError),
    /// The store does not open.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The store was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A key-encryption key is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// No key-encryption key opened the store key, or a row does not verify.
    #[error("the copy is not verified")]
    Unverified(#[from] ApplyError),
    /// A canary was not sealed.
    #[error("no canary could be sealed for {0}: {1}")]
    Canary(String, String),
    /// The policies cannot be read.
    #[error("cannot read the policies")]
    Policies(#[from] PolicyReadError),
    /// The custodians have not let it be made.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// The manifest has no text: a defect.
    #[error("the manifest cannot be written")]
    Manifest(#[from] serde_json::Error),
    /// The backup is whole, but the production log did not take the record of it.
    #[error("the backup {digest} is whole, but the audit log did not take its record")]
    Unrecorded {
        /// The manifest's digest.
        digest: String,
        /// Why.
        #[source]
        source: Unrecorded,
    },
}

/// Why the log has no record of a backup.
#[derive(Debug, thiserror::Error)]
pub enum Unrecorded {
    /// It does not open.
    #[error("cannot open the audit log")]
    Log(#[from] audit::OpenError),
    /// It takes no records.
    #[error("cannot write the audit log")]
    Append(#[from] AppendError),
    /// The sidecar that runs cannot be told.
    #[error("cannot leave a notice for the sidecar that runs")]
    Notice(#[from] DurableError),
}

impl BackupError {
    /// What the operator should do.
    pub fn hint(&self) -> String {
        let again = "remove the unfinished directory and begin again";
        match self {
            Self::Exists(_) => "name a new directory: a backup is never written over".to_owned(),
            Self::State(_) => "name the configuration of a sidecar that was made by `keyward init`".to_owned(),
            Self::CutShort(what) => what.hint().to_owned(),
            Self::LogCopy(_) => format!(
                "after a crash, `keyward serve` once recovers a torn end; else `keyward audit verify` names the damage. Then {again}"
            ),
            Self::Unverified(ApplyError::Unavailable(_)) => {
                format!("make the primary or the escrow reachable, or copy unverified with --without-kek; {again}")
            }
            Self::Unverified(ApplyError::Refused(_)) => {
                format!("no backup was made: see what the error says of the store that [store] names; {again}")
            }
            Self::Unverified(_) => {
                "the store itself is damaged: keep older backups, and see what the error says to do".to_owned()
            }
            Self::Unrecorded { .. } => {
                "keep it, and see why the log takes no records: `keyward audit verify`".to_owned()
            }
            Self::Kek(_) => format!("check [kek.NAME] of that key, or copy unverified with --without-kek; {again}"),
            Self::Write(_) | Self::File(_) => {
                format!("the directory's parent must be there, be yours and have room; {again}")
            }
            Self::Store(StoreError::Unavailable(_)) => format!("see that the store can be reached; {again}"),
            Self::Policies(_) => format!("see that [policy] dir can be read; {again}"),
            Self::NotAllowed(why) => why.hint().to_owned(),
            Self::Manifest(_) => "this is a defect: report it".to_owned(),
            _ => again.to_owned(),
        }
    }
}

/// Makes a backup. If we stop in between, the directory has no manifest and nothing restores it.
pub async fn back_up(
    config: &Config,
    options: &BackupOptions,
    clock: SharedClock,
    tell: Tell<'_>,
) -> Result<Made, BackupError> {
    let disk = Disk::real();
    let lock = match disk.lock_exclusive(&config.state.lock()) {
        Ok(lock) => Some(lock),
        Err(DurableError::AlreadyLocked { .. }) => None,
        Err(error) => return Err(BackupError::State(error)),
    };
    CutShort::check(&config.state)?;
    let serves = lock.is_none();
    let mut draft =
        Draft { config, disk: &disk, clock: &clock, to: &options.to, serves, files: Vec::new(), ceremony: None };
    draft.ceremony = custodians::by_rows(&*draft.moment().await?, &clock).await?;
    disk.create_dir(&options.to, 0o700).map_err(|error| match error {
        DurableError::Exists { path } => BackupError::Exists(path),
        other => other.into(),
    })?;
    draft.copy_logs(tell)?;
    let moment = draft.moment().await?;
    // From here on copies are read, and what the store was: a sidecar may start.
    drop(lock);
    let counts = draft.copy_store(moment, tell).await?;
    let verified = draft.verify_logs(tell)?;
    let (key, pinned) = told_by(&options.to.join(LOG), &verified)?;
    let newest = verified.store_head.clone();
    let about = About { key, pinned, verified, counts, without_kek: options.without_kek };
    let manifest = draft.describe(about, tell).await?;
    let ceremony = draft.ceremony.take();
    let digest = draft.finish(&manifest)?;
    let notice = Notice {
        digest: digest.clone(),
        head: manifest.head.clone(),
        keyrings: manifest.rows.keyrings,
        keys: manifest.rows.keys,
        records: manifest.log.records,
        os_user: options.uid,
        ceremony: ceremony.map(|ceremony| ceremony.to_string()),
    };
    // Whoever has the lock now has the log, and a log that is being restored takes no record.
    let lock = disk.lock_exclusive(&config.state.lock()).ok().filter(|_| CutShort::check(&config.state).is_ok());
    let recorded = match &lock {
        Some(_) => record_here(config, &clock, &disk, &notice, (manifest.verified, newest)).await.map(|()| true),
        None => record_there(config, &clock, &disk, &notice).await,
    };
    let recorded = recorded.map_err(|source| BackupError::Unrecorded { digest: digest.clone(), source })?;
    Ok(Made { manifest, digest, recorded })
}

/// The copied log's key, and what it says of its store.
fn told_by(log: &Path, verified: &Verified) -> Result<(String, Pinned), BackupError> {
    let path = log.join("checkpoint.pub");
    let key = std::fs::read_to_string(&path).map_err(|source| FileError::Read { path, source })?;
    let unpinned = || BackupError::Unpinned(StartError::Unpinned);
    let head = |text: &String| text.parse().map_err(|_| unpinned());
    let pinned = Pinned {
        store: verified.origin.as_str().split('/').nth(1).ok_or_else(unpinned)?.to_owned(),
        store_key_check: verified.store_key_check.clone().ok_or_else(unpinned)?,
        head: verified.store_head.as_ref().map(head).transpose()?,
        abandoned: verified.abandoned.iter().map(head).collect::<Result<_, _>>()?,
        log: verified.origin.as_str().to_owned(),
    };
    Ok((key.trim().to_owned(), pinned))
}

/// In the log of the sidecar, which is stopped. The log is told where the store ends if the backup was verified and nobody
/// has told it of another end since it was copied.
async fn record_here(
    config: &Config,
    clock: &SharedClock,
    disk: &Disk,
    notice: &Notice,
    (verified, newest): (bool, Option<String>),
) -> Result<(), Unrecorded> {
    let (log, opened) = open_log(config, clock, disk)?;
    let mut facts = notice.facts();
    if verified && opened.store_head == newest {
        facts.retain(|(name, _)| *name != "backup_head");
        facts.push(("store_head", notice.head.clone()));
    }
    record(&log, clock, (Event::StoreBackedUp, Outcome::Done), facts).await?;
    Ok(log.drain().await?)
}

/// By the sidecar that runs. Whether it did so within its time.
async fn record_there(config: &Config, clock: &SharedClock, disk: &Disk, notice: &Notice) -> Result<bool, Unrecorded> {
    notice.leave(&config.state, disk)?;
    let (path, until) = (notice.path(&config.state), clock.mono().plus(RECORDED));
    while path.exists() {
        if clock.mono() >= until {
            return Ok(false);
        }
        clock.sleep_until(clock.mono().plus(Duration::from_millis(50))).await;
    }
    Ok(true)
}

struct Draft<'a> {
    config: &'a Config,
    disk: &'a Disk,
    clock: &'a SharedClock,
    to: &'a Path,
    /// Whether a sidecar runs on this state.
    serves: bool,
    files: Vec<FileFacts>,
    /// The one by which it may be made.
    ceremony: Option<CeremonyId>,
}

/// What is known of the copies.
struct About {
    key: String,
    pinned: Pinned,
    verified: Verified,
    counts: Counts,
    without_kek: bool,
}

impl Draft<'_> {
    /// The log without the key that signs, and the logs before it.
    fn copy_logs(&mut self, tell: Tell<'_>) -> Result<(), BackupError> {
        let (from, older) = (&self.config.audit.dir, self.config.state.older_logs());
        for file in files::below(&older)? {
            self.copy(&older.join(&file), &Path::new(OLDER_LOGS).join(file))?;
        }
        // In this order, and listed twice: see `verify::files`.
        for of_segments in [false, true] {
            let mut files = log_files(from).map_err(|source| FileError::Read { path: from.clone(), source })?;
            files.retain(|file| file.starts_with(SEGMENTS) == of_segments);
            let all = u64::try_from(files.len()).unwrap_or(u64::MAX);
            for (done, file) in (1..).zip(files) {
                self.copy(&from.join(&file), &Path::new(LOG).join(file))?;
                tell("copying the log", done, all);
            }
        }
        if self.serves { self.cut() } else { Ok(()) }
    }

    fn verify_logs(&self, tell: Tell<'_>) -> Result<Verified, BackupError> {
        let mut progress = |at: audit::verify::Progress| tell("verifying the log", at.bytes, at.of);
        Ok(verify(&self.to.join(LOG), None, None, &mut progress)?)
    }

    /// Takes away what was being written when it was copied.
    fn cut(&mut self) -> Result<(), BackupError> {
        for (path, length) in whole(&self.to.join(LOG))? {
            let file = self.disk.open(&path)?;
            if file.len()? == length {
                continue;
            }
            file.set_len(length)?;
            file.fdatasync()?;
            let Digest { bytes, sha256 } =
                files::digest(&path).map_err(|source| FileError::Read { path: path.clone(), source })?;
            let listed = path.strip_prefix(self.to).unwrap_or(&path).display().to_string();
            if let Some(facts) = self.files.iter_mut().find(|facts| facts.path == listed) {
                *facts = FileFacts { path: listed, bytes, sha256 };
            }
        }
        Ok(())
    }

    /// The store as it is now: after the log, so that it has everything that the copied log knows.
    async fn moment(&self) -> Result<Box<dyn Snapshot>, BackupError> {
        let settings = without_mirror(&self.config.store);
        if self.serves {
            return Ok(store::look(&settings).await?);
        }
        // A file that an older keyward left is brought forward first.
        Ok(store::open(&settings).await?.snapshot().await?)
    }

    async fn copy_store(&self, from: Box<dyn Snapshot>, tell: Tell<'_>) -> Result<Counts, BackupError> {
        let into = sqlite::create(&in_file(self.to.join(STORE))).await?;
        let mut told = |at: store::Progress| tell("copying the store", at.done, at.all);
        Ok(store::copy(from, into, &mut told).await?)
    }

    /// The copied store verified under its key, and what the manifest says of it.
    async fn describe(&mut self, about: About, tell: Tell<'_>) -> Result<Manifest, BackupError> {
        let (file, counts) = (in_file(self.to.join(STORE)), about.counts);
        let copy = sqlite::open(&file).await?;
        let reader = copy.reader();
        let keks = wrapped(&*reader).await?;
        let (head, canaries) = if about.without_kek {
            drop(copy);
            (last_head(&*reader, counts).await?, Vec::new())
        } else {
            let keks = all_keks(self.config, self.clock, self.disk).await?;
            tell("verifying the store", 0, 1);
            let keyrings = admit(copy, keks, self.config, self.clock, about.pinned.clone()).await?;
            self.ceremony = custodians::by_documents(&keyrings, self.clock).await?;
            let head = keyrings.head().unwrap_or_default();
            (head, canaries(&keyrings, tell).await?)
        };
        drop(reader);
        self.tidy(&file.path).await;
        let Digest { bytes, sha256 } =
            files::digest(&file.path).map_err(|source| FileError::Read { path: file.path.clone(), source })?;
        self.files.push(FileFacts { path: STORE.to_owned(), bytes, sha256 });
        let Verified { origin, records, root, .. } = about.verified;
        Ok(Manifest {
            schema: SCHEMA,
            keyward: env!("CARGO_PKG_VERSION").to_owned(),
            made: self.clock.wall().rfc3339_millis(),
            environment: self.config.environment.name().to_owned(),
            store: about.pinned.store,
            store_key_check: about.pinned.store_key_check,
            head: head.to_string(),
            verified: !about.without_kek,
            rows: rows(counts),
            log: LogFacts { origin: origin.as_str().to_owned(), key: about.key, records, root: hex::encode(root) },
            keks,
            canaries,
            files: Vec::new(),
        })
    }

    /// Configuration and policies, then the manifest over everything. Crash state: until the manifest has its name there is
    /// no backup.
    fn finish(mut self, manifest: &Manifest) -> Result<String, BackupError> {
        let texts = self.config.policy.read()?.into_iter().map(|(name, text)| (format!("policies/{name}"), text));
        let texts: Vec<_> =
            std::iter::once(("keyward.toml".to_owned(), self.config.text.clone())).chain(texts).collect();
        for (name, text) in texts {
            self.write(&Path::new(CONFIG).join(name), text.as_bytes())?;
        }
        self.files.sort_by(|one, two| one.path.cmp(&two.path));
        let manifest = Manifest { files: self.files.clone(), ..manifest.clone() };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        let mut folders: Vec<PathBuf> = vec![self.to.to_owned()];
        folders.extend(self.files.iter().filter_map(|file| Some(self.to.join(&file.path).parent()?.to_owned())));
        folders.sort_unstable();
        folders.dedup();
        folders.iter().try_for_each(|folder| self.disk.sync_dir(folder))?;
        self.disk.write_atomic(&self.to.join(MANIFEST), &text, 0o600)?;
        Ok(hex::encode(crypto::sha256(&[&text])))
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), BackupError> {
        let path = self.place(to)?;
        let Digest { bytes, sha256 } = files::copy(self.disk, from, &path)?;
        self.files.push(FileFacts { path: to.display().to_string(), bytes, sha256 });
        Ok(())
    }

    fn write(&mut self, to: &Path, text: &[u8]) -> Result<(), BackupError> {
        let path = self.place(to)?;
        self.disk.write_new(&path, text, 0o600)?;
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let sha256 = hex::encode(crypto::sha256(&[text]));
        self.files.push(FileFacts { path: to.display().to_string(), bytes, sha256 });
        Ok(())
    }

    fn place(&self, to: &Path) -> Result<PathBuf, BackupError> {
        let path = self.to.join(to);
        files::make_dirs(self.disk, self.to, path.parent().unwrap_or(self.to))?;
        Ok(path)
    }

    /// Waits until SQLite has put its helper files away, which hold nothing by now; left over they do no harm.
    async fn tidy(&self, store: &Path) {
        let wal = PathBuf::from(format!("{}-wal", store.display()));
        let until = self.clock.mono().plus(TIDY);
        while wal.exists() && self.clock.mono() < until {
            self.clock.sleep_until(self.clock.mono().plus(Duration::from_millis(5))).await;
        }
    }
}

fn rows(counts: Counts) -> Rows {
    let Counts { keyrings, keys, partitions, changes, .. } = counts;
    Rows { keyrings, keys, partitions, changes }
}

/// By what the keys are wrapped, as their rows say.
async fn wrapped(reader: &dyn Reader) -> Result<Vec<KekFacts>, StoreError> {
    let (mut found, mut after) = (BTreeMap::<String, u64>::new(), None);
    loop {
        let page = reader.keys(after, 1_000).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for kek in page.iter().flat_map(keyring::wrapped_by) {
            *found.entry(kek).or_default() += 1;
        }
    }
    Ok(found.into_iter().map(|(kek, keys)| KekFacts { kek, keys }).collect())
}

async fn last_head(reader: &dyn Reader, counts: Counts) -> Result<StoreHead, StoreError> {
    let last = reader.changes(counts.changes.saturating_sub(1), 1).await?;
    Ok(last.first().and_then(keyring::ends_at).unwrap_or_default())
}

/// A canary for each keyring, or for a thousand spread over them.
async fn canaries(keyrings: &Keyrings, tell: Tell<'_>) -> Result<Vec<Canary>, BackupError> {
    let versions = keyrings.sealing_versions().await?;
    let every = versions.len().div_ceil(CANARIES).max(1);
    let chosen: Vec<_> = versions.into_iter().step_by(every).collect();
    let all = u64::try_from(chosen.len()).unwrap_or(u64::MAX);
    let mut sealed = Vec::with_capacity(chosen.len());
    for (done, (keyring, version)) in (1..).zip(chosen) {
        let failed = |why: String| BackupError::Canary(keyring.to_string(), why);
        let key = keyrings.canary_key(version).await.map_err(|error: UnlockError| failed(error.to_string()))?;
        let text = canary::seal(&key).map_err(|error: ItemError| failed(format!("{error:?}")))?;
        sealed.push(Canary { keyring: keyring.to_string(), version: version.to_string(), sealed: text });
        tell("sealing canaries", done, all);
    }
    Ok(sealed)
}
