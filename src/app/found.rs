//! How does a new sidecar get its state? Store and log are made together, once, before the first start.

use std::path::PathBuf;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::durable::{Disk, DurableError};
use crate::keyring::{ApplyError, Keks, Keyrings};
use crate::store::StoreError;
use crate::{audit, kek, store};

/// What was made, for the person who made it.
#[derive(Debug)]
pub struct Founded {
    /// The store's id.
    pub store: String,
    /// The log's verification key, as a signed-note vkey.
    pub log_key: String,
    /// The check value of the store key, for the configuration to pin.
    pub store_key_check: String,
    /// The key-encryption keys in words.
    pub kek: String,
    /// The state directory.
    pub state: PathBuf,
}

/// Why nothing, or not everything, was made.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The state directory exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A file or directory cannot be made.
    #[error("cannot make the state directory")]
    Files(#[from] DurableError),
    /// The KEK refuses or is away.
    #[error("cannot use the key-encryption key")]
    Kek(#[from] kek::StartError),
    /// The database cannot be made.
    #[error("cannot make the store")]
    Store(#[from] StoreError),
    /// The first keys cannot be made.
    #[error("cannot make the store's keys")]
    Keys(#[from] ApplyError),
    /// The log cannot be made.
    #[error("cannot make the audit log")]
    Log(#[from] audit::OpenError),
}

impl FoundError {
    /// What the operator should do.
    pub fn hint(&self) -> String {
        match self {
            Self::Exists(dir) => format!(
                "its store may hold the only wraps of data keys: never remove {} while any value was sealed under it; \
                 only if an earlier init failed before it printed a log key may it go",
                dir.display()
            ),
            Self::Files(_) => "check the owner and mode of the parent directory".to_owned(),
            Self::Kek(_) => {
                "check [kek.NAME] of that key; in a token the key is made by `keyward kek create`".to_owned()
            }
            Self::Store(StoreError::Exists(_)) => {
                "that database has a store, whose keys may be in use: name an empty one in [store]".to_owned()
            }
            Self::Store(StoreError::Unavailable(_) | StoreError::Unsuitable(_)) => {
                "correct [store] or the database, remove the unfinished state directory and run init again".to_owned()
            }
            Self::Store(_) | Self::Keys(_) | Self::Log(_) => {
                "remove the unfinished state directory and run init again".to_owned()
            }
        }
    }
}

/// Makes the state directory: the store with its keys wrapped by the KEK, then the log whose record 0 pins them. If we
/// stop in between, there is no log and the sidecar refuses to start.
pub async fn found(config: &Config, clock: SharedClock) -> Result<Founded, FoundError> {
    let (disk, state) = (Disk::real(), &config.state);
    if state.store().exists() || state.log().exists() || state.restoring().exists() {
        return Err(FoundError::Exists(state.0.clone()));
    }
    for dir in [state.0.clone(), state.latches()] {
        if !dir.exists() {
            disk.create_dir(&dir, 0o700)?;
        }
    }
    let _lock = disk.lock_exclusive(&state.lock())?;
    let (events, _unheard) = super::events::queue(16);
    let deployment = super::deployment(config.environment);
    let start = async |settings: &kek::Settings| {
        kek::start(settings.clone().founding(), deployment, clock.clone(), disk.clone(), events.clone()).await
    };
    let primary = start(&config.keks.primary).await?;
    let escrow = match &config.keks.escrow {
        Some(settings) => Some(start(settings).await?),
        None => None,
    };
    if let Some(escrow) = &escrow {
        super::standing::independent(&*primary, &**escrow)?;
    }
    let store = store::create(&config.store).await?;
    let told = [Some(&primary), escrow.as_ref()].into_iter().flatten().map(|kek| in_words(&kek.facts()));
    let told = told.collect::<Vec<_>>().join(", escrow ");
    let keks = Keks::new(primary, escrow, events);
    let genesis = Keyrings::found(store, &keks, clock.clone(), &config.keyring).await?;
    let origin = audit::Founding {
        store: genesis.store,
        environment: config.environment.name(),
        store_key_check: genesis.store_key_check,
    };
    let log = audit::Log::create(&config.audit, &origin, clock, &disk, audit::Limits::default())?;
    let log_key = log.verifier_key().to_text();
    log.drain().await.map_err(audit::OpenError::Append)?;
    Ok(Founded {
        store: genesis.store.to_string(),
        log_key,
        store_key_check: hex::encode(genesis.store_key_check),
        kek: told,
        state: state.0.clone(),
    })
}

fn in_words(facts: &kek::KekFacts) -> String {
    [facts.kind, &*facts.manufacturer, &*facts.model].join(" ").trim().to_owned()
}
