//! What is the place of a value called? Resource and path of its context (FLD-10 to FLD-14): unambiguous whatever
//! the document's names, ids and URLs contain.

use std::borrow::Cow;

/// Resource and path together, in bytes: it leaves 3 KiB of a context to the caller's own pairs.
pub const MAX_PLACE_BYTES: usize = 4 * 1024;

/// One step from a resource down to an element.
pub(super) enum Step<'d> {
    Name(Cow<'d, [u8]>),
    Index(usize),
    /// The URL of an extension, which says more than its index.
    Url(Cow<'d, [u8]>),
}

/// `name[0].given[1]`, `extension[2](http://...).valueString`. What is longer than a place may be is not written out.
pub(super) fn path(steps: &[Step<'_>]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Name(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                encode(name, is_name, &mut path);
            }
            Step::Index(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
            Step::Url(url) => {
                path.push('(');
                encode(url, is_url, &mut path);
                path.push(')');
            }
        }
        if path.len() > MAX_PLACE_BYTES {
            break;
        }
    }
    path
}

/// `Patient/123`, and `Patient/123#Coverage/c` within it.
pub(super) fn resource(container: Option<&str>, kind: &str, id: &[u8]) -> String {
    let mut name = container.map(|outer| format!("{outer}#")).unwrap_or_default();
    name.push_str(kind);
    name.push('/');
    encode(id, is_id, &mut name);
    name
}

/// FLD-14: every other byte becomes %XX, the percent sign too, so that no two texts give the same place.
fn encode(text: &[u8], keep: fn(u8) -> bool, out: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.iter().take(MAX_PLACE_BYTES + 1) {
        if keep(*byte) {
            out.push(char::from(*byte));
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
            out.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
        }
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn is_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
}

const fn is_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'#' | b'@' | b'!' | b'$')
        || matches!(byte, b'&' | b'\'' | b'*' | b'+' | b',' | b';' | b'=' | b'|')
}
