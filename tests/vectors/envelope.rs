//! Sealed values made by another implementation of FORMAT.md (data/vectors/envelope/generate.py): accepted, and rejected
//! each with its reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a failed test")]

use std::collections::BTreeSet;

use keyward::crypto::{DataKey, KeyClass, MessageKey, Suite};
use keyward::envelope::{
    AadError, Header, KEYRING_KEY, MAX_AAD_BYTES, MAX_CIPHERTEXT_BYTES, Malformed, Nonce, Nonces, PATH_KEY,
    RESOURCE_KEY, SealError, SealedValue, aad, prefix, range, seal_binary, seal_text,
};
use keyward::names::{Context, ContextError, KeyVersionId};
use keyward::secret::SecretBytes;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    name: String,
    data_key: String,
    version: String,
    suite: u8,
    class: u8,
    nonce: String,
    context: Vec<(String, String)>,
    plaintext: String,
    aad: String,
    sealed: String,
}

impl Accepted {
    fn header(&self) -> Header {
        Header::new(self.version.parse().unwrap(), suite(self.suite), class(self.class)).unwrap()
    }

    fn key(&self) -> MessageKey {
        message_key(&self.data_key, self.class)
    }
}

fn accepted() -> Vec<Accepted> {
    serde_json::from_str(include_str!("../data/vectors/envelope/accepted.json")).unwrap()
}

// ENV-1, ENV-11, ENV-13, ENV-16, ENV-17, ENV-20: another implementation of the clauses gives the same bytes.
#[test]
fn sealing_gives_the_bytes_of_the_accepted_vectors() {
    let vectors = accepted();
    assert_eq!(vectors.len(), 15);
    for vector in vectors {
        let header = vector.header();
        let aad = aad(&header, pairs(&vector.context)).unwrap();
        assert_eq!(hex::encode(&aad), vector.aad, "{}", vector.name);
        let (key, plaintext) = (vector.key(), bytes(&vector.plaintext));
        let nonce = Nonce::insecure_fixed(bytes(&vector.nonce).try_into().unwrap());
        let sealed = seal_text(&header, nonce, plaintext.len(), |header_bytes, nonce, out| {
            key.seal(header.suite(), header_bytes, nonce, &aad, &plaintext, out)
        });
        assert_eq!(sealed.unwrap(), vector.sealed, "{}", vector.name);
    }
}

// ENV-10: and what was parsed encodes to the same bytes again.
#[test]
fn opening_gives_the_plaintexts_of_the_accepted_vectors() {
    for vector in accepted() {
        let value = SealedValue::parse_text(&vector.sealed).unwrap();
        assert_eq!(value.to_text(), vector.sealed, "{}", vector.name);
        assert_eq!(*value.header(), vector.header(), "{}", vector.name);
        assert_eq!(value.plaintext_bytes(), vector.plaintext.len() / 2, "{}", vector.name);
        let again = SealedValue::parse_binary(value.as_binary()).unwrap();
        assert_eq!(again, value, "{}", vector.name);
        let opened = open(&vector.sealed, vector.suite, vector.class, &vector.context, &vector.key()).unwrap();
        assert_eq!(opened.expose(), bytes(&vector.plaintext), "{}", vector.name);
    }
}

// ENV-25.
#[test]
fn a_value_of_a_document_is_bound_to_its_resource_and_its_path() {
    let vector = accepted().into_iter().find(|vector| vector.name == "value of a document").unwrap();
    let keys: Vec<_> = vector.context.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, [KEYRING_KEY, PATH_KEY, RESOURCE_KEY]);
    for at in [1, 2] {
        let mut moved = vector.context.clone();
        moved[at].1.push('0');
        let opened = open(&vector.sealed, vector.suite, vector.class, &moved, &vector.key());
        assert_eq!(opened.unwrap_err(), CANNOT_OPEN);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    name: String,
    clause: String,
    reason: String,
    data_key: String,
    suite: u8,
    class: u8,
    #[serde(rename = "nonce")]
    _nonce: String,
    context: Vec<(String, String)>,
    #[serde(rename = "plaintext")]
    _plaintext: String,
    sealed: String,
}

fn rejected() -> Vec<Rejected> {
    serde_json::from_str(include_str!("../data/vectors/envelope/rejected.json")).unwrap()
}

// The vectors have at least one breach of each of these: ENV-1, ENV-2 (format version), ENV-3 (the id of another version),
// ENV-4, ENV-5, ENV-6, ENV-7 (header), ENV-8 (suite of the key version), ENV-9 (too short), ENV-10, ENV-11 (text), ENV-13
// (subkeys of another use), ENV-14 (class), ENV-16 (every part flipped), ENV-17, ENV-18 (commitment), ENV-19 (one error for
// all of them), ENV-20, ENV-21, ENV-22, ENV-23, ENV-24 (context).
#[test]
fn every_rejected_vector_is_refused_for_its_reason() {
    let vectors = rejected();
    assert_eq!(vectors.len(), 88);
    for vector in vectors {
        let key = message_key(&vector.data_key, vector.class);
        let opened = open(&vector.sealed, vector.suite, vector.class, &vector.context, &key);
        assert_eq!(opened.map(|_| ()), Err(vector.reason), "{}", vector.name);
    }
}

// ENV-9: a vector of this size has no place in a file.
#[test]
fn a_value_of_more_than_16_mib_is_neither_written_nor_read() {
    let header = Header::field(KeyVersionId([7; 8]), Suite::XaesCommitted);
    let fill = |len: usize| {
        seal_binary(&header, Nonce::insecure_fixed([0; 24]), len, |_, _, out| {
            out.resize(header.overhead() + len, 0);
            Ok(())
        })
    };
    let largest = fill(MAX_CIPHERTEXT_BYTES).unwrap();
    let parsed = SealedValue::parse_binary(&largest).unwrap();
    assert!(SealedValue::parse_text(&parsed.to_text()).is_ok());
    assert_eq!(fill(MAX_CIPHERTEXT_BYTES + 1), Err(SealError::TooLong));
    let larger = [&largest[..], &[0]].concat();
    assert_eq!(SealedValue::parse_binary(&larger).unwrap_err(), Malformed::TooLong);
    assert_eq!(SealedValue::parse_text(&format!("{}AAAA", parsed.to_text())).unwrap_err(), Malformed::TooLong);
}

#[test]
fn a_sealing_that_does_not_have_the_length_of_its_suite_is_refused() {
    let header = Header::field(KeyVersionId([7; 8]), Suite::XaesCommitted);
    let key = message_key(&hex::encode([1; 32]), 1);
    let sealed = seal_text(&header, Nonce::insecure_fixed([0; 24]), 1, |header, nonce, out| {
        key.seal(Suite::Xaes, header, nonce, b"", b"x", out)
    });
    assert!(matches!(sealed, Err(SealError::Crypto(_))));
}

// ENV-15.
#[test]
fn nonces_are_drawn_anew_and_exactly_as_many_as_asked_for() {
    let draw = |n| Nonces::draw(n).unwrap().map(|nonce| format!("{nonce:?}")).collect::<BTreeSet<_>>();
    let (first, second) = (draw(100), draw(100));
    assert_eq!((first.len(), second.len()), (100, 100), "no nonce repeats within a request");
    assert!(first.is_disjoint(&second));
    assert_eq!(Nonces::draw(0).unwrap().len(), 0);
}

// ENV-12.
#[test]
fn the_range_of_a_key_version_holds_all_its_values_and_no_others() {
    let values: BTreeSet<String> = accepted().into_iter().map(|vector| vector.sealed).collect();
    let version: KeyVersionId = accepted()[0].version.parse().unwrap();
    let (low, high) = range(version);
    assert_eq!(low, format!("kw1.{}", prefix(version)));
    assert_eq!(prefix(version).len(), 12);
    assert_eq!(values.range(low.clone()..high.clone()).count(), values.len());
    let mut neighbours = [version.0; 2];
    neighbours[0][7] ^= 1;
    neighbours[1][0] ^= 0x80;
    for neighbour in neighbours {
        let header = Header::field(KeyVersionId(neighbour), Suite::Xaes);
        let foreign = seal_text(&header, Nonce::insecure_fixed([0xff; 24]), 0, |_, _, out| {
            out.extend_from_slice(&[0xff; 16]);
            Ok(())
        });
        assert!(!(low.clone()..high.clone()).contains(&foreign.unwrap()));
    }
}

// ENV-21, ENV-22.
#[test]
fn a_context_that_is_not_canonical_is_refused() {
    let header = Header::field(KeyVersionId([7; 8]), Suite::Xaes);
    let aad_of = |pairs: &[(&str, &str)]| {
        aad(&header, pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()))).map(|aad| aad.len())
    };
    let ring = ("kw.keyring", "default/patients");
    assert_eq!(aad_of(&[ring, ("a", "1")]), Err(AadError::Unsorted));
    assert_eq!(aad_of(&[ring, ("p", "1"), ("p", "1")]), Err(AadError::Unsorted));
    assert_eq!(aad_of(&[("", "1"), ring]), Err(AadError::EmptyKey));
    assert_eq!(aad_of(&[("a", "1")]), Err(AadError::NoKeyring));
    assert_eq!(aad_of(&[("kw.keyring", "")]), Err(AadError::NoKeyring));
    assert_eq!(aad_of(&[]), Err(AadError::NoKeyring));

    let names: Vec<_> = (0..64).map(|n| format!("p{n:02}")).collect();
    let full: Vec<_> = [ring].into_iter().chain(names.iter().map(|name| (name.as_str(), ""))).collect();
    assert!(aad_of(&full[..64]).is_ok());
    assert_eq!(aad_of(&full), Err(AadError::TooLarge));

    let rest = MAX_AAD_BYTES - aad_of(&[ring, ("p", "")]).unwrap();
    let filled = "v".repeat(rest);
    assert_eq!(aad_of(&[ring, ("p", &filled)]), Ok(MAX_AAD_BYTES));
    let too_much = "v".repeat(rest + 1);
    assert_eq!(aad_of(&[ring, ("p", &too_much)]), Err(AadError::TooLarge));
}

// ENV-22: `kw.` never comes from a caller.
#[test]
fn a_callers_context_cannot_name_the_keyring() {
    let forged = Context::parse([(KEYRING_KEY.to_owned(), "other/patients".to_owned())]);
    assert_eq!(forged.unwrap_err(), ContextError::Reserved);
}

#[test]
fn clauses_are_numbered_in_order_and_once() {
    let defined = clauses();
    let expected: Vec<_> = (1..=defined.len()).map(|n| format!("ENV-{n}")).collect();
    assert_eq!(defined, expected);
    assert!(defined.len() >= 25);
}

#[test]
fn every_rejected_vector_names_a_clause() {
    let defined = clauses();
    for vector in rejected() {
        assert!(defined.contains(&vector.clause.as_str()), "{}", vector.name);
    }
}

/// The clauses that FORMAT.md defines. That each is cited by code and by a test is a guard's business.
fn clauses() -> Vec<&'static str> {
    let definition = |line: &'static str| line.strip_prefix("**")?.split_once(".**").map(|(id, _)| id);
    include_str!("../../src/envelope/FORMAT.md").lines().filter_map(definition).collect()
}

const CANNOT_OPEN: &str = "CannotOpen";

/// Opens as an operation does; the error is the log's reason.
fn open(
    text: &str,
    suite_byte: u8,
    class_byte: u8,
    context: &[(String, String)],
    key: &MessageKey,
) -> Result<SecretBytes, String> {
    let malformed = |reason: Malformed| format!("{reason:?}");
    let value = SealedValue::parse_text(text).map_err(malformed)?;
    let parts = value.parts(suite(suite_byte), class(class_byte)).map_err(malformed)?;
    let aad = aad(value.header(), pairs(context)).unwrap();
    key.open(suite(suite_byte), parts.header, parts.nonce, &aad, parts.sealed).map_err(|_| CANNOT_OPEN.to_owned())
}

fn message_key(data_key: &str, class_byte: u8) -> MessageKey {
    MessageKey::derive(&DataKey::from_secret(&SecretBytes::new(bytes(data_key))).unwrap(), class(class_byte)).unwrap()
}

fn pairs(context: &[(String, String)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    context.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()))
}

fn suite(byte: u8) -> Suite {
    match byte {
        1 => Suite::Xaes,
        2 => Suite::XaesCommitted,
        _ => panic!("the vectors use suites 1 and 2"),
    }
}

fn class(byte: u8) -> KeyClass {
    match byte {
        1 => KeyClass::Field,
        4 => KeyClass::Partition,
        5 => KeyClass::Caller,
        6 => KeyClass::System,
        _ => panic!("the vectors open classes 1, 4, 5 and 6"),
    }
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}
