//! How fast are partitions made, looked up, verified at a start, and moved to another data key? On SQLite, and on PostgreSQL
//! where a server is installed. `cargo bench --bench partitions`; `KEYWARD_BENCH_PARTITIONS=1000000` for a million.
//!
//! Every figure goes through the keyring and a synced log, as a sidecar does: an intent a transaction, real wraps, real rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot run must stop")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::audit::{self, Log};
use keyward::clock::{Deadline, SharedClock, SystemClock};
use keyward::durable::Disk;
use keyward::identity::{Authenticator, Credentials, Door, KnownPrincipal, PrincipalKind};
use keyward::kek::{Deployment, DevelopmentOnly, EventSink, Kek, SoftwareKek, SoftwareSettings};
use keyward::keyring::{
    Change, Environment, Keks, KeyLimits, Keyrings, Load, PARTITION_BATCH, PartitionChange, PartitionStep, Settings,
    Suite, Unlock, UsageLimits,
    life::{KeyState, Trigger},
};
use keyward::names::{KeyringName, Purpose, RequestId};
use keyward::policy::{self, Action, Ask, Permit, Policy};
use keyward::store::{self, sqlite};

const COUNT: usize = 100_000;
/// Cold look-ups that are measured; the cache and the locked memory hold few of them.
const LOOKUPS: usize = 20_000;
const CACHED: usize = 500;
const ONE: Load = Load { messages: 1, bytes: 64 };

struct World {
    dir: tempfile::TempDir,
    clock: SharedClock,
    policy: Arc<Policy>,
    kek: Arc<SoftwareKek>,
    settings: Settings,
    store: store::Settings,
}

fn main() {
    let count = std::env::var("KEYWARD_BENCH_PARTITIONS").map_or(COUNT, |count| count.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = World::new(|dir| {
        store::Settings::Sqlite(sqlite::Settings {
            path: dir.join("store.sqlite"),
            busy_timeout: Duration::from_secs(10),
        })
    });
    runtime.block_on(measure("SQLite", count, &world));
    if Path::new("/usr/lib/postgresql").is_dir() {
        let server = postgres::Postgres::new();
        let settings = server.settings(&server.database());
        let world = World::new(|_| store::Settings::Postgresql(Box::new(settings.clone())));
        runtime.block_on(measure("PostgreSQL", count, &world));
    } else {
        println!("PostgreSQL is not installed: SQLite alone was measured");
    }
}

async fn measure(which: &str, count: usize, world: &World) {
    println!("{which}, {count} partitions");
    let (keyrings, log) = world.founded().await;
    let name: KeyringName = "charts".parse().unwrap();
    let values: Vec<String> = (0..count).map(|n| format!("Patient/{n:08}")).collect();
    let started = Instant::now();
    for batch in values.chunks(PARTITION_BATCH) {
        let names = batch.iter().map(|value| keyrings.partition_name(&name, value).unwrap()).collect();
        let made = world.partitions(&keyrings, &log, PartitionStep::Make(names)).await;
        assert_eq!(made.0, batch.len() as u64);
    }
    told("made", count, started);

    let permit = world.permit(Action::Seal);
    // A stride that is prime to the count visits them in an order that no page of the database has.
    let cold: Vec<&String> = (0..LOOKUPS.min(count)).map(|n| &values[n * 7_919 % count]).collect();
    let started = Instant::now();
    for value in &cold {
        assert!(matches!(keyrings.unlock_sealing_in(&permit, Some(value), ONE).await.unwrap(), Unlock::Ready(_)));
    }
    told("looked up in the store", cold.len(), started);
    let hot = cold.last().unwrap();
    let started = Instant::now();
    for _ in 0..LOOKUPS {
        assert!(matches!(keyrings.unlock_sealing_in(&permit, Some(hot), ONE).await.unwrap(), Unlock::Ready(_)));
    }
    told("looked up in the cache", LOOKUPS, started);

    let change = Change::Rotate { keyring: name, trigger: Trigger::Incident, expect: None };
    world.apply(&keyrings, &log, &change).await;
    let started = Instant::now();
    let mut moved = 0;
    loop {
        let (done, remaining) = world.partitions(&keyrings, &log, PartitionStep::Rewrap(PARTITION_BATCH)).await;
        moved += done;
        if remaining == 0 {
            break;
        }
    }
    assert_eq!(moved, count as u64);
    told("moved to another data key", count, started);

    let next = world.open().await;
    let started = Instant::now();
    next.admit().await.unwrap();
    told("verified at a start", count, started);
}

fn told(what: &str, count: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("  {what:28} {:>10.0} a second ({seconds:.2} s)", count as f64 / seconds);
}

impl World {
    fn new(store: impl FnOnce(&Path) -> store::Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kek");
        SoftwareKek::create_file(&Disk::real(), &file).unwrap();
        let settings =
            SoftwareSettings { name: "primary".parse().unwrap(), file, insecure_software_kek_for_development: true };
        let allowed = DevelopmentOnly::confirm(Deployment::Development, &settings).unwrap();
        let kek = Arc::new(SoftwareKek::open(&settings, allowed).unwrap());
        let settings = Settings {
            environment: Environment::Development,
            cache_ttl: Duration::from_secs(3_600),
            offline_max: Duration::ZERO,
            store_offline_max: Duration::from_secs(3_600),
            cache_keys: CACHED,
            data_key_period: Duration::from_secs(90 * 86_400),
            hard_limit: Duration::from_secs(730 * 86_400),
            kek_period: Duration::from_secs(365 * 86_400),
            usage_limits: UsageLimits { messages: 1 << 40, bytes: 1 << 46 },
        };
        let text = "permit (principal == Service::\"bench\", action, resource);
                    permit (principal == Operator::\"officer\", action, resource);";
        let policy = policy::Settings {
            documents: vec![("set.cedar".to_owned(), text.to_owned())],
            context_keys: vec!["patient".to_owned()],
            principals: vec![
                ("bench".parse().unwrap(), PrincipalKind::Service),
                ("officer".parse().unwrap(), PrincipalKind::Operator),
            ],
        };
        let store = store(dir.path());
        let clock: SharedClock = Arc::new(SystemClock);
        Self { dir, clock, policy: Policy::load(&policy).unwrap(), kek, settings, store }
    }

    fn keks(&self) -> Keks {
        let (events, _heard) = tokio::sync::mpsc::channel(16);
        Keks::new(Arc::clone(&self.kek) as Arc<dyn Kek>, None, EventSink::new(events))
    }

    async fn founded(&self) -> (Arc<Keyrings>, Log) {
        let empty = store::create(&self.store).await.unwrap();
        let genesis = Keyrings::found(empty, &self.keks(), self.clock.clone(), &self.settings).await.unwrap();
        let keyrings = self.open().await;
        keyrings.admit().await.unwrap();
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
        let create = Change::Create {
            name: "charts".parse().unwrap(),
            required_context: vec!["patient".to_owned()],
            subject_key: None,
            suite: Suite::XaesCommitted,
            partition_key: Some("patient".to_owned()),
            limits: KeyLimits::default(),
        };
        self.apply(&keyrings, &log, &create).await;
        (keyrings, log)
    }

    async fn open(&self) -> Arc<Keyrings> {
        let store = store::open(&self.store).await.unwrap();
        Keyrings::open(store, self.keks(), self.clock.clone(), self.settings.clone())
    }

    /// How many rows a step wrote, and how many are left.
    async fn partitions(&self, keyrings: &Keyrings, log: &Log, step: PartitionStep) -> (u64, u64) {
        let change = Change::Partitions(PartitionChange { keyring: "charts".parse().unwrap(), step });
        let done = self.apply(keyrings, log, &change).await.partitions.unwrap();
        (done.done, done.remaining)
    }

    async fn apply(&self, keyrings: &Keyrings, log: &Log, change: &Change) -> keyward::keyring::Applied {
        let permit = self.permit(change.action(KeyState::Active));
        let authority = match change.action(KeyState::Active) {
            Action::Seal => self.policy.on_use(&permit).unwrap(),
            _ => self.policy.founding(permit).unwrap(),
        };
        let intent = log.intent(intent(), self.soon()).await.unwrap();
        keyrings.apply(change, &authority, intent).await.unwrap()
    }

    fn permit(&self, action: Action) -> Permit {
        // Rotating is for people.
        let (name, kind, door) = match action {
            Action::KeyringRotate => ("officer", PrincipalKind::Operator, Door::Control),
            _ => ("bench", PrincipalKind::Service, Door::Data),
        };
        let known = KnownPrincipal { name: name.parse().unwrap(), kind, uids: vec![7], token_sha256: vec![] };
        let authenticator = Authenticator::new(&keyward::identity::Settings { principals: vec![known] }).unwrap();
        let principal = authenticator.authenticate(door, &Credentials::Peer { uid: 7, gid: 7 }).unwrap();
        let keyring: KeyringName = "charts".parse().unwrap();
        let ask = Ask {
            principal: &principal,
            action,
            keyring: Some(&keyring),
            pairs: &[],
            purpose: (action == Action::Open).then_some(Purpose::Treatment),
            request: &RequestId::from_random([1; 16]),
            deadline: self.soon(),
            now: self.clock.wall(),
            mono: self.clock.mono(),
        };
        self.policy.decide(&ask).unwrap()
    }

    /// Far enough for the whole of a measurement.
    fn soon(&self) -> Deadline {
        Deadline(self.clock.mono().plus(Duration::from_secs(3_600)))
    }
}

fn intent() -> audit::Record {
    audit::Record {
        event: audit::Event::PartitionCreated,
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
    }
}
