//! Hands that change the files: verification names the first bad record and the clause, and a start refuses (LOG-20).

use super::*;
use keyward::audit::frame::{self, HEADER_BYTES};
use keyward::audit::{Hash, Tree, scan_bytes};

const RECORDS: u32 = 60;

/// A log that was drained: everything is under a checkpoint.
async fn whole() -> (tempfile::TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    append(&log, 0..RECORDS).await;
    log.drain().await.unwrap();
    (dir, settings)
}

/// The bytes of every frame.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while !rest.is_empty() {
        let size = frame::parse(rest).unwrap().size();
        all.push(rest[..size].to_vec());
        rest = &rest[size..];
    }
    all
}

fn refuses_to_start(settings: &Settings) {
    let opened = open(settings, &clock(), &disk());
    assert!(matches!(opened, Err(OpenError::Damaged(_) | OpenError::Newer { .. })), "{opened:?}");
}

/// LOG-3, LOG-4, LOG-5, LOG-6, LOG-7, LOG-12
#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_segment_is_named() {
    let (_dir, settings) = whole().await;
    let path = segment(&settings);
    let bytes = std::fs::read(&path).unwrap();
    let starts: Vec<usize> = frames(&bytes)
        .iter()
        .scan(0, |at, f| {
            *at += f.len();
            Some(*at)
        })
        .collect();
    for bit in (0..bytes.len() * 8).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        let found = finding(&settings);
        let frame = starts.iter().filter(|end| **end <= bit / 8).count();
        let at = frame.checked_sub(1).map_or(0, |before| starts[before]);
        assert_eq!((found.offset, &found.file), (at as u64, &path), "bit {bit}: {found}");
        let first = frame::parse(&bytes[at..]).unwrap().header;
        assert!((first.first..first.first + u64::from(first.count)).contains(&found.index), "bit {bit}: {found}");
        if bit % (61 * 16) == 0 {
            refuses_to_start(&settings);
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    proven(&settings).unwrap();
}

/// LOG-14, LOG-15, LOG-16
#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_checkpoint_or_the_public_key_is_named() {
    let (_dir, settings) = whole().await;
    for (name, clauses) in [
        ("checkpoint", ["LOG-14", "LOG-16"].as_slice()),
        ("checkpoints", &["LOG-14", "LOG-16"]),
        ("checkpoint.pub", &["LOG-15", "LOG-14"]),
    ] {
        let path = settings.dir.join(name);
        let bytes = std::fs::read(&path).unwrap();
        // The last byte of the public key is a line feed, which says nothing.
        let length = if name == "checkpoint.pub" { bytes.len() - 1 } else { bytes.len() };
        for bit in (0..length * 8).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            match proven(&settings) {
                Err(VerifyError::Broken(found)) => {
                    assert!(clauses.contains(&found.rule.clause()), "{name} bit {bit}: {found}");
                }
                // A byte that is no UTF-8 makes a file that should be text unreadable.
                Err(VerifyError::Read { path: unread, .. }) => assert_eq!(unread, path),
                Ok(_) => panic!("{name} bit {bit} was not noticed"),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    proven(&settings).unwrap();
}

#[tokio::test]
async fn a_dropped_record_is_named() {
    let (_dir, settings) = whole().await;
    let path = segment(&settings);
    let mut all = frames(&std::fs::read(&path).unwrap());
    let dropped = frame::parse(&all.remove(20)).unwrap().header.first;
    std::fs::write(&path, all.concat()).unwrap();
    let found = finding(&settings);
    assert_eq!((found.rule.clause(), found.index), ("LOG-7", dropped));
    refuses_to_start(&settings);
}

#[tokio::test]
async fn swapped_records_are_named() {
    let (_dir, settings) = whole().await;
    let path = segment(&settings);
    let mut all = frames(&std::fs::read(&path).unwrap());
    let earlier = frame::parse(&all[30]).unwrap().header.first;
    all.swap(30, 31);
    std::fs::write(&path, all.concat()).unwrap();
    let found = finding(&settings);
    assert_eq!((found.rule.clause(), found.index), ("LOG-7", earlier));
    refuses_to_start(&settings);
}

/// LOG-17
#[tokio::test]
async fn a_cut_behind_the_newest_checkpoint_is_named() {
    let (_dir, settings) = whole().await;
    let path = segment(&settings);
    let mut all = frames(&std::fs::read(&path).unwrap());
    let cut = frame::parse(&all.pop().unwrap()).unwrap().header.first;
    std::fs::write(&path, all.concat()).unwrap();
    let found = finding(&settings);
    assert_eq!((found.rule.clause(), found.index), ("LOG-17", cut));
    refuses_to_start(&settings);
}

/// Somebody with our code and without our key: every frame is made anew around a changed record.
fn forge(bytes: &[u8], change: impl Fn(u64, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let (mut tree, mut index, mut forged) = (Tree::default(), 0, Vec::new());
    for old in frames(bytes) {
        let old = frame::parse(&old).unwrap();
        let records: Vec<Vec<u8>> = old.records().filter_map(|record| change(index, record)).collect();
        if records.is_empty() {
            continue;
        }
        let mut body = Vec::new();
        for record in &records {
            body.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
            body.extend_from_slice(record);
            tree.push(keyward::crypto::sha256(&[&[0], record]));
        }
        let count = u16::try_from(records.len()).unwrap();
        forged.extend(frame_of(count, index, old.header.time, tree.root(), &body));
        index += u64::from(count);
    }
    forged
}

/// A frame by the words of LOG-3 and LOG-6, without the code that writes them.
fn frame_of(count: u16, first: u64, time: u64, root: Hash, body: &[u8]) -> Vec<u8> {
    let mut frame = b"KWL1\x01\x00".to_vec();
    frame.extend(count.to_be_bytes());
    frame.extend(first.to_be_bytes());
    frame.extend(time.to_be_bytes());
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(root);
    frame.extend([0; 32]);
    frame.extend(body);
    let crc = crc32c::crc32c(&frame);
    frame[28..32].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(frame.len(), HEADER_BYTES + body.len());
    frame
}

/// LOG-12, LOG-16: everything fits together again but the signature of the checkpoint.
#[tokio::test]
async fn a_log_that_was_made_anew_around_a_changed_record_is_not_what_was_signed() {
    let (_dir, settings) = whole().await;
    let path = segment(&settings);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, forge(&bytes, |_, record| Some(record.to_vec()))).unwrap();
    proven(&settings).unwrap();
    let change = |index: u64, record: &[u8]| {
        let text = String::from_utf8(record.to_vec()).unwrap();
        Some(if index == 10 { text.replace("data.sealed", "data.opened") } else { text }.into_bytes())
    };
    std::fs::write(&path, forge(&bytes, change)).unwrap();
    let found = finding(&settings);
    assert_eq!(found.rule.clause(), "LOG-16");
    assert!(found.index <= 10 && found.detail.contains("signed over"), "{found}");
    refuses_to_start(&settings);
}

/// LOG-8, LOG-9, LOG-10, LOG-11, LOG-13, LOG-21, LOG-22: the words of records are checked even where all hashes fit.
#[tokio::test]
async fn records_that_break_a_clause_are_named_even_when_every_hash_fits() {
    let (_dir, settings) = whole().await;
    let bytes = std::fs::read(segment(&settings)).unwrap();
    let cases = [
        ("data.sealed", "data.leaked", "LOG-22"),
        ("\"index\":10,", "\"index\":11,", "LOG-11"),
        ("\"schema\":1", "\"schema\":2", "LOG-10"),
        ("\"schema\":1", "\"schema\": 1", "LOG-9"),
        ("\"outcome\":\"done\"", "\"outcome\":\"fine\"", "LOG-10"),
        ("\"outcome\"", "\"intent\":3,\"outcome\"", "LOG-21"),
        ("\"outcome\":\"done\"", "\"outcome\":\"done\",\"part\":0,\"parts\":2", "LOG-13"),
        ("\"time\":17", "\"time\":18", "LOG-8"),
        ("\"clock\"", "\"clock\":\"held\",\"clock\"", "LOG-9"),
        ("\"event\"", "\"zebra\":1,\"event\"", "LOG-9"),
        ("\"clock\":\"unverified\",", "\"clock\":\"unverified\",\"diagnosis\":\"x\",", "LOG-10"),
    ];
    for (old, new, clause) in cases {
        let forged = forge(&bytes, |index, record| {
            let text = String::from_utf8(record.to_vec()).unwrap();
            Some(if index == 10 { text.replacen(old, new, 1) } else { text }.into_bytes())
        });
        std::fs::write(segment(&settings), forged).unwrap();
        let found = finding(&settings);
        assert_eq!((found.rule.clause(), found.index), (clause, 10), "{new}: {found}");
    }
}

/// LOG-19, LOG-20: beyond the newest checkpoint a bad frame was torn only if nothing follows it.
#[tokio::test]
async fn damage_in_front_of_synced_frames_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    append(&log, 0..5).await;
    // Without a tick and without a drain no checkpoint covers the five.
    drop(log);
    let path = segment(&settings);
    let bytes = std::fs::read(&path).unwrap();
    let all = frames(&bytes);
    let third: usize = all[..3].iter().map(Vec::len).sum();
    let mut flipped = bytes.clone();
    flipped[third + HEADER_BYTES + 20] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let opened = open(&settings, &clock, &disk());
    assert!(matches!(&opened, Err(OpenError::Damaged(found)) if found.index == 4), "{opened:?}");
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - 7);
    std::fs::write(&path, &cut).unwrap();
    let (_, opened) = open(&settings, &clock, &disk()).unwrap();
    assert_eq!(opened.recovered.len(), 1);
}

/// LOG-17: what `--since` is for.
#[tokio::test]
async fn a_log_cut_exactly_at_an_older_checkpoint_is_found_only_by_a_kept_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let log = create(&settings, &clock, &disk(), Limits::default()).unwrap();
    let (wal, history) = (segment(&settings), settings.dir.join("checkpoints"));
    let (old_wal, old_history) = (std::fs::read(&wal).unwrap(), std::fs::read(&history).unwrap());
    append(&log, 0..5).await;
    log.drain().await.unwrap();
    let kept = std::fs::read_to_string(settings.dir.join("checkpoint")).unwrap();
    let verified = verify(&settings.dir, None, Some(&kept), &mut |_| {}).unwrap();
    assert!(verified.since_given);
    std::fs::write(&wal, old_wal).unwrap();
    std::fs::write(&history, &old_history).unwrap();
    std::fs::write(settings.dir.join("checkpoint"), &old_history).unwrap();
    assert!(!proven(&settings).unwrap().since_given, "looks whole, and says that nobody vouched for it");
    match verify(&settings.dir, None, Some(&kept), &mut |_| {}) {
        Err(VerifyError::Broken(found)) => assert_eq!(found.rule.clause(), "LOG-17"),
        other => panic!("{other:?}"),
    }
}

/// LOG-15
#[tokio::test]
async fn another_logs_key_is_refused() {
    let (_dir, settings) = whole().await;
    let (_other_dir, other) = whole().await;
    let text = std::fs::read_to_string(other.dir.join("checkpoint.pub")).unwrap();
    let key = keyward::audit::VerifierKey::parse(&text).unwrap();
    match verify(&settings.dir, Some(&key), None, &mut |_| {}) {
        Err(VerifyError::Broken(found)) => assert_eq!(found.rule.clause(), "LOG-15"),
        other => panic!("{other:?}"),
    }
    assert!(verify(&other.dir, Some(&key), None, &mut |_| {}).unwrap().key_given);
}

/// LOG-1, LOG-2
#[tokio::test]
async fn a_missing_segment_and_a_foreign_file_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(dir.path()), clock());
    let limits = Limits { segment_bytes: 3000, ..Limits::default() };
    let log = create(&settings, &clock, &disk(), limits).unwrap();
    append(&log, 0..50).await;
    log.drain().await.unwrap();
    drop(log);
    let mut names: Vec<_> =
        std::fs::read_dir(settings.dir.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 3);
    let bytes = std::fs::read(&names[1]).unwrap();
    let missing = frame::parse(&bytes).unwrap().header.first;
    std::fs::remove_file(&names[1]).unwrap();
    let found = finding(&settings);
    assert_eq!((found.rule.clause(), found.index), ("LOG-2", missing));
    std::fs::write(&names[1], &bytes).unwrap();
    proven(&settings).unwrap();
    std::fs::write(settings.dir.join("wal/notes.txt"), b"x").unwrap();
    assert!(matches!(proven(&settings), Err(VerifyError::Read { .. })));
}

#[tokio::test]
async fn the_progress_reaches_the_end_and_the_bytes_scan_alike() {
    let (_dir, settings) = whole().await;
    let mut last = None;
    let verified = verify(&settings.dir, None, None, &mut |progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!((last.bytes, last.records), (last.of, verified.records));
    let bytes = std::fs::read(segment(&settings)).unwrap();
    let scan = scan_bytes(&bytes);
    assert_eq!((scan.records, scan.bytes, scan.broken), (verified.records, bytes.len(), None));
    assert!(scan_bytes(&bytes[..bytes.len() - 1]).broken.is_some());
}
