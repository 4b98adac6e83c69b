//! True minutes and the true export of their roster, edited in any way: they verify as long as they say the same, and never
//! otherwise. The input is the edits, so that every one of them reaches what it would change.
#![no_main]

#[path = "../kept.rs"]
mod kept;

use keyward::ceremony::minutes::{Minutes, Pinned, verify};
use libfuzzer_sys::fuzz_target;

use crate::kept::{EXPORT, MINUTES, rosters};

fuzz_target!(|input: &[u8]| {
    let Some((which, edits)) = input.split_first() else { return };
    match which % 3 {
        0 => true_minutes(&edited(MINUTES, edits)),
        1 => true_export(&edited(EXPORT, edits)),
        _ => {
            let report = verify(&edited(MINUTES, edits), &edited(EXPORT, edits), &Pinned::default());
            assert_eq!(report.is_ok(), report.failed().is_empty() && !report.checks.is_empty());
        }
    }
});

/// Minutes that verify say what the log holds the digest of.
fn true_minutes(text: &str) {
    if verify(text, EXPORT, &Pinned::default()).is_ok() {
        let digest = |text: &str| Minutes::parse(text).expect("what verifies is read").digest();
        assert_eq!(digest(text), digest(MINUTES), "other minutes verify: {text}");
    }
}

/// An export by which minutes verify is of the people who signed.
fn true_export(text: &str) {
    if verify(MINUTES, text, &Pinned::default()).is_ok() {
        assert_eq!(rosters(text), rosters(EXPORT), "other people verify: {text}");
    }
}

/// Edits of five bytes and more: where (2), how many bytes go (2), how many come (1), and those.
fn edited(text: &str, mut edits: &[u8]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    while let Some(([a, b, c, d, come], rest)) = edits.split_first_chunk::<5>() {
        let at = usize::from(u16::from_be_bytes([*a, *b])).min(bytes.len());
        let end = at.saturating_add(usize::from(u16::from_be_bytes([*c, *d]))).min(bytes.len());
        let (new, rest) = rest.split_at(usize::from(*come).min(rest.len()));
        bytes.splice(at..end, new.iter().copied());
        edits = rest;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
