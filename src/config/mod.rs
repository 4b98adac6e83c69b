//! What does the operator want? `keyward.toml` as typed (`raw`) becomes a Config as meant, or all its problems at once.
//! This module never creates anything and never starts weaker than it was told.

mod callers;
mod custody;
mod jwt;
mod keks;
mod lifetimes;
mod parse;
mod problems;
mod raw;
mod sections;
mod sinks;
mod store;
mod tls;
mod transit;
mod units;
mod witness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::keyring::Environment;
use crate::names::KekName;
use crate::{audit, identity, jobs, kek, keyring, secret, server, telemetry};

pub use problems::{Problem, Problems};

/// The schema of `keyward.toml` that this version reads.
pub const SCHEMA: u64 = 1;

/// A configuration as meant: every part's settings.
#[derive(Debug)]
pub struct Config {
    /// Development or production.
    pub environment: Environment,
    /// Store, log and lock.
    pub state: StateDir,
    /// Listeners and limits.
    pub server: server::Settings,
    /// The key-encryption keys.
    pub keks: Keks,
    /// Where sealed rows rest.
    pub store: crate::store::Settings,
    /// The check value that the store key must have; None trusts what record 0 of the log says.
    pub store_key_check: Option<[u8; 16]>,
    /// Where policies are, and what they may look at.
    pub policy: PolicyFiles,
    /// Custodians.
    pub custody: CustodyFiles,
    /// Who may call.
    pub identity: identity::Settings,
    /// Lifetimes and bounds of unwrapped keys.
    pub keyring: keyring::Settings,
    /// When keys are rotated.
    pub rotation: jobs::Settings,
    /// The log.
    pub audit: audit::Settings,
    /// Who else gets the log's records.
    pub sinks: Vec<crate::sinks::Settings>,
    /// Who cosigns checkpoints.
    pub witness: Option<crate::witness::Settings>,
    /// Locked memory.
    pub memory: secret::Settings,
    /// How long a stop waits.
    pub drain: Duration,
    /// Tracing.
    pub tracing: telemetry::Settings,
    /// The file's text, whose digest stands in `sidecar.started`.
    pub text: String,
}

/// The key-encryption keys by what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keks {
    /// Wraps every key, and is asked first.
    pub primary: kek::Settings,
    /// Wraps every key beside it, and is asked while the primary is away.
    pub escrow: Option<kek::Settings>,
    /// Open what no other one has wrapped yet, and wrap nothing.
    pub retiring: Vec<kek::Settings>,
}

impl Keks {
    /// All of them, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = &kek::Settings> {
        std::iter::once(&self.primary).chain(&self.escrow).chain(&self.retiring)
    }

    /// The one with this name.
    pub fn named(&self, name: &KekName) -> Option<&kek::Settings> {
        self.iter().find(|settings| settings.name() == name)
    }
}

/// The layout of the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(pub PathBuf);

impl StateDir {
    /// Held by the one process that serves or changes the state.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The SQLite database.
    pub fn store(&self) -> PathBuf {
        self.0.join("store.db")
    }

    /// What is kept here of a database elsewhere.
    pub fn mirror(&self) -> PathBuf {
        self.0.join("mirror.sqlite")
    }

    /// The audit log's directory.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What a witness showed that is not of this log.
    pub fn conflict(&self, witness: &str) -> PathBuf {
        self.0.join(format!("conflict-{witness}.checkpoint"))
    }

    /// How far each sink has come.
    pub fn sinks(&self) -> PathBuf {
        self.0.join("sinks")
    }

    /// Logs that earlier restores brought back: each goes on in the one after it.
    pub fn older_logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// There while a restore is under way or was cut short.
    pub fn restoring(&self) -> PathBuf {
        self.0.join("restoring")
    }

    /// Latches of PIN attempts.
    pub fn latches(&self) -> PathBuf {
        self.0.join("kek")
    }
}

/// What custody rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustodyFiles {
    /// Who is who, and how many are enough.
    pub separation: Option<PathBuf>,
    /// There while the machine's clock is synchronised.
    pub clock_check: Option<PathBuf>,
    /// Whether the clock can be moved forward by hand.
    pub rehearsal_clock: bool,
}

/// The policy directory as configured; `read` loads the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Every `*.cedar` of it.
    pub dir: PathBuf,
    /// Context keys for `context.fields`.
    pub context_keys: Vec<String>,
}

/// Reads and checks a configuration file. `worker` is the program that runs `kek-worker`: this one.
pub fn load(path: &Path, worker: &Path) -> Result<Config, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    Ok(parse(&text, worker)?)
}

/// Checks a configuration text.
pub fn parse(text: &str, worker: &Path) -> Result<Config, Problems> {
    let (raw, mut found) = parse::raw(text);
    let config = sections::config(&raw, text, worker, &mut found);
    found.finish(config)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Why the policy files could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct PolicyReadError {
    path: PathBuf,
    source: std::io::Error,
}

impl PolicyFiles {
    /// `(file name, text)` of every `*.cedar` file, by name.
    pub fn read(&self) -> Result<Vec<(String, String)>, PolicyReadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PolicyReadError { path, source }
        };
        let mut documents = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed(&self.dir))? {
            let path = entry.map_err(failed(&self.dir))?.path();
            if path.extension().is_some_and(|end| end == "cedar") {
                let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
                documents.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
            }
        }
        documents.sort();
        Ok(documents)
    }
}

#[cfg(test)]
mod tests;
