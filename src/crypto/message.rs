//! How is one message sealed under one class of one data key? XAES-256-GCM, with a key commitment for suite 2.

use ring::hmac;

use super::xaes::Xaes;
use super::{
    COMMITMENT_BYTES, CryptoError, DataKey, KeyClass, NONCE_BYTES, Suite, TAG_BYTES, constant_time_eq, sha256,
};
use crate::secret::{Locked, SecretBytes};

/// The schedules of one key class of one data key: XAES key, commitment key. In locked memory.
pub struct MessageKey(Locked<Schedules>);

struct Schedules {
    message: Xaes,
    commitment: hmac::Key,
}

impl MessageKey {
    /// Derives the subkeys of a class (ENV-13). The classes of deterministic values and of large objects have suites
    /// of their own, whose subkeys must not serve XAES as well: they are refused.
    pub fn derive(key: &DataKey, class: KeyClass) -> Result<Self, CryptoError> {
        let (message, commitment) = labels(class).ok_or(CryptoError)?;
        let message = key.subkey(message)?;
        let commitment = key.subkey(commitment)?;
        Ok(Self(Locked::new_with(|| Schedules {
            message: Xaes::new(&message),
            commitment: hmac::Key::new(hmac::HMAC_SHA256, commitment.as_ref()),
        })?))
    }

    /// Appends `[commitment] || ciphertext || tag` to `out` (commitment for the committed suite only). On an error
    /// `out` is as it was.
    pub fn seal(
        &self,
        suite: Suite,
        header: &[u8; 12],
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let start = out.len();
        match suite {
            Suite::Xaes => {}
            Suite::XaesCommitted => {
                out.reserve(COMMITMENT_BYTES + plaintext.len() + TAG_BYTES);
                out.extend_from_slice(&self.0.commit(header, nonce, aad));
            }
        }
        self.0.message.seal_onto(nonce, aad, plaintext, out).inspect_err(|CryptoError| out.truncate(start))
    }

    /// Opens `[commitment] || ciphertext || tag`.
    pub fn open(
        &self,
        suite: Suite,
        header: &[u8; 12],
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, CryptoError> {
        let sealed = match suite {
            Suite::Xaes => sealed,
            Suite::XaesCommitted => {
                let (commitment, rest) = sealed.split_first_chunk::<COMMITMENT_BYTES>().ok_or(CryptoError)?;
                // ENV-18: before anything is decrypted.
                if !constant_time_eq(commitment, &self.0.commit(header, nonce, aad)) {
                    return Err(CryptoError);
                }
                rest
            }
        };
        self.0.message.open(nonce, aad, sealed)
    }
}

impl Schedules {
    /// ENV-17: commits to the key, the header, the nonce and the context.
    fn commit(&self, header: &[u8; 12], nonce: &[u8; NONCE_BYTES], aad: &[u8]) -> [u8; COMMITMENT_BYTES] {
        let mut context = hmac::Context::with_key(&self.commitment);
        context.update(b"keyward/commit/v1");
        context.update(header);
        context.update(nonce);
        context.update(&sha256(&[aad]));
        let mut out = [0; COMMITMENT_BYTES];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

/// The labels of a class: of its message key and of its commitment key.
pub(super) const fn labels(class: KeyClass) -> Option<(&'static str, &'static str)> {
    match class {
        KeyClass::Field => Some(("keyward/v1/field", "keyward/v1/field/commit")),
        KeyClass::Partition => Some(("keyward/v1/partition", "keyward/v1/partition/commit")),
        KeyClass::Caller => Some(("keyward/v1/caller", "keyward/v1/caller/commit")),
        KeyClass::System => Some(("keyward/v1/system", "keyward/v1/system/commit")),
        KeyClass::Deterministic | KeyClass::Object => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8; 12] = b"twelve bytes";
    const NONCE: &[u8; 24] = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    const SUITES: [(Suite, usize); 2] = [(Suite::Xaes, 16), (Suite::XaesCommitted, 48)];

    fn key(byte: u8, class: KeyClass) -> MessageKey {
        MessageKey::derive(&DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap(), class).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_and_has_the_overhead_of_its_suite() {
        let key = key(1, KeyClass::Field);
        for (suite, overhead) in SUITES {
            for len in [0, 1, 15, 16, 17, 1000] {
                let plaintext = vec![0x42; len];
                let mut out = Vec::with_capacity(len + overhead);
                let place = out.as_ptr();
                key.seal(suite, HEADER, NONCE, b"aad", &plaintext, &mut out).unwrap();
                assert_eq!((out.as_ptr(), out.len()), (place, len + overhead), "a buffer of the right size stays");
                assert_eq!(key.open(suite, HEADER, NONCE, b"aad", &out).unwrap().expose(), plaintext);
            }
        }
    }

    #[test]
    fn every_class_seals_under_keys_of_its_own() {
        let classes = [KeyClass::Field, KeyClass::Partition, KeyClass::Caller, KeyClass::System];
        for (suite, _) in SUITES {
            for sealer in classes {
                let mut out = Vec::new();
                key(1, sealer).seal(suite, HEADER, NONCE, b"", b"plaintext", &mut out).unwrap();
                for opener in classes {
                    let opened = key(1, opener).open(suite, HEADER, NONCE, b"", &out);
                    assert_eq!(opened.is_ok(), sealer == opener);
                }
            }
        }
    }

    #[test]
    fn classes_with_suites_of_their_own_get_no_xaes_key() {
        let data_key = DataKey::generate(&[]).unwrap();
        for class in [KeyClass::Deterministic, KeyClass::Object] {
            assert_eq!(MessageKey::derive(&data_key, class).err(), Some(CryptoError));
        }
    }

    #[test]
    fn the_committed_suite_binds_the_header_by_itself() {
        let key = key(1, KeyClass::Field);
        let mut out = Vec::new();
        key.seal(Suite::XaesCommitted, HEADER, NONCE, b"", b"plaintext", &mut out).unwrap();
        assert!(key.open(Suite::XaesCommitted, b"other header", NONCE, b"", &out).is_err());
    }

    #[test]
    fn too_short_input_is_refused_by_both_suites() {
        let key = key(1, KeyClass::Field);
        for (suite, overhead) in SUITES {
            for len in 0..overhead {
                assert!(key.open(suite, HEADER, NONCE, b"", &vec![0; len]).is_err());
            }
        }
    }
}
