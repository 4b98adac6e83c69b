//! How is a tuple turned into bytes before it is hashed or authenticated? One encoding, a label for each use.
//!
//! `label 00 || prefix || u16 count || (u16 len, key, u32 len, value)...`, big-endian, in the order given (ENV-20, ENV-24).
//! The caller sorts, since only names::Context is sorted by contract. Nothing is ever joined with a separator, and no
//! two uses share a label.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Pairs of one tuple.
pub const MAX_PAIRS: usize = 64;

/// Encodes pairs under a label; `prefix` is empty but for the envelope's header.
/// Errors: more than 64 pairs, a key over 65,535 bytes or a value over 4 GiB give None.
pub fn encode<'a>(
    label: &'static str,
    prefix: &[u8],
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(ROOM);
    out.extend_from_slice(label.as_bytes());
    out.push(0);
    out.extend_from_slice(prefix);
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut count = 0_u16;
    for (key, value) in pairs {
        count = count.checked_add(1).filter(|count| usize::from(*count) <= MAX_PAIRS)?;
        out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_be_bytes());
        out.extend_from_slice(value);
    }
    // The pairs may come from an iterator that does not know its length, so the count is written last.
    out.get_mut(count_at..)?.first_chunk_mut::<2>()?.copy_from_slice(&count.to_be_bytes());
    Some(out)
}

/// A typical context (keyring, patient, resource, path) fits without growing.
const ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let pairs: [(&[u8], &[u8]); 2] = [(b"a", b""), (b"bc", b"xyz")];
        let expected = b"keyward/t/v1\0PP\0\x02\0\x01a\0\0\0\0\0\x02bc\0\0\0\x03xyz";
        assert_eq!(encode("keyward/t/v1", b"PP", pairs).unwrap(), expected);
        assert_eq!(encode("l", b"", []).unwrap(), b"l\0\0\0");
    }

    #[test]
    fn limits_are_errors() {
        let pairs = |n| std::iter::repeat_n((&b"k"[..], &b"v"[..]), n);
        assert!(encode("l", b"", pairs(MAX_PAIRS)).is_some());
        assert!(encode("l", b"", pairs(MAX_PAIRS + 1)).is_none());
        let key = vec![0; 65_536];
        assert!(encode("l", b"", [(&key[..65_535], &b""[..])]).is_some());
        assert!(encode("l", b"", [(&key[..], &b""[..])]).is_none());
    }

    #[test]
    fn moving_a_byte_between_neighbours_changes_the_encoding() {
        let encode = |pairs: [(&[u8], &[u8]); 2]| encode("l", b"", pairs.map(|(k, v)| (k, v))).unwrap();
        let base = encode([(b"a", b"bc"), (b"d", b"e")]);
        assert_ne!(base, encode([(b"ab", b"c"), (b"d", b"e")]));
        assert_ne!(base, encode([(b"a", b"b"), (b"cd", b"e")]));
    }
}
