//! Minutes are verified from the file and the roster alone, and an edit of anything in them is named.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::ceremony::minutes::{LogProof, Minutes, Pinned, ProvenRecord, Report, Step, verify};
use keyward::ceremony::{Action, Ceremony, Event, Outcome};
use keyward::clock::Wall;
use keyward::policy::approval::Word;
use keyward::policy::roster::{Revocation, Roster};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::documents::changed;
use crate::ceremonies::{DAY, DESTROY, NOW, PEOPLE, ROTATE, Stage, token};

/// A log of which every record is kept.
struct Log {
    key: Ed25519KeyPair,
    records: Vec<String>,
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, &parts.concat()).as_ref().try_into().unwrap()
}

impl Log {
    fn new() -> Self {
        let records = (0..5).map(|index| format!("{{\"index\":{index}}}")).collect();
        Self { key: Ed25519KeyPair::from_seed_unchecked(&[42; 32]).unwrap(), records }
    }

    /// RFC 6962, section 2.1, by its definition.
    fn root(&self, from: usize, to: usize) -> [u8; 32] {
        if to - from == 1 {
            return sha256(&[&[0], self.records[from].as_bytes()]);
        }
        let half = (to - from).next_power_of_two() / 2;
        sha256(&[&[1], &self.root(from, from + half), &self.root(from + half, to)])
    }

    fn path(&self, index: usize, from: usize, to: usize) -> Vec<String> {
        if to - from == 1 {
            return Vec::new();
        }
        let middle = from + (to - from).next_power_of_two() / 2;
        let (mut path, beside) = if index < middle {
            (self.path(index, from, middle), self.root(middle, to))
        } else {
            (self.path(index, middle, to), self.root(from, middle))
        };
        path.push(hex::encode(beside));
        path
    }

    fn id(&self) -> Vec<u8> {
        sha256(&[b"keyward/log\n", &[1], self.key.public_key().as_ref()])[..4].to_vec()
    }

    fn proof(&self, records: &[usize]) -> LogProof {
        let size = self.records.len();
        let text = format!("keyward/log\n{size}\n{}\n", STANDARD.encode(self.root(0, size)));
        let signature = [self.id(), self.key.sign(text.as_bytes()).as_ref().to_vec()].concat();
        let typed = [&[1], self.key.public_key().as_ref()].concat();
        let record = |index: &usize| ProvenRecord {
            index: u64::try_from(*index).unwrap(),
            record: self.records[*index].clone(),
            path: self.path(*index, 0, size),
        };
        LogProof {
            key: format!("keyward/log+{}+{}", hex::encode(self.id()), STANDARD.encode(typed)),
            checkpoint: format!("{text}\n\u{2014} keyward/log {}\n", STANDARD.encode(signature)),
            consistency: Vec::new(),
            records: records.iter().map(record).collect(),
        }
    }
}

/// Minutes of a destruction, with the export that they are verified by.
fn played() -> (String, String, Stage) {
    played_by(Stage::new())
}

pub(super) fn played_by(mut stage: Stage) -> (String, String, Stage) {
    let mut log = Log::new();
    stage.log.root = log.root(0, 5);
    let it = stage.propose(Action::KeyDestroy, DESTROY, "kim");
    stage.pass(1_000_000);
    let it = stage.decide(&it, Word::Approve, "alice").unwrap();
    stage.pass(1_000_000);
    let it = stage.decide(&it, Word::Approve, "bob").unwrap();
    stage.pass(DAY + 7);
    let it = stage.start(&it).unwrap();
    stage.pass(5);
    let step =
        Step { name: "schedule".into(), at: stage.now, result: "done".into(), output: "0123456789abcdef".into() };
    let it = stage.step(&it, Event::Finish { outcome: Outcome::Executed, why: None }).unwrap();
    let minutes = Minutes::new(&it, vec![step], &stage.roster, &stage.separation, None);
    let minutes = proven(minutes, &it, &mut log);
    (minutes.canonical(), export(&stage), stage)
}

/// A record of the log about a ceremony, as keyward writes it as far as it counts here.
fn said(index: usize, event: &str, outcome: &str, facts: Value, intent: Option<usize>) -> String {
    let actor = if event == "ceremony.minuted" { "sidecar" } else { "custodian" };
    let mut record =
        json!({ "actor": { "kind": actor }, "event": event, "facts": facts, "index": index, "outcome": outcome });
    if let Some(intent) = intent {
        record["intent"] = json!(intent);
    }
    record.to_string()
}

fn proven(minutes: Minutes, it: &Ceremony, log: &mut Log) -> Minutes {
    let id = it.proposal().ceremony.to_string();
    let facts = json!({ "ceremony": id, "proposal": hex::encode(it.digest()) });
    log.records.push(said(5, "ceremony.proposed", "done", facts.clone(), None));
    log.records.push(said(6, "ceremony.decided", "done", facts.clone(), None));
    log.records.push(said(7, "ceremony.decided", "done", facts.clone(), None));
    // The intent is the ninth record.
    if it.executing().is_some() {
        log.records.push(said(8, "key.destroy_scheduled", "intent", facts.clone(), None));
        log.records.push(said(9, "key.destroy_scheduled", "done", facts, Some(8)));
    }
    let closing = json!({ "ceremony": id, "minutes": hex::encode(minutes.digest()) });
    log.records.push(said(log.records.len(), "ceremony.minuted", "done", closing, None));
    let last = log.records.len();
    log.records.push("{}".to_owned());
    minutes.with_log(log.proof(&(5..last).collect::<Vec<_>>()))
}

#[test]
fn cer_20_what_others_wrote_into_a_record_is_not_what_keyward_says() {
    let (minutes, export, _) = played();
    let made: Value = serde_json::from_str(&minutes).unwrap();
    let it = Ceremony::parse(made["ceremony"].as_str().unwrap()).unwrap();
    let (id, digest) = (it.proposal().ceremony.to_string(), hex::encode(Minutes::parse(&minutes).unwrap().digest()));
    let facts = json!({ "ceremony": id, "proposal": hex::encode(it.digest()) });
    let other = json!({ "ceremony": id, "proposal": "ab".repeat(32) });
    let minuted = json!({ "ceremony": id, "minutes": digest });
    let decided = |index| said(index, "ceremony.decided", "done", facts.clone(), None);
    let whole = vec![
        said(5, "ceremony.proposed", "done", facts.clone(), None),
        decided(6),
        decided(7),
        said(8, "key.destroy_scheduled", "intent", facts.clone(), None),
        said(9, "key.destroy_scheduled", "done", facts.clone(), Some(8)),
        said(10, "ceremony.minuted", "done", minuted.clone(), None),
    ];
    let with = |records: Vec<String>| {
        let mut log = Log::new();
        let last = 5 + records.len();
        log.records.extend(records);
        log.records.push("{}".to_owned());
        let proof = log.proof(&(5..last).collect::<Vec<_>>());
        changed(&minutes, "/log", serde_json::to_value(proof).unwrap())
    };
    let report = look(&with(whole.clone()), &export);
    assert!(report.is_ok(), "{:#?}", report.checks);
    // The digest as the id of a request, or as a ticket, which whoever asks chooses.
    let mut as_request: Value = serde_json::from_str(&decided(10)).unwrap();
    as_request["request"] = json!(digest);
    let as_ticket = json!({ "ceremony": id, "ticket": digest });
    for (index, record, check) in [
        (10, as_request.to_string(), "log_minutes"),
        (10, said(10, "ceremony.minuted", "done", as_ticket, None), "log_minutes"),
        (10, said(10, "ceremony.minuted", "done", minuted, None).replace("sidecar", "custodian"), "log_minutes"),
        (5, said(5, "ceremony.proposed", "done", other.clone(), None), "log_proposal"),
        (5, said(5, "ceremony.proposed", "refused", facts.clone(), None), "log_proposal"),
        (7, said(7, "ceremony.proposed", "done", facts.clone(), None), "log_proposal"),
        (8, said(8, "key.destroy_scheduled", "intent", other, None), "once"),
        (9, said(9, "key.destroy_scheduled", "failed", facts.clone(), Some(8)), "once"),
        (9, said(9, "ceremony.decided", "done", facts.clone(), Some(8)), "once"),
        (7, said(7, "key.destroy_scheduled", "done", facts.clone(), Some(8)), "once"),
        (7, said(6, "ceremony.decided", "done", facts.clone(), None), "log"),
    ] {
        let mut records = whole.clone();
        records[index - 5] = record;
        assert_eq!(look(&with(records.clone()), &export).failed(), [check], "{records:#?}");
    }
}

fn export(stage: &Stage) -> String {
    let digest = stage.roster.digest();
    let genesis = PEOPLE.iter().map(|person| {
        let statement = Roster::statement(&digest, &person.parse().unwrap());
        json!({"person": person, "signature": token(person).sign(stage.namespace(), &statement, 1)})
    });
    json!({
        "schema": 1,
        "store": stage.roster.store,
        "environment": stage.roster.environment,
        "rosters": [stage.roster.canonical()],
        "genesis": genesis.collect::<Vec<_>>(),
        "separations": [stage.separation.text()],
    })
    .to_string()
}

fn look(minutes: &str, export: &str) -> Report {
    verify(minutes, export, &Pinned::default())
}

#[test]
fn cer_18_minutes_of_a_destruction_verify_offline_and_read_well() {
    let (minutes, export, stage) = played();
    let report = look(&minutes, &export);
    assert!(report.is_ok(), "{:#?}", report.checks);
    let genesis = hex::encode(stage.roster.digest());
    let pinned = Pinned { genesis: Some(&genesis), log_key: None, now: Some(Wall(stage.now)) };
    assert!(verify(&minutes, &export, &pinned).is_ok());
    let other = "00".repeat(32);
    let wrong = Pinned { genesis: Some(&other), log_key: Some("other+00000000+AA=="), now: Some(Wall(NOW)) };
    assert_eq!(verify(&minutes, &export, &wrong).failed(), ["genesis", "log_key", "present"]);
    let minutes = Minutes::parse(&minutes).unwrap();
    let (text, html) = (minutes.text(), minutes.html());
    for shown in ["DESTROY version 0123456789abcdef", "alice", "line of sofia", "key in a token", "Quorum met"] {
        assert!(text.contains(shown) && html.contains(shown), "{shown}: {text}");
    }
    assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"));
}

#[test]
fn cer_19_any_leaf_of_the_minutes_that_is_edited_fails_a_check() {
    let (minutes, export, _) = played();
    let mut leaves = Vec::new();
    walk(&serde_json::from_str(&minutes).unwrap(), "", &mut leaves);
    assert!(leaves.len() > 60, "{leaves:?}");
    for pointer in leaves {
        let value: Value = serde_json::from_str(&minutes).unwrap();
        let edited = match value.pointer(&pointer).unwrap() {
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            Value::String(text) => json!(flipped(text)),
            other => panic!("{other}"),
        };
        let report = look(&changed(&minutes, &pointer, edited), &export);
        assert!(!report.failed().is_empty(), "{pointer}");
    }
}

#[test]
fn a_byte_of_the_minutes_that_is_edited_fails_a_check() {
    let (minutes, export, _) = played();
    for at in (0..minutes.len()).filter(|at| at % 23 == 5) {
        let mut bytes = minutes.clone().into_bytes();
        bytes[at] = if bytes[at] == b'7' { b'3' } else { b'7' };
        if let Ok(edited) = String::from_utf8(bytes) {
            assert!(!look(&edited, &export).is_ok(), "byte {at}");
        }
    }
}

#[test]
fn cer_22_what_could_not_have_happened_is_named_even_where_the_log_agrees() {
    let (minutes, export, stage) = played();
    let document = Minutes::parse(&minutes).map(|_| serde_json::from_str::<Value>(&minutes).unwrap()).unwrap();
    let body = document["ceremony"].as_str().unwrap();
    let check = |pointer: &str, to: Value, failed: &str| {
        let it = Ceremony::parse(&changed(body, pointer, to)).unwrap();
        let mut log = Log::new();
        let steps = Vec::new();
        let made = Minutes::new(&it, steps, &stage.roster, &stage.separation, None);
        let report = look(&proven(made, &it, &mut log).canonical(), &export);
        assert!(report.failed().contains(&failed), "{pointer}: {:?}", report.failed());
    };
    // Before it had cooled off; by somebody's signature that is another's; at a time when nothing was met.
    check("/executing/at", json!(NOW + DAY), "history");
    check("/opened/counted", json!(1), "history");
    check("/met/wall", json!(NOW + 1_000_000), "history");
    let decisions = serde_json::from_str::<Value>(body).unwrap()["decisions"].clone();
    check("/decisions/2/signature", decisions[1]["signature"].clone(), "signatures");
    let fewer = json!([decisions[0], decisions[2]]);
    check("/decisions", fewer, "quorum");
    check("/executing/intent", json!(4), "once");
    // Executed years later.
    let late: Value = json!({"at": NOW + 400 * DAY, "by": "kim", "kind": "executed"});
    let it = Ceremony::parse(&changed(&changed(body, "/end", late), "/executing/at", json!(NOW + 399 * DAY))).unwrap();
    let made = Minutes::new(&it, Vec::new(), &stage.roster, &stage.separation, None);
    assert!(look(&made.canonical(), &export).failed().contains(&"history"));
}

#[test]
fn minutes_of_a_ceremony_that_came_to_nothing_verify_too() {
    for word in [Some(Word::Deny), Some(Word::Withdraw), None] {
        let (mut stage, mut log) = (Stage::new(), Log::new());
        stage.log.root = log.root(0, 5);
        let it = stage.propose(Action::KeyDestroy, DESTROY, "kim");
        let it = stage.decide(&it, Word::Approve, "alice").unwrap();
        let it = match word {
            Some(word) => stage.decide(&it, word, if word == Word::Deny { "bob" } else { "kim" }).unwrap(),
            None => {
                stage.policy = "ee".repeat(32);
                stage.step(&it, Event::Observe).unwrap()
            }
        };
        let minutes = Minutes::new(&it, Vec::new(), &stage.roster, &stage.separation, None);
        let report = look(&proven(minutes, &it, &mut log).canonical(), &export(&stage));
        assert!(report.is_ok(), "{word:?}: {:#?}", report.checks);
    }
}

#[test]
fn cer_20_a_record_that_the_log_has_not_or_of_another_ceremony_proves_nothing() {
    let (minutes, export, mut stage) = played();
    let made = Minutes::parse(&minutes).unwrap();
    let it = stage.propose(Action::KeyringRotate, ROTATE, "kim");
    let mut log = Log::new();
    let foreign = proven(made.clone(), &it, &mut log).canonical();
    assert!(look(&foreign, &export).failed().contains(&"log"));
    for (pointer, to) in [
        ("/log/records/0/path/0", json!("00".repeat(32))),
        ("/log/records/0/record", json!("{}")),
        ("/log/records/0/index", json!(4)),
        ("/log/records", json!([])),
    ] {
        assert!(!look(&changed(&minutes, pointer, to), &export).is_ok(), "{pointer}");
    }
    let mut without: Value = serde_json::from_str(&minutes).unwrap();
    without.as_object_mut().unwrap().remove("log");
    assert_eq!(look(&keyward::policy::json::canonical(&without), &export).failed(), ["log"]);
}

#[test]
fn cer_21_an_export_whose_chain_or_founders_do_not_hold_is_refused() {
    let (minutes, export, stage) = played();
    let second = Roster { generation: 2, previous: Some(stage.roster.digest()), ..stage.roster.clone() };
    let both = json!([stage.roster.canonical(), second.canonical()]);
    assert!(look(&minutes, &changed(&export, "/rosters", both)).is_ok());
    // Later it turns out that alice's key had been revoked before she signed with it.
    let mut later = second.clone();
    let revoked = Revocation { at: Wall(NOW + 1), reason: "lost".to_owned(), by: "carol".parse().unwrap() };
    later.members[0].credentials[0].revoked = Some(revoked);
    let rosters = json!([stage.roster.canonical(), later.canonical()]);
    assert_eq!(look(&minutes, &changed(&export, "/rosters", rosters)).failed(), ["revoked"]);
    let third = Roster { generation: 3, ..second };
    for (pointer, to, failed) in [
        ("/rosters", json!([stage.roster.canonical(), third.canonical()]), "roster"),
        ("/rosters", json!([]), "roster"),
        ("/genesis/0/person", json!("bob"), "roster"),
        ("/genesis", json!([]), "roster"),
        ("/store", json!("00".repeat(16)), "roster"),
        ("/schema", json!(2), "roster"),
        ("/separations", json!([]), "separation"),
    ] {
        let report = look(&minutes, &changed(&export, pointer, to));
        assert!(report.failed().contains(&failed), "{pointer}: {:?}", report.failed());
    }
}

/// Another text of the same length, which differs in one character that the spelling allows as far as possible.
fn flipped(text: &str) -> String {
    let at = text.len() / 2;
    let at = (at..text.len()).find(|at| text.as_bytes()[*at].is_ascii_alphanumeric()).unwrap_or(0);
    let mut bytes = text.as_bytes().to_vec();
    match bytes.get_mut(at) {
        Some(byte @ b'0'..=b'8') => *byte += 1,
        Some(byte) => *byte = if *byte == b'a' { b'b' } else { b'a' },
        None => bytes.push(b'a'),
    }
    String::from_utf8(bytes).unwrap()
}

fn walk(value: &Value, pointer: &str, leaves: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| walk(member, &format!("{pointer}/{key}"), leaves));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{pointer}/{index}"), leaves));
        }
        _ => leaves.push(pointer.to_owned()),
    }
}
