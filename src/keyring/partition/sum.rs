//! Are these all of a keyring's partitions, and each of them the newest? One keyed sum over all rows answers, and a change of
//! one row changes it in constant time.
//!
//! MSet-Add-Hash (Clarke, Devadas, van Dijk, Gassend, Suh: "Incremental multiset hash functions", ASIACRYPT 2003): the
//! sum modulo 2^256 of an HMAC of each row. What stands in the database is masked by the HMAC of a fresh nonce, so that
//! nobody learns a term from two sums that he has seen, and can add none and take none away.

use crate::crypto::{self, CryptoError, DataKey, MacKey, canonical};
use crate::store::PartitionRow;

/// The label of the key.
const KEY: &str = "keyward/v1/partition-sums";
/// The labels of the two kinds of tuple, which never meet.
const TERM: &str = "keyward/v1/partition-term";
const MASK: &str = "keyward/v1/partition-mask";
const NONCE_BYTES: usize = 16;
const SUM_BYTES: usize = 32;

/// A sum of terms, unmasked; never leaves the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum([u64; 4]);

/// Computes terms and masks under the store key.
pub(in crate::keyring) struct Summer(MacKey);

impl Summer {
    pub(super) fn new(store_key: &DataKey) -> Result<Self, CryptoError> {
        MacKey::derive(store_key, KEY).map(Self)
    }

    /// The term of a sealed row. Its tag covers every field; name and generation stand here by themselves too, so that
    /// nothing rests on the tag alone.
    pub(super) fn term(&self, row: &PartitionRow) -> Result<Sum, CryptoError> {
        let generation = row.generation.to_be_bytes();
        self.number(TERM, &[(b"tag", &row.tag.0), (b"name", &row.name.0), (b"generation", &generation)])
    }

    /// The text of a sum, under a mask of its own.
    pub(super) fn hide(&self, sum: Sum) -> Result<String, CryptoError> {
        let mut nonce = [0; NONCE_BYTES];
        crypto::random(&mut nonce)?;
        let masked = sum.plus(self.number(MASK, &[(b"nonce", &nonce)])?);
        Ok(hex::encode([&nonce[..], &masked.bytes()].concat()))
    }

    /// The sum of a text; None if it is none.
    pub(super) fn reveal(&self, text: &str) -> Option<Sum> {
        let bytes = hex::decode(text).ok()?;
        let (nonce, masked) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let masked = Sum::of(masked.try_into().ok()?);
        Some(masked.minus(self.number(MASK, &[(b"nonce", nonce)]).ok()?))
    }

    fn number(&self, label: &'static str, pairs: &[(&[u8], &[u8])]) -> Result<Sum, CryptoError> {
        let input = canonical::encode(label, &[], pairs.iter().copied()).ok_or(CryptoError)?;
        Ok(Sum::of(&self.0.tag(&[&input])))
    }
}

impl Sum {
    /// Modulo 2^256.
    pub(super) fn plus(self, other: Self) -> Self {
        let mut carry = false;
        let mut out = [0; 4];
        for ((to, a), b) in out.iter_mut().zip(self.0).zip(other.0) {
            let (low, first) = a.overflowing_add(b);
            let (low, second) = low.overflowing_add(u64::from(carry));
            (*to, carry) = (low, first || second);
        }
        Self(out)
    }

    /// Modulo 2^256.
    pub(super) fn minus(self, other: Self) -> Self {
        // -x = not x + 1.
        self.plus(Self(other.0.map(|limb| !limb))).plus(Self([1, 0, 0, 0]))
    }

    fn of(bytes: &[u8; SUM_BYTES]) -> Self {
        let mut limbs = [0; 4];
        // Four chunks of eight: the length is a constant.
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        }
        Self(limbs)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|limb| limb.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::KeyVersionId;
    use crate::store::{PartitionName, Tag};

    fn summer() -> Summer {
        Summer::new(&DataKey::generate(&[]).unwrap()).unwrap()
    }

    fn row(name: u8, generation: u64, tag: u8) -> PartitionRow {
        PartitionRow {
            keyring: "default/p".to_owned(),
            name: PartitionName([name; 16]),
            parent: KeyVersionId([1; 8]),
            state: "active".to_owned(),
            generation,
            body: String::new(),
            wrap: Vec::new(),
            tag: Tag([tag; 32]),
        }
    }

    #[test]
    fn sums_carry_and_borrow_over_all_limbs() {
        let top = Sum([u64::MAX; 4]);
        let one = Sum([1, 0, 0, 0]);
        assert_eq!(top.plus(one), Sum::default());
        assert_eq!(Sum::default().minus(one), top);
        assert_eq!(Sum([u64::MAX, u64::MAX, 0, 0]).plus(one), Sum([0, 0, 1, 0]));
        assert_eq!(Sum([0, 0, 1, 0]).minus(one), Sum([u64::MAX, u64::MAX, 0, 0]));
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_a_replaced_row_leaves_no_trace() {
        let summer = summer();
        let term = |name, generation, tag| summer.term(&row(name, generation, tag)).unwrap();
        let one_way = term(1, 1, 1).plus(term(2, 1, 2)).plus(term(3, 1, 3));
        let other_way = term(3, 1, 3).plus(term(1, 1, 1)).plus(term(2, 1, 2));
        assert_eq!(one_way, other_way);
        let replaced = one_way.minus(term(2, 1, 2)).plus(term(2, 2, 4));
        assert_eq!(replaced, term(1, 1, 1).plus(term(2, 2, 4)).plus(term(3, 1, 3)));
        for other in [term(2, 2, 2), term(4, 1, 2), term(2, 1, 9)] {
            assert_ne!(other, term(2, 1, 2));
        }
    }

    #[test]
    fn the_text_says_nothing_that_two_texts_of_one_sum_have_in_common() {
        let summer = summer();
        let sum = summer.term(&row(1, 1, 1)).unwrap();
        let texts = [(); 2].map(|()| summer.hide(sum).unwrap());
        assert!(texts.iter().all(|text| text.len() == 96 && summer.reveal(text) == Some(sum)));
        assert_ne!(texts[0][..32], texts[1][..32]);
        assert_ne!(texts[0][32..], texts[1][32..]);
        assert_ne!(summer_of_another().reveal(&texts[0]), Some(sum));
        for broken in ["", "00", &texts[0][2..], "zz"] {
            assert_eq!(summer.reveal(broken), None);
        }
    }

    fn summer_of_another() -> Summer {
        summer()
    }

    #[test]
    fn a_million_changes_later_the_sum_is_that_of_the_rows_that_are_left() {
        let summer = summer();
        let mut sum = Sum::default();
        let terms: Vec<Sum> = (0..=255).map(|name| summer.term(&row(name, 1, name)).unwrap()).collect();
        for round in 0..4_000_usize {
            for (at, term) in terms.iter().enumerate() {
                sum = if (at + round) % 2 == 0 { sum.plus(*term) } else { sum.minus(*term) };
            }
        }
        assert_eq!(sum, Sum::default());
    }
}
