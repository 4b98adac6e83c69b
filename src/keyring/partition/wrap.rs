//! How is a partition key wrapped? By a data key of its keyring, under a subkey that serves nothing else, bound to its place.
//!
//! `schema || check value || nonce || commitment || ciphertext || tag`: XAES-256-GCM with a key commitment under the data
//! key's subkey of class 4. The key-encryption key never sees a partition key.

use crate::clock::Wall;
use crate::crypto::{self, CryptoError, DataKey, MessageKey, NONCE_BYTES, Suite, canonical};
use crate::names::{KeyVersionId, StoreId};
use crate::store::PartitionName;

/// The first byte of the column.
const SCHEMA: u8 = 1;
/// Stands where a sealed value has its header.
const HEADER: &[u8; 12] = b"kw.partition";
const LABEL: &str = "keyward/v1/partition-wrap";
const PURPOSE: &[u8] = b"partition";
const CHECK_BYTES: usize = 16;

/// Where a partition key belongs.
pub(super) struct Place<'a> {
    pub store: StoreId,
    pub keyring: &'a str,
    pub name: PartitionName,
    pub parent: KeyVersionId,
    pub created: Wall,
}

impl Place<'_> {
    fn aad(&self) -> Result<Vec<u8>, CryptoError> {
        let created = self.created.0.to_be_bytes();
        let pairs: [(&[u8], &[u8]); 6] = [
            (b"store", &self.store.0),
            (b"keyring", self.keyring.as_bytes()),
            (b"name", &self.name.0),
            (b"parent", &self.parent.0),
            (b"purpose", PURPOSE),
            (b"created", &created),
        ];
        canonical::encode(LABEL, &[], pairs).ok_or(CryptoError)
    }
}

/// Wraps a key and proves that the wrap opens: one that does not would be found when the values are needed.
pub(super) fn wrap(parent: &MessageKey, key: &DataKey, place: &Place<'_>) -> Result<Vec<u8>, CryptoError> {
    let mut nonce = [0; NONCE_BYTES];
    crypto::random(&mut nonce)?;
    let mut out = vec![SCHEMA];
    out.extend_from_slice(&key.check_value());
    out.extend_from_slice(&nonce);
    parent.seal(Suite::XaesCommitted, HEADER, &nonce, &place.aad()?, key.expose_for_wrapping(), &mut out)?;
    let back = unwrap(parent, &out, place)?;
    if crypto::constant_time_eq(back.expose_for_wrapping(), key.expose_for_wrapping()) {
        Ok(out)
    } else {
        Err(CryptoError)
    }
}

/// Unwraps a key and compares its check value.
pub(super) fn unwrap(parent: &MessageKey, wrap: &[u8], place: &Place<'_>) -> Result<DataKey, CryptoError> {
    let (&[SCHEMA], rest) = wrap.split_first_chunk::<1>().ok_or(CryptoError)? else { return Err(CryptoError) };
    let (check, rest) = rest.split_first_chunk::<CHECK_BYTES>().ok_or(CryptoError)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(CryptoError)?;
    let key = DataKey::from_secret(&parent.open(Suite::XaesCommitted, HEADER, nonce, &place.aad()?, sealed)?)?;
    if crypto::constant_time_eq(&key.check_value(), check) { Ok(key) } else { Err(CryptoError) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::KeyClass;

    fn parent() -> MessageKey {
        MessageKey::derive(&DataKey::generate(&[]).unwrap(), KeyClass::Partition).unwrap()
    }

    fn place() -> Place<'static> {
        Place {
            store: StoreId([1; 16]),
            keyring: "default/p",
            name: PartitionName([2; 16]),
            parent: KeyVersionId([3; 8]),
            created: Wall(4),
        }
    }

    #[test]
    fn a_wrap_opens_in_its_place_and_nowhere_else() {
        let (parent, key) = (parent(), DataKey::generate(&[]).unwrap());
        let wrap = super::wrap(&parent, &key, &place()).unwrap();
        assert_eq!(wrap.len(), 121);
        assert_eq!(unwrap(&parent, &wrap, &place()).unwrap().check_value(), key.check_value());
        let elsewhere = [
            Place { store: StoreId([9; 16]), ..place() },
            Place { keyring: "default/q", ..place() },
            Place { name: PartitionName([9; 16]), ..place() },
            Place { parent: KeyVersionId([9; 8]), ..place() },
            Place { created: Wall(9), ..place() },
        ];
        for place in elsewhere {
            assert!(unwrap(&parent, &wrap, &place).is_err());
        }
        assert!(unwrap(&super::tests::parent(), &wrap, &place()).is_err());
        for bit in 0..wrap.len() * 8 {
            let mut altered = wrap.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&parent, &altered, &place()).is_err(), "bit {bit}");
        }
        assert!((0..wrap.len()).all(|len| unwrap(&parent, &wrap[..len], &place()).is_err()));
    }

    #[test]
    fn a_data_key_that_wraps_partitions_seals_no_values_with_the_same_subkey() {
        let data_key = DataKey::generate(&[]).unwrap();
        let of = |class| MessageKey::derive(&data_key, class).unwrap();
        let wrap = super::wrap(&of(KeyClass::Partition), &DataKey::generate(&[]).unwrap(), &place()).unwrap();
        assert!(unwrap(&of(KeyClass::Field), &wrap, &place()).is_err());
    }
}
