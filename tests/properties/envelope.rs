//! The sealed value: what was sealed opens, and nothing else does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a failed test")]

use keyward::crypto::{DataKey, KeyClass, MessageKey, Suite};
use keyward::envelope::{AadError, Header, Malformed, Nonces, SealedValue, aad, seal_text};
use keyward::names::{Context, KeyVersionId};
use keyward::secret::SecretBytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Pairs = Vec<(String, String)>;

proptest! {
    #[test]
    fn what_was_sealed_opens_in_its_place(case in case(), plaintext in vec(any::<u8>(), 0..600)) {
        let text = case.seal(&plaintext);
        let opened = case.open(&text, &case.pairs).unwrap();
        prop_assert_eq!(opened.expose(), &plaintext[..]);
    }

    #[test]
    fn a_flipped_bit_anywhere_does_not_open(case in case(), plaintext in vec(any::<u8>(), 0..80), at in any::<usize>()) {
        let value = SealedValue::parse_text(&case.seal(&plaintext)).unwrap();
        let mut bytes = value.as_binary().to_vec();
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(case.open_binary(&bytes, &case.pairs).is_none());
    }

    #[test]
    fn a_changed_text_parses_to_other_bytes_or_not_at_all(case in case(), at in any::<usize>(), with in 0_u8..128) {
        let text = case.seal(b"plaintext");
        let mut changed = text.clone().into_bytes();
        let at = at % changed.len();
        prop_assume!(changed[at] != with);
        changed[at] = with;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert!(case.open(&changed, &case.pairs).is_none());
        if let Ok(value) = SealedValue::parse_text(&changed) {
            prop_assert_eq!(value.to_text(), changed);
        }
    }

    #[test]
    fn any_other_context_does_not_open(case in case(), other in pairs()) {
        prop_assume!(other != case.pairs);
        let text = case.seal(b"plaintext");
        prop_assert!(case.open(&text, &other).is_none());
    }

    #[test]
    fn a_value_with_the_header_of_another_version_does_not_open(case in case(), other in any::<[u8; 8]>()) {
        prop_assume!(other != case.header.version().0);
        let value = SealedValue::parse_text(&case.seal(b"plaintext")).unwrap();
        let mut bytes = value.as_binary().to_vec();
        bytes[..12].copy_from_slice(&Header::field(KeyVersionId(other), case.header.suite()).encode());
        prop_assert!(case.open_binary(&bytes, &case.pairs).is_none());
    }

    #[test]
    fn a_value_renumbered_to_the_other_suite_does_not_open(case in case(), plaintext in vec(any::<u8>(), 32..80)) {
        let other = match case.header.suite() {
            Suite::Xaes => Suite::XaesCommitted,
            Suite::XaesCommitted => Suite::Xaes,
        };
        let value = SealedValue::parse_text(&case.seal(&plaintext)).unwrap();
        let mut bytes = value.as_binary().to_vec();
        bytes[9] = other as u8;
        prop_assert!(case.open_binary(&bytes, &case.pairs).is_none());
        // Not even by a reader that takes the suite from the value.
        let renumbered = Case { header: Header::field(case.header.version(), other), ..case };
        prop_assert!(renumbered.open_binary(&bytes, &renumbered.pairs).is_none());
    }

    #[test]
    fn any_bytes_that_parse_encode_to_themselves(head in header_bytes(), tail in vec(any::<u8>(), 0..200)) {
        let bytes = [&head[..], &tail].concat();
        if let Ok(value) = SealedValue::parse_binary(&bytes) {
            prop_assert_eq!(value.as_binary(), &bytes[..]);
            prop_assert_eq!(value.header().encode(), head);
            let text = value.to_text();
            let again = SealedValue::parse_text(&text).unwrap();
            prop_assert_eq!(again.as_binary(), &bytes[..]);
        }
    }

    #[test]
    fn any_text_that_parses_encodes_to_itself(text in "(kw1\\.)?AQ[A-Za-z0-9_-]{10}(AgEA|AQEA)[A-Za-z0-9_+/=\n-]{0,140}") {
        if let Ok(value) = SealedValue::parse_text(&text) {
            prop_assert_eq!(value.to_text(), text);
        }
    }

    #[test]
    fn parsing_arbitrary_input_never_panics(bytes in vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = SealedValue::parse_binary(&bytes);
        let _ = SealedValue::parse_text(&text);
        let _ = SealedValue::parse_text(&format!("kw1.{text}"));
    }

    #[test]
    fn different_contexts_have_different_canonical_bytes(a in pairs(), b in pairs()) {
        let header = Header::field(KeyVersionId([1; 8]), Suite::Xaes);
        let encode = |pairs: &Pairs| aad(&header, bytes_of(pairs)).unwrap();
        prop_assert_eq!(encode(&a) == encode(&b), a == b);
    }

    #[test]
    fn pairs_in_any_other_order_are_refused(pairs in pairs(), seed in any::<u64>()) {
        let header = Header::field(KeyVersionId([1; 8]), Suite::Xaes);
        let mut shuffled = pairs.clone();
        shuffled.rotate_left(usize::try_from(seed % pairs.len() as u64).unwrap());
        if shuffled != pairs {
            prop_assert_eq!(aad(&header, bytes_of(&shuffled)), Err(AadError::Unsorted));
        }
    }

    #[test]
    fn the_largest_context_of_a_caller_leaves_room_for_keywards_own(len in 7000_usize..=7168, count in 1_usize..=62) {
        let value = "v".repeat((len - count * 3) / count);
        let free = Context::parse((0..count).map(|n| (format!("x{n:02}"), value.clone()))).unwrap();
        let header = Header::field(KeyVersionId([1; 8]), Suite::Xaes);
        // The longest keyring name: two names of 63 characters and a slash.
        let ring = (b"kw.keyring".to_vec(), vec![b'k'; 127]);
        let own = [(&ring.0[..], &ring.1[..])];
        let all = own.into_iter().chain(free.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())));
        prop_assert!(aad(&header, all).is_ok());
    }
}

struct Case {
    key: MessageKey,
    header: Header,
    pairs: Pairs,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.header, self.pairs)
    }
}

impl Case {
    fn seal(&self, plaintext: &[u8]) -> String {
        let aad = aad(&self.header, bytes_of(&self.pairs)).unwrap();
        let nonce = Nonces::draw(1).unwrap().next().unwrap();
        seal_text(&self.header, nonce, plaintext.len(), |header, nonce, out| {
            self.key.seal(self.header.suite(), header, nonce, &aad, plaintext, out)
        })
        .unwrap()
    }

    fn open(&self, text: &str, pairs: &Pairs) -> Option<SecretBytes> {
        self.open_value(&SealedValue::parse_text(text).ok()?, pairs)
    }

    fn open_binary(&self, bytes: &[u8], pairs: &Pairs) -> Option<SecretBytes> {
        self.open_value(&SealedValue::parse_binary(bytes).ok()?, pairs)
    }

    fn open_value(&self, value: &SealedValue<'_>, pairs: &Pairs) -> Option<SecretBytes> {
        let parts: Result<_, Malformed> = value.parts(self.header.suite(), KeyClass::Field);
        let parts = parts.ok()?;
        let aad = aad(value.header(), bytes_of(pairs)).unwrap();
        self.key.open(self.header.suite(), parts.header, parts.nonce, &aad, parts.sealed).ok()
    }
}

fn bytes_of(pairs: &Pairs) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()))
}

fn case() -> impl Strategy<Value = Case> {
    (any::<[u8; 32]>(), any::<[u8; 8]>(), any::<bool>(), pairs()).prop_map(|(key, version, committed, pairs)| {
        let suite = if committed { Suite::XaesCommitted } else { Suite::Xaes };
        let key = DataKey::from_secret(&SecretBytes::copy_of(&key)).unwrap();
        Case {
            key: MessageKey::derive(&key, KeyClass::Field).unwrap(),
            header: Header::field(KeyVersionId(version), suite),
            pairs,
        }
    })
}

fn pairs() -> impl Strategy<Value = Pairs> {
    btree_map("[a-zé]{1,3}", "[a-z0-9/]{0,6}", 0..5).prop_map(|mut pairs| {
        pairs.insert("kw.keyring".to_owned(), "default/patients".to_owned());
        pairs.into_iter().collect()
    })
}

/// Headers of which a good part is well-formed.
fn header_bytes() -> impl Strategy<Value = [u8; 12]> {
    let rarely = |usual: u8| prop_oneof![9 => Just(usual), 1 => any::<u8>()];
    (rarely(1), any::<[u8; 8]>(), prop_oneof![1_u8..=2, 0_u8..=7], prop_oneof![Just(1_u8), 0_u8..=7], rarely(0))
        .prop_map(|(format, [a, b, c, d, e, f, g, h], suite, class, flags)| {
            [format, a, b, c, d, e, f, g, h, suite, class, flags]
        })
}
