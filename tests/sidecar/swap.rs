//! A sealed value is moved to the place of another of its type: it must not open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyward::fields::{self, lines};
use serde_json::{Value, json};

use crate::documents::{charts, charts_in, is_lines, plan};
use crate::support::{Caller, Setup};

const SEAL: &str = "/v1/keyrings/patients/seal";
/// Items a request, one of which is not swapped.
const ITEMS: usize = 1_000;
/// Bytes of sealed values a request; the sidecar takes 8 MiB.
const BYTES: usize = 4 << 20;

/// A value that was sealed, and where.
struct Sealed {
    context: Value,
    value: String,
}

/// Values by type: their path without the indices.
type Types = BTreeMap<String, Vec<Sealed>>;

/// All 253 values that identify directly, each with the context of each other of its type: 22,088 swaps, all there are.
#[test]
fn no_direct_identifier_opens_in_the_place_of_another_of_its_type() {
    let (swapped, types) = swap_all("direct-identifiers", shifts(usize::MAX));
    assert!(swapped >= 20_000 && types >= 10, "{swapped} swaps in {types} types");
}

/// All 1,782 values of the stricter profile, most of them dates, each with the contexts of up to 48 others of its type:
/// about 77,000 swaps of the 296,000 there are.
#[test]
fn no_date_or_other_value_of_the_stricter_profile_opens_in_the_place_of_another_of_its_type() {
    let (swapped, types) = swap_all("safe-harbor", shifts(48));
    assert!(swapped >= 70_000 && types >= 25, "{swapped} swaps in {types} types");
}

/// Swaps the values of every type cyclically by 1, 2, ... places, as far as `shifts` goes.
fn swap_all(profile: &str, shifts: usize) -> (usize, usize) {
    let setup = Setup::new();
    let _serving = setup.serve();
    setup.keyring();
    let mut caller = Caller::connect(&setup.data()).unwrap();
    let types = seal_all(&mut caller, profile);
    let (mut swapped, mut same) = (0, 0);
    let mut batch = Batch::default();
    for values in types.values() {
        for shift in 1..values.len().min(shifts.saturating_add(1)) {
            for (at, value) in values.iter().enumerate() {
                let other = &values[(at + shift) % values.len()];
                if other.context == value.context {
                    // One resource in two charts: that is no other place.
                    same += 1;
                    continue;
                }
                swapped += 1;
                batch.push(value, &other.context);
                if batch.is_full() {
                    std::mem::take(&mut batch).send(&mut caller, value);
                }
            }
        }
        std::mem::take(&mut batch).send(&mut caller, &values[0]);
    }
    println!("{profile}: {swapped} swaps refused in {} types; {same} pairs share a place", types.len());
    (swapped, types.len())
}

#[derive(Default)]
struct Batch {
    items: Vec<Value>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, value: &Sealed, context: &Value) {
        self.bytes += value.value.len();
        self.items.push(json!({ "sealed": value.value, "context": context }));
    }

    fn is_full(&self) -> bool {
        self.items.len() >= ITEMS - 1 || self.bytes >= BYTES
    }

    /// Opens the swapped values beside one in its own place, which must open: so the request is a good one, and is
    /// answered item by item.
    fn send(mut self, caller: &mut Caller, honest: &Sealed) {
        self.push(honest, &honest.context);
        let body = json!({ "purpose": "TREAT", "items": self.items }).to_string();
        let (status, answer) = caller.ask("POST", "/v1/open", "swap", &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        let (last, swapped) = answer["items"].as_array().unwrap().split_last().unwrap();
        assert!(last["text"].is_string(), "{last}");
        assert_eq!(swapped.len() + 1, self.items.len());
        for (item, asked) in swapped.iter().zip(&self.items) {
            assert_eq!(item["error"]["code"], "cannot_open", "a swapped value: {item} for {asked}");
            assert!(item.get("text").is_none() && item.get("bytes").is_none(), "{item}");
        }
    }
}

/// Seals every selected value of every chart in its place.
fn seal_all(caller: &mut Caller, profile: &str) -> Types {
    let plan = plan(profile);
    let mut types = Types::new();
    for chart in all_charts() {
        let bytes = std::fs::read(&chart).unwrap();
        let select = if is_lines(&chart) { lines::select } else { fields::select };
        for values in select(&bytes, &plan).unwrap().values.chunks(500) {
            let context = |value: &fields::Selected<'_>| json!({ "resource": *value.resource, "path": value.path });
            let items: Vec<Value> =
                values.iter().map(|value| json!({ "context": context(value), "text": value.raw() })).collect();
            let (status, answer) = caller.ask("POST", SEAL, "seal", &json!({ "items": items }).to_string()).unwrap();
            assert_eq!(status, 200, "{answer}");
            for (value, item) in values.iter().zip(answer["items"].as_array().unwrap()) {
                let sealed = Sealed { context: context(value), value: item["sealed"].as_str().unwrap().to_owned() };
                types.entry(without_indices(&value.path)).or_default().push(sealed);
            }
        }
    }
    types
}

fn without_indices(path: &str) -> String {
    path.split('[').map(|part| part.trim_start_matches(|letter: char| letter.is_ascii_digit())).collect()
}

/// The committed charts, or by hand those of `KEYWARD_TEST_CHARTS`.
#[expect(clippy::disallowed_methods, reason = "whoever runs this by hand may have more charts than are committed")]
fn all_charts() -> Vec<PathBuf> {
    std::env::var("KEYWARD_TEST_CHARTS").map_or_else(|_| charts(), |folder| charts_in(folder.as_ref()))
}

/// How many others each value is swapped with at most; by hand another number with `KEYWARD_TEST_SHIFTS`.
#[expect(clippy::disallowed_methods, reason = "whoever runs this by hand may have the time for all pairs")]
fn shifts(usual: usize) -> usize {
    std::env::var("KEYWARD_TEST_SHIFTS").map_or(usual, |shifts| shifts.parse().unwrap())
}
