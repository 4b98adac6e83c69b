//! A store with its keyrings, its log and somebody who may do everything: where benchmarks of the life of keys happen.
//! Every change goes the way that a sidecar takes: an intent in the log, a permit, rows that are sealed and committed.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward::audit::{self, IntentReceipt, Log};
use keyward::clock::{Clock, Deadline, SharedClock, SystemClock};
use keyward::durable::Disk;
use keyward::identity::{Authenticator, Credentials, Door, KnownPrincipal, PrincipalKind};
use keyward::kek::{Deployment, DevelopmentOnly, EventSink, Kek, SoftwareKek, SoftwareSettings};
use keyward::keyring::{
    Applied, Change, Environment, Keks, KeyLimits, Keyrings, Settings, Suite, UsageLimits, life::KeyState,
};
use keyward::names::{KeyringName, Purpose, RequestId};
use keyward::policy::{self, Action, Ask, Authority, Permit, Policy};
use keyward::store::{self, sqlite};
use tokio::sync::mpsc;

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: SharedClock,
    pub policy: Arc<Policy>,
    pub store: store::Settings,
    pub settings: Settings,
}

impl World {
    /// Nothing is in the store yet. `store` is given the directory.
    pub fn new(environment: Environment, cached: usize, store: impl FnOnce(&Path) -> store::Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            environment,
            cache_ttl: Duration::from_secs(3_600),
            offline_max: Duration::ZERO,
            store_offline_max: Duration::from_secs(3_600),
            cache_keys: cached,
            data_key_period: Duration::from_secs(90 * 86_400),
            hard_limit: Duration::from_secs(730 * 86_400),
            kek_period: Duration::from_secs(365 * 86_400),
            usage_limits: UsageLimits { messages: 1 << 40, bytes: 1 << 46 },
        };
        let store = store(dir.path());
        Self { dir, clock: Arc::new(SystemClock), policy: allowing(), store, settings }
    }

    /// A key-encryption key in a file, which costs next to nothing.
    pub fn software(&self) -> Arc<dyn Kek> {
        let file = self.dir.path().join("kek");
        SoftwareKek::create_file(&Disk::real(), &file).unwrap();
        let name = "primary".parse().unwrap();
        let settings = SoftwareSettings { name, file, insecure_software_kek_for_development: true };
        let allowed = DevelopmentOnly::confirm(Deployment::Development, &settings).unwrap();
        Arc::new(SoftwareKek::open(&settings, allowed).unwrap())
    }

    /// A new store and its log, which is synced.
    pub async fn found(&self, kek: &Arc<dyn Kek>) -> (Arc<Keyrings>, Log) {
        let empty = store::create(&self.store).await.unwrap();
        let genesis = Keyrings::found(empty, &keks(kek), self.clock.clone(), &self.settings).await.unwrap();
        let founding = audit::Founding {
            store: genesis.store,
            environment: genesis.environment.name(),
            store_key_check: genesis.store_key_check,
        };
        let settings = audit::Settings {
            dir: self.dir.path().join("audit"),
            durability: audit::Durability::Synced,
            disk_budget: 1 << 32,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 10,
        };
        let limits = audit::Limits::default();
        let log = Log::create(&settings, &founding, self.clock.clone(), &Disk::real(), limits).unwrap();
        (self.admitted(kek).await, log)
    }

    /// The store as a sidecar that starts sees it, before its admission.
    pub async fn open(&self, kek: &Arc<dyn Kek>) -> Arc<Keyrings> {
        let store = store::open(&self.store).await.unwrap();
        Keyrings::open(store, keks(kek), self.clock.clone(), self.settings.clone())
    }

    pub async fn admitted(&self, kek: &Arc<dyn Kek>) -> Arc<Keyrings> {
        let keyrings = self.open(kek).await;
        keyrings.admit().await.unwrap();
        keyrings
    }

    pub async fn apply(&self, keyrings: &Keyrings, log: &Log, change: &Change) -> Applied {
        let permit = self.permit(change.action(KeyState::Active), &change.keyring().to_string());
        let authority: Authority = match change.action(KeyState::Active) {
            Action::Seal => self.policy.on_use(&permit).unwrap(),
            _ => self.policy.founding(permit).unwrap(),
        };
        keyrings.apply(change, &authority, self.intent(log).await).await.unwrap()
    }

    pub async fn intent(&self, log: &Log) -> IntentReceipt {
        let record = audit::Record {
            event: audit::Event::KeyCreated,
            outcome: audit::Outcome::Intent,
            reason: None,
            actor: audit::Actor::Sidecar,
            source: audit::Source::Internal,
            request: None,
            purpose: None,
            groups: Vec::new(),
            orphans: Vec::new(),
            subjects: Vec::new(),
            items_digest: None,
            policy: None,
            intent: None,
            facts: Vec::new(),
        };
        log.intent(record, self.soon()).await.unwrap()
    }

    /// Values are for the service, keys for the operator.
    pub fn permit(&self, action: Action, keyring: &str) -> Permit {
        let (name, kind, door) = match action {
            Action::Seal | Action::Open => ("bench", PrincipalKind::Service, Door::Data),
            _ => ("officer", PrincipalKind::Operator, Door::Control),
        };
        let known = KnownPrincipal {
            name: name.parse().unwrap(),
            kind,
            uids: vec![7],
            token_sha256: vec![],
            spiffe: vec![],
            jwt: vec![],
        };
        let authenticator =
            Authenticator::new(&keyward::identity::Settings { principals: vec![known], jwt: vec![] }).unwrap();
        let principal = authenticator
            .authenticate(door, &Credentials::Peer { uid: 7, gid: 7, exe: None }, keyward::clock::Wall(0))
            .unwrap();
        let keyring: KeyringName = keyring.parse().unwrap();
        let ask = Ask {
            principal: &principal,
            action,
            keyring: Some(&keyring),
            pairs: &[],
            purpose: (action == Action::Open).then_some(Purpose::Treatment),
            grant: None,
            request: &RequestId::from_random([1; 16]),
            deadline: self.soon(),
            now: self.clock.wall(),
            mono: self.clock.mono(),
        };
        self.policy.decide(&ask).unwrap()
    }

    pub fn soon(&self) -> Deadline {
        soon()
    }
}

/// Far enough for the whole of a measurement.
pub fn soon() -> Deadline {
    Deadline(SystemClock.mono().plus(Duration::from_secs(86_400)))
}

/// A keyring as most are.
pub fn creation(name: &str, partition_key: Option<&str>) -> Change {
    Change::Create {
        name: name.parse().unwrap(),
        required_context: partition_key.iter().map(|key| (*key).to_owned()).collect(),
        subject_key: None,
        suite: Suite::XaesCommitted,
        partition_key: partition_key.map(str::to_owned),
        limits: KeyLimits::default(),
    }
}

pub fn file(dir: &Path) -> store::Settings {
    let path: PathBuf = dir.join("store.sqlite");
    store::Settings::Sqlite(sqlite::Settings { path, busy_timeout: Duration::from_secs(10) })
}

fn keks(kek: &Arc<dyn Kek>) -> Keks {
    let (events, _heard) = mpsc::channel(16);
    Keks::new(Arc::clone(kek), None, EventSink::new(events))
}

fn allowing() -> Arc<Policy> {
    let text = "permit (principal == Service::\"bench\", action, resource);
                permit (principal == Operator::\"officer\", action, resource);";
    let settings = policy::Settings {
        documents: vec![("bench.cedar".to_owned(), text.to_owned())],
        context_keys: vec!["patient".to_owned()],
        principals: vec![
            ("bench".parse().unwrap(), PrincipalKind::Service),
            ("officer".parse().unwrap(), PrincipalKind::Operator),
        ],
    };
    Policy::load(&settings).unwrap()
}

/// Seconds of a processor that these processes have used.
#[allow(dead_code, reason = "for those whose machine is not idle")]
pub fn processor(processes: &[u32]) -> f64 {
    let of = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // After the name, which may have spaces: utime and stime, in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
    };
    processes.iter().map(of).sum::<f64>() / 100.0
}

/// Kilobytes of this process, as the kernel names them: `VmRSS` now, `VmHWM` at the most.
pub fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}
