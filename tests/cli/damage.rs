//! `audit verify` over logs that somebody changed: the first bad record and the rule that it breaks.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Setup, keyward_ok, post};
use crate::{run, text};

/// LOG-3: where the fields of a frame's header are.
const HEADER: usize = 96;
const CHECKSUM: std::ops::Range<usize> = 28..32;

/// The log of a sidecar that sealed some values, one a frame, and was stopped.
struct Sealed {
    setup: Setup,
    frames: Vec<Frame>,
}

/// A frame of the only segment: its first record, its place and its length.
#[derive(Clone, Copy)]
struct Frame {
    record: u64,
    at: usize,
    length: usize,
}

impl Sealed {
    fn new() -> Self {
        let setup = Setup::new();
        let serving = setup.serve();
        setup.keyring();
        seal(&setup, 8);
        assert_eq!(serving.stop(), Some(0));
        let frames = frames(&std::fs::read(segment(&setup)).unwrap());
        Self { setup, frames }
    }

    /// The frame of the middle one of the seals.
    fn victim(&self) -> Frame {
        let bytes = std::fs::read(segment(&self.setup)).unwrap();
        let seals: Vec<&Frame> =
            self.frames.iter().filter(|frame| body(&bytes, frame).contains("data.sealed")).collect();
        assert_eq!(seals.len(), 8);
        *seals[4]
    }

    /// Changes the segment and gives what `audit verify` says of it.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = std::fs::read(segment(&self.setup)).unwrap();
        change(&mut bytes);
        std::fs::write(segment(&self.setup), bytes).unwrap();
        let (code, shown, said) = run(&["audit", "verify", &self.setup.log()]);
        assert_eq!((code, shown.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains("\nhint: keep the directory as it is"), "{said}");
        said
    }

    fn expect(&self, record: u64, clause: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let said = self.changed(change);
        let named = format!("error: the log does not verify: record {record}: {clause} (");
        assert!(said.starts_with(&named), "expected {named}, got {said}");
    }
}

fn seal(setup: &Setup, times: usize) {
    for _ in 0..times {
        let body = json!({ "context": { "resource": "Patient/1", "path": "x" }, "text": "x" }).to_string();
        assert_eq!(post(&setup.data(), "/v1/keyrings/patients/seal", &body).0, 200);
    }
}

fn segment(setup: &Setup) -> PathBuf {
    Path::new(&setup.log()).join("wal/00000000000000000000.wal")
}

/// LOG-3 once more, by hand: the test does not believe the code that it tests.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"KWL1");
        let record = u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap());
        let body = u32::from_be_bytes(bytes[at + 24..at + 28].try_into().unwrap());
        let length = HEADER + usize::try_from(body).unwrap();
        all.push(Frame { record, at, length });
        at += length;
    }
    all
}

fn body(bytes: &[u8], frame: &Frame) -> String {
    String::from_utf8_lossy(&bytes[frame.at + HEADER..frame.at + frame.length]).into_owned()
}

/// LOG-6.
fn correct_checksum(bytes: &mut [u8], frame: Frame) {
    let frame = &mut bytes[frame.at..frame.at + frame.length];
    frame[CHECKSUM].fill(0);
    let sum = crc32c::crc32c(frame);
    frame[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_good_log_says_what_was_proven_and_what_was_not() {
    let sealed = Sealed::new();
    let log = sealed.setup.log();
    let (code, shown, said) = run(&["audit", "verify", &log]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let last = sealed.frames.last().unwrap().record;
    assert!(shown.contains(&format!("complete up to checkpoint {};", last + 1)), "{shown}");
    assert_eq!(shown.matches("unproven: ").count(), 2, "{shown}");
    let (key, since) = (format!("{log}/checkpoint.pub"), format!("{log}/checkpoint"));
    let proven = keyward_ok(&["audit", "verify", &log, "--key", &key, "--since", &since, "--json"]);
    let proven: Value = serde_json::from_str(&proven).unwrap();
    assert_eq!((&proven["records"], &proven["unproven_tail"]), (&json!(last + 1), &json!(0)));
    assert_eq!((&proven["key_given"], &proven["since_given"]), (&json!(true), &json!(true)));
    // What another host joins by.
    let said = |fact: &str| proven[fact].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("store_key_check").len(), 32, "{proven}");
    assert!(said("store_head").contains(':'), "{proven}");
}

#[test]
fn a_flipped_bit_is_named_with_its_record() {
    let sealed = Sealed::new();
    let victim = sealed.victim();
    sealed.expect(victim.record, "LOG-6", |bytes| bytes[victim.at + HEADER + 40] ^= 1);
}

#[test]
fn a_changed_record_whose_checksum_was_made_to_fit_is_named() {
    let sealed = Sealed::new();
    let victim = sealed.victim();
    sealed.expect(victim.record, "LOG-12", |bytes| {
        let record = victim.at + HEADER;
        let name = record + bytes[record..].windows(6).position(|name| name == b"\"demo\"").unwrap();
        bytes[name..name + 6].copy_from_slice(b"\"evil\"");
        correct_checksum(bytes, victim);
    });
}

#[test]
fn a_dropped_record_is_named() {
    let sealed = Sealed::new();
    let victim = sealed.victim();
    sealed.expect(victim.record, "LOG-7", |bytes| drop(bytes.drain(victim.at..victim.at + victim.length)));
}

#[test]
fn a_log_cut_before_its_newest_checkpoint_is_named() {
    let sealed = Sealed::new();
    let victim = sealed.victim();
    sealed.expect(victim.record, "LOG-17", |bytes| bytes.truncate(victim.at));
}

#[test]
fn a_frame_cut_in_the_middle_is_named() {
    let sealed = Sealed::new();
    let victim = sealed.victim();
    sealed.expect(victim.record, "LOG-3", |bytes| bytes.truncate(victim.at + HEADER + 10));
}

#[test]
fn a_log_put_back_to_an_older_state_is_found_with_a_checkpoint_kept_elsewhere() {
    let sealed = Sealed::new();
    let older = sealed.setup.dir.path().join("older");
    copy(Path::new(&sealed.setup.log()), &older);
    let end = sealed.frames.last().unwrap().record + 1;
    let serving = sealed.setup.serve();
    seal(&sealed.setup, 3);
    assert_eq!(serving.stop(), Some(0));
    let older = text(&older);
    let shown = keyward_ok(&["audit", "verify", &older]);
    assert!(shown.contains("unproven: that nothing was cut behind an older checkpoint"), "{shown}");
    let kept = format!("{}/checkpoint", sealed.setup.log());
    let (code, _, said) = run(&["audit", "verify", &older, "--since", &kept]);
    let named = format!("error: the log does not verify: record {end}: LOG-17 (");
    assert!(code == Some(1) && said.starts_with(&named), "{said}");
}

#[test]
fn a_checkpoint_signed_by_somebody_else_is_refused() {
    let (sealed, other) = (Sealed::new(), Sealed::new());
    let of = |sealed: &Sealed| format!("{}/checkpoint.pub", sealed.setup.log());
    let (code, _, said) = run(&["audit", "verify", &sealed.setup.log(), "--key", &of(&other)]);
    assert!(code == Some(1) && said.contains("LOG-15"), "{said}");
    let since = format!("{}/checkpoint", other.setup.log());
    let (code, _, said) = run(&["audit", "verify", &sealed.setup.log(), "--since", &since]);
    assert!(code == Some(1) && said.contains("LOG-14"), "{said}");
}

#[test]
fn a_directory_that_is_no_log_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, said) = run(&["audit", "verify", &text(dir.path())]);
    assert!(code == Some(69) && said.contains("\nhint: name the directory of a log"), "{said}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}
