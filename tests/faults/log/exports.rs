//! The log as others read it: exported trees, byte for byte, over crashes, hands and forks; and proofs of single records.

use std::collections::BTreeMap;

use super::*;
use keyward::audit::export::{ExportError, Exported, export};
use keyward::audit::prove::{BadProof, ProofFile, ProveError, prove};
use keyward::audit::{Checkpoint, Hash, Keys, Tree, VerifierKey};
use keyward::crypto::{SigningKey, sha256};
use keyward::durable::faults::{Fault, Loss, Step};
use keyward::secret::SecretBytes;

/// One of so many, by a seed.
pub(super) fn nth(seed: u64, of: u64) -> usize {
    usize::try_from(seed % of).unwrap()
}

/// Every file of a directory but the lock, by its path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn files(dir: &Path) -> Files {
    fn walk(dir: &Path, root: &Path, found: &mut Files) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let before = found.len();
                walk(&path, root, found);
                assert!(found.len() > before, "{} is empty", path.display());
            } else if path.file_name().unwrap() != "lock" {
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = Files::new();
    walk(dir, dir, &mut found);
    found
}

pub(super) fn put(dir: &Path, files: &Files) {
    let _gone = std::fs::remove_dir_all(dir);
    for (path, bytes) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A log with this many records more than its first two, all under a checkpoint.
async fn log_of(records: u32) -> (tempfile::TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let log = create(&settings, &clock(), &disk(), Limits::default()).unwrap();
    many(&log, 0..records).await;
    log.drain().await.unwrap();
    (dir, settings)
}

/// Records that share frames.
async fn many(log: &Log, requests: std::ops::Range<u32>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in requests {
        let log = log.clone();
        tasks.spawn(async move { log.append(record(&format!("r{n}")), (), NEVER).await.unwrap().index() });
        if tasks.len() == 500 {
            while tasks.join_next().await.is_some() {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

pub(super) fn exported(settings: &Settings, out: &Path) -> Result<Exported, ExportError> {
    export(&settings.dir, out, None, &disk(), &mut |_| {})
}

fn checked(out: &Path) -> Result<Verified, VerifyError> {
    verify(out, None, None, &mut |_| {})
}

#[track_caller]
fn wrong(out: &Path) -> Finding {
    match checked(out) {
        Err(VerifyError::Broken(finding)) => finding,
        other => panic!("nothing was found: {other:?}"),
    }
}

fn leaf(record: &[u8]) -> Hash {
    sha256(&[&[0], record])
}

/// The export of some records as the published format says it, written without looking at ours.
fn by_the_book(records: &[Vec<u8>]) -> Files {
    let mut found = Files::new();
    let path = |folder: &str, index: usize, width: usize| {
        let number = format!("{:03}", index % 1000);
        let number = if index < 1000 { number } else { format!("x{:03}/{number}", index / 1000) };
        let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
        format!("tile/{folder}/{number}{partial}")
    };
    for (index, bundle) in records.chunks(256).enumerate() {
        let bytes =
            bundle.iter().flat_map(|r| [&u16::try_from(r.len()).unwrap().to_be_bytes()[..], r].concat()).collect();
        found.insert(path("entries", index, bundle.len()), bytes);
    }
    let mut level = 0;
    let mut hashes: Vec<Hash> = records.iter().map(|record| leaf(record)).collect();
    while !hashes.is_empty() {
        for (index, tile) in hashes.chunks(256).enumerate() {
            found.insert(path(&level.to_string(), index, tile.len()), tile.concat());
        }
        hashes = hashes.chunks_exact(256).map(root).collect();
        level += 1;
    }
    found
}

fn root(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

pub(super) fn records(settings: &Settings) -> Vec<Vec<u8>> {
    let mut rest = std::fs::read(segment(settings)).unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let frame = keyward::audit::frame::parse(&rest).unwrap();
        found.extend(frame.records().map(<[u8]>::to_vec));
        let size = frame.size();
        rest.drain(..size);
    }
    found
}

pub(super) fn keys(settings: &Settings) -> Keys {
    let later = std::fs::read_to_string(settings.dir.join("successors")).unwrap_or_default();
    Keys::parse(&(std::fs::read_to_string(settings.dir.join("checkpoint.pub")).unwrap() + &later)).unwrap()
}

pub(super) fn signing(settings: &Settings) -> SigningKey {
    SigningKey::from_pkcs8(&SecretBytes::new(std::fs::read(settings.dir.join("checkpoint.key")).unwrap())).unwrap()
}

/// An export of other records that the log's own key signed: what only the log itself could forge.
fn forged(settings: &Settings, records: &[Vec<u8>]) -> Files {
    forged_by(settings, records, &[&signing(settings)], "")
}

/// One that others signed, with the keys that they claim.
pub(super) fn forged_by(settings: &Settings, records: &[Vec<u8>], by: &[&SigningKey], successors: &str) -> Files {
    let mut files = by_the_book(records);
    let hashes: Vec<Hash> = records.iter().map(|record| leaf(record)).collect();
    let checkpoint = Checkpoint { size: records.len() as u64, root: root(&hashes) };
    let keys = keys(settings);
    files.insert("checkpoint".into(), checkpoint.sign_by(by.iter().copied(), keys.origin()).into_bytes());
    files.insert("checkpoint.pub".into(), (keys.founding().to_text() + "\n").into_bytes());
    if !successors.is_empty() {
        files.insert("successors".into(), successors.as_bytes().to_vec());
    }
    files
}

/// LOG-27, LOG-28, LOG-29
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_byte_for_byte_what_the_published_format_says() {
    for count in [0, 3, 253, 254, 255, 700] {
        let (dir, settings) = log_of(count).await;
        let out = dir.path().join("out");
        let told = exported(&settings, &out).unwrap();
        let all = records(&settings);
        let mut book = by_the_book(&all);
        assert_eq!((told.checkpoint.size, told.before, told.written), (all.len() as u64, None, book.len() as u64));
        for name in ["checkpoint", "checkpoint.pub"] {
            book.insert(name.to_owned(), std::fs::read(settings.dir.join(name)).unwrap());
        }
        let found = files(&out);
        assert_eq!(found.keys().collect::<Vec<_>>(), book.keys().collect::<Vec<_>>(), "{count}");
        assert_eq!(found, book, "{count}");
        let (ours, theirs) = (proven(&settings).unwrap(), checked(&out).unwrap());
        assert!(theirs.exported && !ours.exported);
        assert_eq!((ours.root, ours.records, ours.times), (theirs.root, theirs.records, theirs.times));
    }
}

/// LOG-29: tiles of the level above fill up at 65,536 records.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_three_levels_is_exported_extended_and_proven() {
    let (dir, settings) = log_of(65_600).await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let found = files(&out);
    assert_eq!(found["tile/1/000"].len(), 8192);
    assert_eq!(
        found["tile/2/000.p/1"],
        root(&found["tile/1/000"].chunks(32).map(|h| h.try_into().unwrap()).collect::<Vec<_>>())
    );
    assert_eq!(checked(&out).unwrap().records, 65_602);
    for index in [0, 255, 256, 65_535, 65_536, 65_601] {
        let proof = prove(&out, index, None, &mut |_| {}).unwrap();
        assert_eq!(proof, prove(&settings.dir, index, None, &mut |_| {}).unwrap(), "{index}");
        proof.check(&keys(&settings)).unwrap();
    }
}

/// LOG-30: what is extended again and again is what one run makes.
#[tokio::test(flavor = "multi_thread")]
async fn an_extended_export_is_the_one_that_a_single_run_makes() {
    let (dir, settings) = log_of(0).await;
    let (out, mut before, mut size) = (dir.path().join("out"), None, 2);
    for more in [1, 100, 0, 200, 700, 13] {
        let log = open(&settings, &clock(), &disk()).unwrap().0;
        many(&log, 0..more).await;
        log.drain().await.unwrap();
        size += u64::from(more) + 1;
        let told = exported(&settings, &out).unwrap();
        assert_eq!((told.before, told.checkpoint.size), (before, size));
        before = Some(size);
        let fresh = dir.path().join(format!("fresh-{size}"));
        let single = exported(&settings, &fresh).unwrap();
        assert_eq!(told.written + told.kept, single.written);
        assert_eq!(files(&out), files(&fresh), "{size}");
        let again = exported(&settings, &out).unwrap();
        assert_eq!((again.written, again.kept), (0, single.written), "nothing is written twice");
    }
}

/// LOG-30: the power fails at every step of an export, of the first and of one that extends.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_cut_off_anywhere_is_completed_by_the_next() {
    let (dir, settings) = log_of(300).await;
    let shorter = dir.path().join("shorter");
    exported(&settings, &shorter).unwrap();
    let shorter = files(&shorter);
    let log = open(&settings, &clock(), &disk()).unwrap().0;
    many(&log, 300..800).await;
    log.drain().await.unwrap();
    let whole = dir.path().join("whole");
    exported(&settings, &whole).unwrap();
    let whole = files(&whole);
    for start in [Files::new(), shorter] {
        let mut seed = 0;
        loop {
            let fault =
                [Fault::PowerOff, Fault::Fail, Fault::FailPersisted, Fault::Torn(100), Fault::NoSpace][nth(seed, 5)];
            let loss = [Loss::Unsynced, Loss::Some, Loss::Nothing][nth(seed, 3)];
            let out = dir.path().join("out");
            put(&out, &start);
            std::fs::create_dir_all(&out).unwrap();
            let faults = Faults::seeded(seed);
            faults.plan(Step::Any, seed / 2, fault);
            let told = export(&settings.dir, &out, None, &faults.disk(), &mut |_| {});
            faults.restart(loss).unwrap();
            if told.is_ok() {
                assert_eq!(files(&out), whole, "an export that said it was done is on the disk");
                if faults.steps(Step::Any) <= seed / 2 {
                    break;
                }
            }
            match checked(&out) {
                Ok(verified) => assert!([302, 803].contains(&verified.records), "{seed}: {}", verified.records),
                Err(VerifyError::Read { path, .. }) => assert!(start.is_empty(), "{seed}: {}", path.display()),
                Err(error) => panic!("{seed} {fault:?} {loss:?}: {error}"),
            }
            exported(&settings, &out).unwrap_or_else(|error| panic!("{seed} {fault:?} {loss:?}: {error}"));
            assert_eq!(files(&out), whole, "{seed} {fault:?} {loss:?}");
            seed += 1;
        }
        assert!(seed > 20, "there were {seed} steps");
    }
}

/// LOG-30: nothing is written over what tells another story.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_another_story_is_refused_and_named() {
    let (dir, settings) = log_of(300).await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let whole = files(&out);
    let conflict = |files: &Files| {
        put(&out, files);
        match exported(&settings, &out) {
            Err(ExportError::Conflict(finding)) => {
                assert_eq!(&super::exports::files(&out), files, "nothing was touched");
                (finding.rule.clause(), finding.index)
            }
            other => panic!("{other:?}"),
        }
    };
    let edited = |name: &str, at: usize| {
        let mut files = whole.clone();
        files.get_mut(name).unwrap()[at] ^= 1;
        files
    };
    assert_eq!(conflict(&edited("tile/entries/000", 90)), ("LOG-28", 0));
    assert_eq!(conflict(&edited("tile/0/001.p/46", 90)), ("LOG-29", 256));
    let mut missing = whole.clone();
    missing.remove("tile/0/000");
    assert_eq!(conflict(&missing), ("LOG-27", 0));
    let mut longer = records(&settings);
    longer.push(longer[3].clone());
    assert_eq!(conflict(&forged(&settings, &longer)), ("LOG-17", 302));
    let mut fork = records(&settings);
    fork.truncate(200);
    fork[150] = fork[151].clone();
    // The bundle is partial: it is only the root that differs.
    assert_eq!(conflict(&forged(&settings, &fork)), ("LOG-16", 0));
    let (_other_dir, other) = log_of(300).await;
    let mut other_log = whole.clone();
    other_log.insert("checkpoint".into(), std::fs::read(other.dir.join("checkpoint")).unwrap());
    assert_eq!(conflict(&other_log), ("LOG-14", 0));
    std::fs::write(out.join("letters.txt"), "mine").unwrap();
    let refused = exported(&settings, &out);
    assert!(matches!(&refused, Err(ExportError::NotAnExport { name, .. }) if name == "letters.txt"), "{refused:?}");
    let refused = export(&settings.dir, &settings.dir, None, &disk(), &mut |_| {});
    assert!(matches!(refused, Err(ExportError::NotAnExport { .. })), "{refused:?}");
}

/// LOG-30: what verification finds an export finds, and names alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_not_exported() {
    let (dir, settings) = log_of(300).await;
    let whole = dir.path().join("whole");
    exported(&settings, &whole).unwrap();
    let path = segment(&settings);
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 23) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, &damaged).unwrap();
        for out in [dir.path().join(format!("out-{at}")), whole.clone()] {
            match exported(&settings, &out) {
                Err(ExportError::Log(VerifyError::Broken(found))) => assert_eq!(found, finding(&settings), "byte {at}"),
                other => panic!("byte {at}: {other:?}"),
            }
            assert!(out == whole || !out.join("checkpoint").exists());
        }
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(exported(&settings, &whole), Err(ExportError::Log(VerifyError::Broken(_)))));
    std::fs::write(&path, &bytes).unwrap();
    exported(&settings, &whole).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_written_meanwhile_is_exported_up_to_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits { segment_bytes: 20_000, ..Limits::default() }).unwrap();
    let writing = {
        let log = log.clone();
        tokio::spawn(async move { many(&log, 0..3_000).await })
    };
    let out = dir.path().join("out");
    let mut last = 0;
    while !writing.is_finished() {
        clock.advance(Duration::from_secs(1));
        let told = tokio::task::block_in_place(|| exported(&settings, &out)).unwrap();
        assert!(told.checkpoint.size >= last);
        last = told.checkpoint.size;
        assert_eq!(checked(&out).unwrap().records, last);
    }
    writing.await.unwrap();
    log.drain().await.unwrap();
    exported(&settings, &out).unwrap();
    assert_eq!(checked(&out).unwrap().records, 3_002);
}

/// LOG-31: what hands do to an exported tree; each named with the clause and the first record that is bad.
#[tokio::test(flavor = "multi_thread")]
async fn every_damage_of_an_export_is_named() {
    let (dir, settings) = log_of(600).await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let whole = files(&out);
    let all = records(&settings);
    let named = |change: &dyn Fn(&mut Files)| {
        let mut files = whole.clone();
        change(&mut files);
        put(&out, &files);
        let found = wrong(&out);
        (found.rule.clause(), found.index)
    };
    // In the bundle alone, and in the bundle with all tiles made anew around it: who has our code and not our key.
    let both = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut changed = all.clone();
        change(&mut changed);
        let bundles: Files = by_the_book(&changed).into_iter().filter(|(name, _)| name.contains("entries")).collect();
        let alone = named(&|files| files.extend(bundles.clone()));
        (alone, named(&|files| files.extend(by_the_book(&changed))))
    };
    let edit = |record: &mut Vec<u8>| {
        let text = String::from_utf8(record.clone()).unwrap();
        *record = text.replace("\"done\":1", "\"done\":2").into_bytes();
    };
    assert_eq!(both(&|records| edit(&mut records[300])), (("LOG-29", 300), ("LOG-16", 0)), "edited");
    assert_eq!(both(&|records| records[300][0] = b' '), (("LOG-9", 300), ("LOG-9", 300)), "no canonical JSON");
    assert_eq!(both(&|records| drop(records.remove(300))), (("LOG-11", 300), ("LOG-11", 300)), "dropped");
    assert_eq!(both(&|records| records.swap(300, 301)), (("LOG-11", 300), ("LOG-11", 300)), "swapped");
    assert_eq!(both(&|records| records[301] = records[300].clone()), (("LOG-11", 301), ("LOG-11", 301)), "duplicated");
    let last = "tile/entries/002.p/90";
    assert_eq!(named(&|files| drop(files.remove("tile/entries/001"))), ("LOG-27", 256), "a bundle is missing");
    assert_eq!(named(&|files| drop(files.remove("tile/0/001"))), ("LOG-27", 256), "a tile is missing");
    assert_eq!(named(&|files| files.get_mut(last).unwrap().truncate(900)), ("LOG-28", 515), "cut off");
    assert_eq!(named(&|files| files.get_mut(last).unwrap().push(0)), ("LOG-28", 602), "longer");
    assert_eq!(named(&|files| files.get_mut("tile/0/001").unwrap().truncate(8160)), ("LOG-29", 256), "a short tile");
    assert_eq!(named(&|files| files.get_mut("tile/0/001").unwrap().push(0)), ("LOG-29", 256), "a long tile");
    assert_eq!(named(&|files| files.get_mut("tile/1/000.p/2").unwrap()[40] ^= 1), ("LOG-29", 256), "a hash above");
    assert_eq!(
        named(&|files| drop(files.insert("tile/entries/000".into(), vec![0; 17_000_000]))),
        ("LOG-28", 0),
        "huge"
    );
    assert_eq!(named(&|files| files.get_mut("checkpoint").unwrap()[90] ^= 1), ("LOG-14", 0), "another checkpoint");
}

/// LOG-17, LOG-31: a shorter tree that the log signed itself looks whole, until somebody shows a newer checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_rolled_back_or_forked_is_named_by_an_older_checkpoint() {
    let (dir, settings) = log_of(300).await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let newest = std::fs::read_to_string(out.join("checkpoint")).unwrap();
    let key = keys(&settings).founding().clone();
    let since = |note: &str| match verify(&out, Some(&key), Some(note), &mut |_| {}) {
        Ok(verified) => Ok((verified.records, verified.since_given, verified.key_given)),
        Err(VerifyError::Broken(found)) => Err((found.rule.clause(), found.index)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(since(&newest), Ok((302, true, true)));
    let all = records(&settings);
    put(&out, &forged(&settings, &all[..200]));
    assert_eq!(checked(&out).unwrap().records, 200, "it looks whole");
    assert_eq!(since(&newest), Err(("LOG-17", 200)), "rolled back");
    let mut fork = all.clone();
    let text = String::from_utf8(fork[100].clone()).unwrap().replace("\"done\":1", "\"done\":2");
    fork[100] = text.into_bytes();
    put(&out, &forged(&settings, &fork));
    assert_eq!(checked(&out).unwrap().records, 302, "it looks whole");
    assert_eq!(since(&newest), Err(("LOG-16", 0)), "forked");
    let (_other_dir, other) = log_of(3).await;
    let theirs = std::fs::read_to_string(other.dir.join("checkpoint")).unwrap();
    assert_eq!(since(&theirs), Err(("LOG-14", 0)), "a checkpoint of another log");
    let mut foreign = forged(&settings, &all);
    foreign.insert("checkpoint".into(), theirs.into_bytes());
    put(&out, &foreign);
    assert_eq!(since(&newest), Err(("LOG-14", 0)), "the newest is that of another log");
    let other_key: VerifierKey = keys(&other).founding().clone();
    match verify(&out, Some(&other_key), None, &mut |_| {}) {
        Err(VerifyError::Broken(found)) => assert_eq!(found.rule.clause(), "LOG-14"),
        other => panic!("{other:?}"),
    }
    put(&out, &forged(&settings, &all));
    match verify(&out, Some(&other_key), None, &mut |_| {}) {
        Err(VerifyError::Broken(found)) => assert_eq!(found.rule.clause(), "LOG-15"),
        other => panic!("{other:?}"),
    }
}

/// LOG-34
#[tokio::test(flavor = "multi_thread")]
async fn any_record_is_proven_alike_by_log_and_export_and_nothing_else_passes() {
    let (dir, settings) = log_of(290).await;
    let out = dir.path().join("out");
    exported(&settings, &out).unwrap();
    let (keys, all) = (keys(&settings), records(&settings));
    for index in 0..292 {
        let proof = prove(&out, index, Some(keys.founding()), &mut |_| {}).unwrap();
        assert_eq!(ProofFile::parse(&proof.to_text()).as_ref(), Ok(&proof));
        assert_eq!(proof.record, all[usize::try_from(index).unwrap()]);
        assert_eq!(proof.check(&keys).unwrap().checkpoint.size, 292);
        if index % 41 == 0 {
            assert_eq!(proof, prove(&settings.dir, index, None, &mut |_| {}).unwrap());
        }
        let elsewhere = ProofFile { index: index ^ 1, ..proof };
        assert_eq!(elsewhere.check(&keys), Err(BadProof::Path(index ^ 1)));
    }
    let beyond = prove(&out, 292, None, &mut |_| {});
    assert!(matches!(beyond, Err(ProveError::NotCovered { index: 292, size: 292 })), "{beyond:?}");
    let text = prove(&out, 77, None, &mut |_| {}).unwrap().to_text();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let shown = String::from_utf8(bytes).ok().map(|text| ProofFile::parse(&text).and_then(|p| p.check(&keys)));
        assert!(!matches!(shown, Some(Ok(_))), "bit {bit}");
    }
    let mut tile = std::fs::read(out.join("tile/0/000")).unwrap();
    tile[76 * 32] ^= 1;
    std::fs::write(out.join("tile/0/000"), tile).unwrap();
    match prove(&out, 77, None, &mut |_| {}) {
        Err(ProveError::Log(VerifyError::Broken(found))) => {
            assert_eq!((found.rule.clause(), found.index), ("LOG-34", 77))
        }
        other => panic!("{other:?}"),
    }
}
