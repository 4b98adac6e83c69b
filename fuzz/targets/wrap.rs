//! Stored wraps of data keys: decoding never panics, and what decodes encodes to the same bytes.
#![no_main]

use keyward::kek::Wrap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stored: &[u8]| {
    if let Ok(wrap) = Wrap::decode(stored) {
        assert_eq!(wrap.encode(), stored);
    }
});
