//! Whatever a value says, wherever it is and wherever it goes: it opens there as it was, under the active version, and in no
//! other place. Through real keyrings of both suites, and one with a key for each patient.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a failed test")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyward::audit::{self, Log};
use keyward::clock::{Deadline, SharedClock, SystemClock};
use keyward::durable::Disk;
use keyward::envelope::SealedValue;
use keyward::identity::{Authenticator, Credentials, Door, KnownPrincipal, PrincipalKind};
use keyward::kek::{Deployment, DevelopmentOnly, EventSink, Kek, SoftwareKek, SoftwareSettings};
use keyward::keyring::life::{KeyState, Trigger};
use keyward::keyring::{
    Change, Environment, Keks, KeyLimits, Keyrings, PartitionChange, PartitionStep, Settings, Suite, UsageLimits,
};
use keyward::names::{Context, KeyVersionId, KeyringName, Purpose, RequestId};
use keyward::operations::open::{Form, Open, OpenItem};
use keyward::operations::rewrap::{IntoPlace, PermittedRewrap, Rewrap, RewrapItem, Rewrapped};
use keyward::operations::seal::{Seal, SealItem};
use keyward::operations::{ItemError, Permitted};
use keyward::policy::{self, Action, Ask, Permit, Policy};
use keyward::secret::SecretBytes;
use keyward::store::{self, sqlite};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tokio::runtime::Runtime;

const KEYRINGS: [&str; 3] = ["committed", "plain", "charts"];
const PATIENTS: [&str; 3] = ["ada", "bob", "eve"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_rewrapped_value_opens_as_it_was_under_the_active_version_and_in_its_new_place_alone(
        keyring in 0..KEYRINGS.len(),
        old in place(),
        new in proptest::option::of(place()),
        plaintext in vec(any::<u8>(), 0..600),
        rotate in any::<bool>(),
    ) {
        let (runtime, world) = world();
        let keyring = KEYRINGS[keyring];
        let moved = new.as_ref().is_some_and(|new| *new != old);
        let place = new.clone().unwrap_or_else(|| old.clone());
        runtime.block_on(async {
            let before = world.seal(keyring, &old, &plaintext).await;
            if rotate {
                world.rotate(keyring).await;
            }
            let after = match world.rewrap(keyring, &old, new.as_ref(), &before).await {
                Ok(Rewrapped::Unchanged(text)) => {
                    prop_assert!(!rotate && !moved && text == before);
                    text
                }
                Ok(Rewrapped::Anew { text, .. }) => {
                    prop_assert!((rotate || moved) && text != before);
                    text
                }
                Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
            };
            prop_assert_eq!(SealedValue::parse_text(&after).unwrap().version(), world.active(keyring).await);
            prop_assert_eq!(world.open(keyring, &place, &after).await, Ok(plaintext.clone()));
            prop_assert_eq!(world.open(keyring, &old, &before).await, Ok(plaintext));
            if moved {
                prop_assert_eq!(world.open(keyring, &old, &after).await, Err(ItemError::CannotOpen));
                let wrong = world.rewrap(keyring, &place, Some(&old), &before).await;
                prop_assert_eq!(wrong.err(), Some(ItemError::CannotOpen));
            }
            Ok(())
        })?;
    }
}

fn place() -> impl Strategy<Value = Context> {
    let patient = proptest::sample::select(&PATIENTS[..]);
    (patient, btree_map("[a-z]{1,6}", any::<String>(), 0..5)).prop_map(|(patient, mut pairs)| {
        pairs.insert("patient".to_owned(), patient.to_owned());
        Context::parse(pairs).unwrap()
    })
}

struct World {
    _dir: tempfile::TempDir,
    clock: SharedClock,
    policy: Arc<Policy>,
    keyrings: Arc<Keyrings>,
    log: Log,
}

/// Made once for all cases: what a case leaves behind are older versions, as in life.
fn world() -> &'static (Runtime, World) {
    static WORLD: OnceLock<(Runtime, World)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = runtime.block_on(World::new());
        (runtime, world)
    })
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kek");
        SoftwareKek::create_file(&Disk::real(), &file).unwrap();
        let software =
            SoftwareSettings { name: "primary".parse().unwrap(), file, insecure_software_kek_for_development: true };
        let allowed = DevelopmentOnly::confirm(Deployment::Development, &software).unwrap();
        let kek: Arc<dyn Kek> = Arc::new(SoftwareKek::open(&software, allowed).unwrap());
        let keks = || Keks::new(Arc::clone(&kek), None, EventSink::new(tokio::sync::mpsc::channel(16).0));
        let clock: SharedClock = Arc::new(SystemClock);
        let path = dir.path().join("store.sqlite");
        let place = store::Settings::Sqlite(sqlite::Settings { path, busy_timeout: Duration::from_secs(10) });
        let empty = store::create(&place).await.unwrap();
        let genesis = Keyrings::found(empty, &keks(), clock.clone(), &settings()).await.unwrap();
        let keyrings = Keyrings::open(store::open(&place).await.unwrap(), keks(), clock.clone(), settings());
        keyrings.admit().await.unwrap();
        let founding = audit::Founding {
            store: genesis.store,
            environment: genesis.environment.name(),
            store_key_check: genesis.store_key_check,
        };
        let log = audit::Settings {
            dir: dir.path().join("audit"),
            durability: audit::Durability::Synced,
            disk_budget: 1 << 30,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 10,
        };
        let log = Log::create(&log, &founding, clock.clone(), &Disk::real(), audit::Limits::default()).unwrap();
        let world = Self { _dir: dir, clock, policy: permissive(), keyrings, log };
        world.make_keyrings().await;
        world
    }

    async fn make_keyrings(&self) {
        for name in KEYRINGS {
            let create = Change::Create {
                name: name.parse().unwrap(),
                required_context: vec!["patient".to_owned()],
                subject_key: None,
                suite: if name == "plain" { Suite::Xaes } else { Suite::XaesCommitted },
                partition_key: (name == "charts").then(|| "patient".to_owned()),
                limits: KeyLimits::default(),
            };
            self.apply(&create).await;
        }
        let charts: KeyringName = "charts".parse().unwrap();
        let names = PATIENTS.map(|patient| self.keyrings.partition_name(&charts, patient).unwrap());
        let step = PartitionStep::Make(names.to_vec());
        self.apply(&Change::Partitions(PartitionChange { keyring: charts, step })).await;
    }

    async fn apply(&self, change: &Change) {
        let action = change.action(KeyState::Active);
        let permit = self.permit(action, &change.keyring().to_string());
        let authority = match action {
            Action::Seal => self.policy.on_use(&permit).unwrap(),
            _ => self.policy.founding(permit).unwrap(),
        };
        let intent = self.log.intent(intent(), self.soon()).await.unwrap();
        self.keyrings.apply(change, &authority, intent).await.unwrap();
    }

    async fn rotate(&self, keyring: &str) {
        let keyring = keyring.parse().unwrap();
        self.apply(&Change::Rotate { keyring, trigger: Trigger::Usage, expect: None }).await;
    }

    async fn active(&self, keyring: &str) -> KeyVersionId {
        let view = self.keyrings.find(&keyring.parse().unwrap()).await.unwrap().unwrap();
        view.versions.iter().find(|version| version.state == KeyState::Active).unwrap().id
    }

    async fn seal(&self, keyring: &str, place: &Context, plaintext: &[u8]) -> String {
        let item = SealItem { context: place.clone(), plaintext: SecretBytes::copy_of(plaintext) };
        let seal = Seal { keyring: keyring.parse().unwrap(), items: vec![Ok(item)] };
        let sealed = seal.execute(&self.keyrings, &[self.permitted(Action::Seal, keyring)]).await;
        sealed.into_iter().next().unwrap().unwrap_or_else(|error| panic!("{error:?}")).text
    }

    async fn open(&self, keyring: &str, place: &Context, sealed: &str) -> Result<Vec<u8>, ItemError> {
        let item = OpenItem::parse(place.clone(), sealed, Form::Bytes);
        let open = Open { purpose: Some(Purpose::Treatment), items: vec![item] };
        let opened = open.execute(&self.keyrings, &[self.permitted(Action::Open, keyring)]).await;
        opened.into_iter().next().unwrap().map(|opened| opened.plaintext.expose().to_vec())
    }

    async fn rewrap(
        &self,
        keyring: &str,
        old: &Context,
        new: Option<&Context>,
        sealed: &str,
    ) -> Result<Rewrapped, ItemError> {
        let item = RewrapItem::parse(old.clone(), new.cloned(), sealed);
        let moves = item.as_ref().is_ok_and(|item| item.new_context.is_some());
        let into = moves.then(|| IntoPlace {
            rewrap: self.permit(Action::Rewrap, keyring),
            seal: self.permit(Action::Seal, keyring),
        });
        let Permitted { permit, places, partition_key } = self.permitted(Action::Rewrap, keyring);
        let permitted = [PermittedRewrap { permit, into, places, partition_key }];
        let done = Rewrap { purpose: None, items: vec![item] }.execute(&self.keyrings, &permitted).await;
        done.into_iter().next().unwrap()
    }

    fn permitted(&self, action: Action, keyring: &str) -> Permitted {
        let partition_key = (keyring == "charts").then(|| "patient".to_owned());
        Permitted { permit: self.permit(action, keyring), places: vec![0], partition_key }
    }

    fn permit(&self, action: Action, keyring: &str) -> Permit {
        // Rotating is for people.
        let (kind, door) = match action {
            Action::KeyringRotate => (PrincipalKind::Operator, Door::Control),
            _ => (PrincipalKind::Service, Door::Data),
        };
        let known = KnownPrincipal {
            name: "tester".parse().unwrap(),
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
        let ask = Ask {
            principal: &principal,
            action,
            keyring: Some(&keyring.parse().unwrap()),
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

    fn soon(&self) -> Deadline {
        Deadline(self.clock.mono().plus(Duration::from_secs(60)))
    }
}

fn settings() -> Settings {
    Settings {
        environment: Environment::Development,
        cache_ttl: Duration::from_secs(3_600),
        offline_max: Duration::ZERO,
        store_offline_max: Duration::from_secs(3_600),
        cache_keys: 200,
        data_key_period: Duration::from_secs(90 * 86_400),
        hard_limit: Duration::from_secs(730 * 86_400),
        kek_period: Duration::from_secs(365 * 86_400),
        usage_limits: UsageLimits { messages: 1 << 40, bytes: 1 << 46 },
    }
}

fn permissive() -> Arc<Policy> {
    let settings = policy::Settings {
        documents: vec![("set.cedar".to_owned(), "permit (principal, action, resource);".to_owned())],
        context_keys: vec![],
        principals: [PrincipalKind::Service, PrincipalKind::Operator]
            .map(|kind| ("tester".parse().unwrap(), kind))
            .into(),
    };
    Policy::load(&settings).unwrap()
}

fn intent() -> audit::Record {
    audit::Record {
        event: audit::Event::KeyRotated,
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
