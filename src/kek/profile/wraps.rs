//! In which ways can a product wrap? The `[[wrap]]` tables of a profile, each with exactly the facts that its method needs.
//! This module never fills in what a profile leaves out: a guessed IV mode encrypts under a known IV.

use serde::Deserialize;

use crate::kek::Method;

/// One method of wrapping, in the profile's order of preference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WrapMethod {
    /// AES-GCM with the binding as AAD.
    AesGcm {
        /// The mechanism's number, vendor ones included.
        mechanism: u64,
        /// Who makes the IV.
        iv: IvMode,
        /// The most bytes of plaintext.
        max_plain: u32,
        /// The mechanism that generates the key; None: keyward cannot, the vendor's tools can.
        generate: Option<u64>,
        /// Who says so.
        source: String,
    },
    /// AES key wrap with padding (RFC 5649) of a fresh key, by C_Encrypt and C_Decrypt.
    AesKwp {
        /// The mechanism's number.
        mechanism: u64,
        /// See `aes-gcm`.
        generate: Option<u64>,
        /// Who says so.
        source: String,
    },
    /// AES key wrap (RFC 3394) of a fresh key, by C_Encrypt and C_Decrypt.
    AesKw {
        /// The mechanism's number.
        mechanism: u64,
        /// See `aes-gcm`.
        generate: Option<u64>,
        /// Who says so.
        source: String,
    },
    /// AES-CBC with PKCS#7 padding, and an HMAC-SHA256 over it by a second key, verified first.
    AesCbcHmac {
        /// The cipher's number.
        mechanism: u64,
        /// The MAC's number.
        mac_mechanism: u64,
        /// The CKA_KEY_TYPE of the MAC key.
        mac_key_type: u64,
        /// The mechanism that generates the cipher's key; None: keyward cannot.
        generate: Option<u64>,
        /// The mechanism that generates the MAC key; None: keyward cannot.
        mac_generate: Option<u64>,
        /// Who says so.
        source: String,
    },
    /// RSA-OAEP of a fresh key: encrypted in the sidecar with the public key, decrypted in the token.
    RsaOaep {
        /// The mechanism's number.
        mechanism: u64,
        /// The hash of OAEP and of its MGF1.
        hash: OaepHash,
        /// The MAC by a second key that tells our wraps from those that anybody can make; None: the token has none, and
        /// the configuration must pin the store key's check value.
        mac_mechanism: Option<u64>,
        /// The CKA_KEY_TYPE of the MAC key.
        mac_key_type: Option<u64>,
        /// The length of a key that keyward makes.
        bits: u16,
        /// The mechanism that generates the key pair; None: keyward cannot.
        generate: Option<u64>,
        /// The mechanism that generates the MAC key; None: keyward cannot.
        mac_generate: Option<u64>,
        /// Who says so.
        source: String,
    },
    /// C_WrapKey and C_UnwrapKey of a fresh key whose value is then read; never taken unless the configuration asks.
    UnwrapGetattr {
        /// The wrapping mechanism's number.
        mechanism: u64,
        /// Whether CKA_VALUE_LEN stands in the template of C_UnwrapKey.
        value_len: bool,
        /// Whether SENSITIVE=false and EXTRACTABLE=true stand in it.
        readable: bool,
        /// See `aes-gcm`.
        generate: Option<u64>,
        /// Who says so.
        source: String,
    },
}

/// Who makes the IV. A wrong guess encrypts under a known IV, so it is a fact, never a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IvMode {
    /// The worker draws 12 bytes and hands them over.
    Caller,
    /// The token writes 12 bytes over the zeros that it is given.
    HsmWriteback,
    /// The token is given none and appends 16 bytes to the ciphertext.
    HsmAppended,
    /// The token is given none and puts 12 bytes before the ciphertext.
    HsmPrepended,
}

/// The hash of OAEP, which is also that of its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OaepHash {
    /// SHA-1; OAEP does not need it to resist collisions.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl WrapMethod {
    /// The method that wraps of this table carry.
    pub const fn method(&self) -> Method {
        match self {
            Self::AesGcm { iv: IvMode::Caller, .. } => Method::AesGcmCallerIv,
            Self::AesGcm { iv: IvMode::HsmWriteback, .. } => Method::AesGcmHsmWriteback,
            Self::AesGcm { iv: IvMode::HsmAppended, .. } => Method::AesGcmHsmAppended,
            Self::AesGcm { iv: IvMode::HsmPrepended, .. } => Method::AesGcmHsmPrepended,
            Self::AesKwp { .. } => Method::AesKwp,
            Self::AesKw { .. } => Method::AesKw,
            Self::AesCbcHmac { .. } => Method::AesCbcHmac,
            Self::RsaOaep { hash: OaepHash::Sha256, .. } => Method::RsaOaepSha256,
            Self::RsaOaep { hash: OaepHash::Sha1, .. } => Method::RsaOaepSha1,
            Self::UnwrapGetattr { .. } => Method::UnwrapGetattr,
        }
    }

    /// The name that the configuration uses.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AesGcm { .. } => "aes-gcm",
            Self::AesKwp { .. } => "aes-kwp",
            Self::AesKw { .. } => "aes-kw",
            Self::AesCbcHmac { .. } => "aes-cbc-hmac",
            Self::RsaOaep { .. } => "rsa-oaep",
            Self::UnwrapGetattr { .. } => "unwrap-getattr",
        }
    }

    /// What tells apart two tables of one name, in the word that profiles use: who makes the IV, or which hash.
    pub const fn variant(&self) -> Option<&'static str> {
        match self {
            Self::AesGcm { iv, .. } => Some(match iv {
                IvMode::Caller => "caller",
                IvMode::HsmWriteback => "hsm-writeback",
                IvMode::HsmAppended => "hsm-appended",
                IvMode::HsmPrepended => "hsm-prepended",
            }),
            Self::RsaOaep { hash, .. } => Some(match hash {
                OaepHash::Sha1 => "sha1",
                OaepHash::Sha256 => "sha256",
            }),
            Self::AesKwp { .. } | Self::AesKw { .. } | Self::AesCbcHmac { .. } | Self::UnwrapGetattr { .. } => None,
        }
    }

    /// Name and variant, `aes-gcm/caller`: what the configuration writes where a profile has two tables of one name.
    pub fn full_name(&self) -> String {
        match self.variant() {
            Some(variant) => format!("{}/{variant}", self.name()),
            None => self.name().to_owned(),
        }
    }

    /// The mechanism's number.
    pub const fn mechanism(&self) -> u64 {
        match self {
            Self::AesGcm { mechanism, .. }
            | Self::AesKwp { mechanism, .. }
            | Self::AesKw { mechanism, .. }
            | Self::AesCbcHmac { mechanism, .. }
            | Self::RsaOaep { mechanism, .. }
            | Self::UnwrapGetattr { mechanism, .. } => *mechanism,
        }
    }

    pub(super) fn source(&self) -> &str {
        match self {
            Self::AesGcm { source, .. }
            | Self::AesKwp { source, .. }
            | Self::AesKw { source, .. }
            | Self::AesCbcHmac { source, .. }
            | Self::RsaOaep { source, .. }
            | Self::UnwrapGetattr { source, .. } => source,
        }
    }

    /// The first contradiction, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::AesGcm { max_plain, .. } if *max_plain < KEY_BYTES => {
                Err(format!("max_plain {max_plain} is less than a data key"))
            }
            Self::RsaOaep { mac_mechanism, mac_key_type, .. } if mac_mechanism.is_some() != mac_key_type.is_some() => {
                Err("mac_mechanism and mac_key_type of rsa-oaep stand together or not at all".into())
            }
            _ => Ok(()),
        }
    }
}

const KEY_BYTES: u32 = 32;
