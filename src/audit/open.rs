//! How does a log begin, and begin again? Founded once by `init`, opened at every start; each leaves a record.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::crypto::{CryptoError, SigningKey, random};
use crate::durable::{Disk, DurableError, File, Lock};
use crate::names::StoreId;
use crate::secret::SecretBytes;

use super::history::{self, History, HistoryError, PRIVATE, PUBLIC, PUBLIC_MODE, Stored};
use super::keeper::{Keeper, Stop, own};
use super::log::{Inner, Log};
use super::note::{Checkpoint, Origin, VerifierKey};
use super::queue::{QUEUE, Queue};
use super::read::Marks;
use super::recover::{self, Dangling, Recovered, Restored};
use super::refusals::Refusals;
use super::rule::{Fault, Finding, Rule};
use super::scan::{self, Chain, WAL};
use super::usage::Usage;
use super::wal::{FILE_MODE, SEGMENT_BYTES, Wal};
use super::writer::{Board, Writer};
use super::{AppendError, Durability, Event, Record, Settings};

/// The lock file (LOG-24).
const LOCK: &str = "lock";

/// What record 0 says about the store that the log belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// The store.
    pub store: StoreId,
    /// `development` or `production`: fixed for this log.
    pub environment: &'static str,
    /// The check value of the store's own key.
    pub store_key_check: [u8; 16],
}

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a segment after which the next one begins.
    pub segment_bytes: u64,
    /// Records that may wait at once.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, queue: QUEUE }
    }
}

/// What a start found.
#[derive(Debug)]
pub struct Opened {
    /// Tails that a crash tore: moved aside and recorded.
    pub recovered: Vec<Recovered>,
    /// Intents without an outcome, oldest first: the caller settles each and records how.
    pub dangling: Vec<Dangling>,
    /// The newest head of the store that a record names: an older store is not the one that this log tells of.
    pub store_head: Option<String>,
    /// Heads of stores that restores gave up: a store that passes through one is not in force.
    pub abandoned: Vec<String>,
    /// The newest store that was put back, if it has custodians.
    pub restored: Option<Restored>,
    /// The index that the next record gets.
    pub next_index: u64,
}

/// Why a log was not founded or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log: `init` makes one.
    #[error("there is no log in {}", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// There is a log, and it is never written over.
    #[error("there is a log in {} already", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// Founding stopped half-way: nothing was recorded yet, the directory can be removed.
    #[error("the log in {} was never finished: remove the directory and found it again", dir.display())]
    Unfinished {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process writes it: stop that one.
    #[error("the log in {} is written by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It was changed or lost bytes that were durable: an incident (LOG-20).
    #[error("the log is damaged: {0}")]
    Damaged(#[from] Finding),
    /// A newer version wrote it: use that one.
    #[error("{what} of version {found} needs a newer program; this one reads up to version {known}")]
    Newer {
        /// What is newer.
        what: &'static str,
        /// Its version.
        found: u64,
        /// The newest version that is known.
        known: u64,
    },
    /// The key that signs checkpoints is not usable: an operator must look.
    #[error("the checkpoint key is not usable: {0}")]
    Key(&'static str),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Disk(#[from] DurableError),
    /// The first record of this start was not written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// No thread could be started, or no randomness drawn.
    #[error("the operating system refused {0}")]
    System(&'static str),
}

impl From<HistoryError> for OpenError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Io { path, source } => Self::Read { path, source },
            HistoryError::Broken(finding) => Self::Damaged(finding),
        }
    }
}

impl From<CryptoError> for OpenError {
    fn from(_: CryptoError) -> Self {
        Self::System("randomness")
    }
}

impl Log {
    /// Founds the log of a new store: record 0 says to which one it belongs. The directory is made if it is missing.
    /// Blocks on file IO.
    pub fn create(
        settings: &Settings,
        founding: &Founding,
        clock: SharedClock,
        disk: &Disk,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let dir = &settings.dir;
        if dir.join(PRIVATE).exists() || dir.join(WAL).exists() {
            return Err(OpenError::Exists { dir: dir.clone() });
        }
        match disk.create_dir(dir, 0o700) {
            Ok(()) | Err(DurableError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let lock = lock(disk, dir)?;
        let mut volume = [0; 16];
        random(&mut volume)?;
        // If we stop anywhere below, the directory holds no frame and `open` calls it unfinished.
        let (signing, key) = found_key(disk, dir, Origin::new(founding.store, volume))?;
        History::found(disk, dir)?;
        disk.create_dir(&dir.join(WAL), 0o700)?;
        let segment = (0, Wal::begin(disk, dir, 0)?);
        let history = History::open(disk, dir, signing, key.clone(), &Stored::default())?;
        let (chain, intents) = (Chain::default(), BTreeSet::new());
        let start = Start { settings, clock, disk, limits, lock, key, history, chain, segment, intents };
        let records = vec![founded(founding, volume, start.key.origin()), opened(&start, 0)];
        start.begin(records, Marks::default(), 0)
    }

    /// Opens the log of `settings`: reads all of it, moves a torn tail aside, refuses damage, and records the start.
    /// Blocks on file IO, for as long as the log takes to read.
    pub fn open(
        settings: &Settings,
        clock: SharedClock,
        disk: &Disk,
        limits: Limits,
    ) -> Result<(Self, Opened), OpenError> {
        let dir = &settings.dir;
        if !dir.join(PRIVATE).exists() {
            return Err(OpenError::Missing { dir: dir.clone() });
        }
        let lock = lock(disk, dir)?;
        check_founded(dir)?;
        let keys = history::public_keys(dir)?;
        let key = keys.newest().clone();
        let signing = private_key(dir, &key)?;
        let stored = history::load(dir, &keys)?;
        let found = recover::recover(disk, dir, &stored, clock.wall().0)?;
        let segment = (found.last.0, disk.open(&found.last.1)?);
        let history = History::open(disk, dir, signing, key.clone(), &stored)?;
        let intents = found.dangling.iter().map(|dangling| dangling.index).collect();
        let start = Start { settings, clock, disk, limits, lock, key, history, chain: found.chain, segment, intents };
        let mut records: Vec<Record> = found.recovered.iter().map(recovered).collect();
        records.push(opened(&start, stored.torn));
        let log = start.begin(records, found.marks, found.used)?;
        let next_index = *log.committed().borrow();
        Ok((
            log,
            Opened {
                recovered: found.recovered,
                dangling: found.dangling,
                store_head: found.store_head,
                abandoned: found.abandoned,
                restored: found.restored,
                next_index,
            },
        ))
    }
}

/// Everything that the threads of a log are made of.
struct Start<'a> {
    settings: &'a Settings,
    clock: SharedClock,
    disk: &'a Disk,
    limits: Limits,
    lock: Lock,
    key: VerifierKey,
    history: History,
    chain: Chain,
    segment: (u64, File),
    intents: BTreeSet<u64>,
}

impl Start<'_> {
    /// Writes the records of this start and a checkpoint over them, and only then starts the threads.
    fn begin(self, records: Vec<Record>, marks: Marks, used: u64) -> Result<Log, OpenError> {
        let Settings { dir, durability, disk_budget, heartbeat, refusals_per_second } = self.settings;
        let queue = Arc::new(Queue::new(self.limits.queue));
        let synced = Checkpoint { size: self.chain.tree.size(), root: self.chain.tree.root() };
        let board = Arc::new(Board::new(synced, Usage::new(used, *disk_budget), marks));
        let wal = Wal::new(self.disk, dir, self.segment, self.limits.segment_bytes, *durability)?;
        let mut writer = Writer {
            queue: Arc::clone(&queue),
            board: Arc::clone(&board),
            clock: Arc::clone(&self.clock),
            wal,
            durability: *durability,
            tree: self.chain.tree,
            time: self.chain.time,
            intents: self.intents,
            buffer: Vec::new(),
        };
        writer.write_first(records)?;
        let refusals = Arc::new(Refusals::new(*refusals_per_second));
        let (stop, stopped) = watch::channel(Stop::Running);
        let (checkpoint, checkpointed) = watch::channel(self.history.newest);
        let mut keeper = Keeper {
            queue: Arc::clone(&queue),
            board: Arc::clone(&board),
            refusals: Arc::clone(&refusals),
            opened: self.clock.mono(),
            clock: Arc::clone(&self.clock),
            history: self.history,
            durability: *durability,
            heartbeat: *heartbeat,
            checkpointed: checkpoint,
            stop: stopped,
        };
        keeper.checkpoint().map_err(AppendError::Closed)?;
        let (keeper, ended) = spawn(writer, keeper)?;
        let inner = Inner {
            dir: dir.clone(),
            durability: *durability,
            key: self.key,
            queue,
            board,
            refusals,
            clock: self.clock,
            checkpointed,
            stop,
            ended,
            keeper: Mutex::new(Some(keeper)),
            _lock: self.lock,
        };
        Ok(Log { inner: Arc::new(inner) })
    }
}

type Ended = watch::Receiver<Option<Result<(), String>>>;

fn spawn(writer: Writer, keeper: Keeper) -> Result<(std::thread::JoinHandle<()>, Ended), OpenError> {
    let refused = |_| OpenError::System("a thread");
    let queue = Arc::clone(&writer.queue);
    let writing =
        std::thread::Builder::new().name("audit-writer".to_owned()).spawn(|| writer.run()).map_err(refused)?;
    let (end, ended) = watch::channel(None);
    let keeping = std::thread::Builder::new().name("audit-keeper".to_owned()).spawn(move || {
        end.send_replace(Some(keeper.run(writing)));
    });
    if keeping.is_err() {
        // The writer must not outlive a start that failed.
        queue.finish();
    }
    Ok((keeping.map_err(refused)?, ended))
}

fn lock(disk: &Disk, dir: &Path) -> Result<Lock, OpenError> {
    disk.lock_exclusive(&dir.join(LOCK)).map_err(|error| match error {
        DurableError::AlreadyLocked { .. } => OpenError::Locked { dir: dir.to_path_buf() },
        other => other.into(),
    })
}

/// A founding that was cut short left no byte of a frame, and what stands around may be cut short as well.
fn check_founded(dir: &Path) -> Result<(), OpenError> {
    let parts = [PUBLIC, history::ALL, WAL].iter().all(|part| dir.join(part).exists());
    let segments = if parts { scan::segments(dir) } else { Ok(Vec::new()) };
    let segments = segments.map_err(|source| OpenError::Read { path: dir.join(WAL), source })?;
    // Where a checkpoint was ever written there was a log: empty segments are then damage, which the walk names.
    let signed = [history::ALL, history::NEWEST]
        .iter()
        .any(|part| std::fs::metadata(dir.join(part)).is_ok_and(|facts| facts.len() > 0));
    if signed && !parts {
        let detail = "a file of the log is missing";
        return Err(Fault::new(Rule::Directory, 0, detail).at(dir, 0).into());
    }
    if segments.iter().all(|segment| segment.len == 0) && !signed {
        return Err(OpenError::Unfinished { dir: dir.to_path_buf() });
    }
    Ok(())
}

fn found_key(disk: &Disk, dir: &Path, origin: Origin) -> Result<(SigningKey, VerifierKey), OpenError> {
    let pkcs8 = SigningKey::generate_pkcs8()?;
    let signing = SigningKey::from_pkcs8(&pkcs8)?;
    let key = VerifierKey::new(origin, signing.public());
    disk.write_new(&dir.join(PRIVATE), pkcs8.expose(), FILE_MODE)?;
    disk.write_new(&dir.join(PUBLIC), format!("{}\n", key.to_text()).as_bytes(), PUBLIC_MODE)?;
    Ok((signing, key))
}

/// Reads the private key and checks that it is the owner's alone and that of the public one (LOG-15).
fn private_key(dir: &Path, key: &VerifierKey) -> Result<SigningKey, OpenError> {
    let path = dir.join(PRIVATE);
    let failed = |source| OpenError::Read { path: path.clone(), source };
    if std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(OpenError::Key("others than its owner may read it"));
    }
    let pkcs8 = SecretBytes::new(std::fs::read(&path).map_err(failed)?);
    let signing = SigningKey::from_pkcs8(&pkcs8).map_err(|_| OpenError::Key("it is no Ed25519 key"))?;
    if signing.public() != *key.public() {
        return Err(OpenError::Key("it is not that of checkpoint.pub"));
    }
    Ok(signing)
}

fn founded(founding: &Founding, volume: [u8; 16], origin: &Origin) -> Record {
    let facts = vec![
        ("environment", founding.environment.to_owned()),
        ("origin", origin.as_str().to_owned()),
        ("store", founding.store.to_string()),
        ("store_key_check", hex::encode(founding.store_key_check)),
        ("volume", hex::encode(volume)),
    ];
    Record { facts, ..own(Event::StoreFounded) }
}

fn opened(start: &Start<'_>, checkpoint_cut: u64) -> Record {
    let durability = match start.settings.durability {
        Durability::Synced => "synced",
        Durability::Written => "written",
    };
    let mut facts = vec![
        ("durability", durability.to_owned()),
        ("program_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("records", start.chain.tree.size().to_string()),
    ];
    if checkpoint_cut > 0 {
        facts.push(("checkpoint_cut", checkpoint_cut.to_string()));
    }
    Record { facts, ..own(Event::LogOpened) }
}

fn recovered(tail: &Recovered) -> Record {
    let facts = vec![
        ("torn_bytes", tail.bytes.to_string()),
        ("torn_file", tail.file.clone()),
        ("torn_sha256", hex::encode(tail.sha256)),
    ];
    Record { facts, ..own(Event::LogRecovered) }
}
