//! What others say of an exported log: readers of the C2SP formats that are not ours, OpenSSL, and a script that was written
//! from the format document alone. Each must accept what keyward accepts, and name what keyward names.
#![allow(clippy::disallowed_methods, reason = "the tests play whoever changes files")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use keyward::audit::export::export;
use keyward::audit::prove::prove;
use keyward::audit::verify::{VerifyError, verify};
use keyward::audit::{
    Actor, Checkpoint, Durability, Event, Founding, Hash, Limits, Log, Origin, Outcome, Record, Settings, Source, Tree,
    VerifierKey,
};
use keyward::clock::{Clock, Deadline, ManualClock, Mono, Wall};
use keyward::crypto::{SigningKey, sha256};
use keyward::durable::Disk;
use keyward::names::StoreId;
use keyward::secret::SecretBytes;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Tile, TileHashReader, TileReader, check_record, prove_record, record_hash, tree_hash};

const NEVER: Deadline = Deadline(Mono(u64::MAX));

/// A log whose key was changed in the middle, exported.
struct Made {
    dir: tempfile::TempDir,
    founding: VerifierKey,
    newest: VerifierKey,
    size: u64,
}

fn record(request: &str) -> Record {
    Record {
        event: Event::DataSealed,
        outcome: Outcome::Done,
        reason: None,
        actor: Actor::Unknown,
        source: Source::DataSocket,
        request: Some(request.parse().unwrap()),
        purpose: None,
        groups: vec![],
        orphans: vec![],
        subjects: vec![],
        items_digest: None,
        policy: None,
        intent: None,
        facts: vec![("kek_model", "Model \"X\" \\ 2".to_owned())],
    }
}

async fn many(log: &Log, requests: std::ops::Range<u32>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in requests {
        let log = log.clone();
        tasks.spawn(async move { log.append(record(&format!("r{n}")), (), NEVER).await.map(drop).unwrap() });
    }
    while tasks.join_next().await.is_some() {}
}

impl Made {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            dir: dir.path().join("log"),
            durability: Durability::Synced,
            disk_budget: 1 << 30,
            heartbeat: Duration::from_secs(60),
            refusals_per_second: 100,
        };
        let founding = Founding { store: StoreId([7; 16]), environment: "development", store_key_check: [1; 16] };
        let clock = ManualClock::at(Wall(1_795_000_000_000_000));
        let clock: Arc<dyn Clock> = clock;
        let log = Log::create(&settings, &founding, clock, &Disk::real(), Limits::default()).unwrap();
        many(&log, 0..270).await;
        let rotated = log.rotate_key(record("rotation"), Duration::ZERO, NEVER).await.unwrap();
        many(&log, 270..600).await;
        log.drain().await.unwrap();
        let told = export(&settings.dir, &dir.path().join("out"), None, &Disk::real(), &mut |_| {}).unwrap();
        Self { dir, founding: rotated.old, newest: rotated.key, size: told.checkpoint.size }
    }

    fn out(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn checkpoint(&self) -> String {
        std::fs::read_to_string(self.out().join("checkpoint")).unwrap()
    }
}

/// The tiles of a directory, as the library asks for them.
struct Tiles<'a>(&'a Path);

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // The library names the height too, as the Go checksum database does.
        let path = |tile: &Tile| self.0.join(tile.path().replacen("tile/8/", "tile/", 1));
        Ok(tiles
            .iter()
            .map(|tile| std::fs::read(path(tile)).unwrap_or_else(|e| panic!("{}: {e}", tile.path())))
            .collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// LOG-14, LOG-27, LOG-29: a checkpoint and tiles that others read.
#[tokio::test]
async fn readers_that_are_not_ours_accept_checkpoint_tiles_and_proofs() {
    let made = Made::new().await;
    let note = Note::from_bytes(made.checkpoint().as_bytes()).unwrap();
    let verifier = StandardVerifier::new(&made.newest.to_text()).unwrap();
    assert_eq!(note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap().0.len(), 1);
    let old = StandardVerifier::new(&made.founding.to_text()).unwrap();
    assert!(note.verify(&VerifierList::new(vec![Box::new(old)])).is_err(), "its turn is over");
    let handover = std::fs::read(made.out().join("handovers")).unwrap();
    let both = [&made.founding, &made.newest].map(|key| {
        let verifier: Box<dyn signed_note::Verifier> = Box::new(StandardVerifier::new(&key.to_text()).unwrap());
        verifier
    });
    assert_eq!(Note::from_bytes(&handover).unwrap().verify(&VerifierList::new(both.into())).unwrap().0.len(), 2);

    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), (made.founding.origin().as_str(), made.size));
    let out = made.out();
    let (tiles, root) = (Tiles(&out), *checkpoint.hash());
    let reader = TileHashReader::new(made.size, root, &tiles);
    assert_eq!(tree_hash(made.size, &reader).unwrap(), root);
    let mut tree = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    for index in 0..made.size {
        let ours = prove(&out, index, None, &mut |_| {}).unwrap();
        let theirs = prove_record(made.size, index, &reader).unwrap();
        assert_eq!(theirs.iter().map(|hash| hash.0).collect::<Vec<_>>(), ours.path, "record {index}");
        check_record(&theirs, made.size, root, index, record_hash(&ours.record)).unwrap();
        tree.push(ours.record);
    }
    assert_eq!(tree.root().as_bytes().as_slice(), root.0);
    for index in [0, 255, 256, 602] {
        let ours = prove(&out, index, None, &mut |_| {}).unwrap();
        let digests: Vec<_> = ours.path.iter().map(|hash| sha2::digest::Output::<sha2::Sha256>::from(*hash)).collect();
        let proof = ct_merkle::InclusionProof::from_digests(digests.iter());
        tree.root().verify_inclusion(&ours.record, index, &proof).unwrap();
    }
}

/// LOG-14: what an auditor with a shell does.
#[tokio::test]
async fn openssl_verifies_the_signature_of_a_checkpoint() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let made = Made::new().await;
    let (note, at) = (made.checkpoint(), made.dir.path());
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let signature = STANDARD.decode(signatures.trim_end().rsplit(' ').next().unwrap()).unwrap();
    // RFC 8410: the key as a SubjectPublicKeyInfo.
    let spki = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], made.newest.public()].concat();
    std::fs::write(at.join("key.der"), spki).unwrap();
    std::fs::write(at.join("sig"), &signature[4..]).unwrap();
    let verifies = |text: &str| {
        std::fs::write(at.join("text"), text).unwrap();
        let args = "pkeyutl -verify -rawin -pubin -keyform DER -inkey key.der -in text -sigfile sig";
        Command::new("openssl").args(args.split(' ')).current_dir(at).output().unwrap().status.success()
    };
    assert!(verifies(&format!("{text}\n")));
    assert!(!verifies(&format!("{}\n", text.replacen(&made.size.to_string(), "999", 1))));
}

type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path, root: &Path, found: &mut Files) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap());
        }
    }
}

fn put(dir: &Path, files: &Files) {
    let _gone = std::fs::remove_dir_all(dir);
    for (path, bytes) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The verdict of the script: clause and record, or that all is well.
fn script(out: &Path, key: &Path, since: Option<&Path>) -> Result<(), (String, u64)> {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/verify.py")).arg(out).arg("--key").arg(key);
    if let Some(since) = since {
        command.arg("--since").arg(since);
    }
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    match done.status.code() {
        Some(0) => Ok(()),
        Some(1) => {
            let (clause, rest) = said.split_once(" record ").unwrap();
            Err((clause.to_owned(), rest.split(':').next().unwrap().parse().unwrap()))
        }
        code => panic!("{code:?}: {}", String::from_utf8_lossy(&done.stderr)),
    }
}

fn ours(out: &Path, key: &VerifierKey, since: Option<&str>) -> Result<(), (String, u64)> {
    match verify(out, Some(key), since, &mut |_| {}) {
        Ok(_) => Ok(()),
        Err(VerifyError::Broken(found)) => Err((found.rule.clause().to_owned(), found.index)),
        Err(other) => panic!("{other}"),
    }
}

/// All tiles made anew around some records: somebody with our code.
fn remade(records: &[Vec<u8>]) -> Files {
    let mut found = Files::new();
    let name = |kind: &str, index: usize, width: usize| {
        let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
        format!("tile/{kind}/{index:03}{partial}")
    };
    for (index, bundle) in records.chunks(256).enumerate() {
        let bytes = bundle.iter().flat_map(|r| [&u16::try_from(r.len()).unwrap().to_be_bytes()[..], r].concat());
        found.insert(name("entries", index, bundle.len()), bytes.collect());
    }
    let mut hashes: Vec<Hash> = records.iter().map(|record| sha256(&[&[0], record])).collect();
    for level in 0..2 {
        for (index, tile) in hashes.chunks(256).enumerate() {
            found.insert(name(&level.to_string(), index, tile.len()), tile.concat());
        }
        hashes = hashes.chunks_exact(256).map(root).collect();
    }
    found
}

fn root(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

/// A table of one good directory and many damaged ones: both verifiers say the same of each.
#[tokio::test]
async fn the_script_that_was_written_from_the_format_agrees_on_good_and_damaged_exports() {
    if Command::new("python3").arg("--version").output().is_err() {
        return;
    }
    let made = Made::new().await;
    let out = made.out();
    let mut whole = Files::new();
    files(&out, &out, &mut whole);
    let records: Vec<Vec<u8>> =
        (0..made.size).map(|index| prove(&out, index, None, &mut |_| {}).unwrap().record).collect();
    let pkcs8 = std::fs::read(made.dir.path().join("log/checkpoint.key")).unwrap();
    let signing = SigningKey::from_pkcs8(&SecretBytes::new(pkcs8)).unwrap();
    let signed = |records: &[Vec<u8>], origin: &Origin| {
        let hashes: Vec<Hash> = records.iter().map(|record| sha256(&[&[0], record])).collect();
        let size = records.len() as u64;
        Checkpoint { size, root: root(&hashes) }.sign(&signing, origin).into_bytes()
    };
    let (founding, newest) = (made.dir.path().join("founding"), made.dir.path().join("newest"));
    std::fs::write(&founding, made.founding.to_text() + "\n").unwrap();
    std::fs::write(&newest, made.newest.to_text() + "\n").unwrap();
    let since = made.dir.path().join("since");
    std::fs::write(&since, made.checkpoint()).unwrap();

    let agree = |what: &str, files: &Files, expected: Result<(), (&str, u64)>| {
        put(&out, files);
        let expected = expected.map_err(|(clause, index)| (clause.to_owned(), index));
        let note = std::fs::read_to_string(&since).unwrap();
        for (key, file) in [(&made.founding, &founding), (&made.newest, &newest)] {
            let mine = ours(&out, key, Some(&note));
            assert_eq!(mine, expected, "keyward: {what}");
            assert_eq!(script(&out, file, Some(&since)), mine, "the script: {what}");
        }
    };
    let edit = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = whole.clone();
        change(files.get_mut(name).unwrap());
        files
    };
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut changed = records.clone();
        change(&mut changed);
        changed
    };
    let anew = |changed: &[Vec<u8>]| {
        let mut files = whole.clone();
        files.retain(|name, _| !name.starts_with("tile/"));
        files.extend(remade(changed));
        files
    };
    let without = |name: &str| {
        let mut files = whole.clone();
        files.remove(name).unwrap();
        files
    };
    agree("good", &whole, Ok(()));
    assert_eq!(anew(&records), whole);
    let edited = with(&|r| {
        let text = String::from_utf8(r[300].clone()).unwrap();
        r[300] = text.replace("\"request\":\"r", "\"request\":\"x").into_bytes();
    });
    assert_ne!(edited, records);
    let bundle = remade(&edited)["tile/entries/001"].clone();
    agree("a record edited", &edit("tile/entries/001", &|b| *b = bundle.clone()), Err(("LOG-29", 300)));
    agree("and its tiles made anew", &anew(&edited), Err(("LOG-16", 273)));
    agree("dropped", &anew(&with(&|r| drop(r.remove(300)))), Err(("LOG-11", 300)));
    agree("swapped", &anew(&with(&|r| r.swap(300, 301))), Err(("LOG-11", 300)));
    agree("duplicated", &anew(&with(&|r| r.insert(300, r[299].clone()))), Err(("LOG-11", 300)));
    agree("not canonical", &anew(&with(&|r| r[9].insert(1, b' '))), Err(("LOG-9", 9)));
    let earlier = with(&|r| {
        r[9] = String::from_utf8(r[9].clone()).unwrap().replace("\"time\":1795", "\"time\":1794").into_bytes();
    });
    agree("earlier", &anew(&earlier), Err(("LOG-8", 9)));
    agree("a bundle missing", &without("tile/entries/001"), Err(("LOG-27", 256)));
    agree("a tile missing", &without("tile/1/000.p/2"), Err(("LOG-27", 0)));
    agree("a bundle cut", &edit("tile/entries/000", &|b| b.truncate(b.len() - 1)), Err(("LOG-28", 255)));
    agree("a bundle longer", &edit("tile/entries/000", &|b| b.push(7)), Err(("LOG-28", 256)));
    agree("a tile cut", &edit("tile/0/001", &|b| b.truncate(8191)), Err(("LOG-29", 256)));
    agree("a tile longer", &edit("tile/0/001", &|b| b.push(7)), Err(("LOG-29", 256)));
    agree("a hash above", &edit("tile/1/000.p/2", &|b| b[33] ^= 1), Err(("LOG-29", 256)));
    agree("the signature", &edit("checkpoint", &|b| *b = turned(b)), Err(("LOG-14", 0)));
    agree("no key", &edit("checkpoint.pub", &|b| b[3] ^= 1), Err(("LOG-15", 0)));
    agree("the handover gone", &without("handovers"), Err(("LOG-32", 0)));
    agree("the handover cut", &edit("handovers", &|b| b.truncate(120)), Err(("LOG-32", 0)));
    let mut shorter = anew(&records[..400]);
    shorter.insert("checkpoint".into(), signed(&records[..400], made.founding.origin()));
    agree("rolled back", &shorter, Err(("LOG-17", 400)));
    let mut fork = anew(&edited);
    fork.insert("checkpoint".into(), signed(&edited, made.founding.origin()));
    agree("forked", &fork, Err(("LOG-16", 273)));
    let mut foreign = whole.clone();
    foreign.insert("checkpoint".into(), signed(&records, &Origin::parse("elsewhere").unwrap()));
    agree("of another log", &foreign, Err(("LOG-14", 0)));
}

/// Another signature of the same length.
fn turned(note: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(note.to_vec()).unwrap();
    let (head, value) = text.trim_end().rsplit_once(' ').unwrap();
    let mut raw = STANDARD.decode(value).unwrap();
    raw[20] ^= 1;
    format!("{head} {}\n", STANDARD.encode(raw)).into_bytes()
}
