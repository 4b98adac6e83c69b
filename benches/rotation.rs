//! How fast does the rotation of a key-encryption key go, beside what its token could do? Every key of a store in SQLite
//! moves to the next version of a key in a SoftHSM token; before and after that, the same token unwraps, wraps and unwraps
//! as many keys at once without any store. The target: 0.9 of the token's own rate or better.
//!
//! `cargo bench --bench rotation`, with KEYWARD_BENCH_KEYS=100000 for the number that the target names (10,000 if not
//! given; making them takes longer than moving them).
#![allow(clippy::unwrap_used, reason = "what fails here is a failed benchmark")]
#![allow(clippy::disallowed_methods, reason = "a benchmark plays the operator and reads the time")]
#![allow(clippy::print_stdout, reason = "its result")]

#[path = "../tests/support/softhsm.rs"]
mod softhsm;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::audit::{self, Log};
use keyward::clock::{Clock, Deadline, SharedClock, SystemClock, Wall};
use keyward::crypto::DataKey;
use keyward::durable::Disk;
use keyward::identity::{Authenticator, Credentials, Door, KnownPrincipal, PrincipalKind};
use keyward::kek::pkcs11::{Pkcs11Kek, Pkcs11Settings};
use keyward::kek::{Deployment, EventSink, Kek, Settings as KekSettings, WrapBinding, WrapRole};
use keyward::keyring::{Change, Environment, Keks, KeyLimits, Keyrings, Settings, Suite};
use keyward::names::{KeyVersionId, RequestId, StoreId};
use keyward::policy::{self, Action, Ask, Authority, Policy};
use keyward::store::sqlite;
use softhsm::{KEY_LABEL, Softhsm};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

fn main() {
    let keys: usize = std::env::var("KEYWARD_BENCH_KEYS").map_or(10_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bench(keys));
}

async fn bench(keys: usize) {
    let (token, dir) = (Softhsm::new(), tempfile::tempdir().unwrap());
    let settings = Pkcs11Settings { key_label: format!("{KEY_LABEL}-{{version}}"), ..token.settings() };
    Pkcs11Kek::create_key(settings.clone(), Deployment::Production, clock(), Disk::real()).await.unwrap();
    let place = Place { dir: dir.path(), policy: policy() };
    let kek = start(&settings).await;
    let founded = place.keyrings(&kek, true).await;
    let began = Instant::now();
    let log = place.log(&founded);
    for number in 0..keys {
        place.create(&founded, &log, number).await;
    }
    println!("{keys} keyrings made in {:.0} s", began.elapsed().as_secs_f64());
    drop((founded, kek));
    let all = KekSettings::Pkcs11(Box::new(settings.clone()));
    keyward::kek::rotate(all, None, Deployment::Production, clock(), Disk::real()).await.unwrap();
    let kek = start(&settings).await;
    let sample = keys.min(20_000);
    let at_once = usize::try_from(kek.status().most_calls).unwrap().max(1);
    let before = token_alone(&kek, sample, at_once).await;
    let keyrings = place.keyrings(&kek, false).await;
    let intent = place.intent(&log).await;
    let began = Instant::now();
    let standing = place.policy.standing(Action::KeysRewrap, None, soon()).unwrap();
    let far = SystemClock.mono().plus(Duration::from_secs(86_400));
    let report = keyrings.rewrap(&standing, intent, None, far).await.unwrap().report;
    let took = began.elapsed().as_secs_f64();
    assert_eq!(keyrings.wraps().await.unwrap().behind, 0, "{report:?}");
    let after = token_alone(&kek, sample, at_once).await;
    let (job, token) = (report.rewrapped as f64 / took, f64::midpoint(before, after));
    println!("the token alone, {at_once} at once: {before:.0} and {after:.0} keys/s");
    println!("the whole rotation: {} keys in {took:.1} s, {job:.0} keys/s", report.rewrapped);
    println!("rotation / token = {:.2}", job / token);
}

/// Unwrap, wrap and unwrap of one key after another, so many at once.
async fn token_alone(kek: &Arc<Pkcs11Kek>, keys: usize, at_once: usize) -> f64 {
    let binding = Arc::new(WrapBinding {
        store: StoreId([1; 16]),
        owner: "default/bench".to_owned(),
        key: KeyVersionId([2; 8]),
        kek: kek.name().clone(),
        role: WrapRole::Primary,
        created: Wall(0),
    });
    let wrap = kek.wrap(&DataKey::generate(&[]).unwrap(), &binding, soon()).await.unwrap();
    let (wrap, places) = (Arc::new(wrap), Arc::new(Semaphore::new(at_once)));
    let (mut work, began) = (JoinSet::new(), Instant::now());
    for _ in 0..keys {
        let (kek, wrap, binding, places) = (kek.clone(), wrap.clone(), binding.clone(), places.clone());
        work.spawn(async move {
            let _place = places.acquire().await;
            let key = kek.unwrap(&wrap, &binding, soon()).await.unwrap();
            let newer = kek.wrap(&key, &binding, soon()).await.unwrap();
            kek.unwrap(&newer, &binding, soon()).await.unwrap();
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    keys as f64 / began.elapsed().as_secs_f64()
}

struct Place<'a> {
    dir: &'a Path,
    policy: Arc<Policy>,
}

impl Place<'_> {
    async fn keyrings(&self, kek: &Arc<Pkcs11Kek>, fresh: bool) -> Arc<Keyrings> {
        let settings = Settings {
            environment: Environment::Production,
            cache_ttl: Duration::from_secs(300),
            offline_max: Duration::ZERO,
            store_offline_max: Duration::from_secs(3_600),
            cache_keys: 64,
            data_key_period: Duration::from_secs(90 * 86_400),
            hard_limit: Duration::from_secs(730 * 86_400),
            kek_period: Duration::from_secs(365 * 86_400),
            usage_limits: keyward::keyring::UsageLimits { messages: 1 << 32, bytes: 1 << 46 },
        };
        let place = sqlite::Settings { path: self.dir.join("store.sqlite"), busy_timeout: Duration::from_secs(10) };
        let keks = || Keks::new(kek.clone(), None, EventSink::new(mpsc::channel(16).0));
        if fresh {
            let store = sqlite::create(&place).await.unwrap();
            Keyrings::found(store, &keks(), clock(), &settings).await.unwrap();
        }
        let keyrings = Keyrings::open(sqlite::open(&place).await.unwrap(), keks(), clock(), settings);
        keyrings.admit().await.unwrap();
        keyrings
    }

    fn log(&self, _keyrings: &Keyrings) -> Log {
        let founding = audit::Founding { store: StoreId([1; 16]), environment: "production", store_key_check: [0; 16] };
        let settings = audit::Settings {
            dir: self.dir.join("audit"),
            durability: audit::Durability::Written,
            disk_budget: 1 << 30,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 10,
        };
        Log::create(&settings, &founding, clock(), &Disk::real(), audit::Limits::default()).unwrap()
    }

    async fn intent(&self, log: &Log) -> audit::IntentReceipt {
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
        log.intent(record, soon()).await.unwrap()
    }

    async fn create(&self, keyrings: &Keyrings, log: &Log, number: usize) {
        let name = format!("bench/k{number}");
        let change = Change::Create {
            name: name.parse().unwrap(),
            required_context: Vec::new(),
            subject_key: None,
            suite: Suite::XaesCommitted,
            partition_key: None,
            limits: KeyLimits::default(),
        };
        let intent = self.intent(log).await;
        keyrings.apply(&change, &self.founding(&name), intent).await.unwrap();
    }

    fn founding(&self, keyring: &str) -> Authority {
        let known = KnownPrincipal {
            name: "ops".parse().unwrap(),
            kind: PrincipalKind::Operator,
            uids: vec![7],
            token_sha256: vec![],
        };
        let authenticator = Authenticator::new(&keyward::identity::Settings { principals: vec![known] }).unwrap();
        let principal = authenticator.authenticate(Door::Control, &Credentials::Peer { uid: 7, gid: 7 }).unwrap();
        let clock = clock();
        let ask = Ask {
            principal: &principal,
            action: Action::KeyringCreate,
            keyring: Some(&keyring.parse().unwrap()),
            pairs: &[],
            purpose: None,
            request: &RequestId::from_random([1; 16]),
            deadline: soon(),
            now: clock.wall(),
            mono: clock.mono(),
        };
        self.policy.founding(self.policy.decide(&ask).unwrap()).unwrap()
    }
}

fn policy() -> Arc<Policy> {
    let text = "permit (principal == Operator::\"ops\", action, resource);";
    let settings = policy::Settings {
        documents: vec![("bench.cedar".to_owned(), text.to_owned())],
        context_keys: Vec::new(),
        principals: vec![("ops".parse().unwrap(), PrincipalKind::Operator)],
    };
    Policy::load(&settings).unwrap()
}

async fn start(settings: &Pkcs11Settings) -> Arc<Pkcs11Kek> {
    let sink = EventSink::new(mpsc::channel(16).0);
    Pkcs11Kek::start(settings.clone(), Deployment::Production, clock(), Disk::real(), sink).await.unwrap()
}

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn soon() -> Deadline {
    Deadline(SystemClock.mono().plus(Duration::from_secs(60)))
}
