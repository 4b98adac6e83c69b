//! The text form (ENV-11), and what a database finds by it (ENV-12).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{MAX_CIPHERTEXT_BYTES, Malformed};
use crate::crypto::Suite;
use crate::envelope::Header;
use crate::names::KeyVersionId;

/// What every sealed value in text begins with.
pub const TEXT_PREFIX: &str = "kw1.";
/// Bytes of the header that name the key version; a multiple of three, so that no character straddles their end.
const PREFIX_BYTES: usize = 9;

/// The twelve characters after `kw1.` that all values of a key version share (ENV-12).
pub fn prefix(version: KeyVersionId) -> String {
    let header = Header::field(version, Suite::XaesCommitted).encode();
    URL_SAFE_NO_PAD.encode(header.first_chunk::<PREFIX_BYTES>().map_or(&[][..], <[u8; PREFIX_BYTES]>::as_slice))
}

/// The values of a key version as a range: `v >= first AND v < second` under a binary collation (ENV-12).
pub fn range(version: KeyVersionId) -> (String, String) {
    let prefix = prefix(version);
    (format!("{TEXT_PREFIX}{prefix}"), format!("{TEXT_PREFIX}{prefix}~"))
}

pub(super) fn encode(value: &[u8]) -> String {
    let bytes = value.len().div_ceil(3).saturating_mul(4).saturating_add(TEXT_PREFIX.len());
    let mut text = String::with_capacity(bytes);
    text.push_str(TEXT_PREFIX);
    URL_SAFE_NO_PAD.encode_string(value, &mut text);
    text
}

/// Strict: no padding, no white space, and the unused bits of the last character are zero.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Malformed> {
    let encoded = text.strip_prefix(TEXT_PREFIX).ok_or(Malformed::Prefix)?;
    // Before anything is allocated for it.
    if encoded.len() > MAX_ENCODED {
        return Err(Malformed::TooLong);
    }
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Malformed::Base64)
}

/// Characters of the longest value; a little generous, the binary form is measured exactly.
const MAX_ENCODED: usize = (MAX_CIPHERTEXT_BYTES + 84).div_ceil(3) * 4;
