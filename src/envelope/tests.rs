use super::*;
use crate::names::KeyVersionId;

const VERSION: KeyVersionId = KeyVersionId(*b"12345678");

#[test]
fn every_header_that_parses_encodes_to_the_same_bytes_and_there_are_only_five_kinds() {
    let mut kinds = 0;
    for suite in 0..=255 {
        for class in 0..=255 {
            let mut bytes = *b"\x0112345678\0\0\0";
            (bytes[9], bytes[10]) = (suite, class);
            if let Ok(header) = Header::parse(&bytes) {
                assert_eq!(header.encode(), bytes);
                kinds += 1;
            }
        }
    }
    assert_eq!(kinds, 5);
}

#[test]
fn the_overhead_is_what_the_format_says() {
    assert_eq!(Header::field(VERSION, Suite::Xaes).overhead(), 52);
    assert_eq!(Header::field(VERSION, Suite::XaesCommitted).overhead(), 84);
}

#[test]
fn the_debug_form_of_a_value_shows_neither_nonce_nor_ciphertext() {
    let bytes = [&Header::field(VERSION, Suite::Xaes).encode()[..], &[0xaa; 40]].concat();
    let value = SealedValue::parse_binary(&bytes).unwrap();
    assert!(!format!("{value:?}").contains("170"), "{value:?}");
    assert!(format!("{value:?}").ends_with("52 bytes)"), "{value:?}");
}

#[test]
fn parsing_the_binary_form_does_not_copy_it() {
    let bytes = [&Header::field(VERSION, Suite::Xaes).encode()[..], &[0; 40]].concat();
    let value = SealedValue::parse_binary(&bytes).unwrap();
    assert_eq!(value.as_binary().as_ptr(), bytes.as_ptr());
}

#[test]
fn the_text_is_allocated_once() {
    let bytes = [&Header::field(VERSION, Suite::Xaes).encode()[..], &[0; 1040]].concat();
    let text = SealedValue::parse_binary(&bytes).unwrap().to_text();
    assert!(text.capacity() - text.len() < 4, "{} of {}", text.len(), text.capacity());
}
