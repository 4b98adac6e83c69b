//! The keyring over the real store, the real software KEK and real permits. Only time and the KEK's temper are the tests'.

mod admission;
mod aging;
mod caching;
mod changing;
mod counting;
mod escrow;
mod failover;
mod following;
mod hard_limit;
mod kek_uses;
mod living;
mod lookups;
mod offline;
mod partitions;
mod rewrap_job;
mod rewrapping;
mod tampering;
mod transfers;
mod unlocking;

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::audit;
use crate::clock::{BoxFuture, Clock, Deadline, ManualClock, Wall};
use crate::crypto::DataKey;
use crate::durable::Disk;
use crate::identity::{Authenticator, Credentials, KnownPrincipal, PrincipalKind};
use crate::kek::{
    Deployment, DevelopmentOnly, EventSink, Kek, KekError, KekEvent, KekFacts, KekHealth, SoftwareKek,
    SoftwareSettings, Wrap, WrapBinding,
};
use crate::names::{Purpose, RequestId};
use crate::policy::{self, Ask, Authority, Policy};
use crate::store::sqlite;

const NOON: Wall = Wall(1_780_315_200_000_000);
const TTL: Duration = Duration::from_secs(300);
/// Where the store is not the question.
const AGES: Duration = Duration::from_secs(1_000_000);
const OFFLINE: Duration = Duration::from_secs(900);
const QUARTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Two of them.
const YEARS: Duration = Duration::from_secs(730 * 24 * 60 * 60);

/// A real KEK that counts, waits while it is held, and can be told to fail.
struct Tempered {
    real: SoftwareKek,
    unwraps: AtomicUsize,
    held: watch::Sender<bool>,
    mood: Mutex<Mood>,
    /// What the last call showed.
    seen: Mutex<KekHealth>,
    hardware: AtomicBool,
}

#[derive(Clone, Copy)]
enum Mood {
    Good,
    Unreachable,
    Denied,
    Late,
    /// Late, then good.
    LateOnce,
    /// Gives back another key than it was asked for.
    Confused,
    /// Says that the wrap does not open.
    Corrupt,
}

impl Tempered {
    fn unwraps(&self) -> usize {
        self.unwraps.load(Ordering::SeqCst)
    }

    fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// A canary does, without a caller.
    fn look(&self) {
        let _seen = self.failure();
    }

    fn failure(&self) -> Result<(), KekError> {
        let (kek, detail) = (self.real.name().clone(), "told to".to_owned());
        let mut mood = self.mood.lock().unwrap();
        let seen = match *mood {
            Mood::Good | Mood::Confused | Mood::Corrupt => Some(KekHealth::Reachable),
            Mood::Unreachable => Some(KekHealth::Unreachable),
            Mood::Denied => Some(KekHealth::Denied),
            Mood::Late | Mood::LateOnce => None,
        };
        if let Some(seen) = seen {
            *self.seen.lock().unwrap() = seen;
        }
        match *mood {
            Mood::LateOnce => {
                *mood = Mood::Good;
                Err(KekError::Deadline(kek))
            }
            Mood::Good | Mood::Confused => Ok(()),
            Mood::Unreachable => Err(KekError::Unreachable { kek, detail }),
            Mood::Denied => Err(KekError::Denied { kek, detail }),
            Mood::Late => Err(KekError::Deadline(kek)),
            Mood::Corrupt => Err(KekError::BadWrap),
        }
    }
}

impl Kek for Tempered {
    fn name(&self) -> &KekName {
        self.real.name()
    }

    fn facts(&self) -> KekFacts {
        KekFacts { development_only: !self.hardware.load(Ordering::SeqCst), ..self.real.facts() }
    }

    fn wrap<'a>(
        &'a self,
        key: &'a DataKey,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Wrap, KekError>> {
        Box::pin(async move {
            self.failure()?;
            self.real.wrap(key, binding, deadline).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrap: &'a Wrap,
        binding: &'a WrapBinding,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<DataKey, KekError>> {
        Box::pin(async move {
            self.unwraps.fetch_add(1, Ordering::SeqCst);
            self.held.subscribe().wait_for(|held| !held).await.unwrap();
            self.failure()?;
            let key = self.real.unwrap(wrap, binding, deadline).await?;
            let confused = matches!(*self.mood.lock().unwrap(), Mood::Confused);
            if confused { Ok(DataKey::generate(&[]).unwrap()) } else { Ok(key) }
        })
    }

    fn random<'a>(&'a self, deadline: Deadline) -> BoxFuture<'a, Result<Vec<u8>, KekError>> {
        self.real.random(deadline)
    }

    fn current_version(&self) -> Option<u32> {
        self.real.current_version()
    }

    fn health(&self) -> KekHealth {
        *self.seen.lock().unwrap()
    }
}

/// One state directory: a store, a KEK, a clock that stands still.
struct World {
    dir: tempfile::TempDir,
    kek: Arc<Tempered>,
    escrow: Option<Arc<Tempered>>,
    events: tokio::sync::mpsc::Sender<KekEvent>,
    heard: Mutex<tokio::sync::mpsc::Receiver<KekEvent>>,
    clock: Arc<ManualClock>,
    settings: Settings,
    policy: Arc<Policy>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kek = software(&dir.path().join("kek"), "primary");
        let settings = Settings {
            environment: Environment::Development,
            cache_ttl: TTL,
            offline_max: OFFLINE,
            store_offline_max: AGES,
            cache_keys: 100,
            data_key_period: QUARTER,
            hard_limit: YEARS,
            kek_period: YEARS / 2,
            usage_limits: UsageLimits { messages: 1 << 32, bytes: 1 << 46 },
        };
        let (events, heard) = tokio::sync::mpsc::channel(16);
        let (clock, heard) = (ManualClock::at(NOON), Mutex::new(heard));
        Self { dir, kek, escrow: None, events, heard, clock, settings, policy: permissive() }
    }

    /// The same with an escrow beside the primary.
    fn with_escrow() -> Self {
        let world = Self::new();
        let escrow = Some(software(&world.dir.path().join("backup"), "backup"));
        Self { escrow, ..world }
    }

    fn keks(&self) -> Keks {
        let primary = Arc::clone(&self.kek) as Arc<dyn Kek>;
        let escrow = self.escrow.as_ref().map(|kek| Arc::clone(kek) as Arc<dyn Kek>);
        Keks::new(primary, escrow, EventSink::new(self.events.clone()))
    }

    /// A founded and admitted store.
    async fn ready() -> (Self, Arc<Keyrings>) {
        let world = Self::new();
        world.found().await.unwrap();
        let keyrings = world.admitted().await;
        (world, keyrings)
    }

    /// The same with one keyring per name, its values bound to a patient; nothing cached.
    async fn with_keyrings(names: &[&str]) -> (Self, Arc<Keyrings>) {
        let (world, keyrings) = Self::ready().await;
        for (name, intent) in names.iter().zip(10..) {
            world.create(&keyrings, name, intent).await.unwrap();
        }
        world.warm(&keyrings, names).await;
        world.kek.unwraps.store(0, Ordering::SeqCst);
        (world, keyrings)
    }

    /// Reads the keyrings once, so that what a test waits for is the KEK alone.
    async fn warm(&self, keyrings: &Keyrings, names: &[&str]) {
        for name in names {
            keyrings.find(&name.parse().unwrap()).await.unwrap().unwrap();
        }
    }

    fn store_path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    async fn store(&self) -> Opened {
        let settings = sqlite::Settings { path: self.store_path(), busy_timeout: Duration::from_secs(10) };
        if settings.path.exists() {
            sqlite::open(&settings).await.unwrap()
        } else {
            sqlite::create(&settings).await.unwrap()
        }
    }

    fn shared_clock(&self) -> SharedClock {
        Arc::clone(&self.clock) as SharedClock
    }

    async fn found(&self) -> Result<Genesis, ApplyError> {
        Keyrings::found(self.store().await, &self.keks(), self.shared_clock(), &self.settings).await
    }

    async fn open(&self) -> Arc<Keyrings> {
        Keyrings::open(self.store().await, self.keks(), self.shared_clock(), self.settings.clone())
    }

    async fn admitted(&self) -> Arc<Keyrings> {
        let keyrings = self.open().await;
        keyrings.admit().await.unwrap();
        keyrings
    }

    /// What a restart finds.
    async fn readmit(&self) -> Result<Genesis, ApplyError> {
        self.open().await.admit().await
    }

    async fn create(&self, keyrings: &Keyrings, name: &str, intent: u64) -> Result<Applied, ApplyError> {
        self.change(keyrings, create(name), intent).await
    }

    async fn change(&self, keyrings: &Keyrings, change: Change, intent: u64) -> Result<Applied, ApplyError> {
        change::carry_out(Arc::clone(&keyrings.inner), self.order(change, intent)).await
    }

    fn order(&self, change: Change, intent: u64) -> change::Order {
        let actor = life::By::Principal("ada".parse().unwrap());
        change::Order {
            action: change.action(KeyState::Active),
            change,
            actor,
            intent,
            deadline: self.soon(),
            kind: change::Kind::Other,
            spends: None,
        }
    }

    fn soon(&self) -> Deadline {
        Deadline(self.clock.mono().plus(Duration::from_secs(5)))
    }

    fn permit(&self, action: Action, keyring: &str) -> Permit {
        self.permit_until(action, keyring, &[], self.soon())
    }

    fn permit_until(&self, action: Action, keyring: &str, pairs: &[(&str, &str)], deadline: Deadline) -> Permit {
        let keyring: KeyringName = keyring.parse().unwrap();
        let of_person = action == Action::InventoryRead || action.changes_keys() && action != Action::KeyringCreate;
        let known = KnownPrincipal {
            name: "portal".parse().unwrap(),
            kind: if of_person { PrincipalKind::Operator } else { PrincipalKind::Service },
            uids: vec![7],
            token_sha256: vec![],
            spiffe: vec![],
            jwt: vec![],
        };
        let authenticator =
            Authenticator::new(&crate::identity::Settings { principals: vec![known], jwt: vec![] }).unwrap();
        let door = if of_person { crate::identity::Door::Control } else { crate::identity::Door::Data };
        let principal = authenticator
            .authenticate(door, &Credentials::Peer { uid: 7, gid: 7, exe: None }, crate::clock::Wall(0))
            .unwrap();
        let on_sidecar = matches!(action, Action::KeyringList | Action::InventoryRead);
        let ask = Ask {
            principal: &principal,
            action,
            keyring: (!on_sidecar).then_some(&keyring),
            pairs,
            purpose: action.opens().then_some(Purpose::Treatment),
            grant: None,
            request: &RequestId::from_random([1; 16]),
            deadline,
            now: self.clock.wall(),
            mono: self.clock.mono(),
        };
        self.policy.decide(&ask).unwrap()
    }

    fn authority(&self, action: Action, keyring: &str) -> Authority {
        self.policy.founding(self.permit(action, keyring)).unwrap()
    }

    fn log(&self, keyrings: &Keyrings) -> audit::Log {
        let genesis = keyrings.inner.opened().unwrap().system.genesis.clone();
        let founding = audit::Founding {
            store: genesis.store,
            environment: genesis.environment.name(),
            store_key_check: genesis.store_key_check,
        };
        let settings = audit::Settings {
            dir: self.dir.path().join("audit"),
            durability: audit::Durability::Synced,
            disk_budget: 1 << 30,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 10,
        };
        let limits = audit::Limits::default();
        audit::Log::create(&settings, &founding, self.shared_clock(), &Disk::real(), limits).unwrap()
    }

    async fn intent(&self, log: &audit::Log) -> audit::IntentReceipt {
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

    /// A copy of the store as it is now, beside it.
    fn copy(&self) -> String {
        let to = self.dir.path().join("old.sqlite").display().to_string();
        rusqlite::Connection::open(self.store_path()).unwrap().execute("VACUUM INTO ?1", [&to]).unwrap();
        to
    }

    /// Every row as it was in the copy.
    fn put_back(&self, old: &str) {
        let table = |name: &str| format!("DELETE FROM {name}; INSERT INTO {name} SELECT * FROM old.{name};");
        let tables: String = ["genesis", "keyrings", "keys", "changes"].map(table).concat();
        self.edit(&format!("ATTACH '{old}' AS old; {tables} DETACH old"));
    }

    /// The file as anybody with the right to edit it would open it: append-only triggers are taken away and put back.
    fn edit(&self, sql: &str) {
        let file = rusqlite::Connection::open(self.store_path()).unwrap();
        let triggers: Vec<(String, String)> = file
            .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let dropped: String = triggers.iter().map(|(name, _)| format!("DROP TRIGGER {name};")).collect();
        let restored: String = triggers.iter().map(|(_, sql)| format!("{sql};")).collect();
        file.execute_batch(&format!(
            "PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; {dropped} {sql}; {restored}"
        ))
        .unwrap();
        assert_ne!(file.changes(), 0, "the edit changes something: {sql}");
    }
}

fn software(file: &std::path::Path, name: &str) -> Arc<Tempered> {
    let settings = SoftwareSettings {
        name: name.parse().unwrap(),
        file: file.to_owned(),
        insecure_software_kek_for_development: true,
    };
    if !file.exists() {
        SoftwareKek::create_file(&Disk::real(), file).unwrap();
    }
    let allowed = DevelopmentOnly::confirm(Deployment::Development, &settings).unwrap();
    Arc::new(Tempered {
        real: SoftwareKek::open(&settings, allowed).unwrap(),
        unwraps: AtomicUsize::new(0),
        held: watch::Sender::new(false),
        mood: Mutex::new(Mood::Good),
        seen: Mutex::new(KekHealth::Reachable),
        hardware: AtomicBool::new(false),
    })
}

fn permissive() -> Arc<Policy> {
    let text = "permit (principal, action, resource);
        permit (principal, action in [Action::\"openSuspended\", Action::\"openCompromised\"], resource);";
    let settings = policy::Settings {
        documents: vec![("set.cedar".to_owned(), text.to_owned())],
        context_keys: vec!["patient".to_owned(), "tenant".to_owned()],
        principals: [PrincipalKind::Service, PrincipalKind::Operator]
            .map(|kind| ("portal".parse().unwrap(), kind))
            .into(),
    };
    Policy::load(&settings).unwrap()
}

fn create(name: &str) -> Change {
    Change::Create {
        name: name.parse().unwrap(),
        required_context: vec!["patient".to_owned()],
        subject_key: Some("patient".to_owned()),
        suite: Suite::XaesCommitted,
        partition_key: None,
        limits: KeyLimits::default(),
    }
}

fn name(text: &str) -> KeyringName {
    text.parse().unwrap()
}

impl Keyrings {
    /// To seal one small value.
    pub(crate) async fn unlock_to_seal<'p>(&self, permit: &'p Permit) -> Result<SealingKey<'p>, UnlockError> {
        self.unlock_sealing(permit, Load { messages: 1, bytes: 10 }).await
    }
}

/// Lets every task that can go on do so.
async fn settle_tasks() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
