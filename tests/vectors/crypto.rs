//! Published vectors through the door of `crypto`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here is a failed test")]

use keyward::crypto::{self, vectors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};

#[test]
fn the_self_test_passes() {
    assert_eq!(crypto::self_test(), Ok(()));
}

#[derive(Deserialize)]
struct Wycheproof<G> {
    #[serde(rename = "testGroups")]
    groups: Vec<G>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AeadGroup {
    iv_size: usize,
    key_size: usize,
    tag_size: usize,
    tests: Vec<AeadCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AeadCase {
    tc_id: u32,
    key: String,
    iv: String,
    aad: String,
    msg: String,
    ct: String,
    tag: String,
    result: String,
}

#[test]
fn wycheproof_aes_256_gcm_seals_and_opens_what_is_valid_and_nothing_else() {
    let file: Wycheproof<AeadGroup> = json(include_str!("../data/vectors/wycheproof/aes_gcm_test.json"));
    let ours = |group: &AeadGroup| (group.key_size, group.iv_size, group.tag_size) == (256, 96, 128);
    let mut seen = (0, 0);
    for case in file.groups.into_iter().filter(ours).flat_map(|group| group.tests) {
        let (key, iv) = (array(&case.key), array(&case.iv));
        let (aad, message) = (bytes(&case.aad), bytes(&case.msg));
        let published = [bytes(&case.ct), bytes(&case.tag)].concat();
        let opened = vectors::insecure_gcm_open(&key, iv, &aad, &published);
        if case.result == "valid" {
            let sealed = vectors::insecure_gcm_seal(&key, iv, &aad, &message).unwrap();
            assert_eq!(sealed, published, "case {}", case.tc_id);
            assert_eq!(opened.unwrap().expose(), message, "case {}", case.tc_id);
            seen.0 += 1;
        } else {
            assert!(opened.is_err(), "case {}", case.tc_id);
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (39, 27), "every case of the file was looked at");
}

#[derive(Deserialize)]
struct HkdfGroup {
    tests: Vec<HkdfCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HkdfCase {
    tc_id: u32,
    ikm: String,
    salt: String,
    info: String,
    size: usize,
    okm: String,
    result: String,
}

#[test]
fn wycheproof_hkdf_sha_256_derives_the_same_and_refuses_what_is_too_long() {
    let file: Wycheproof<HkdfGroup> = json(include_str!("../data/vectors/wycheproof/hkdf_sha256_test.json"));
    let mut seen = (0, 0);
    for case in file.groups.into_iter().flat_map(|group| group.tests) {
        let mut out = vec![0; case.size];
        let derived = vectors::hkdf_sha256(&bytes(&case.salt), &bytes(&case.ikm), &bytes(&case.info), &mut out);
        if case.result == "valid" {
            derived.unwrap();
            assert_eq!(out, bytes(&case.okm), "case {}", case.tc_id);
            seen.0 += 1;
        } else {
            assert!(derived.is_err(), "case {}", case.tc_id);
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (83, 3));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MacGroup {
    tag_size: usize,
    tests: Vec<MacCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MacCase {
    tc_id: u32,
    key: String,
    msg: String,
    tag: String,
    result: String,
}

#[test]
fn wycheproof_hmac_sha_256_agrees_on_every_tag() {
    let file: Wycheproof<MacGroup> = json(include_str!("../data/vectors/wycheproof/hmac_sha256_test.json"));
    let mut seen = (0, 0);
    for group in file.groups {
        for case in group.tests {
            let tag = vectors::hmac_sha256(&bytes(&case.key), &bytes(&case.msg));
            let same = crypto::constant_time_eq(&tag[..group.tag_size / 8], &bytes(&case.tag));
            assert_eq!(same, case.result == "valid", "case {}", case.tc_id);
            if same { seen.0 += 1 } else { seen.1 += 1 }
        }
    }
    assert_eq!(seen.0 + seen.1, 174);
    assert!(seen.0 > 50 && seen.1 > 50, "{seen:?}");
}

#[derive(Deserialize)]
struct Xaes {
    tests: Vec<XaesCase>,
    accumulated: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct XaesCase {
    key: String,
    nonce: String,
    derived_key: String,
    derived_nonce: String,
    plaintext: String,
    aad: String,
    ciphertext: String,
}

fn xaes() -> Xaes {
    json(include_str!("../data/vectors/c2sp/xaes_256_gcm.json"))
}

#[test]
fn xaes_vectors_of_the_specification_hold_at_every_step() {
    let cases = xaes().tests;
    assert_eq!(cases.len(), 2);
    for case in cases {
        let (key, nonce, aad) = (array(&case.key), array(&case.nonce), bytes(&case.aad));
        let derived = vectors::insecure_xaes_derive(&key, &nonce);
        assert_eq!(derived, (array(&case.derived_key), array(&case.derived_nonce)));
        let mut sealed = Vec::new();
        vectors::insecure_xaes_seal(&key, &nonce, &aad, &bytes(&case.plaintext), &mut sealed).unwrap();
        assert_eq!(hex::encode(&sealed), case.ciphertext);
        let opened = vectors::insecure_xaes_open(&key, &nonce, &aad, &sealed).unwrap();
        assert_eq!(opened.expose(), bytes(&case.plaintext));
    }
}

#[test]
fn xaes_accumulated_over_10_000_random_messages_gives_the_published_hash() {
    assert_eq!(accumulated(10_000, Opening::Too), xaes().accumulated["10000"]);
}

#[test]
fn xaes_accumulated_over_1_000_000_random_messages_gives_the_published_hash() {
    assert_eq!(accumulated(1_000_000, Opening::Not), xaes().accumulated["1000000"]);
}

/// The procedure of the specification: inputs from one SHAKE-128 stream, ciphertexts into another.
fn accumulated(iterations: u32, opening: Opening) -> String {
    let mut stream = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    let (mut key, mut nonce) = ([0; 32], [0; 24]);
    let mut sealed = Vec::new();
    for _ in 0..iterations {
        stream.read(&mut key);
        stream.read(&mut nonce);
        let plaintext = short(&mut stream);
        let aad = short(&mut stream);
        sealed.clear();
        vectors::insecure_xaes_seal(&key, &nonce, &aad, &plaintext, &mut sealed).unwrap();
        if opening == Opening::Too {
            let opened = vectors::insecure_xaes_open(&key, &nonce, &aad, &sealed).unwrap();
            assert_eq!(opened.expose(), plaintext);
        }
        hash.update(&sealed);
    }
    let mut out = [0; 32];
    hash.finalize_xof().read(&mut out);
    hex::encode(out)
}

/// Whether each message is opened again: the hash needs the ciphertexts alone.
#[derive(PartialEq)]
enum Opening {
    Too,
    Not,
}

/// A string of 0 to 255 bytes behind a length byte.
fn short(stream: &mut impl XofReader) -> Vec<u8> {
    let mut len = [0];
    stream.read(&mut len);
    let mut out = vec![0; usize::from(len[0])];
    stream.read(&mut out);
    out
}

fn json<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

#[derive(Deserialize)]
struct Oaep {
    keys: Vec<OaepKey>,
}

#[derive(Deserialize)]
struct OaepKey {
    hash: String,
    n: String,
    e: String,
    cases: Vec<OaepCase>,
}

#[derive(Deserialize)]
struct OaepCase {
    message: String,
    seed: String,
    ciphertext: String,
}

#[test]
fn rsa_oaep_gives_the_published_ciphertexts() {
    let file: Oaep = json(include_str!("../data/vectors/oaep/oaep.json"));
    let mut seen = (0, 0);
    for key in file.keys {
        let hash = match key.hash.as_str() {
            "sha1" => crypto::OaepHash::Sha1,
            "sha256" => crypto::OaepHash::Sha256,
            other => panic!("no hash {other}"),
        };
        let (n, e) = (bytes(&key.n), bytes(&key.e));
        for OaepCase { message, seed, ciphertext } in key.cases {
            let ours = vectors::insecure_oaep_encrypt((&n, &e), hash, &bytes(&message), &bytes(&seed)).unwrap();
            assert_eq!(hex::encode(ours), ciphertext);
            if hash == crypto::OaepHash::Sha1 { seen.0 += 1 } else { seen.1 += 1 }
        }
    }
    assert_eq!(seen, (60, 18));
}
