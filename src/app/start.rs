//! In what order does a sidecar start? The log first, since even a refused start is to be recorded.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::audit::{self, Dangling, Event, Log};
use crate::clock::SharedClock;
use crate::config::{Config, PolicyReadError};
use crate::durable::{Disk, DurableError};
use crate::identity::{self, Authenticator};
use crate::kek;
use crate::keyring::{Keyrings, Pinned, RevocationBound};
use crate::names::RequestId;
use crate::policy::{self, Policy, PolicyError};
use crate::server::health::Board;
use crate::server::{self, Deps, Server};
use crate::service::{self, CustodySettings, Parts, PolicySource, Service};
use crate::store::{self, StoreError};
use crate::telemetry::{Build, Metrics};
use crate::witness::PolicyProblem;
use crate::{crypto, jobs};

use super::board::{self, Watched};
use super::custody::{SeparationRefused, settings as custody_settings};
use super::cut_short::CutShort;
use super::sinks::Sinks;
use super::standing::Standing;
use super::trust::Warden;
use super::upkeep::{Upkeep, bound};
use super::witnesses::{self, About, FirstWord, Prepared};
use super::{App, events, note};

/// Events of a KEK that wait for the log; more are counted and the count is recorded.
const KEK_EVENTS: usize = 256;

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no state directory, or another sidecar holds it.
    #[error("cannot use the state directory")]
    State(#[from] DurableError),
    /// A restore was cut short, or a joining.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The policy files cannot be read.
    #[error("cannot read the policies")]
    PolicyFiles(#[from] PolicyReadError),
    /// The policy set is refused.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The separation file is refused.
    #[error(transparent)]
    Separation(#[from] SeparationRefused),
    /// Two principals share a proof.
    #[error(transparent)]
    Identity(#[from] identity::SettingsError),
    /// The log does not open.
    #[error("cannot open the audit log")]
    Log(#[from] audit::OpenError),
    /// The log does not take records.
    #[error("cannot write the audit log")]
    Append(#[from] audit::AppendError),
    /// The store does not open.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The witness policy cannot be used.
    #[error("the witnesses cannot be asked")]
    Witness(#[from] PolicyProblem),
    /// The KEK is configured wrongly or insecure.
    #[error("the key-encryption key is refused")]
    Kek(#[from] kek::StartError),
    /// The log's record 0 does not say which store it belongs to.
    #[error("record 0 of the audit log does not pin a store")]
    Unpinned,
    /// The configuration pins another store key than record 0 of the log.
    #[error("record 0 of the audit log names another store key than keyring.store_key_check")]
    OtherStoreKey,
    /// Two metrics have one name.
    #[error("a metric is defined twice")]
    Metrics(#[from] prometheus::Error),
    /// A listener cannot be opened.
    #[error("cannot listen")]
    Listen(#[from] server::ServerError),
}

impl StartError {
    /// What the operator should do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::State(_) => {
                "run `keyward init` once; if another keyward uses this directory, stop it first; a backup has it while it copies the log: start again"
            }
            Self::CutShort(what) => what.hint(),
            Self::PolicyFiles(_) | Self::Policy(_) => "correct the policies; `keyward policy check` shows the same",
            Self::Separation(_) => "correct the file that [custody] separation names",
            Self::Identity(_) => "give each uid, token, SPIFFE id and subject to one principal",
            Self::Log(audit::OpenError::Missing { .. }) => "run `keyward init` once, which makes the store and the log",
            Self::Log(_) => "`keyward audit verify` names the damage; keep the directory as evidence",
            Self::Append(_) => "make room on the disk of the log, then start again",
            Self::Store(StoreError::Unavailable(_)) => {
                "see that the database of [store] can be reached, or, with a file, let the backup that reads it end; then \
                 start again"
            }
            Self::Store(StoreError::Unsuitable(_)) => "change the database or its roles as docs/postgresql.md says",
            Self::Store(StoreError::NewerSchema { .. }) => {
                "another keyward has migrated the store: run that version here"
            }
            Self::Store(_) => "restore the store from a backup if it is damaged",
            Self::Witness(_) => "correct the file that [witness] policy names; docs/witnesses.md",
            Self::Kek(_) => "check [kek.NAME] of that key, the token and the attributes of the key in it",
            Self::Unpinned => "this is not the log of a sidecar; look at `keyward audit verify`",
            Self::OtherStoreKey => {
                "this is not the store that the configuration was written for: find out who replaced store and log; only \
                 after a new `keyward init` of your own, write the store key check that it printed"
            }
            Self::Metrics(_) => "this is a defect: report it",
            Self::Listen(server::ServerError::Tls(_)) => {
                "mend the files of [listen.tls]: certificate, key (mode 0600) and trust bundle, each in PEM"
            }
            Self::Listen(_) => "stop what listens there, or correct [listen]",
        }
    }
}

/// What the policy part needs: the files of the directory and who is configured.
pub fn policy_settings(config: &Config) -> Result<policy::Settings, PolicyReadError> {
    Ok(policy::Settings {
        documents: config.policy.read()?,
        context_keys: config.policy.context_keys.clone(),
        principals: config.identity.principals.iter().map(|known| (known.name.clone(), known.kind)).collect(),
    })
}

/// The same, read again each time; who is configured stays as it was at the start.
fn policy_source(config: &Config) -> PolicySource {
    let (files, identity) = (config.policy.clone(), config.identity.clone());
    Arc::new(move || {
        let known = identity.principals.iter().map(|known| (known.name.clone(), known.kind));
        let documents = files.read().map_err(|error| {
            std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        })?;
        let context_keys = files.context_keys.clone();
        Ok(policy::Settings { documents, context_keys, principals: known.collect() })
    })
}

impl App {
    /// Builds and starts the parts. The KEK may be away: the sidecar lives, is not ready, and goes on trying.
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, StartError> {
        let (clock, rehearsal) = super::custody::clock(&config, clock);
        let disk = Disk::real();
        let lock = disk.lock_exclusive(&config.state.lock())?;
        CutShort::check(&config.state)?;
        let policy = Policy::load(&policy_settings(&config)?)?;
        let separation = super::custody::separation(&config)?;
        let authenticator = Authenticator::new(&config.identity)?;
        let providers = authenticator.providers();
        let (log, opened) = Log::open(&config.audit, clock.clone(), &disk, audit::Limits::default())?;
        let pinned = pinned(&log, &opened)?;
        let metrics = Arc::new(Metrics::new(server::RESULTS, &Build { version: env!("CARGO_PKG_VERSION") })?);
        metrics.lifetimes.revocation_bound.set(bound(&config).worst().as_secs_f64());
        let (sink, heard) = events::queue(KEK_EVENTS);
        let began = begin(&config, &clock, &disk, &sink, &metrics).await;
        let (keks, store) = match began {
            Ok(began) => began,
            Err(error) => return Err(refused_start(error, &log, &clock, &policy).await),
        };
        let keyrings = Keyrings::open(store, keks.keks(sink.clone()), clock.clone(), config.keyring.clone());
        let custody = custody_settings(&config, separation, &policy, rehearsal);
        let witnesses = match witnesses::prepare(&config, &log, &clock) {
            Ok(witnesses) => witnesses,
            Err(error) => return Err(refused_start(error.into(), &log, &clock, &policy).await),
        };
        let witnessing = witnesses.as_ref().map(Prepared::witnessing);
        let custody = CustodySettings { restored: opened.restored, witnessing, ..custody };
        let (policies, revocation, for_requests) = (policy_source(&config), bound(&config), keyrings.clone());
        let for_records = log.clone();
        let parts =
            Parts { authenticator, policy, policies, keyrings: for_requests, log: for_records, revocation, custody };
        let foreign = config.store_key_check.is_some_and(|check| hex::encode(check) != pinned.store_key_check);
        keyrings.pin(pinned);
        let service = Arc::new(Service::new(parts, clock.clone(), metrics.clone()));
        service.hold();
        service.note(Event::SidecarStarted, started_facts(&config)).await?;
        if foreign {
            // The store key itself is compared with record 0 when it has been unwrapped.
            refuse(&service, &keyrings, "store_key_check").await;
            return Err(StartError::OtherStoreKey);
        }
        let board = Board::new();
        let deps = deps(&service, &clock, &metrics, &board);
        let server = listen(&config, deps, &service, &keyrings).await?;
        let mut jobs = JoinSet::new();
        let warden =
            Warden { service: service.clone(), board: board.clone(), clock: clock.clone(), metrics: metrics.clone() };
        warden.begin(&mut jobs, server.tls(), providers);
        let upkeep = Upkeep { config: &config, log: &log, clock: &clock, metrics: &metrics, board: &board };
        jobs.spawn(board::refresh(Watched::of(&upkeep, keks, &keyrings)));
        jobs.spawn(events::record(service.clone(), keyrings.clone(), heard, sink));
        let sinks = Sinks::begin(&config, &service, &log, &clock, &board, &metrics, &mut jobs);
        let (opened_send, opened_signal) = tokio::sync::watch::channel(false);
        upkeep.begin(&mut jobs, &service, &keyrings, opened_signal.clone());
        let first_word = witnesses.map(|all| all.begin(About::of(&upkeep, &service, &keyrings), &mut jobs));
        jobs.spawn(open(service.clone(), keyrings, clock.clone(), (opened.dangling, first_word), opened_send));
        Ok(Self { service, log, server, board, jobs, sinks, config, opened: opened_signal, _lock: lock })
    }
}

/// The parts that an operator may have to mend: key-encryption keys and store.
async fn begin(
    config: &Config,
    clock: &SharedClock,
    disk: &Disk,
    sink: &kek::EventSink,
    metrics: &Arc<Metrics>,
) -> Result<(Standing, store::Opened), StartError> {
    let keks = Standing::start(config, clock, disk, sink, metrics).await?;
    Ok((keks, store::attach(&config.store).await?))
}

/// What the listeners answer with.
fn deps(service: &Arc<Service>, clock: &SharedClock, metrics: &Arc<Metrics>, board: &Arc<Board>) -> Deps {
    Deps {
        service: service.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        board: board.clone(),
        fresh_request_id: Arc::new(fresh_request_id),
    }
}

/// Opens the listeners; who cannot has been started and refused.
async fn listen(config: &Config, deps: Deps, service: &Service, keyrings: &Keyrings) -> Result<Server, StartError> {
    match Server::start(&config.server, deps).await {
        Ok(server) => Ok(server),
        Err(error) => {
            refuse(service, keyrings, "listener").await;
            Err(error.into())
        }
    }
}

/// A start that one of them ends is recorded before there is a service.
async fn refused_start(error: StartError, log: &Log, clock: &SharedClock, policy: &Policy) -> StartError {
    let facts = match &error {
        StartError::Store(_) => vec![("error", "store_refused".to_owned())],
        StartError::Witness(_) => vec![("error", "witness_policy".to_owned())],
        _ => vec![("error", "kek".to_owned()), events::fact("kek_detail", error_in_words(&error))],
    };
    if let Err(error) = service::note(log, clock, policy, Event::SidecarRefused, facts).await {
        tracing::error!(%error, "the audit log did not take a record");
    }
    error
}

/// Admits the keyrings, compares them with record 0 of the log, closes open intents and says that the sidecar is ready.
async fn open(
    service: Arc<Service>,
    keyrings: Arc<Keyrings>,
    clock: SharedClock,
    (dangling, first_word): (Vec<Dangling>, Option<FirstWord>),
    opened: tokio::sync::watch::Sender<bool>,
) {
    match jobs::admit(keyrings.clone(), clock.clone()).await {
        Ok(_) => {}
        Err(error) => {
            tracing::error!(%error, "the store is refused");
            return refuse(&service, &keyrings, "store_refused").await;
        }
    }
    if let Some(first_word) = first_word
        && !first_word.come().await
    {
        return;
    }
    if !super::custody::fit(&service, &keyrings, &clock).await {
        return;
    }
    let mut left = service.reconcile(dangling).await;
    while let Err(error) = service.note(Event::SidecarReady, ready_facts(&keyrings)).await {
        tracing::error!(%error, "the audit log did not take a record");
        clock.sleep_until(clock.mono().plus(FIRST_LOOK)).await;
    }
    opened.send_replace(true);
    let mut wait = FIRST_LOOK;
    while !left.is_empty() {
        clock.sleep_until(clock.mono().plus(wait)).await;
        left = service.reconcile(left).await;
        wait = wait.saturating_mul(2).min(LAST_LOOK);
    }
}

/// When it is looked again for what became of intents that nobody could tell of: soon, since a failover takes seconds, and
/// later about as often as somebody mends a standby.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LAST_LOOK: Duration = Duration::from_secs(600);

/// The head of the store, and the KEKs that were configured after keys were made.
fn ready_facts(keyrings: &Keyrings) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(keyrings.head().map(|head| ("store_head", head.to_string())));
    let missing = keyrings.missing();
    for (kek, keys) in &missing {
        tracing::warn!(%kek, keys, "keys are not wrapped by this key-encryption key: it cannot stand in for another");
    }
    if !missing.is_empty() {
        let told: Vec<String> = missing.iter().map(|(kek, keys)| format!("{kek}: {keys}")).collect();
        facts.push(("kek_missing", told.join(", ")));
    }
    facts
}

async fn refuse(service: &Service, keyrings: &Keyrings, reason: &'static str) {
    keyrings.shut(reason);
    note(service, Event::SidecarRefused, vec![("error", reason.to_owned())]).await;
}

/// The innermost reason: what is around it says only that a KEK was refused.
fn error_in_words(error: &StartError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn started_facts(config: &Config) -> Vec<(&'static str, String)> {
    let bound = bound(config);
    let RevocationBound { unheard_refusal, unheard_state, .. } = bound;
    tracing::info!(?unheard_refusal, ?unheard_state, worst = ?bound.worst(), "a revocation bites within");
    vec![
        ("config_digest", hex::encode(crypto::sha256(&[config.text.as_bytes()]))),
        ("environment", config.environment.name().to_owned()),
        ("program_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("revocation_seconds", bound.worst().as_secs().to_string()),
    ]
}

/// What the log says about its store: record 0, the newest record that names a head, and those that gave one up.
pub(super) fn pinned(log: &Log, opened: &audit::Opened) -> Result<Pinned, StartError> {
    let first = log.read(0, 1).map_err(|_| StartError::Unpinned)?;
    let record: serde_json::Value =
        first.first().and_then(|(_, bytes)| serde_json::from_slice(bytes).ok()).ok_or(StartError::Unpinned)?;
    let fact = |name: &str| Some(record.get("facts")?.get(name)?.as_str()?.to_owned());
    let head = |text: &String| text.parse().map_err(|_| StartError::Unpinned);
    let abandoned = opened.abandoned.iter().map(head).collect::<Result<_, _>>()?;
    let head = opened.store_head.as_ref().map(head).transpose()?;
    match (fact("store"), fact("store_key_check")) {
        (Some(store), Some(store_key_check)) => {
            let log = log.verifier_key().origin().as_str().to_owned();
            Ok(Pinned { store, store_key_check, head, abandoned, log })
        }
        _ => Err(StartError::Unpinned),
    }
}

/// A name for a request that came without one.
fn fresh_request_id() -> RequestId {
    let mut bytes = [0; 16];
    // Without randomness the name is all zeros; sealing will refuse on its own account.
    let _drawn = crypto::random(&mut bytes);
    RequestId::from_random(bytes)
}
