//! The log over the machine's own disk: spelling, schema, reading back, budgets, refusals, heartbeats. What crashes do to
//! it is in tests/faults.
#![expect(clippy::disallowed_methods, reason = "the tests play whoever changes files behind the log's back")]

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, Deadline, ManualClock, Mono, Wall};
use crate::durable::Disk;
use crate::identity::JwtSubject;
use crate::names::StoreId;

const NEVER: Deadline = Deadline(Mono(u64::MAX));

fn settings(dir: &std::path::Path) -> Settings {
    Settings {
        dir: dir.join("audit"),
        durability: Durability::Synced,
        disk_budget: 1 << 30,
        heartbeat: Duration::from_secs(60),
        refusals_per_second: 2,
    }
}

fn founding() -> Founding {
    Founding { store: StoreId([0xab; 16]), environment: "development", store_key_check: [1; 16] }
}

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Wall(1_795_000_000_000_000))
}

fn found(settings: &Settings, clock: &Arc<ManualClock>) -> Log {
    Log::create(settings, &founding(), clock.clone(), &Disk::real(), Limits::default()).unwrap()
}

fn service(name: &str) -> Actor {
    Actor::Principal { name: name.parse().unwrap(), kind: PrincipalKind::Service, proof: Proof::Peer { uid: 1000 } }
}

fn record(event: Event) -> Record {
    Record { actor: service("portal"), source: Source::DataSocket, ..keeper::own(event) }
}

/// A record with every field that there is.
fn full() -> Record {
    let group = Group {
        keyring: "default/patients".parse().unwrap(),
        version: Some(KeyVersionId([7; 8])),
        done: 3,
        failed: vec![("cannot_open", 2), ("bad_value", 1)],
    };
    Record {
        reason: Some("partly_failed"),
        request: Some("req-1".parse().unwrap()),
        purpose: Some(Purpose::Treatment),
        groups: vec![group],
        orphans: vec![("unknown_key", 1)],
        subjects: vec![[2; 16], [1; 16], [2; 16]],
        items_digest: Some([3; 32]),
        policy: Some([4; 32]),
        facts: vec![("kek_model", "Model \"X\" \\ 2".to_owned()), ("kek", "primary".to_owned())],
        ..record(Event::DataOpened)
    }
}

fn texts(log: &Log) -> Vec<String> {
    let all = log.read(0, usize::MAX).unwrap();
    all.into_iter().map(|(_, record)| String::from_utf8(record).unwrap()).collect()
}

#[tokio::test]
async fn a_full_record_is_spelt_as_the_format_says() {
    let dir = tempfile::tempdir().unwrap();
    let log = found(&settings(dir.path()), &clock());
    let receipt = log.append(full(), "outcome", NEVER).await.unwrap();
    assert_eq!((receipt.index(), receipt.into_outcome()), (2, "outcome"));
    assert_eq!(
        texts(&log)[2],
        [
            r#"{"actor":{"kind":"service","name":"portal","proof":"peer","uid":1000},"clock":"unverified","#,
            r#""event":"data.opened","facts":{"kek":"primary","kek_model":"Model \"X\" \\ 2"},"#,
            r#""groups":[{"done":3,"failed":{"bad_value":1,"cannot_open":2},"keyring":"default/patients","#,
            r#""version":"0707070707070707"}],"index":2,"#,
            r#""items_digest":"0303030303030303030303030303030303030303030303030303030303030303","#,
            r#""orphans":{"unknown_key":1},"outcome":"done","#,
            r#""policy":"0404040404040404040404040404040404040404040404040404040404040404","purpose":"TREAT","#,
            r#""reason":"partly_failed","request":"req-1","schema":1,"source":"data-socket","#,
            r#""subjects":["01010101010101010101010101010101","02020202020202020202020202020202"],"#,
            r#""time":1795000000000000}"#
        ]
        .concat()
    );
}

/// LOG-10, LOG-22: the schema that is shipped accepts every kind of record and nothing beside it.
#[tokio::test]
async fn every_kind_of_record_fits_the_shipped_schema() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("record.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = found(&settings(dir.path()), &clock);
    for event in Event::ALL {
        for outcome in [Outcome::Done, Outcome::Refused, Outcome::Denied, Outcome::Failed] {
            if (*event, outcome) == (Event::LogKeyRotated, Outcome::Done) {
                continue;
            }
            let _receipt = log.append(Record { outcome, ..record(*event) }, (), NEVER).await.unwrap();
        }
    }
    log.rotate_key(full(), Duration::from_secs(60), NEVER).await.unwrap();
    let intent = log.intent(record(Event::KeyCreated), NEVER).await.unwrap();
    let closing = Record { intent: Some(intent.index()), ..record(Event::KeyCreated) };
    let _receipt = log.append(closing, (), NEVER).await.unwrap();
    let many = Record { subjects: (0..2500u16).map(subject).collect(), ..full() };
    let _receipt = log.append(many, (), NEVER).await.unwrap();
    for actor in [Actor::Unknown, Actor::Sidecar, token(), workload(), by_jwt()] {
        let _receipt = log.append(Record { actor, ..full() }, (), NEVER).await.unwrap();
    }
    for source in [
        Source::DataSocket,
        Source::DataTcp,
        Source::DataTls,
        Source::ControlSocket,
        Source::ControlTls,
        Source::Internal,
    ] {
        let _receipt = log.append(Record { source, ..full() }, (), NEVER).await.unwrap();
    }
    summarised(&log, &clock).await;
    let facts = FACTS.iter().map(|name| (*name, "x".to_owned())).collect();
    let _receipt = log.append(Record { facts, ..full() }, (), NEVER).await.unwrap();
    for text in texts(&log) {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Err(error) = validator.validate(&value) {
            panic!("{error}: {text}");
        }
        assert_eq!(serde_json::to_string(&value).unwrap(), text, "sorted and without spaces");
        let index = value["index"].as_u64().unwrap();
        assert!(view::read(text.as_bytes(), index).is_ok(), "what is written is read again: {text}");
        let mut other = value;
        other["free_text"] = "anything".into();
        assert!(!validator.is_valid(&other), "an unknown field is refused");
    }
}

fn subject(n: u16) -> [u8; 16] {
    let mut subject = [0; 16];
    subject[..2].copy_from_slice(&n.to_be_bytes());
    subject
}

fn token() -> Actor {
    Actor::Principal { name: "batch".parse().unwrap(), kind: PrincipalKind::Auditor, proof: Proof::Token }
}

fn workload() -> Actor {
    let proof = Proof::Mtls { spiffe: "spiffe://example.org/ns/a/sa/b".parse().unwrap() };
    Actor::Principal { name: "batch".parse().unwrap(), kind: PrincipalKind::Service, proof }
}

/// Its subject holds what JSON escapes.
fn by_jwt() -> Actor {
    let who = JwtSubject { provider: "cluster".parse().unwrap(), subject: "a \"b\" \\ c".into() };
    Actor::Principal { name: "ada".parse().unwrap(), kind: PrincipalKind::Custodian, proof: Proof::Jwt { who } }
}

async fn summarised(log: &Log, clock: &ManualClock) {
    let told = log.append_summarised(&Actor::Unknown, "no_permit", "told", NEVER);
    let moved = async {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    };
    let (told, ()) = tokio::join!(told, moved);
    assert_eq!(told.unwrap().into_outcome(), "told");
}

#[test]
fn the_schema_and_the_format_name_every_event_and_fact() {
    let format = include_str!("FORMAT.md");
    let schema: serde_json::Value = serde_json::from_str(include_str!("record.schema.json")).unwrap();
    let events: Vec<&str> = Event::ALL.iter().map(|event| event.name()).collect();
    let listed = schema["properties"]["event"]["enum"].as_array().unwrap();
    assert_eq!(listed.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>(), events);
    let facts = schema["properties"]["facts"]["properties"].as_object().unwrap();
    assert_eq!(facts.keys().map(String::as_str).collect::<Vec<_>>(), FACTS);
    let purposes = schema["properties"]["purpose"]["enum"].as_array().unwrap();
    assert_eq!(purposes.len(), Purpose::ALL.len());
    for name in events.iter().chain(FACTS) {
        assert!(format.contains(&format!("`{name}`")), "FORMAT.md does not list {name}");
    }
}

#[tokio::test]
async fn what_no_record_may_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = found(&settings(dir.path()), &clock());
    let wrong = [
        Record { facts: vec![("patient_name", "x".to_owned())], ..full() },
        Record { facts: vec![("kek", "Zo\u{eb}".to_owned())], ..full() },
        Record { facts: vec![("kek", "line\nbreak".to_owned())], ..full() },
        Record { facts: vec![("kek", "x".repeat(257))], ..full() },
        Record { facts: vec![("kek", "a".to_owned()), ("kek", "b".to_owned())], ..full() },
        Record { reason: Some("Free text!"), ..full() },
        Record { outcome: Outcome::Intent, ..full() },
        record(Event::LogKeyRotated),
        Record { intent: Some(0), ..full() },
    ];
    for record in wrong {
        let found = log.append(record.clone(), (), NEVER).await;
        assert!(matches!(found, Err(AppendError::Malformed(_))), "{record:?}");
    }
    assert_eq!(*log.committed().borrow(), 2);
}

/// LOG-13
#[tokio::test]
async fn many_subjects_and_groups_continue_in_the_same_frame() {
    let dir = tempfile::tempdir().unwrap();
    let log = found(&settings(dir.path()), &clock());
    let group =
        |n: usize| Group { keyring: format!("t{n}/k").parse().unwrap(), version: None, done: 1, failed: vec![] };
    let many =
        Record { subjects: (0..2500u16).map(subject).collect(), groups: (0..1500).map(group).collect(), ..full() };
    assert_eq!(log.append(many, (), NEVER).await.unwrap().index(), 2);
    let next = log.append(full(), (), NEVER).await.unwrap();
    let texts = texts(&log);
    let parts: Vec<serde_json::Value> =
        texts[2..texts.len() - 1].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(next.index(), 2 + u64::try_from(parts.len()).unwrap());
    let sum = |field: &str| parts.iter().filter_map(|p| p[field].as_array()).map(Vec::len).sum::<usize>();
    assert_eq!((sum("subjects"), sum("groups")), (2500, 1500));
    assert!(parts.iter().all(|p| p["parts"] == parts.len() && p["event"] == "data.opened"));
    assert!(parts.iter().enumerate().all(|(n, p)| p["part"] == n));
    let times: Vec<_> = parts.iter().map(|p| &p["time"]).collect();
    assert!(times.windows(2).all(|pair| pair[0] == pair[1]));
    let huge = Record { subjects: (0..65_000u32).map(|n| u128::from(n).to_be_bytes()).collect(), ..full() };
    assert_eq!(log.append(huge, (), NEVER).await.unwrap_err(), AppendError::TooLarge);
    log.drain().await.unwrap();
    verify::verify(&settings(dir.path()).dir, None, None, &mut |_| {}).unwrap();
}

/// LOG-23
#[tokio::test]
async fn a_silent_log_beats() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = found(&settings(dir.path()), &clock);
    let mut committed = log.committed();
    for beat in 3..6 {
        clock.advance(Duration::from_secs(60));
        committed.wait_for(|records| *records == beat).await.unwrap();
    }
    assert_eq!(texts(&log).iter().filter(|text| text.contains("log.heartbeat")).count(), 3);
    log.checkpointed().wait_for(|records| *records == 5).await.unwrap();
}

/// LOG-8
#[tokio::test]
async fn time_never_goes_back_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = found(&settings(dir.path()), &clock);
    clock.step_wall(Wall(1));
    let _receipt = log.append(full(), (), NEVER).await.unwrap();
    clock.step_wall(Wall(1_795_000_000_000_001));
    let _receipt = log.append(full(), (), NEVER).await.unwrap();
    let texts = texts(&log);
    assert!(texts[2].contains(r#""clock":"held""#) && texts[2].contains(r#""time":1795000000000000}"#));
    assert!(texts[3].contains(r#""clock":"unverified""#) && texts[3].contains(r#""time":1795000000000001}"#));
}

/// LOG-26
#[tokio::test]
async fn refusals_beyond_the_bucket_are_summarised_and_released_when_the_summary_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let log = found(&settings(dir.path()), &clock);
    let portal = service("portal");
    let admitted: Vec<_> = (0..3).map(|_| log.admit_refusal(&portal, "no_permit")).collect();
    assert_eq!(admitted, [Admission::Record, Admission::Record, Admission::Coalesce]);
    let held = (0..5).map(|n| {
        let (log, actor) = (log.clone(), if n < 3 { portal.clone() } else { Actor::Unknown });
        tokio::spawn(async move { log.append_summarised(&actor, "no_permit", n, NEVER).await })
    });
    let held: Vec<_> = held.collect();
    tokio::task::yield_now().await;
    assert_eq!(*log.committed().borrow(), 2, "nothing is recorded, and so nothing released, before the second is over");
    assert!(held.iter().all(|waiting| !waiting.is_finished()));
    clock.advance(Duration::from_secs(1));
    for waiting in held {
        assert_eq!(waiting.await.unwrap().unwrap().index(), 2);
    }
    let text = &texts(&log)[2];
    let denials = r#""denials":[{"actor":"(unknown)","count":2,"reason":"no_permit"},{"actor":"portal","count":3,"reason":"no_permit"}]"#;
    assert!(text.contains(denials) && text.contains("data.denied_summary"), "{text}");
}

/// LOG-25
#[tokio::test]
async fn a_full_budget_refuses_data_first_and_control_last() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { disk_budget: 100_000, ..settings(dir.path()) };
    let log = found(&settings, &clock());
    let intent = log.intent(record(Event::KeyCreated), NEVER).await.unwrap();
    let fill = async |event: Event| {
        for _ in 0..10_000 {
            if let Err(error) = log.append(record(event), (), NEVER).await {
                return error;
            }
        }
        panic!("never full")
    };
    assert_eq!(fill(Event::DataSealed).await, AppendError::Full);
    let health = log.health();
    assert!(health.nearly_full && (84_000..=85_000).contains(&health.used), "{health:?}");
    assert_eq!(health.state, State::Open);
    assert_eq!(fill(Event::KekUnreachable).await, AppendError::Full);
    assert!((94_000..=95_000).contains(&log.health().used));
    let closing = Record { intent: Some(intent.index()), ..record(Event::KeyCreated) };
    assert_eq!(log.append(closing, (), NEVER).await.unwrap_err(), AppendError::Full);
    let used: u64 = [settings.dir.clone(), settings.dir.join("wal")]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|facts| facts.is_file())
        .map(|facts| facts.len())
        .sum();
    assert!(log.health().used.abs_diff(used) < 1000, "{used} bytes on the disk");
}

/// LOG-24
#[tokio::test]
async fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = found(&settings, &clock);
    let again = || Log::open(&settings, clock.clone(), &Disk::real(), Limits::default());
    assert!(matches!(again(), Err(OpenError::Locked { .. })));
    let create = Log::create(&settings, &founding(), clock.clone(), &Disk::real(), Limits::default());
    assert!(matches!(create, Err(OpenError::Exists { .. })));
    drop(log);
    again().unwrap();
}

/// LOG-21
#[tokio::test]
async fn dangling_intents_are_found_at_the_next_start_and_closed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = found(&settings, &clock);
    let group = Group { keyring: "clinic/notes".parse().unwrap(), version: None, done: 0, failed: vec![] };
    let open = Record { groups: vec![group], request: Some("r1".parse().unwrap()), ..record(Event::KeyCreated) };
    let dangling = log.intent(open, NEVER).await.unwrap().index();
    let closed = log.intent(record(Event::KeyCreated), NEVER).await.unwrap().index();
    let _receipt = log.append(Record { intent: Some(closed), ..record(Event::KeyCreated) }, (), NEVER).await.unwrap();
    log.drain().await.unwrap();
    drop(log);
    let (log, opened) = Log::open(&settings, clock, &Disk::real(), Limits::default()).unwrap();
    let [found] = opened.dangling.as_slice() else { panic!("{:?}", opened.dangling) };
    assert_eq!((found.index, found.event.as_str(), found.request.as_deref()), (dangling, "key.created", Some("r1")));
    assert_eq!(found.keyring, Some("clinic/notes".parse().unwrap()));
    let closing = || Record { intent: Some(dangling), outcome: Outcome::Failed, ..record(Event::KeyCreated) };
    let _receipt = log.append(closing(), (), NEVER).await.unwrap();
    assert!(matches!(log.append(closing(), (), NEVER).await, Err(AppendError::Malformed(_))));
    log.drain().await.unwrap();
    assert_eq!(verify::verify(&settings.dir, None, None, &mut |_| {}).unwrap().open_intents, Vec::<u64>::new());
}

#[tokio::test]
async fn a_drained_log_refuses_records_and_its_checkpoint_covers_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = found(&settings, &clock);
    for _ in 0..10 {
        let _receipt = log.append(full(), (), NEVER).await.unwrap();
    }
    log.drain().await.unwrap();
    log.drain().await.unwrap();
    assert!(matches!(log.append(full(), (), NEVER).await, Err(AppendError::Closed(_))));
    assert!(matches!(log.append_summarised(&Actor::Unknown, "x", (), NEVER).await, Err(AppendError::Closed(_))));
    let verified = verify::verify(&settings.dir, Some(log.verifier_key()), None, &mut |_| {}).unwrap();
    assert_eq!((verified.records, verified.unproven_tail, verified.checkpoint.unwrap().size), (12, 0, 12));
}

#[tokio::test]
async fn a_passed_deadline_drops_the_outcome_and_keeps_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = found(&settings, &clock);
    let outcome = Arc::new(());
    let kept = Arc::downgrade(&outcome);
    let passed = Deadline(clock.mono());
    let told = log.append(full(), outcome, passed).await;
    log.drain().await.unwrap();
    match told {
        Err(AppendError::Deadline) => assert!(kept.upgrade().is_none(), "the outcome is gone"),
        // The writer was faster than the poll of the deadline; then the receipt is earned.
        Ok(receipt) => assert_eq!(receipt.index(), 2),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(texts(&log).len(), 3);
}

#[tokio::test]
async fn segments_follow_each_other_and_records_read_back_from_any_index() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let limits = Limits { segment_bytes: 4096, ..Limits::default() };
    let log = Log::create(&settings, &founding(), clock.clone(), &Disk::real(), limits).unwrap();
    for _ in 0..60 {
        let _receipt = log.append(full(), (), NEVER).await.unwrap();
    }
    let check = |log: &Log, records: u64| {
        for from in 0..records {
            let read = log.read(from, 3).unwrap();
            assert_eq!(
                read.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
                (from..records.min(from + 3)).collect::<Vec<_>>()
            );
            assert!(String::from_utf8(read[0].1.clone()).unwrap().contains(&format!(r#""index":{from},"#)));
        }
        assert!(log.read(records, 3).unwrap().is_empty());
    };
    check(&log, 62);
    drop(log);
    assert!(std::fs::read_dir(settings.dir.join("wal")).unwrap().count() > 5);
    let (log, opened) = Log::open(&settings, clock, &Disk::real(), limits).unwrap();
    assert_eq!((opened.next_index, opened.recovered.len()), (63, 0));
    check(&log, 63);
}

#[test]
fn a_directory_without_a_log_or_with_half_of_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let open = || Log::open(&settings, clock.clone(), &Disk::real(), Limits::default()).map(|_| ());
    assert!(matches!(open(), Err(OpenError::Missing { .. })));
    drop(found(&settings, &clock));
    std::fs::remove_file(settings.dir.join("checkpoint.pub")).unwrap();
    assert!(matches!(open(), Err(OpenError::Damaged(_))), "where a checkpoint stands there was a log");
    for name in ["checkpoint", "checkpoints"] {
        std::fs::remove_file(settings.dir.join(name)).unwrap();
    }
    assert!(matches!(open(), Err(OpenError::Unfinished { .. })));
}

#[test]
fn a_key_that_others_can_read_or_that_is_another_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    drop(found(&settings, &clock));
    let open = || Log::open(&settings, clock.clone(), &Disk::real(), Limits::default()).map(|_| ());
    let path = settings.dir.join("checkpoint.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(), Err(OpenError::Key(_))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let other = crate::crypto::SigningKey::generate_pkcs8().unwrap();
    std::fs::write(&path, other.expose()).unwrap();
    assert!(matches!(open(), Err(OpenError::Key(_))));
}

#[test]
fn a_newer_record_schema_and_frame_version_name_the_version_needed() {
    let newer = br#"{"schema":2,"sparkle":1}"#;
    let fault = view::read(newer, 0).unwrap_err();
    assert!(fault.rule == Rule::Schema && fault.detail.contains("schema 2 is newer than schema 1"), "{fault:?}");
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    drop(found(&settings, &clock));
    let path = settings.dir.join("wal/00000000000000000000.wal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 9;
    std::fs::write(&path, bytes).unwrap();
    let opened = Log::open(&settings, clock, &Disk::real(), Limits::default());
    assert!(matches!(opened, Err(OpenError::Newer { found: 9, known: 1, .. })));
}

#[tokio::test]
async fn an_unlinked_segment_closes_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = found(&settings, &clock);
    std::fs::remove_file(settings.dir.join("wal/00000000000000000000.wal")).unwrap();
    let told = log.append(full(), (), NEVER).await;
    assert!(matches!(&told, Err(AppendError::Closed(why)) if why.contains("unlinked")), "{told:?}");
    for _ in 0..500 {
        if matches!(log.health().state, State::Closed(_)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log says that it is open");
}

#[tokio::test]
async fn a_log_that_answers_from_the_page_cache_syncs_before_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let settings = Settings { durability: Durability::Written, ..settings(dir.path()) };
    let log = found(&settings, &clock);
    let _receipt = log.append(full(), (), NEVER).await.unwrap();
    let mut checkpointed = log.checkpointed();
    // The first tick asks for the sync, a later one covers what it synced.
    while *checkpointed.borrow_and_update() < 3 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    log.drain().await.unwrap();
    let verified = verify::verify(&settings.dir, None, None, &mut |_| {}).unwrap();
    assert_eq!(verified.unproven_tail, 0);
}
