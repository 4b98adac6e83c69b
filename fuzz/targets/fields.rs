//! Documents: the scanner never panics, sealing finds every place again with the same context, and opening gives the
//! bytes back. For one resource and for newline-delimited ones.
#![no_main]

use std::sync::LazyLock;

use keyward::fields::{self, FieldMap, Plan, SealedSelection, Selection, lines};
use libfuzzer_sys::fuzz_target;

static PLANS: LazyLock<[Plan; 2]> = LazyLock::new(|| {
    let map = FieldMap::parse(fields::FHIR_R4).expect("the shipped map is valid");
    ["direct-identifiers", "safe-harbor"].map(|profile| map.plan(profile).expect("a shipped profile"))
});

fuzz_target!(|document: &[u8]| {
    for plan in &*PLANS {
        if let Ok(selection) = fields::select(document, plan) {
            round_trip(document, &selection, |sealed| fields::sealed_spans(sealed, plan).expect("still a document"));
        }
        if let Ok(selection) = lines::select(document, plan) {
            round_trip(document, &selection, |sealed| lines::sealed_spans(sealed, plan).expect("still documents"));
        }
    }
});

fn round_trip(document: &[u8], selection: &Selection<'_>, find: impl Fn(&[u8]) -> SealedSelection<'_>) {
    let replace = |with: &str| selection.values.iter().map(|value| (value.span, with.to_owned())).collect::<Vec<_>>();
    let sealed = fields::splice(document, &replace("kw1.AAAA")).expect("a selection can be sealed");
    let found = find(&sealed);
    assert_eq!(found.sealed.len(), selection.values.len());
    for (found, value) in found.sealed.iter().zip(&selection.values) {
        assert_eq!(found.context_pairs(), value.context_pairs());
    }
    let back: Vec<_> = found.sealed.iter().zip(&selection.values).map(|(f, value)| (f.span, value.raw())).collect();
    assert_eq!(fields::splice(&sealed, &back).expect("what was there fits"), document);
}
