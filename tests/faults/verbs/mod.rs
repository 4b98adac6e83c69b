//! Each verb that changes keys, with each of its writes failed, lost, and kept although it failed: no value is lost, no
//! keyring has two active versions, the log says what happened and nothing else, and asking again completes it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where its preparation fails")]

mod misses;
pub mod place;
mod races;
mod reload;
mod waiting;
pub mod writer;

use std::sync::atomic::Ordering;
use std::time::Duration;

use keyward::keyring::KeyState;
use keyward::service::life::{Reason, Statement, Step, Trigger};
use keyward::service::{
    Answer, ConfigureKeyring, CreateKeyring, KeyLimits, Operation, RotateKeyring, ShredPartition, StepKey, Suite,
};
use serde_json::Value;

use self::place::{Place, Sidecar, sealing, told};
use self::writer::Kind;

const DAY: Duration = Duration::from_secs(86_400);
/// More partitions than one transaction moves, and more keys than one rewraps.
const MANY: usize = 510;

/// What is asked of a store with the keyrings `patients` and `charts`, the second with partitions; both were rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Rotate,
    Configure,
    Suspend,
    Resume,
    Deactivate,
    Compromise,
    Schedule,
    Cancel,
    Destroy,
    RewrapKeys,
    RetireKek,
    Make,
    Shred,
    RewrapPartitions,
}

impl Verb {
    /// Brings the store to where the verb can be asked for.
    async fn prepare(self, place: &Place) {
        if matches!(self, Self::Schedule | Self::Cancel | Self::Destroy) {
            // Nobody has opened anything for a month.
            place.clock.advance(40 * DAY);
        }
        if matches!(self, Self::RewrapKeys | Self::RetireKek) {
            place.rotate_kek();
        }
        let sidecar = place.start().await;
        match self {
            Self::Resume => finish(&sidecar, Self::Suspend).await,
            Self::Cancel => finish(&sidecar, Self::Schedule).await,
            Self::Destroy => {
                finish(&sidecar, Self::Schedule).await;
                place.clock.advance(7 * DAY);
                sidecar.keyrings.report_in().await.unwrap();
            }
            Self::RetireKek => finish(&sidecar, Self::RewrapKeys).await,
            _ => {}
        }
        sidecar.stop();
    }

    /// How it is asked for; a verb that works in parts goes on after this keyring.
    async fn operation(self, sidecar: &Sidecar, after: Option<String>) -> Operation {
        let patients = || "patients".parse().unwrap();
        let step = |version, step, reason| Operation::Step(StepKey { keyring: patients(), version, step, reason });
        let active = || sidecar.version("patients", KeyState::Active);
        let older = || sidecar.version("patients", KeyState::Deactivated);
        match self {
            Self::Create => Operation::CreateKeyring(creation("fresh", false)),
            Self::Rotate => {
                let (trigger, expect) = (Trigger::Incident, Some(active().await));
                Operation::Rotate(RotateKeyring { keyring: patients(), trigger, expect })
            }
            Self::Configure => {
                let limits = KeyLimits { messages: Some(5_000_000), ..KeyLimits::default() };
                Operation::Configure(ConfigureKeyring { keyring: patients(), limits })
            }
            Self::Suspend => step(active().await, Step::Suspend, Reason::Suspicion),
            Self::Resume => step(sidecar.version("patients", KeyState::Suspended).await, Step::Resume, Reason::Cleared),
            Self::Deactivate => step(active().await, Step::Deactivate, Reason::Policy),
            Self::Compromise => step(older().await, Step::Compromise, Reason::Disclosure),
            Self::Schedule => {
                let schedule = Step::ScheduleDestroy { days: 7, statement: Statement([7; 32]) };
                step(older().await, schedule, Reason::Retired)
            }
            Self::Cancel => step(older().await, Step::CancelDestroy, Reason::Mistake),
            Self::Destroy => step(older().await, Step::Destroy, Reason::Retired),
            Self::RewrapKeys => Operation::RewrapKeys { trigger: Trigger::Personnel, after },
            Self::RetireKek => Operation::RetireKek {
                kek: "primary".parse().unwrap(),
                version: Some(1),
                reason: Reason::Rotation(Trigger::Personnel),
            },
            Self::Make => sealing("charts", &["cid"]),
            Self::Shred => Operation::ShredPartition(ShredPartition {
                keyring: "charts".parse().unwrap(),
                value: "bob".to_owned(),
                reason: Reason::Policy,
                backup_retention: None,
            }),
            Self::RewrapPartitions => {
                Operation::RewrapPartitions { keyring: "charts".parse().unwrap(), trigger: Trigger::Personnel }
            }
        }
    }

    /// Whether its work is done, whole, as a look at the store shows it.
    async fn is_done(self, sidecar: &Sidecar) -> bool {
        let view = sidecar.view("patients").await;
        let any = |state| view.versions.iter().any(|version| version.state == state);
        match self {
            Self::Create => sidecar.keyrings.find(&"fresh".parse().unwrap()).await.unwrap().is_some(),
            Self::Rotate => view.versions.len() == 3,
            Self::Configure => view.limits.messages == Some(5_000_000),
            Self::Suspend => any(KeyState::Suspended),
            Self::Resume => any(KeyState::Active),
            Self::Deactivate => !any(KeyState::Active),
            Self::Compromise => any(KeyState::Compromised),
            Self::Schedule => view.versions.iter().any(|version| version.destroy_at.is_some()),
            Self::Cancel => view.versions.iter().all(|version| version.destroy_at.is_none()),
            Self::Destroy => any(KeyState::Destroyed),
            Self::RewrapKeys => sidecar.keyrings.wraps().await.unwrap().behind == 0,
            Self::RetireKek => sidecar.body("kw.system").await.contains("retired"),
            Self::Make => {
                sidecar.view("charts").await.versions.iter().map(|version| version.partitions).sum::<u64>() == 3
            }
            Self::Shred => sidecar.seal("charts", "bob").await.is_err(),
            Self::RewrapPartitions => {
                let versions = &sidecar.view("charts").await.versions;
                versions.iter().all(|version| version.state == KeyState::Active || version.partitions == 0)
            }
        }
    }

    /// How many versions of `patients` are active before and after it.
    const fn active(self) -> (usize, usize) {
        match self {
            Self::Suspend | Self::Deactivate => (1, 0),
            Self::Resume => (0, 1),
            _ => (1, 1),
        }
    }

    /// Whether a value under the older version, under the active one or of `bob` is not to be opened now.
    fn withholds(self, value: &str, done: bool) -> bool {
        match (value, self) {
            ("older", Self::Destroy) => true,
            ("older", Self::Compromise | Self::Schedule) | ("newer", Self::Suspend) | ("bob", Self::Shred) => done,
            ("older", Self::Cancel) | ("newer", Self::Resume) => !done,
            _ => false,
        }
    }
}

pub fn creation(name: &str, partitioned: bool) -> CreateKeyring {
    CreateKeyring {
        name: name.parse().unwrap(),
        required_context: vec!["patient".to_owned()],
        subject_key: Some("patient".to_owned()),
        partition_key: partitioned.then(|| "patient".to_owned()),
        suite: Suite::XaesCommitted,
        escrow: keyward::service::Escrow::Yes,
    }
}

/// Asks until the work is done whole: as a person does, who is told how far it is.
async fn ask(sidecar: &Sidecar, verb: Verb) -> Result<(), String> {
    let mut after = None;
    loop {
        match sidecar.ask(verb.operation(sidecar, after.clone()).await).await {
            Answer::Refused(refusal) => return Err(format!("{refusal:?}")),
            Answer::Rewrapped(step) if step.next.is_some() => after = step.next,
            Answer::PartitionsRewrapped { remaining, .. } if remaining > 0 => {}
            Answer::Sealed(values) => return values.into_iter().try_for_each(|value| told_of(value.map(drop))),
            _ => return Ok(()),
        }
    }
}

fn told_of<E: std::fmt::Debug>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|refusal| format!("{refusal:?}"))
}

async fn finish(sidecar: &Sidecar, verb: Verb) {
    Box::pin(ask(sidecar, verb)).await.unwrap();
}

/// Values that were acknowledged before a verb was asked for.
struct Values(Vec<(&'static str, String)>);

impl Values {
    /// Two keyrings, each rotated; a value under each version, and one for each of two patients.
    async fn sealed(sidecar: &Sidecar) -> Self {
        for (name, partitioned) in [("patients", false), ("charts", true)] {
            let made = sidecar.ask(Operation::CreateKeyring(creation(name, partitioned))).await;
            assert!(matches!(made, Answer::Keyring(_)), "{}", told(&made));
        }
        let mut values = Vec::new();
        for (keyring, patient) in [("patients", "older"), ("charts", "ada"), ("charts", "bob")] {
            values.push((patient, sidecar.seal(keyring, patient).await.unwrap()));
        }
        for keyring in ["patients", "charts"] {
            rotate(sidecar, keyring).await;
        }
        values.push(("newer", sidecar.seal("patients", "newer").await.unwrap()));
        Self(values)
    }

    async fn check(&self, sidecar: &Sidecar, verb: Verb, done: bool, at: &str) {
        for (patient, value) in &self.0 {
            let opened = sidecar.open(patient, value).await;
            if verb.withholds(patient, done) {
                assert!(opened.is_err(), "{at}: {patient} opens");
            } else {
                assert_eq!(opened.as_deref(), Ok(*patient), "{at}");
            }
        }
    }
}

async fn rotate(sidecar: &Sidecar, keyring: &str) {
    let rotate = RotateKeyring { keyring: keyring.parse().unwrap(), trigger: Trigger::Usage, expect: None };
    let rotated = sidecar.ask(Operation::Rotate(rotate)).await;
    assert!(matches!(rotated, Answer::Keyring(_)), "{}", told(&rotated));
}

/// A store for verbs of one transaction.
async fn small() -> (Place, Values) {
    let place = Place::founded().await;
    let sidecar = place.start().await;
    let values = Values::sealed(&sidecar).await;
    sidecar.stop();
    (place, values)
}

/// Every write of the verb failed in every way, each from the same beginning, until it has no such write.
async fn each_write(verb: Verb, place: &Place, values: &Values) -> usize {
    let prepared = place.copy();
    verb.prepare(&prepared).await;
    let mut writes = usize::MAX;
    for kind in Kind::ALL {
        for n in 1.. {
            if !interrupted(verb, &prepared.copy(), values, (kind, n)).await {
                writes = writes.min(n - 1);
                break;
            }
        }
    }
    assert!(writes > 0, "{verb:?} writes nothing");
    writes
}

/// False if the verb has no such write.
async fn interrupted(verb: Verb, place: &Place, values: &Values, (kind, n): (Kind, usize)) -> bool {
    let at = format!("{verb:?}, write {n} {kind:?}");
    let sidecar = place.start().await;
    assert!(!verb.is_done(&sidecar).await, "{at}");
    let before = sidecar.records().len();
    sidecar.faults.arm(kind, n);
    let asked = ask(&sidecar, verb).await;
    let (fired, kept) = (sidecar.faults.fired(), sidecar.faults.kept.load(Ordering::SeqCst));
    // A sealing looks again, and finds the partition that nobody knew of.
    let found = verb == Verb::Make && kind.persists();
    assert!(asked.is_err() == fired || found, "{at}: {asked:?}");
    if fired && !matches!(kind, Kind::KeptAndClosed) {
        // The same process goes on, as one over a database does: asking again is safe, and completes it or says why not.
        let again = ask(&sidecar, verb).await;
        assert!(again.is_ok() || kind.persists(), "{at}: {again:?}");
    }
    sidecar.stop();
    let restarted = place.start().await;
    assert_eq!(restarted.left, [], "{at}");
    outcomes_are_true(&restarted.records().split_off(before), (kind, kept, fired), &at);
    let done = verb.is_done(&restarted).await;
    assert!(done || !(fired && matches!(kind, Kind::Refused | Kind::Lost)), "{at}: asking again completed it");
    values.check(&restarted, verb, done, &at).await;
    let active = |view: &keyward::service::KeyringView| {
        view.versions.iter().filter(|version| version.state == KeyState::Active).count()
    };
    let expected = if done { verb.active().1 } else { verb.active().0 };
    assert_eq!(active(&*restarted.view("patients").await), expected, "{at}");
    assert_eq!(active(&*restarted.view("charts").await), 1, "{at}");
    if !done {
        ask(&restarted, verb).await.unwrap();
        assert!(verb.is_done(&restarted).await, "{at}");
        values.check(&restarted, verb, true, &at).await;
    }
    restarted.stop();
    fired
}

/// Every intent has one outcome; as many say `done` as changes are there, or the parts that did something say how much.
pub fn outcomes_are_true(records: &[(u64, Value)], (kind, kept, fired): (Kind, usize, bool), at: &str) {
    let intents: Vec<u64> =
        records.iter().filter(|(_, record)| record["outcome"] == "intent").map(|(index, _)| *index).collect();
    let closing = |intent: &u64| -> Vec<&Value> {
        records.iter().map(|(_, record)| record).filter(|record| record["intent"] == *intent).collect()
    };
    let first = closing(intents.first().unwrap());
    let all: Vec<&Value> = intents.iter().flat_map(closing).collect();
    assert_eq!(all.len(), intents.len(), "{at}: one outcome for each intent: {all:?}");
    assert!(kept > 0 || !kind.persists() || !fired, "{at}");
    let did = |record: &Value| record["facts"]["rewrapped"].as_str().is_some_and(|count| count != "0");
    // What the first intent asked for is there if its write was kept, or any part before it.
    if fired && kind.persists() {
        assert!(
            all.iter().any(|record| record["outcome"] == "done" && record["reason"] == "reconciled"),
            "{at}: {all:?}"
        );
    }
    if fired && !kind.persists() {
        let told = first.iter().all(|record| record["outcome"] == "failed") || all.iter().any(|record| did(record));
        assert!(told, "{at}: {first:?}");
    }
}

/// One test for each, so that they run side by side and a failure names its verb.
macro_rules! of_one_write {
    ($($name:ident: $verb:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let (place, values) = small().await;
            assert_eq!(each_write(Verb::$verb, &place, &values).await, 1);
        })*
    };
}

of_one_write! {
    creating_survives_its_write: Create;
    rotating_survives_its_write: Rotate;
    configuring_survives_its_write: Configure;
    suspending_survives_its_write: Suspend;
    resuming_survives_its_write: Resume;
    deactivating_survives_its_write: Deactivate;
    compromising_survives_its_write: Compromise;
    scheduling_a_destruction_survives_its_write: Schedule;
    cancelling_a_destruction_survives_its_write: Cancel;
    destroying_survives_its_write: Destroy;
    retiring_a_kek_survives_its_write: RetireKek;
    making_a_partition_survives_its_write: Make;
    shredding_survives_its_write: Shred;
}

#[tokio::test]
async fn rewrapping_every_key_survives_each_of_its_writes() {
    let (place, values) = small().await;
    let sidecar = place.start().await;
    for n in 0..MANY {
        let made = sidecar.ask(Operation::CreateKeyring(creation(&format!("k{n}"), false))).await;
        assert!(matches!(made, Answer::Keyring(_)), "{}", told(&made));
    }
    sidecar.stop();
    assert_eq!(each_write(Verb::RewrapKeys, &place, &values).await, 2);
}

#[tokio::test]
async fn rewrapping_partitions_survives_each_of_its_writes() {
    let place = Place::founded().await;
    let sidecar = place.start().await;
    let made = sidecar.ask(Operation::CreateKeyring(creation("wards", true))).await;
    assert!(matches!(made, Answer::Keyring(_)), "{}", told(&made));
    let values = Values::sealed(&sidecar).await;
    sidecar.stop();
    let sidecar = place.start().await;
    let names: Vec<String> = (0..MANY).map(|n| format!("patient {n}")).collect();
    for names in names.chunks(MANY / 2) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(matches!(sidecar.ask(sealing("charts", &names)).await, Answer::Sealed(_)));
    }
    rotate(&sidecar, "charts").await;
    sidecar.stop();
    assert_eq!(each_write(Verb::RewrapPartitions, &place, &values).await, 2);
}
