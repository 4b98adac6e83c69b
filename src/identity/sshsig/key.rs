//! What is a person's SSH public key? One of the kinds that we verify; every other one is refused by its name.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::SshError;
use super::wire::Fields;
use crate::crypto;

/// A public key (RFC 4253, section 6.6; RFC 5656; RFC 8709; OpenSSH's PROTOCOL.u2f for the `sk-` kinds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    pub(super) kind: Kind,
    /// As it crosses the wire: what two keys are compared by.
    blob: Vec<u8>,
}

/// What its signatures are verified by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519([u8; 32]),
    EcdsaP256([u8; 65]),
    EcdsaP384([u8; 97]),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// In a FIDO2 token, bound to an application.
    SkEd25519([u8; 32], String),
    /// Likewise.
    SkEcdsaP256([u8; 65], String),
}

impl SshKey {
    /// A line as `ssh-keygen` writes it: `TYPE BASE64 [COMMENT]`. Options before the type are not understood.
    pub fn parse(line: &str) -> Result<Self, SshError> {
        if line.len() > MOST || line.trim().lines().count() != 1 {
            return Err(SshError::Malformed("a public key is one line of at most 16 KiB"));
        }
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let text = words.next().ok_or(SshError::Malformed("a public key is TYPE BASE64 [COMMENT]"))?;
        known(name)?;
        let blob = STANDARD.decode(text).map_err(|_| SshError::Malformed("its second word is not base64"))?;
        let key = Self::of_blob(&blob)?;
        if key.algorithm() == name { Ok(key) } else { Err(SshError::Malformed("its type is not that of its key")) }
    }

    /// The bytes that a signature and an agent name a key by.
    pub fn of_blob(blob: &[u8]) -> Result<Self, SshError> {
        let mut fields = Fields(blob);
        let name = fields.text()?;
        known(name)?;
        let kind = match name {
            ED25519 => Kind::Ed25519(of_large_order(fields.string()?)?),
            ECDSA_P256 => Kind::EcdsaP256(point(&mut fields, "nistp256")?),
            ECDSA_P384 => Kind::EcdsaP384(point(&mut fields, "nistp384")?),
            RSA => {
                let (exponent, modulus) = (fields.natural()?.to_vec(), fields.natural()?.to_vec());
                // What is shorter is refused when it signs: say so when it is enrolled.
                if !(MODULUS_LEAST..=MODULUS_MOST).contains(&modulus.len()) {
                    return Err(SshError::Weak("an RSA key has 2,048 to 8,192 bits"));
                }
                Kind::Rsa { modulus, exponent }
            }
            SK_ED25519 => Kind::SkEd25519(of_large_order(fields.string()?)?, fields.text()?.to_owned()),
            _ => Kind::SkEcdsaP256(point(&mut fields, "nistp256")?, fields.text()?.to_owned()),
        };
        fields.end()?;
        Ok(Self { kind, blob: blob.to_vec() })
    }

    /// Its type, as the first word of its line.
    pub const fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Ed25519(_) => ED25519,
            Kind::EcdsaP256(_) => ECDSA_P256,
            Kind::EcdsaP384(_) => ECDSA_P384,
            Kind::Rsa { .. } => RSA,
            Kind::SkEd25519(..) => SK_ED25519,
            Kind::SkEcdsaP256(..) => SK_ECDSA_P256,
        }
    }

    /// Whether it is of a kind that lies in a token which asks for a touch.
    pub const fn is_in_token(&self) -> bool {
        matches!(self.kind, Kind::SkEd25519(..) | Kind::SkEcdsaP256(..))
    }

    /// `SHA256:...`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(crypto::sha256(&[&self.blob])))
    }

    /// Its line without a comment.
    pub fn line(&self) -> String {
        format!("{} {}", self.algorithm(), STANDARD.encode(&self.blob))
    }
}

/// Refuses a kind by its name.
fn known(name: &str) -> Result<(), SshError> {
    if [ED25519, ECDSA_P256, ECDSA_P384, RSA, SK_ED25519, SK_ECDSA_P256].contains(&name) {
        return Ok(());
    }
    Err(SshError::Algorithm(name.chars().filter(char::is_ascii_graphic).take(64).collect()))
}

/// An uncompressed point on the curve of that name.
fn point<const N: usize>(fields: &mut Fields<'_>, curve: &str) -> Result<[u8; N], SshError> {
    if fields.text()? != curve {
        return Err(SshError::Malformed("its curve is not that of its type"));
    }
    let point: [u8; N] = exactly(fields.string()?)?;
    if point.first() == Some(&4) { Ok(point) } else { Err(SshError::Malformed("its point is compressed")) }
}

/// An Ed25519 key whose signatures say something: by a point of small order some rubbish is a signature of anything, and a
/// point that is written otherwise than RFC 8032, 5.1.2 has it (y not below p) is a second text for one key.
fn of_large_order(bytes: &[u8]) -> Result<[u8; 32], SshError> {
    let point: [u8; 32] = exactly(bytes)?;
    let mut y = point;
    if let Some(high) = y.last_mut() {
        *high &= 0x7f;
    }
    if y.iter().rev().ge(P.iter().rev()) {
        return Err(SshError::Weak("the point of its Ed25519 key is not written as RFC 8032 has it"));
    }
    if SMALL_ORDER.contains(&y) {
        return Err(SshError::Weak("its Ed25519 key is a point of small order, which takes rubbish for a signature"));
    }
    Ok(point)
}

pub(super) fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SshError> {
    bytes.try_into().map_err(|_| SshError::Malformed("a key or signature has another length than its type's"))
}

/// Of a line or an armoured signature: an RSA key of 8,192 bits takes 1,400 characters.
pub(super) const MOST: usize = 16_384;
const MODULUS_LEAST: usize = 256;
const MODULUS_MOST: usize = 1_024;

const ED25519: &str = "ssh-ed25519";
const ECDSA_P256: &str = "ecdsa-sha2-nistp256";
const ECDSA_P384: &str = "ecdsa-sha2-nistp384";
const RSA: &str = "ssh-rsa";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
const SK_ECDSA_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

/// 2^255 - 19, low byte first.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};
/// The y of every point of order 1, 4, 2 and 8 (two of them), low byte first; each stands for both signs of x.
const SMALL_ORDER: [[u8; 32]; 5] = {
    let (mut one, mut minus_one) = ([0; 32], P);
    one[0] = 1;
    minus_one[0] = 0xec;
    [
        one,
        [0; 32],
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};
