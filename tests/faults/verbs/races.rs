//! Two sidecars, each with a log of its own, are asked for one thing at the same moment: one result, and whoever was second
//! is told so clearly. Both know the same afterwards, and so does whoever starts then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keyward::keyring::{KeyState, StoreHead};
use keyward::service::{Answer, Code};

use super::place::{Place, Sidecar, sealing, told};
use super::{Values, Verb, finish};

/// Of a statement, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the second one may be told.
const CLEAR: [Code; 5] = [Code::Conflict, Code::KeyState, Code::KeyringExists, Code::InUse, Code::NotDue];

/// Two verbs that meet, and how many of the two may be told that they were done.
const MEETINGS: [(Verb, Verb, std::ops::RangeInclusive<usize>); 15] = [
    (Verb::Create, Verb::Create, 1..=1),
    (Verb::Rotate, Verb::Rotate, 1..=1),
    (Verb::Configure, Verb::Configure, 2..=2),
    (Verb::Suspend, Verb::Rotate, 1..=2),
    (Verb::Suspend, Verb::Deactivate, 1..=2),
    (Verb::Compromise, Verb::Schedule, 1..=2),
    (Verb::Schedule, Verb::Schedule, 1..=1),
    (Verb::Cancel, Verb::Cancel, 1..=1),
    (Verb::Destroy, Verb::Destroy, 1..=1),
    (Verb::Destroy, Verb::Cancel, 1..=1),
    (Verb::RewrapKeys, Verb::RewrapKeys, 2..=2),
    (Verb::RetireKek, Verb::RetireKek, 2..=2),
    (Verb::Make, Verb::Make, 2..=2),
    (Verb::Shred, Verb::Shred, 2..=2),
    (Verb::RewrapPartitions, Verb::RewrapPartitions, 2..=2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_of_a_file_that_meet_at_a_verb_have_one_result() {
    let place = Place::founded().await;
    let sidecar = place.start().await;
    let values = Values::sealed(&sidecar).await;
    sidecar.stop();
    for (one, two, wins) in MEETINGS {
        meet((one, two), wins, &place.copy(), &values).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_of_a_database_that_meet_at_a_verb_have_one_result() {
    for (one, two, wins) in MEETINGS {
        let place = Place::founded_in_postgresql(PATIENCE).await;
        let sidecar = place.start().await;
        let values = Values::sealed(&sidecar).await;
        sidecar.stop();
        meet((one, two), wins, &place, &values).await;
    }
}

async fn meet((a, b): (Verb, Verb), wins: std::ops::RangeInclusive<usize>, place: &Place, values: &Values) {
    let at = format!("{a:?} meets {b:?}");
    let before = if b == Verb::Cancel { b } else { a };
    if a == Verb::Destroy { Verb::Destroy } else { before }.prepare(place).await;
    let other = place.peer().await;
    let _passing = place.let_time_pass();
    let (one, two) = (place.start().await, other.start().await);
    let asked = [a.operation(&one, None).await, b.operation(&two, None).await];
    let [first, second] = asked;
    let (first, second) = tokio::join!(one.ask(first), two.ask(second));
    let mut done = 0;
    for answer in [&first, &second] {
        match answer {
            Answer::Refused(refusal) => assert!(CLEAR.contains(&refusal.code), "{at}: {refusal:?}"),
            Answer::Sealed(sealed) => done += usize::from(sealed.iter().all(Result::is_ok)),
            _ => done += 1,
        }
    }
    assert!(wins.contains(&done), "{at}: {} and {}", told(&first), told(&second));
    let shredded = |answer: &Answer| matches!(answer, Answer::Shredded(done) if !done.shredded.before);
    if a == Verb::Shred {
        assert!(shredded(&first) != shredded(&second), "{at}: one of them did it");
    }
    if let (Answer::PartitionsRewrapped { done: by_one, .. }, Answer::PartitionsRewrapped { done: by_two, .. }) =
        (&first, &second)
    {
        assert_eq!(by_one + by_two, 2, "{at}");
    }
    agree(&at, [&one, &two], place, values, [a, b]).await;
    one.stop();
    two.stop();
}

/// The same keyrings, one active version at most, whole values, and no intent without its outcome.
async fn agree(at: &str, sidecars: [&Sidecar; 2], place: &Place, values: &Values, verbs: [Verb; 2]) {
    for sidecar in sidecars {
        sidecar.keyrings.catch_up().await.unwrap();
        assert_eq!(sidecar.keyrings.damage(), None, "{at}");
        let records = sidecar.records();
        let open = |(index, record): &&(u64, serde_json::Value)| {
            record["outcome"] == "intent" && !records.iter().any(|(_, other)| other["intent"] == *index)
        };
        assert_eq!(records.iter().find(open), None, "{at}");
    }
    let late = place.peer().await;
    let late = late.start().await;
    let heads: Vec<Option<StoreHead>> =
        sidecars.iter().chain(&[&late]).map(|sidecar| sidecar.keyrings.head()).collect();
    assert!(heads.windows(2).all(|pair| pair[0] == pair[1]), "{at}: {heads:?}");
    for keyring in ["patients", "charts"] {
        let view = late.view(keyring).await;
        for sidecar in sidecars {
            assert_eq!(sidecar.view(keyring).await, view, "{at}");
        }
        let active = view.versions.iter().filter(|version| version.state == KeyState::Active).count();
        assert!(active <= 1, "{at}: {view:?}");
    }
    for (patient, value) in &values.0 {
        let said: Vec<_> = [late.open(patient, value).await, sidecars[0].open(patient, value).await].into();
        assert_eq!(said[0], said[1], "{at}: {patient}");
        let withheld = verbs.iter().any(|verb| verb.withholds(patient, true) || verb.withholds(patient, false));
        assert!(withheld || said[0].as_deref() == Ok(*patient), "{at}: {said:?}");
    }
    late.stop();
}

/// Sidecars that make partitions as fast as they can.
struct Makers {
    enough: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    at_work: Vec<tokio::task::JoinHandle<()>>,
}

impl Makers {
    async fn start(place: &Place, makers: usize) -> Self {
        let (enough, made, mut at_work) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Vec::new());
        for maker in 0..makers {
            let peer = place.peer().await;
            let sidecar = peer.start().await;
            let (enough, made) = (Arc::clone(&enough), Arc::clone(&made));
            at_work.push(tokio::spawn(async move {
                for number in 0.. {
                    if enough.load(Ordering::Relaxed) {
                        sidecar.stop();
                        return drop(peer);
                    }
                    let sealed = sidecar.seal("charts", &format!("patient {maker} {number}")).await;
                    made.fetch_add(u64::from(sealed.is_ok()), Ordering::Relaxed);
                }
            }));
        }
        Self { enough, made, at_work }
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    async fn end(self) {
        assert_ne!(self.made(), 0, "there was no race");
        self.enough.store(true, Ordering::Relaxed);
        for maker in self.at_work {
            maker.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compromise_is_not_starved_by_a_fleet_that_makes_partitions_without_a_pause() {
    let place = Place::founded_in_postgresql(PATIENCE).await;
    let one = place.start().await;
    Values::sealed(&one).await;
    let _passing = place.let_time_pass();
    let makers = Makers::start(&place, 7).await;
    for _ in 0..12 {
        finish(&one, Verb::Suspend).await;
        finish(&one, Verb::Resume).await;
    }
    finish(&one, Verb::Compromise).await;
    makers.end().await;
    one.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_of_a_database_is_admitted_while_its_peers_make_partitions_without_a_pause() {
    is_admitted_meanwhile(&Place::founded_in_postgresql(PATIENCE).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_of_a_file_is_admitted_while_its_peers_make_partitions_without_a_pause() {
    is_admitted_meanwhile(&Place::founded().await).await;
}

/// So many that reading them takes longer than making one.
async fn is_admitted_meanwhile(place: &Place) {
    let one = place.start().await;
    Values::sealed(&one).await;
    for page in 0..8 {
        let patients: Vec<String> = (0..500).map(|n| format!("old patient {page} {n}")).collect();
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        assert!(matches!(one.ask(sealing("charts", &patients)).await, Answer::Sealed(_)));
    }
    let _passing = place.let_time_pass();
    let late = place.peer().await;
    let makers = Makers::start(place, 3).await;
    for _ in 0..4 {
        let before = makers.made();
        let admitted = late.start().await;
        assert!(makers.made() > before, "nothing changed meanwhile");
        admitted.keyrings.catch_up().await.unwrap();
        let sealed = admitted.seal("charts", "old patient 3 3").await.unwrap();
        assert_eq!(admitted.open("old patient 3 3", &sealed).await.as_deref(), Ok("old patient 3 3"));
        admitted.stop();
    }
    makers.end().await;
    one.stop();
}
