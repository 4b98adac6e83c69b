//! A whole sidecar in this process, without sockets: log, store, key-encryption key and service over one directory, which
//! can be copied, and started again as it was left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyward::audit::{self, Dangling, Log, OpenError};
use keyward::clock::{Clock, Deadline, ManualClock, SharedClock, Wall};
use keyward::control::guarded::Guarded;
use keyward::durable::Disk;
use keyward::identity::{self, Authenticator, Credentials, KnownPrincipal, PrincipalKind};
use keyward::kek::{Deployment, DevelopmentOnly, EventSink, Kek, SoftwareKek, SoftwareSettings};
use keyward::keyring::{
    Environment, Genesis, Keks, KeyState, Keyrings, Pinned, RevocationBound, Settings, UsageLimits,
};
use keyward::names::{Context, KeyVersionId, Purpose, RequestId};
use keyward::policy::separation::Separation;
use keyward::policy::{self, Policy};
use keyward::secret::SecretBytes;
use keyward::service::{
    Answer, Call, CustodySettings, Form, KeyringView, Open, OpenItem, Operation, Parts, PolicySource, Seal, SealItem,
    Service, Surface,
};
use keyward::store::{self, Opened, Writer, sqlite};
use keyward::telemetry::{Build, Metrics};
use serde_json::Value;

use super::writer::{Faults, tempered};
use crate::custody::SEPARATION;
use crate::postgres::Postgres;

const NOON: Wall = Wall(1_780_315_200_000_000);
const SERVICE: u32 = 7;
const OPERATOR: u32 = 8;
/// At the control socket for everybody who signs.
const CUSTODIAN: u32 = 9;

/// What a sidecar leaves on the disk.
pub struct Place {
    dir: Arc<tempfile::TempDir>,
    store: store::Settings,
    pub clock: Arc<ManualClock>,
    /// What its custodians approved, or are asked to.
    pub guarded: Guarded,
}

/// A running one.
pub struct Sidecar {
    pub keyrings: Arc<Keyrings>,
    pub faults: Arc<Faults>,
    /// Intents that its start could not close.
    pub left: Vec<Dangling>,
    pub service: Arc<Service>,
    pub log: Log,
    store: Arc<dyn Writer>,
    clock: Arc<ManualClock>,
}

impl Place {
    /// A founded store in a file, with its log.
    pub async fn founded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Settings::Sqlite(in_dir(dir.path()));
        Self::founded_in(dir, store).await
    }

    /// The same in a database of a server that the tests share.
    pub async fn founded_in_postgresql(statement_timeout: Duration) -> Self {
        let server = Postgres::shared();
        let mut settings = server.settings(&server.database());
        settings.statement_timeout = statement_timeout;
        Self::founded_in(tempfile::tempdir().unwrap(), store::Settings::Postgresql(Box::new(settings))).await
    }

    async fn founded_in(dir: tempfile::TempDir, store: store::Settings) -> Self {
        let place = Self { dir: Arc::new(dir), store, clock: ManualClock::at(NOON), guarded: Guarded::default() };
        SoftwareKek::create_file(&Disk::real(), &place.path("kek")).unwrap();
        let opened = store::create(&place.store).await.unwrap();
        let genesis = Keyrings::found(opened, &place.keks(), place.shared_clock(), &settings()).await.unwrap();
        place.begin_log(&genesis);
        place
    }

    fn begin_log(&self, genesis: &Genesis) {
        let founding = audit::Founding {
            store: genesis.store,
            environment: genesis.environment.name(),
            store_key_check: genesis.store_key_check,
        };
        let (log, limits) = (self.log(), audit::Limits::default());
        drop(Log::create(&log, &founding, self.shared_clock(), &Disk::real(), limits).unwrap());
    }

    /// One more sidecar of the same store, with a log of its own.
    pub async fn peer(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.path("kek")).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        let (store, clock, guarded) = (self.store.clone(), Arc::clone(&self.clock), self.guarded.clone());
        let peer = Self { dir: Arc::new(dir), store, clock, guarded };
        let opened = store::open(&self.store).await.unwrap();
        let genesis = Keyrings::open(opened, peer.keks(), peer.shared_clock(), settings()).admit().await.unwrap();
        peer.begin_log(&genesis);
        peer
    }

    /// The database, where it is one.
    pub fn database(&self) -> String {
        match &self.store {
            store::Settings::Postgresql(settings) => settings.dbname.clone(),
            store::Settings::Sqlite(_) => panic!("it is a file"),
        }
    }

    /// Time passes as it does outside, from now until it is dropped: whoever waits goes on.
    pub fn let_time_pass(&self) -> Ticking {
        let clock = Arc::clone(&self.clock);
        let tick = Duration::from_millis(1);
        Ticking(tokio::spawn(async move {
            loop {
                tokio::time::sleep(tick).await;
                clock.advance(tick);
            }
        }))
    }

    /// The same file once more, of which nothing runs.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").args([self.path("kek"), self.path("log")]).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        // SQLite's threads may still be closing the file.
        let store = dir.path().join("store.sqlite");
        drop(Disk::real().create_new(&store, 0o600).unwrap());
        let from = rusqlite::Connection::open(self.path("store.sqlite")).unwrap();
        from.execute("VACUUM INTO ?1", [store.display().to_string()]).unwrap();
        let (clock, store) = (ManualClock::at(self.clock.wall()), store::Settings::Sqlite(in_dir(dir.path())));
        Self { dir: Arc::new(dir), store, clock, guarded: self.guarded.clone() }
    }

    pub fn rotate_kek(&self) {
        SoftwareKek::rotate_file(&Disk::real(), &self.path("kek"), None).unwrap();
    }

    /// Starts as the program does: log, store, admission, open intents.
    pub async fn start(&self) -> Sidecar {
        let (log, opened) = self.open_log().await;
        let faults = Arc::new(Faults::default());
        let opened_store = store::open(&self.store).await.unwrap();
        let reader = opened_store.reader();
        let store = tempered(opened_store.into_writer(), &faults);
        let keyrings =
            Keyrings::open(Opened::new(reader, Arc::clone(&store)), self.keks(), self.shared_clock(), settings());
        keyrings.pin(pinned(&log, &opened));
        keyrings.admit().await.unwrap();
        let revocation = RevocationBound::of(&settings(), Duration::from_secs(2), Duration::from_secs(10));
        let parts = Parts {
            authenticator: authenticator(),
            policy: permissive(),
            policies: self.policies(),
            keyrings: Arc::clone(&keyrings),
            log: log.clone(),
            revocation,
            custody: CustodySettings {
                separation: Some(Separation::load(SEPARATION).unwrap()),
                environment: Environment::Development,
                clock_check: None,
                guarded: self.guarded.clone(),
                rehearsal: None,
                restored: None,
                witnessing: None,
            },
        };
        let metrics = Metrics::new(keyward::server::RESULTS, &Build { version: "0" }).unwrap();
        let service = Arc::new(Service::new(parts, self.shared_clock(), Arc::new(metrics)));
        let left = service.reconcile(opened.dangling).await;
        Sidecar { keyrings, faults, left, service, log, store, clock: Arc::clone(&self.clock) }
    }

    /// A process that another test starts has every lock of this one between its fork and its exec.
    async fn open_log(&self) -> (Log, audit::Opened) {
        for _ in 0..1_000 {
            match Log::open(&self.log(), self.shared_clock(), &Disk::real(), audit::Limits::default()) {
                Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the log stays locked");
    }

    /// Writes the policy files, which the start does not look at.
    pub fn write_policy(&self, text: &str) {
        Disk::real().write_atomic(&self.path("set.cedar"), text.as_bytes(), 0o600).unwrap();
    }

    fn policies(&self) -> PolicySource {
        let file = self.path("set.cedar");
        Arc::new(move || std::fs::read_to_string(&file).map(set).map_err(|error| error.to_string()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> audit::Settings {
        audit::Settings {
            dir: self.path("log"),
            durability: audit::Durability::Synced,
            disk_budget: 1 << 30,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 1_000,
        }
    }

    fn shared_clock(&self) -> SharedClock {
        Arc::clone(&self.clock) as SharedClock
    }

    fn keks(&self) -> Keks {
        let (events, _nobody_listens) = tokio::sync::mpsc::channel(16);
        Keks::new(software(&self.path("kek")), None, EventSink::new(events))
    }
}

impl Sidecar {
    /// Stops it, whatever is under way.
    pub fn stop(self) {
        let Self { keyrings, service, log, .. } = self;
        drop((service, keyrings));
        drop(log);
    }

    pub async fn ask(&self, operation: Operation) -> Answer {
        let (surface, uid) = match operation {
            Operation::Seal(_) | Operation::Open(_) => (Surface::DataSocket, SERVICE),
            Operation::Custody(_) => (Surface::Control, CUSTODIAN),
            _ => (Surface::Control, OPERATOR),
        };
        let call = Call {
            surface,
            credentials: Credentials::Peer { uid, gid: uid, exe: None },
            request: RequestId::from_random([1; 16]),
            deadline: Deadline(self.clock.mono().plus(Duration::from_secs(5))),
            operation: Ok(operation),
        };
        self.service.handle(call).await.into_answer()
    }

    pub async fn seal(&self, keyring: &str, patient: &str) -> Result<String, String> {
        match self.ask(sealing(keyring, &[patient])).await {
            Answer::Sealed(mut values) => values.remove(0).map_err(|refusal| format!("{refusal:?}")),
            other => Err(told(&other)),
        }
    }

    /// What stands in a value; or why nobody says.
    pub async fn open(&self, patient: &str, value: &str) -> Result<String, String> {
        let item = OpenItem::parse(context(patient), value, Form::Text);
        match self.ask(Operation::Open(Open { purpose: Some(Purpose::Treatment), items: vec![item] })).await {
            Answer::Opened(mut values) => values
                .remove(0)
                .map(|opened| String::from_utf8(opened.plaintext.expose().to_vec()).unwrap())
                .map_err(|refusal| format!("{refusal:?}")),
            other => Err(told(&other)),
        }
    }

    pub async fn view(&self, keyring: &str) -> Arc<KeyringView> {
        self.keyrings.find(&keyring.parse().unwrap()).await.unwrap().unwrap()
    }

    /// Tries again to close what its start could not.
    pub async fn reconcile(&mut self) -> usize {
        self.left = self.service.reconcile(std::mem::take(&mut self.left)).await;
        self.left.len()
    }

    /// What the sealed head of a keyring says.
    pub async fn body(&self, keyring: &str) -> String {
        self.store.ring(keyring.to_owned()).await.unwrap().unwrap().head.body
    }

    /// The newest version in a state.
    pub async fn version(&self, keyring: &str, state: KeyState) -> KeyVersionId {
        let view = self.view(keyring).await;
        view.versions.iter().rev().find(|version| version.state == state).unwrap().id
    }

    /// Every record of the log so far, by its index.
    pub fn records(&self) -> Vec<(u64, Value)> {
        let read = |(index, bytes): (u64, Vec<u8>)| (index, serde_json::from_slice(&bytes).unwrap());
        let (mut records, mut from): (Vec<(u64, Value)>, u64) = (Vec::new(), 0);
        loop {
            let page = self.log.read(from, 1_000).unwrap();
            let Some((last, _)) = page.last() else { return records };
            from = last + 1;
            records.extend(page.into_iter().map(read));
        }
    }
}

/// Ends the passing of time.
pub struct Ticking(tokio::task::JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn in_dir(dir: &Path) -> sqlite::Settings {
    sqlite::Settings { path: dir.join("store.sqlite"), busy_timeout: Duration::from_secs(10) }
}

/// What an answer without a value says.
pub fn told(answer: &Answer) -> String {
    match answer {
        Answer::Refused(refusal) => format!("{refusal:?}"),
        _ => "another answer".to_owned(),
    }
}

pub fn sealing(keyring: &str, patients: &[&str]) -> Operation {
    let item = |patient: &&str| {
        Ok(SealItem { context: context(patient), plaintext: SecretBytes::copy_of(patient.as_bytes()) })
    };
    Operation::Seal(Seal { keyring: keyring.parse().unwrap(), items: patients.iter().map(item).collect() })
}

fn context(patient: &str) -> Context {
    Context::parse([("patient".to_owned(), patient.to_owned())]).unwrap()
}

fn settings() -> Settings {
    let ages = Duration::from_secs(100_000_000);
    Settings {
        environment: Environment::Development,
        cache_ttl: Duration::from_secs(300),
        offline_max: ages,
        store_offline_max: ages,
        // Tests that run side by side share the locked memory of one process.
        cache_keys: 12,
        data_key_period: Duration::from_secs(90 * 86_400),
        hard_limit: Duration::from_secs(730 * 86_400),
        kek_period: Duration::from_secs(365 * 86_400),
        usage_limits: UsageLimits { messages: 1 << 32, bytes: 1 << 46 },
    }
}

fn pinned(log: &Log, opened: &audit::Opened) -> Pinned {
    let first: Value = serde_json::from_slice(&log.read(0, 1).unwrap()[0].1).unwrap();
    let fact = |name: &str| first["facts"][name].as_str().unwrap().to_owned();
    Pinned {
        store: fact("store"),
        store_key_check: fact("store_key_check"),
        head: opened.store_head.as_ref().map(|head| head.parse().unwrap()),
        abandoned: Vec::new(),
        log: log.verifier_key().origin().as_str().to_owned(),
    }
}

fn software(file: &Path) -> Arc<dyn Kek> {
    let settings = SoftwareSettings {
        name: "primary".parse().unwrap(),
        file: file.to_owned(),
        insecure_software_kek_for_development: true,
    };
    let allowed = DevelopmentOnly::confirm(Deployment::Development, &settings).unwrap();
    Arc::new(SoftwareKek::open(&settings, allowed).unwrap())
}

const PRINCIPALS: [(&str, PrincipalKind, u32); 3] = [
    ("portal", PrincipalKind::Service, SERVICE),
    ("ada", PrincipalKind::Operator, OPERATOR),
    ("kim", PrincipalKind::Custodian, CUSTODIAN),
];

fn authenticator() -> Authenticator {
    let known = |(name, kind, uid): (&str, PrincipalKind, u32)| KnownPrincipal {
        name: name.parse().unwrap(),
        kind,
        uids: vec![uid],
        token_sha256: vec![],
        spiffe: vec![],
        jwt: vec![],
    };
    Authenticator::new(&identity::Settings { principals: PRINCIPALS.map(known).into(), jwt: vec![] }).unwrap()
}

/// Everything is permitted.
pub const PERMISSIVE: &str = "permit (principal, action, resource);";

/// A set of one file.
pub fn set(text: String) -> policy::Settings {
    policy::Settings {
        documents: vec![("set.cedar".to_owned(), text)],
        context_keys: vec!["patient".to_owned()],
        principals: PRINCIPALS.map(|(name, kind, _)| (name.parse().unwrap(), kind)).into(),
    }
}

fn permissive() -> Arc<Policy> {
    Policy::load(&set(PERMISSIVE.to_owned())).unwrap()
}
