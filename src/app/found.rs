//! How does a new sidecar get its state? Store and log are made together, once, before the first start.

use std::path::PathBuf;

use crate::audit::{Event, Log};
use crate::clock::SharedClock;
use crate::config::{self, Config, PolicyReadError};
use crate::durable::{self, Disk, DurableError};
use crate::keyring::{ApplyError, Genesis, Keks, Keyrings, Pinned, StoreHead};
use crate::policy::{Policy, PolicyError};
use crate::service;
use crate::store::{StoreError, sqlite};
use crate::{audit, kek, store};

use super::cut_short::JOINING;
use super::standing::Started;
use super::start::policy_settings;

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
    /// A store that is a file of one host.
    #[error("{} is a file of this host alone: nobody joins it", .0.display())]
    NotShared(PathBuf),
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
    /// The policy files cannot be read.
    #[error("cannot read the policies")]
    PolicyFiles(#[from] PolicyReadError),
    /// The policy set is refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
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
            Self::NotShared(_) => {
                "a fleet shares a database: name it in [store] (docs/postgresql.md), after `keyward store migrate` has moved \
                 the first sidecar's store there"
                    .to_owned()
            }
            Self::Files(_) => "check the owner and mode of the parent directory".to_owned(),
            Self::Kek(_) => {
                "check [kek.NAME] of that key; in a token the key is made by `keyward kek create`".to_owned()
            }
            Self::Store(StoreError::Exists(_)) => {
                "that database has a store, whose keys may be in use: one more sidecar for it is made by `keyward init --join HEAD \
                 --store-key-check HEX`; for another store name an empty database in [store]"
                    .to_owned()
            }
            Self::Store(StoreError::Unavailable(_) | StoreError::Unsuitable(_)) => {
                "correct [store] or the database, remove the unfinished state directory and run init again".to_owned()
            }
            Self::PolicyFiles(_) | Self::Policy(_) => "correct the policies: `keyward policy check`".to_owned(),
            Self::Store(_) | Self::Keys(_) | Self::Log(_) => {
                "remove the unfinished state directory and run init again".to_owned()
            }
        }
    }
}

/// Makes the state directory: the store with its keys wrapped by the KEK, then the log whose record 0 pins them. If we
/// stop in between, there is no log and the sidecar refuses to start.
pub async fn found(config: &Config, clock: SharedClock) -> Result<Founded, FoundError> {
    let site = Site::prepare(config, &clock).await?;
    let store = store::create(&config.store).await?;
    let genesis = Keyrings::found(store, &site.keks, clock.clone(), &config.keyring).await?;
    let log = site.log(config, &genesis, clock)?;
    site.founded(config, &genesis, log).await
}

/// Makes the state directory of one more sidecar for a store that others have: a log of its own, which pins the store's
/// key and a head that an operator names. A database that is older than that head, went another way or has another store
/// key is refused before anything is made.
pub async fn join(
    config: &Config,
    head: StoreHead,
    store_key_check: [u8; 16],
    clock: SharedClock,
) -> Result<Founded, FoundError> {
    if let store::Settings::Sqlite(file) = &config.store {
        return Err(FoundError::NotShared(file.path.clone()));
    }
    let policy = Policy::load(&policy_settings(config)?)?;
    let site = Site::prepare(config, &clock).await?;
    let (settings, keks) = (config.keyring.clone(), || site.keks.again());
    let unpinned = Keyrings::open(store::open(&config.store).await?, keks(), clock.clone(), settings.clone());
    let genesis = unpinned.admit().await?;
    drop(unpinned);
    let keyrings = Keyrings::open(store::open(&config.store).await?, keks(), clock.clone(), settings);
    keyrings.pin(Pinned {
        store: genesis.store.to_string(),
        store_key_check: hex::encode(store_key_check),
        head: Some(head),
        abandoned: Vec::new(),
        log: String::new(),
    });
    keyrings.admit().await?;
    let newest = keyrings.head().unwrap_or(head);
    drop(keyrings);
    // Crash state: until the log names the head, no sidecar starts here. One whose log names none would believe the store
    // as it is.
    let (disk, marker) = (Disk::real(), config.state.restoring());
    disk.write_new(&marker, JOINING.as_bytes(), 0o600)?;
    let log = site.log(config, &genesis, clock.clone())?;
    let facts = vec![("store_head", newest.to_string())];
    service::note(&log, &clock, &policy, Event::StoreJoined, facts).await.map_err(audit::OpenError::Append)?;
    disk.remove_file(&marker)?;
    site.founded(config, &genesis, log).await
}

/// A state directory without a store, locked, and the key-encryption keys.
struct Site {
    keks: Keks,
    told: String,
    _lock: durable::Lock,
}

impl Site {
    async fn prepare(config: &Config, clock: &SharedClock) -> Result<Self, FoundError> {
        let (disk, state) = (Disk::real(), &config.state);
        if state.store().exists() || state.log().exists() || state.restoring().exists() {
            return Err(FoundError::Exists(state.0.clone()));
        }
        for dir in [state.0.clone(), state.latches()] {
            if !dir.exists() {
                disk.create_dir(&dir, 0o700)?;
            }
        }
        let lock = disk.lock_exclusive(&state.lock())?;
        // Of an earlier life on this host: wraps that no store may have any more.
        sqlite::remove(&disk, &state.mirror())?;
        let (events, _unheard) = super::events::queue(16);
        let deployment = super::deployment(config.environment);
        let start = async |settings: &kek::Settings| {
            kek::start(settings.clone().founding(), deployment, clock.clone(), disk.clone(), events.clone()).await
        };
        let configured = config::Keks { retiring: Vec::new(), ..config.keks.clone() };
        let Started { primary, escrow, .. } = Started::of(&configured, start).await?;
        if let Some(escrow) = &escrow {
            super::standing::independent(&*primary, &**escrow)?;
        }
        let told = [Some(&primary), escrow.as_ref()].into_iter().flatten().map(|kek| in_words(&kek.facts()));
        let told = told.collect::<Vec<_>>().join(", escrow ");
        Ok(Self { keks: Keks::new(primary, escrow, events), told, _lock: lock })
    }

    fn log(&self, config: &Config, genesis: &Genesis, clock: SharedClock) -> Result<Log, audit::OpenError> {
        let origin = audit::Founding {
            store: genesis.store,
            environment: config.environment.name(),
            store_key_check: genesis.store_key_check,
        };
        Log::create(&config.audit, &origin, clock, &Disk::real(), audit::Limits::default())
    }

    async fn founded(self, config: &Config, genesis: &Genesis, log: Log) -> Result<Founded, FoundError> {
        let log_key = log.verifier_key().to_text();
        log.drain().await.map_err(audit::OpenError::Append)?;
        Ok(Founded {
            store: genesis.store.to_string(),
            log_key,
            store_key_check: hex::encode(genesis.store_key_check),
            kek: self.told,
            state: config.state.0.clone(),
        })
    }
}

fn in_words(facts: &kek::KekFacts) -> String {
    [facts.kind, &*facts.manufacturer, &*facts.model].join(" ").trim().to_owned()
}
