//! Do the primitives still compute what the standards say? Run once at start; a failure stops the sidecar.
//! A wrong CPU feature, a miscompiled library or a flipped bit in the binary shows here and not in a row that nobody
//! can open any more.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};

use super::{CryptoError, SigningKey, gcm, sha256, vectors, verify_ed25519};
use crate::secret::SecretBytes;

/// Which primitive failed its known answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the self-test of {0} failed")]
pub struct SelfTestError(pub &'static str);

/// One known answer of each primitive, and `ring` against `aes-gcm`.
pub fn self_test() -> Result<(), SelfTestError> {
    check(&ANSWERS)?;
    cross_check(&Cipher { seal: ring_seal, open: ring_open }, &Cipher { seal: other_seal, open: other_open })
}

/// A primitive's computation and what it must yield, in hexadecimal.
#[derive(Clone, Copy)]
struct Answer {
    primitive: &'static str,
    compute: fn() -> Result<Vec<u8>, CryptoError>,
    expected: &'static str,
}

fn check(answers: &[Answer]) -> Result<(), SelfTestError> {
    for Answer { primitive, compute, expected } in answers {
        let computed = compute().map_err(|CryptoError| SelfTestError(primitive))?;
        if hex::encode(computed) != *expected {
            return Err(SelfTestError(primitive));
        }
    }
    Ok(())
}

const ANSWERS: [Answer; 7] = [
    // FIPS 197, C.3.
    Answer { primitive: "AES-256", compute: aes_256, expected: "8ea2b7ca516745bfeafc49904b496089" },
    // The GCM specification, test case 14.
    Answer {
        primitive: "AES-256-GCM",
        compute: || vectors::insecure_gcm_seal(&[0; 32], [0; 12], b"", &[0; 16]),
        expected: "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    },
    // c2sp.org/XAES-256-GCM, second vector: the one whose doubling carries.
    Answer {
        primitive: "XAES-256-GCM",
        compute: xaes,
        expected: "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
    },
    // FIPS 180-4, "abc".
    Answer {
        primitive: "SHA-256",
        compute: || Ok(sha256(&[b"a", b"bc"]).to_vec()),
        expected: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    },
    // RFC 4231, case 1.
    Answer {
        primitive: "HMAC-SHA-256",
        compute: || Ok(vectors::hmac_sha256(&[0x0b; 20], b"Hi There").to_vec()),
        expected: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    },
    // RFC 5869, A.1.
    Answer {
        primitive: "HKDF-SHA-256",
        compute: hkdf,
        expected: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    // RFC 8032, 7.1, test 2.
    Answer {
        primitive: "Ed25519",
        compute: ed25519,
        expected: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                   085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    },
];

fn aes_256() -> Result<Vec<u8>, CryptoError> {
    let mut block = Array::from(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes());
    Aes256Enc::new(&Array::from(counting())).encrypt_block(&mut block);
    Ok(block.to_vec())
}

fn xaes() -> Result<Vec<u8>, CryptoError> {
    let (key, nonce, aad) = ([3; 32], b"ABCDEFGHIJKLMNOPQRSTUVWX", b"c2sp.org/XAES-256-GCM");
    let mut out = Vec::new();
    vectors::insecure_xaes_seal(&key, nonce, aad, b"XAES-256-GCM", &mut out)?;
    let opened = vectors::insecure_xaes_open(&key, nonce, aad, &out)?;
    if opened.expose() == b"XAES-256-GCM" { Ok(out) } else { Err(CryptoError) }
}

fn hkdf() -> Result<Vec<u8>, CryptoError> {
    let (salt, info) = (counting::<13>(), [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9]);
    let mut out = vec![0; 42];
    vectors::hkdf_sha256(&salt, &[0x0b; 22], &info, &mut out)?;
    Ok(out)
}

fn ed25519() -> Result<Vec<u8>, CryptoError> {
    const PKCS8: &str =
        "302e020100300506032b6570042204204ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let document = hex::decode(PKCS8).map_err(|_| CryptoError)?;
    let key = SigningKey::from_pkcs8(&SecretBytes::new(document))?;
    let signature = key.sign(&[0x72]);
    verify_ed25519(&key.public(), &[0x72], &signature)?;
    match verify_ed25519(&key.public(), &[0x73], &signature) {
        Err(CryptoError) => Ok(signature.to_vec()),
        Ok(()) => Err(CryptoError),
    }
}

/// `00 01 02 ...`, the byte string of many published vectors.
fn counting<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(0_u8..).for_each(|(byte, n)| *byte = n);
    bytes
}

/// AES-256-GCM of one library.
struct Cipher {
    seal: Seal,
    open: Open,
}

/// Key, nonce, context, text in place; the tag is the result.
type Seal = fn(&[u8; 32], [u8; 12], &[u8], &mut [u8]) -> Result<[u8; 16], CryptoError>;
/// Key, nonce, context, text in place, tag.
type Open = fn(&[u8; 32], [u8; 12], &[u8], &mut [u8], [u8; 16]) -> Result<(), CryptoError>;

/// Lengths on both sides of a block, of the eight blocks that fast code takes at once, and of a page.
const LENGTHS: [usize; 9] = [0, 1, 15, 16, 17, 127, 129, 1024, 4097];

fn cross_check(one: &Cipher, other: &Cipher) -> Result<(), SelfTestError> {
    let failed = SelfTestError("AES-256-GCM in two implementations");
    for len in LENGTHS {
        let plaintext: Vec<u8> = (0_u8..=250).cycle().take(len).collect();
        crosses(one, other, &plaintext).and_then(|()| crosses(other, one, &plaintext)).map_err(|CryptoError| failed)?;
    }
    Ok(())
}

/// What one seals the other opens, and not after a bit was flipped.
fn crosses(sealer: &Cipher, opener: &Cipher, plaintext: &[u8]) -> Result<(), CryptoError> {
    let (key, nonce) = (counting(), counting());
    let aad = plaintext.get(..plaintext.len() / 2).unwrap_or_default();
    let mut text = plaintext.to_vec();
    let mut tag = (sealer.seal)(&key, nonce, aad, &mut text)?;
    let mut forged = text.clone();
    (opener.open)(&key, nonce, aad, &mut text, tag)?;
    tag[0] ^= 1;
    let refused = (opener.open)(&key, nonce, aad, &mut forged, tag).is_err();
    if text == plaintext && refused { Ok(()) } else { Err(CryptoError) }
}

fn ring_seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<[u8; 16], CryptoError> {
    gcm::seal(key, nonce, aad, text)
}

fn ring_open(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: [u8; 16]) -> Result<(), CryptoError> {
    gcm::open(key, nonce, aad, text, &tag)
}

fn other_seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<[u8; 16], CryptoError> {
    let sealed = Aes256Gcm::new(&Array::from(*key)).encrypt_inout_detached(&Array::from(nonce), aad, text.into());
    sealed.map(Into::into).map_err(|_| CryptoError)
}

fn other_open(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: [u8; 16]) -> Result<(), CryptoError> {
    Aes256Gcm::new(&Array::from(*key))
        .decrypt_inout_detached(&Array::from(nonce), aad, text.into(), &Array::from(tag))
        .map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primitives_give_their_known_answers() {
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn a_corrupted_expectation_names_its_primitive() {
        for at in 0..ANSWERS.len() {
            let mut answers = ANSWERS;
            let flipped = if answers[at].expected.starts_with('0') { "1" } else { "0" };
            answers[at].expected = format!("{flipped}{}", &answers[at].expected[1..]).leak();
            assert_eq!(check(&answers), Err(SelfTestError(ANSWERS[at].primitive)));
        }
    }

    #[test]
    fn a_primitive_that_fails_altogether_is_named() {
        let broken = Answer { compute: || Err(CryptoError), ..ANSWERS[3] };
        assert_eq!(check(&[broken]), Err(SelfTestError("SHA-256")));
    }

    #[test]
    fn two_implementations_that_disagree_are_found() {
        let ring = Cipher { seal: ring_seal, open: ring_open };
        let wrong_text = Cipher {
            seal: |key, nonce, aad, text| {
                text.reverse();
                ring_seal(key, nonce, aad, text)
            },
            open: ring_open,
        };
        let accepts_all = Cipher { seal: ring_seal, open: |_, _, _, _, _| Ok(()) };
        for broken in [wrong_text, accepts_all] {
            assert!(cross_check(&ring, &broken).is_err());
            assert!(cross_check(&broken, &ring).is_err());
        }
    }
}
