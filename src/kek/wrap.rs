//! What is a wrapped data key, and what is it bound to? The stored form and the authenticated form.
//! This module never sees a key in the clear and never calls a token.

#![deny(clippy::indexing_slicing)]

use crate::clock::Wall;
use crate::crypto::canonical;
use crate::names::{KekName, KeyVersionId, StoreId};

use super::KekError;

/// Which of the independent wraps of a key this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WrapRole {
    /// The wrap that daily work uses.
    Primary,
    /// The wrap for the day the primary is lost.
    Escrow,
}

impl WrapRole {
    const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Escrow => "escrow",
        }
    }
}

/// What a wrap is bound to: a row swapped in the database does not unwrap.
#[derive(Debug, Clone)]
pub struct WrapBinding {
    /// The store that holds the wrap.
    pub store: StoreId,
    /// `tenant/name` of the keyring, or the use of a system key (`kw.store`, `kw.pseudonym`).
    pub owner: String,
    /// The wrapped key.
    pub key: KeyVersionId,
    /// The KEK as configured.
    pub kek: KekName,
    /// Primary or escrow.
    pub role: WrapRole,
    /// When the key was made.
    pub created: Wall,
}

impl WrapBinding {
    /// The canonical bytes (label `keyward/wrap/v1`): the AAD where the mechanism has one. Method and algorithm are part of it.
    pub fn encode(&self, method: Method) -> Vec<u8> {
        let created = self.created.0.to_be_bytes();
        let number = method.number().to_be_bytes();
        let pairs: [(&str, &[u8]); 8] = [
            ("algorithm", method.algorithm().as_bytes()),
            ("created", &created),
            ("kek", self.kek.as_str().as_bytes()),
            ("key", &self.key.0),
            ("method", &number),
            ("owner", self.owner.as_bytes()),
            ("role", self.role.label().as_bytes()),
            ("store", &self.store.0),
        ];
        let pairs = pairs.into_iter().map(|(key, value)| (key.as_bytes(), value));
        canonical::encode(LABEL, &[], pairs).expect("eight short pairs: the limits are 64 pairs and 4 GiB a value")
    }
}

/// How a wrap was made; recorded in it, so that a later profile change still unwraps older values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Development only: XAES-256-GCM under a key in a file.
    Software,
    /// CKM_AES_GCM with the binding as AAD and an IV of the caller.
    AesGcmCallerIv,
    /// The same, with an IV that the token writes into the caller's zeroed buffer.
    AesGcmHsmWriteback,
    /// The same, with an IV of 16 bytes that the token appends to what it returns.
    AesGcmHsmAppended,
    /// The same, with an IV that the token puts before what it returns.
    AesGcmHsmPrepended,
    /// AES key wrap with padding (RFC 5649) of a fresh key, by C_Encrypt and C_Decrypt.
    AesKwp,
    /// AES key wrap (RFC 3394) of a fresh key, by C_Encrypt and C_Decrypt.
    AesKw,
    /// CKM_AES_CBC_PAD and, over its output and the binding, an HMAC-SHA256 by a second key.
    AesCbcHmac,
    /// RSA-OAEP with SHA-256 of a fresh key.
    RsaOaepSha256,
    /// RSA-OAEP with SHA-1 of a fresh key, for tokens that have no other.
    RsaOaepSha1,
    /// A fresh key by C_WrapKey and C_UnwrapKey, whose value is read; opt-in.
    UnwrapGetattr,
    /// Transit encryption by Vault or OpenBao with the binding as associated data.
    Transit,
}

impl Method {
    const ALL: [Self; 12] = [
        Self::Software,
        Self::AesGcmCallerIv,
        Self::AesGcmHsmWriteback,
        Self::AesGcmHsmAppended,
        Self::AesGcmHsmPrepended,
        Self::AesKwp,
        Self::AesKw,
        Self::AesCbcHmac,
        Self::RsaOaepSha256,
        Self::RsaOaepSha1,
        Self::UnwrapGetattr,
        Self::Transit,
    ];

    /// The number in stored wraps: the family in the high byte, its variant in the low one. A number is never used twice.
    pub const fn number(self) -> u16 {
        match self {
            Self::Software => 0x0001,
            Self::AesGcmCallerIv => 0x0101,
            Self::AesGcmHsmWriteback => 0x0102,
            Self::AesGcmHsmAppended => 0x0103,
            Self::AesGcmHsmPrepended => 0x0104,
            Self::AesKwp => 0x0201,
            Self::AesKw => 0x0301,
            Self::AesCbcHmac => 0x0401,
            Self::RsaOaepSha256 => 0x0501,
            Self::RsaOaepSha1 => 0x0502,
            Self::UnwrapGetattr => 0x0601,
            Self::Transit => 0x0701,
        }
    }

    fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.number() == number)
    }

    const fn algorithm(self) -> &'static str {
        match self {
            Self::Software => "xaes-256-gcm",
            Self::AesGcmCallerIv => "aes-256-gcm/iv96/tag128",
            Self::AesGcmHsmWriteback => "aes-256-gcm/iv96-hsm/tag128",
            Self::AesGcmHsmAppended => "aes-256-gcm/iv128-hsm/tag128",
            Self::AesGcmHsmPrepended => "aes-256-gcm/iv96-hsm-prepended/tag128",
            Self::AesKwp => "aes-256-kwp",
            Self::AesKw => "aes-256-kw",
            Self::AesCbcHmac => "aes-256-cbc-pad/hmac-sha256",
            Self::RsaOaepSha256 => "rsa-oaep-sha256",
            Self::RsaOaepSha1 => "rsa-oaep-sha1",
            Self::UnwrapGetattr => "unwrap-getattr",
            Self::Transit => "transit",
        }
    }
}

/// A wrapped data key, self-describing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// The KEK as configured.
    pub kek: KekName,
    /// The KEK's version (1, 2, ...), part of its object label in the token.
    pub kek_version: u32,
    /// How it was made.
    pub method: Method,
    /// Method-specific bytes (for AES-GCM: IV, ciphertext, tag).
    pub blob: Vec<u8>,
    /// Key-check value of the data key, compared after every unwrap.
    pub check_value: [u8; 16],
}

impl Wrap {
    /// The stored form, big-endian: `u16 schema || u8 len, kek || u32 kek version || u16 method || u16 len, blob || check value`.
    pub fn encode(&self) -> Vec<u8> {
        let kek = self.kek.as_str().as_bytes();
        let name_len = u8::try_from(kek.len()).expect("a name has at most 63 bytes");
        let blob_len = u16::try_from(self.blob.len()).expect("no method makes blobs over MAX_BLOB bytes");
        let mut out = Vec::with_capacity(64 + kek.len() + self.blob.len());
        out.extend_from_slice(&SCHEMA.to_be_bytes());
        out.push(name_len);
        out.extend_from_slice(kek);
        out.extend_from_slice(&self.kek_version.to_be_bytes());
        out.extend_from_slice(&self.method.number().to_be_bytes());
        out.extend_from_slice(&blob_len.to_be_bytes());
        out.extend_from_slice(&self.blob);
        out.extend_from_slice(&self.check_value);
        out
    }

    /// Strict inverse of [`Self::encode`]: what decodes encodes to the same bytes. A newer schema and an unknown method
    /// are told apart from damage, since only a newer keyward can read them.
    pub fn decode(bytes: &[u8]) -> Result<Self, KekError> {
        let mut fields = Fields(bytes);
        let schema = fields.u16()?;
        if schema > SCHEMA {
            let needs = format!("a wrap of schema {schema} needs a newer keyward: this one reads schema {SCHEMA}");
            return Err(KekError::Unsupported(needs));
        }
        let kek = fields.name()?;
        let kek_version = u32::from_be_bytes(fields.array()?);
        let number = fields.u16()?;
        let blob = fields.blob()?;
        let check_value = fields.array()?;
        if schema == 0 || kek_version == 0 || !fields.0.is_empty() {
            return Err(KekError::BadWrap);
        }
        let unknown = || KekError::Unsupported(format!("the wrap method {number:#06x} needs a newer keyward"));
        let method = Method::of(number).ok_or_else(unknown)?;
        Ok(Self { kek, kek_version, method, blob, check_value })
    }
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], KekError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(KekError::BadWrap)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KekError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(KekError::BadWrap)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, KekError> {
        self.array().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Result<KekName, KekError> {
        let [len] = self.array()?;
        let text = std::str::from_utf8(self.take(usize::from(len))?).map_err(|_| KekError::BadWrap)?;
        text.parse().map_err(|_| KekError::BadWrap)
    }

    fn blob(&mut self) -> Result<Vec<u8>, KekError> {
        let len = usize::from(self.u16()?);
        if len > MAX_BLOB {
            return Err(KekError::BadWrap);
        }
        self.take(len).map(<[u8]>::to_vec)
    }
}

const LABEL: &str = "keyward/wrap/v1";
const SCHEMA: u16 = 1;
/// The largest method to come is an RSA-4096 blob with a sealed key behind it: 512 + 72 bytes.
const MAX_BLOB: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap() -> Wrap {
        Wrap {
            kek: "primary".parse().unwrap(),
            kek_version: 3,
            method: Method::AesGcmCallerIv,
            blob: (0..60).collect(),
            check_value: [7; 16],
        }
    }

    #[test]
    fn the_stored_form_of_a_wrap_is_fixed() {
        let text =
            format!("0001 07 7072696d617279 00000003 0101 003c {} {}", hex::encode(wrap().blob), "07".repeat(16));
        assert_eq!(hex::encode(wrap().encode()), text.replace(' ', ""));
        assert_eq!(Wrap::decode(&wrap().encode()), Ok(wrap()));
    }

    #[test]
    fn the_bytes_that_a_wrap_is_bound_to_are_fixed() {
        let binding = WrapBinding {
            store: StoreId([1; 16]),
            owner: "default/patients".into(),
            key: KeyVersionId([2; 8]),
            kek: "primary".parse().unwrap(),
            role: WrapRole::Escrow,
            created: Wall(3),
        };
        let pair = |key: &str, value: &[u8]| {
            format!("{:04x}{}{:08x}{}", key.len(), hex::encode(key), value.len(), hex::encode(value))
        };
        let expected = [
            hex::encode(b"keyward/wrap/v1\0\0\x08"),
            pair("algorithm", b"aes-256-gcm/iv96/tag128"),
            pair("created", &[0, 0, 0, 0, 0, 0, 0, 3]),
            pair("kek", b"primary"),
            pair("key", &[2; 8]),
            pair("method", &[1, 1]),
            pair("owner", b"default/patients"),
            pair("role", b"escrow"),
            pair("store", &[1; 16]),
        ];
        assert_eq!(hex::encode(binding.encode(Method::AesGcmCallerIv)), expected.concat());
        assert_ne!(binding.encode(Method::AesGcmCallerIv), binding.encode(Method::Software));
    }

    #[test]
    fn every_truncation_and_every_trailing_byte_is_refused() {
        let good = wrap().encode();
        for len in 0..good.len() {
            assert_eq!(Wrap::decode(&good[..len]), Err(KekError::BadWrap), "{len} bytes");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(Wrap::decode(&longer), Err(KekError::BadWrap));
    }

    #[test]
    fn a_changed_byte_decodes_to_itself_or_not_at_all() {
        let good = wrap().encode();
        for at in 0..good.len() {
            for flip in 1..=255 {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                if let Ok(decoded) = Wrap::decode(&bytes) {
                    assert_eq!(decoded.encode(), bytes, "byte {at} ^ {flip}");
                }
            }
        }
    }

    #[test]
    fn a_newer_schema_and_an_unknown_method_ask_for_a_newer_keyward() {
        let mut newer = wrap().encode();
        newer[1] = 2;
        let error = Wrap::decode(&newer).unwrap_err().to_string();
        assert_eq!(error, "a wrap of schema 2 needs a newer keyward: this one reads schema 1");
        let mut method = wrap().encode();
        method[14..16].copy_from_slice(&0x0801_u16.to_be_bytes());
        let error = Wrap::decode(&method).unwrap_err().to_string();
        assert_eq!(error, "the wrap method 0x0801 needs a newer keyward");
    }

    #[test]
    fn every_method_has_a_number_of_its_own_and_is_found_by_it() {
        for method in Method::ALL {
            assert_eq!(Method::of(method.number()), Some(method));
        }
        assert_eq!(Method::of(0x0105), None);
    }

    #[test]
    fn a_kek_version_zero_and_a_bad_name_are_refused() {
        let zero = Wrap { kek_version: 0, ..wrap() };
        assert_eq!(Wrap::decode(&zero.encode()), Err(KekError::BadWrap));
        let mut name = wrap().encode();
        name[3] = b'P';
        assert_eq!(Wrap::decode(&name), Err(KekError::BadWrap));
    }
}
