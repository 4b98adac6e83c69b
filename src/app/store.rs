//! The store apart from a running sidecar: checked, moved, its schema written out for whoever owns the database.

use std::path::PathBuf;

use crate::config::Config;
use crate::durable::{Disk, DurableError};
use crate::store::{self, Settings, StoreError, postgres};

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
    /// The database is as it was; keyward has no right to take it out of service.
    Unmarked(String),
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
    /// The copy failed; the old store is as it was.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The copy is whole, but the old file still has its name.
    #[error("the new store is whole, but the old one could not be renamed")]
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
                "stop the sidecar first; with a shared database, every sidecar of the fleet".to_owned()
            }
            Self::State(_) => "check the state directory of the configuration".to_owned(),
            Self::Copy(CopyError::From(_) | CopyError::Unfounded) => {
                "the store that --config names must open; nothing was changed".to_owned()
            }
            Self::Copy(CopyError::To(StoreError::Unavailable(_) | StoreError::Unsuitable(_))) => {
                format!(
                    "the old store is untouched; see that {target} can be used, empty it ({}), and begin again",
                    emptied(to)
                )
            }
            Self::Copy(_) => format!(
                "the old store is untouched; if {target} holds an unfinished copy and nothing else, empty it ({}) and begin again",
                emptied(to)
            ),
            Self::Mark(_) => format!("rename it by hand before any sidecar starts; {target} is the store now"),
        }
    }
}

/// Copies the store of one configuration into the empty one of another, compares them, and takes the old one out of service
/// where keyward can. If we stop in between, the old store is as it was and the new one is none yet.
pub async fn migrate_store(
    config: &Config,
    to: &Config,
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
    let from = store::open(&source).await.map_err(CopyError::From)?;
    let from = from.snapshot().await.map_err(CopyError::From)?;
    let into = store::create(&target).await.map_err(CopyError::To)?;
    let counts = store::copy(from, into, tell).await?;
    let old = match &source {
        Settings::Sqlite(file) => Old::Renamed(rename(&disk, &file.path).map_err(MoveError::Mark)?),
        Settings::Postgresql(database) => Old::Unmarked(database.to_string()),
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

/// Opening has moved all of its WAL into the file, and nothing was written since.
fn rename(disk: &Disk, path: &std::path::Path) -> Result<PathBuf, DurableError> {
    let free = |path: &PathBuf| !path.exists();
    let names = (1_u32..).map(|n| PathBuf::from(format!("{}.moved-{n}", path.display())));
    let to = names.take(10_000).find(free).ok_or_else(|| DurableError::Exists { path: path.to_owned() })?;
    disk.rename(path, &to)?;
    disk.sync_dir(path.parent().unwrap_or(path))?;
    Ok(to)
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
