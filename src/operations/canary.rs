//! `canary`: a value of keyward's own, sealed under a key version for a backup and opened by a drill. Its context is one
//! that no caller can name, so that no canary can pass for a caller's value, nor the reverse.

use crate::crypto::KeyClass;
use crate::envelope::{self, Header, Nonces, SealedValue};
use crate::keyring::CanaryKey;

use super::ItemError;

/// What every canary says. That it opens is the proof; what it says is no secret.
const SAYS: &[u8] = b"keyward canary";

/// A canary under this key, as `kw1.`...
pub fn seal(key: &CanaryKey) -> Result<String, ItemError> {
    let header = Header::field(key.version(), key.suite());
    let aad = envelope::aad(&header, key.pairs()).map_err(|_| ItemError::InvalidContext)?;
    let mut nonces = Nonces::draw(1).map_err(|_| ItemError::Unavailable)?;
    let nonce = nonces.next().ok_or(ItemError::Unavailable)?;
    envelope::seal_text(&header, nonce, SAYS.len(), |header, nonce, out| key.seal(header, nonce, &aad, SAYS, out))
        .map_err(|_| ItemError::Unavailable)
}

/// Whether a text is a canary that opens under this key and says what it should.
pub fn opens(key: &CanaryKey, text: &str) -> Result<(), ItemError> {
    let sealed = SealedValue::parse_text(text).map_err(|_| ItemError::MalformedValue)?;
    let parts = sealed.parts(key.suite(), KeyClass::Field).map_err(|_| ItemError::CannotOpen)?;
    let aad = envelope::aad(sealed.header(), key.pairs()).map_err(|_| ItemError::InvalidContext)?;
    let opened = key.open(parts.header, parts.nonce, &aad, parts.sealed).map_err(|_| ItemError::CannotOpen)?;
    if opened.expose() == SAYS { Ok(()) } else { Err(ItemError::CannotOpen) }
}
