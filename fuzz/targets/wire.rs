//! Request bodies: the strict readers never panic, what they accept is JSON to an independent parser too, and a text
//! is read as the same characters by both.
#![no_main]

use keyward::names::KeyringName;
use keyward::server::wire::{parse_audit_query, parse_create_keyring, parse_open, parse_rewrap, parse_seal};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let keyring: KeyringName = "fuzz/records".parse().expect("a valid name");
    let seal = parse_seal(keyring, body);
    let rewrap = parse_rewrap(body);
    let accepted = seal.is_ok() || rewrap.is_ok() || parse_open(body).is_ok() || parse_create_keyring(body).is_ok();
    let json: Result<Value, _> = serde_json::from_slice(body);
    assert!(!accepted || json.as_ref().is_ok_and(Value::is_object), "accepted, but no JSON object");
    if let (Ok((seal, _)), Ok(json)) = (seal, json) {
        let items = json.get("items").and_then(Value::as_array).map_or(vec![&json], |items| items.iter().collect());
        assert_eq!(seal.items.len(), items.len());
        for (read, item) in seal.items.iter().zip(items) {
            if let (Ok(read), Some(text)) = (read, item.get("text").and_then(Value::as_str)) {
                assert_eq!(read.plaintext.expose(), text.as_bytes());
            }
        }
    }
    if let Ok((rewrap, _)) = rewrap {
        for item in rewrap.items.iter().flatten() {
            assert!(item.new_context.as_ref().is_none_or(|new| *new != item.context), "a place is not new to itself");
        }
    }
    if let Ok(query) = std::str::from_utf8(body) {
        let _ = parse_audit_query(Some(query));
    }
});
