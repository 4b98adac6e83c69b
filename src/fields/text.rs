//! What does the inside of a JSON string say? Comparison needs it; sealing never does (it keeps the escapes).

use std::borrow::Cow;

/// The text between the quotes as bytes: UTF-8, and lone surrogates in the three bytes that UTF-8 would give them.
/// The input must have passed the scanner.
pub(super) fn unescape(body: &str) -> Cow<'_, [u8]> {
    let mut rest = body.as_bytes();
    if !rest.contains(&b'\\') {
        return Cow::Borrowed(rest);
    }
    let mut out = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (point, used) = escape_value(escape);
        push(point, &mut out);
        rest = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The code point (or lone surrogate) of the escape that begins here, and its length.
fn escape_value(escape: &[u8]) -> (u32, usize) {
    match escape {
        [_, b'u', digits @ ..] => {
            let high = hex(digits);
            match digits.get(4..) {
                Some([b'\\', b'u', low @ ..]) if (0xD800..0xDC00).contains(&high) => {
                    let low = hex(low);
                    if (0xDC00..0xE000).contains(&low) {
                        return (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12);
                    }
                    (high, 6)
                }
                _ => (high, 6),
            }
        }
        [_, b'b', ..] => (0x08, 2),
        [_, b'f', ..] => (0x0C, 2),
        [_, b'n', ..] => (0x0A, 2),
        [_, b'r', ..] => (0x0D, 2),
        [_, b't', ..] => (0x09, 2),
        [_, itself, ..] => (u32::from(*itself), 2),
        _ => (0xFFFD, 1),
    }
}

fn hex(digits: &[u8]) -> u32 {
    digits.iter().take(4).fold(0, |sum, digit| sum * 16 + char::from(*digit).to_digit(16).unwrap_or(0))
}

fn push(point: u32, out: &mut Vec<u8>) {
    if let Some(character) = char::from_u32(point) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return;
    }
    let [_, _, _, middle] = (0xA0 | ((point >> 6) & 0x1F)).to_be_bytes();
    let [_, _, _, last] = (0x80 | (point & 0x3F)).to_be_bytes();
    out.extend_from_slice(&[0xED, middle, last]);
}
