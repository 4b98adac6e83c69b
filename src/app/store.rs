//! The store apart from a running sidecar: checked, moved, its schema written out for whoever owns the database.

use std::path::PathBuf;

use crate::audit::{self, AppendError, Event, Outcome};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::durable::{Disk, DurableError};
use crate::kek;
use crate::keyring::ApplyError;
use crate::store::{self, Settings, StoreError, postgres, sqlite};

use super::cut_short::CutShort;
use super::start::{StartError, pinned};
use super::{backup, events};

pub use crate::store::{CopyError, Counts, Progress};

/// Every problem of the store's settings that shows without a server.
pub fn store_problems(config: &Config) -> Vec<StoreError> {
    match &config.store {
        Settings::Sqlite(_) => Vec::new(),
        Settings::Postgresql(settings) => postgres::problems(settings),
    }
}

/// The SQL that makes or renews the schema of a database from number `from`, with the rights of the role that serves;
/// None if it is a newer one than this keyward knows.
pub fn schema_script(from: u32, role: &str) -> Option<String> {
    postgres::script(from, role)
}

/// A store that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What was copied and compared.
    pub counts: Counts,
    /// Where the old store is now.
    pub old: Old,
}

/// What became of the store that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// The file has another name: no sidecar opens it by accident.
    Renamed(PathBuf),
    /// The database holds the old store still; its chain ends with a link that says where it is now.
    Closed(String),
}

/// Why a store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Both configurations name one store.
    #[error("both configurations name the same store")]
    Same,
    /// They are of different environments.
    #[error("one configuration is for development, the other for production")]
    Environment,
    /// A sidecar runs on this state, or the state cannot be used.
    #[error("cannot use the state directory")]
    State(#[source] DurableError),
    /// A restore was cut short, or a joining: what is there is not whole.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The copy failed; the old store is as it was.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The log does not open.
    #[error("cannot open the audit log")]
    Log(#[from] audit::OpenError),
    /// It does not say which store it belongs to.
    #[error(transparent)]
    Unpinned(#[from] StartError),
    /// A key-encryption key is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// It is another store than the log's, an older one, or one that was moved already.
    #[error("the store to be moved is not admitted")]
    NotAdmitted(#[source] ApplyError),
    /// The copy is whole, but the old store does not say that it is one.
    #[error("the new store is whole, but the old one could not be closed")]
    Close(#[source] ApplyError),
    /// The log takes no records.
    #[error("the store was moved, but the audit log did not take the record")]
    Append(#[from] AppendError),
    /// The old store is closed, but another process reads its file.
    #[error("the store was moved, but the old file could not be put away")]
    Settle(#[source] StoreError),
    /// The old store is closed, but its file still has its name.
    #[error("the store was moved, but the old file could not be renamed")]
    Mark(#[source] DurableError),
}

impl MoveError {
    /// What the operator should do.
    pub fn hint(&self, to: &Config) -> String {
        let target = described(&to.store);
        match self {
            Self::Same => "change [store] in the configuration that --to names".to_owned(),
            Self::Environment => "the environment of a store never changes".to_owned(),
            Self::State(DurableError::AlreadyLocked { .. }) => {
                "stop the sidecar first; the others of a fleet stop by themselves when the store has moved".to_owned()
            }
            Self::State(_) => "check the state directory of the configuration".to_owned(),
            Self::CutShort(what) => what.hint().to_owned(),
            Self::Copy(CopyError::From(_) | CopyError::Unfounded) => {
                "the store that --config names must open; nothing was changed".to_owned()
            }
            Self::Copy(CopyError::To(StoreError::Unavailable(_) | StoreError::Unsuitable(_))) => {
                format!("the old store is untouched; see that {target} can be used, and begin again")
            }
            // A file may be an unfinished copy; a database is called a store only when it is a whole one.
            Self::Copy(CopyError::To(StoreError::Exists(_))) if matches!(to.store, Settings::Postgresql(_)) => {
                format!(
                    "the old store is untouched; {target} holds a whole store, perhaps one in use: name an empty place"
                )
            }
            Self::Copy(_) => format!(
                "the old store is untouched; if {target} holds an unfinished copy and nothing else, empty it ({}) and begin again",
                emptied(to)
            ),
            Self::Log(_) | Self::Unpinned(_) => {
                "nothing was changed: `keyward audit verify` says what is wrong with the log".to_owned()
            }
            Self::Kek(_) => "check [kek.NAME] of that key: closing the old store needs one".to_owned(),
            Self::NotAdmitted(ApplyError::Unavailable(_)) => {
                "make one of the key-encryption keys reachable, and the store; nothing was changed".to_owned()
            }
            Self::NotAdmitted(_) => "nothing was changed; see what the error says to do".to_owned(),
            Self::Close(ApplyError::Unsettled(_)) => format!(
                "nobody knows whether the old store is closed, so empty nothing: start the sidecar with the old [store]. If \
                 it is refused as moved, {target} is the store; if it serves, nothing was moved: stop it, empty {target} \
                 ({}), and begin again",
                emptied(to)
            ),
            Self::Close(_) => {
                format!("the old store is the one that counts: empty {target} ({}), and begin again", emptied(to))
            }
            Self::Append(_) | Self::Mark(_) | Self::Settle(_) => {
                format!("{target} is the store now, and the old one is closed: go on with {target}")
            }
        }
    }
}

/// Copies the store of one configuration into the empty one of another, compares them, and closes the old one: nobody
/// changes it meanwhile, and no sidecar serves it afterwards. If we stop before the end of the copy, the new one is none
/// yet; if we stop between the two, the old one counts, and the new one is emptied and made again.
pub async fn migrate_store(
    config: &Config,
    to: &Config,
    clock: SharedClock,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Moved, MoveError> {
    let (source, target) = (without_mirror(&config.store), without_mirror(&to.store));
    if source == target {
        return Err(MoveError::Same);
    }
    if config.environment != to.environment {
        return Err(MoveError::Environment);
    }
    let disk = Disk::real();
    let _lock = disk.lock_exclusive(&config.state.lock()).map_err(MoveError::State)?;
    CutShort::check(&config.state)?;
    let (log, opened) = backup::open_log(config, &clock, &disk)?;
    let pinned = pinned(&log, &opened)?;
    let from = store::hold(&source).await.map_err(CopyError::From)?;
    let moment = from.snapshot().await.map_err(CopyError::From)?;
    let keks = backup::all_keks(config, &clock, &disk).await?;
    let keyrings = backup::admit(from, keks, config, &clock, pinned).await.map_err(MoveError::NotAdmitted)?;
    let into = store::create(&target).await.map_err(CopyError::To)?;
    let counts = store::copy(moment, into, tell).await?;
    let (place, head) = (described(&target), keyrings.head().unwrap_or_default());
    keyrings.move_to(&place).await.map_err(MoveError::Close)?;
    drop(keyrings);
    let facts = vec![events::fact("moved_to", place), ("store_head", head.to_string())];
    backup::record(&log, &clock, (Event::StoreMoved, Outcome::Done), facts).await?;
    log.drain().await?;
    let old = match &source {
        Settings::Sqlite(file) => {
            // What closes it lies in its WAL: opening moves that into the file.
            drop(store::open(&source).await.map_err(MoveError::Settle)?);
            Old::Renamed(backup::set_aside(&disk, &file.path, "moved").map_err(MoveError::Mark)?)
        }
        Settings::Postgresql(database) => {
            sqlite::remove(&disk, &config.state.mirror()).map_err(MoveError::Mark)?;
            Old::Closed(database.to_string())
        }
    };
    Ok(Moved { counts, old })
}

/// An offline copy reads each row once: nothing to keep for later.
pub(super) fn without_mirror(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    if let Settings::Postgresql(database) = &mut settings {
        database.mirror = None;
    }
    settings
}

/// Where a store is.
pub fn described(settings: &Settings) -> String {
    match settings {
        Settings::Sqlite(file) => file.path.display().to_string(),
        Settings::Postgresql(database) => database.to_string(),
    }
}

/// How the target of an unfinished copy is emptied.
pub(super) fn emptied(to: &Config) -> String {
    match &to.store {
        Settings::Sqlite(file) => format!("remove {0}, {0}-wal and {0}-shm", file.path.display()),
        Settings::Postgresql(_) => "DROP SCHEMA keyward CASCADE, then what `keyward store schema` prints".to_owned(),
    }
}
