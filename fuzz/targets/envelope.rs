//! Sealed values: parsing never panics, and what is accepted has one form only, in bytes and as text.
#![no_main]

use keyward::envelope::{SealedValue, range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(value) = SealedValue::parse_binary(input) {
        assert_eq!(value.as_binary(), input);
        let text = value.to_text();
        let (first, second) = range(value.version());
        assert!(text.starts_with(&first) && first <= text && text < second);
        let again = SealedValue::parse_text(&text).expect("what was written is read");
        assert_eq!(again.as_binary(), input);
        let parts = value.parts(value.header().suite(), value.header().class()).expect("its own suite and class");
        assert_eq!([&parts.header[..], parts.nonce, parts.sealed].concat(), input);
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(value) = SealedValue::parse_text(text)
    {
        assert_eq!(value.to_text(), text);
    }
});
