//! The log's reader: bytes as they come, and lines as records of frames that are otherwise right, since no fuzzer finds
//! a checksum and a root. Nothing panics; what was whole stays whole alone; an accepted record has one form only.
#![no_main]

use keyward::audit::{Scan, Tree, scan_bytes};
use keyward::crypto::sha256;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    alone(input, &scan_bytes(input));
    let (frames, records) = frames(input);
    let scan = scan_bytes(&frames);
    alone(&frames, &scan);
    for record in records.iter().take(usize::try_from(scan.records).expect("few records")) {
        let json: serde_json::Value = serde_json::from_slice(record).expect("an accepted record is JSON");
        assert_eq!(serde_json::to_vec(&json).expect("JSON again"), *record, "an accepted record has one form");
    }
});

/// The frames before the damage are a log without damage.
fn alone(bytes: &[u8], scan: &Scan) {
    let whole = scan_bytes(&bytes[..scan.bytes]);
    assert_eq!((whole.frames, whole.records, whole.bytes), (scan.frames, scan.records, scan.bytes));
    assert!(whole.broken.is_none());
    assert_eq!(scan.broken.is_none(), scan.bytes == bytes.len());
}

/// A frame for every line, at the time that its record says.
fn frames(input: &[u8]) -> (Vec<u8>, Vec<&[u8]>) {
    let (mut bytes, mut tree, mut records) = (Vec::new(), Tree::default(), Vec::new());
    for record in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(length) = u16::try_from(record.len()) else { break };
        let mut frame = vec![0; 96];
        frame[..4].copy_from_slice(&keyward::audit::frame::MAGIC);
        frame[4] = 1;
        frame[6..8].copy_from_slice(&1_u16.to_be_bytes());
        frame[8..16].copy_from_slice(&tree.size().to_be_bytes());
        frame[16..24].copy_from_slice(&time(record).to_be_bytes());
        frame[24..28].copy_from_slice(&(u32::from(length) + 2).to_be_bytes());
        tree.push(leaf(record));
        frame[32..64].copy_from_slice(&tree.root());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(record);
        let sum = crc32c::crc32c(&frame);
        frame[28..32].copy_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(&frame);
        records.push(record);
    }
    (bytes, records)
}

/// The number behind `"time":`, or zero.
fn time(record: &[u8]) -> u64 {
    let text = std::str::from_utf8(record).unwrap_or_default();
    let digits = text.rsplit("\"time\":").next().unwrap_or_default();
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or_default()
}

/// RFC 6962: the hash of a leaf.
fn leaf(record: &[u8]) -> [u8; 32] {
    sha256(&[&[0], record])
}
