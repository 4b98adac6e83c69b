//! How is a tuple turned into bytes before it is hashed or authenticated? One encoding, a label for each use.
//!
//! `label 00 || prefix || u16 count || (u16 len, key, u32 len, value)...`, big-endian, in the order given.
//! Source: ENV clauses on the canonical context; the caller sorts, since only names::Context is sorted by contract.

/// Encodes pairs under a label; `prefix` is empty but for the envelope's header.
/// Errors: more than 64 pairs, a key over 65,535 bytes or a value over 4 GiB give None.
pub fn encode<'a>(
    _label: &'static str,
    _prefix: &[u8],
    _pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Option<Vec<u8>> {
    todo!()
}
