//! How does the worker wrap? A method with the mechanism numbers of the product, as it crosses the socket.
//! This module never chooses: the profile does, and for a wrap that an older profile made, the standard's own numbers.

#![deny(clippy::indexing_slicing)]

use crate::crypto::OaepHash;
use crate::kek::Method;
use crate::kek::profile::{self, IvMode, WrapMethod};

use super::frame::{Fields, Frame, Malformed};

/// A way of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// AES-GCM; the blob is `IV || ciphertext || tag` whoever made the IV.
    Gcm {
        /// The mechanism's number.
        mechanism: u64,
        /// Who makes the IV.
        iv: IvMode,
    },
    /// A mechanism without parameters by C_Encrypt and C_Decrypt: AES key wrap.
    KeyWrap {
        /// The mechanism's number.
        mechanism: u64,
    },
    /// AES-CBC with padding; the blob is `HMAC || IV || ciphertext`, the HMAC verified first.
    CbcHmac {
        /// The cipher's number.
        mechanism: u64,
        /// The MAC's number.
        mac: u64,
    },
    /// RSA-OAEP. The sidecar encrypts; the worker decrypts, and with a MAC key authenticates: `HMAC || ciphertext`.
    Oaep {
        /// The mechanism's number.
        mechanism: u64,
        /// The hash.
        hash: OaepHash,
        /// The MAC's number; None: no MAC key, the blob is the ciphertext.
        mac: Option<u64>,
    },
    /// C_WrapKey, C_UnwrapKey and reading the value.
    ByValue {
        /// The mechanism's number.
        mechanism: u64,
        /// Whether CKA_VALUE_LEN stands in the template.
        value_len: bool,
        /// Whether SENSITIVE=false and EXTRACTABLE=true stand in it.
        readable: bool,
    },
}

/// What a key in the token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// A secret key that encrypts and decrypts.
    Cipher,
    /// A secret key that wraps and unwraps.
    Wrapper,
    /// A secret key that makes and verifies MACs; its label is the KEK's with `.mac` behind it.
    Mac,
    /// A private key that decrypts.
    Private,
}

impl Recipe {
    /// The recipe of a profile's table.
    pub const fn of(table: &WrapMethod) -> Self {
        match *table {
            WrapMethod::AesGcm { mechanism, iv, .. } => Self::Gcm { mechanism, iv },
            WrapMethod::AesKwp { mechanism, .. } | WrapMethod::AesKw { mechanism, .. } => Self::KeyWrap { mechanism },
            WrapMethod::AesCbcHmac { mechanism, mac_mechanism, .. } => Self::CbcHmac { mechanism, mac: mac_mechanism },
            WrapMethod::RsaOaep { mechanism, hash, mac_mechanism, .. } => {
                let hash = match hash {
                    profile::OaepHash::Sha1 => OaepHash::Sha1,
                    profile::OaepHash::Sha256 => OaepHash::Sha256,
                };
                Self::Oaep { mechanism, hash, mac: mac_mechanism }
            }
            WrapMethod::UnwrapGetattr { mechanism, value_len, readable, .. } => {
                Self::ByValue { mechanism, value_len, readable }
            }
        }
    }

    /// How a wrap opens whose method the profile no longer lists: by the numbers of PKCS#11 3.0. Whether a MAC key stands
    /// beside an RSA key only a profile knows, so those do not open without one.
    pub const fn standard(method: Method) -> Option<Self> {
        Some(match method {
            // The blob's form is the same whoever made the IV; only its length differs.
            Method::AesGcmCallerIv | Method::AesGcmHsmWriteback | Method::AesGcmHsmPrepended => {
                Self::Gcm { mechanism: cryptoki_sys::CKM_AES_GCM, iv: IvMode::Caller }
            }
            Method::AesGcmHsmAppended => Self::Gcm { mechanism: cryptoki_sys::CKM_AES_GCM, iv: IvMode::HsmAppended },
            Method::AesKwp => Self::KeyWrap { mechanism: CKM_AES_KEY_WRAP_KWP },
            Method::AesKw => Self::KeyWrap { mechanism: cryptoki_sys::CKM_AES_KEY_WRAP },
            Method::AesCbcHmac => {
                Self::CbcHmac { mechanism: cryptoki_sys::CKM_AES_CBC_PAD, mac: cryptoki_sys::CKM_SHA256_HMAC }
            }
            Method::UnwrapGetattr => {
                Self::ByValue { mechanism: cryptoki_sys::CKM_AES_KEY_WRAP, value_len: false, readable: true }
            }
            Method::RsaOaepSha256 | Method::RsaOaepSha1 | Method::Software | Method::Transit => return None,
        })
    }

    /// The role of the key-encryption key itself.
    pub const fn role(self) -> KeyRole {
        match self {
            Self::Gcm { .. } | Self::KeyWrap { .. } | Self::CbcHmac { .. } => KeyRole::Cipher,
            Self::Oaep { .. } => KeyRole::Private,
            Self::ByValue { .. } => KeyRole::Wrapper,
        }
    }

    /// Whether a MAC key stands beside it.
    pub const fn has_mac(self) -> bool {
        matches!(self, Self::CbcHmac { .. } | Self::Oaep { mac: Some(_), .. })
    }

    /// Whether the token authenticates what a wrap is bound to. Where it does not, it wraps a fresh key instead.
    pub const fn binds(self) -> bool {
        matches!(self, Self::Gcm { .. } | Self::CbcHmac { .. })
    }

    /// Whether a blob of this length can be one of ours: another one never reaches the token.
    pub const fn fits(self, len: usize) -> bool {
        match self {
            // IV, key, tag.
            Self::Gcm { iv: IvMode::HsmAppended, .. } => len == 16 + 32 + 16,
            Self::Gcm { .. } => len == 12 + 32 + 16,
            // The key and eight bytes of its own.
            Self::KeyWrap { .. } | Self::ByValue { .. } => len == 32 + 8,
            // MAC, IV, key and a block of padding.
            Self::CbcHmac { .. } => len == 32 + 16 + 48,
            // 2,048 to 4,096 bits, and the MAC: what a stored wrap has room for.
            Self::Oaep { mac: None, .. } => len >= 256 && len <= 512,
            Self::Oaep { mac: Some(_), .. } => len >= 32 + 256 && len <= 32 + 512,
        }
    }

    /// Writes the recipe into a message: every kind has the same four fields.
    pub(super) fn put(self, frame: &mut Frame) -> Result<(), Malformed> {
        let (kind, mechanism, number, flags) = match self {
            Self::Gcm { mechanism, iv } => (1, mechanism, iv_number(iv), 0),
            Self::KeyWrap { mechanism } => (2, mechanism, 0, 0),
            Self::CbcHmac { mechanism, mac } => (3, mechanism, mac, 0),
            Self::Oaep { mechanism, hash, mac } => {
                let flags = u8::from(hash == OaepHash::Sha256) | (u8::from(mac.is_some()) << 1);
                (4, mechanism, mac.unwrap_or(0), flags)
            }
            Self::ByValue { mechanism, value_len, readable } => {
                (5, mechanism, 0, u8::from(value_len) | (u8::from(readable) << 1))
            }
        };
        frame.put_u8(kind)?;
        frame.put_u64(mechanism)?;
        frame.put_u64(number)?;
        frame.put_u8(flags)
    }

    /// Reads the recipe of a message: what it accepts is written back to the same bytes.
    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let (kind, mechanism, number, flags) = (fields.u8()?, fields.u64()?, fields.u64()?, fields.u8()?);
        let (first, second) = (flags & 1 != 0, flags & 2 != 0);
        match (kind, number, flags) {
            (1, _, 0) => Ok(Self::Gcm { mechanism, iv: iv_mode(number).ok_or(Malformed)? }),
            (2, 0, 0) => Ok(Self::KeyWrap { mechanism }),
            (3, _, 0) => Ok(Self::CbcHmac { mechanism, mac: number }),
            (4, _, 0..=3) if second || number == 0 => {
                let hash = if first { OaepHash::Sha256 } else { OaepHash::Sha1 };
                Ok(Self::Oaep { mechanism, hash, mac: second.then_some(number) })
            }
            (5, 0, 0..=3) => Ok(Self::ByValue { mechanism, value_len: first, readable: second }),
            _ => Err(Malformed),
        }
    }
}

impl KeyRole {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Cipher => 1,
            Self::Wrapper => 2,
            Self::Mac => 3,
            Self::Private => 4,
        }
    }

    pub(super) const fn of(number: u8) -> Result<Self, Malformed> {
        Ok(match number {
            1 => Self::Cipher,
            2 => Self::Wrapper,
            3 => Self::Mac,
            4 => Self::Private,
            _ => return Err(Malformed),
        })
    }
}

const fn iv_number(iv: IvMode) -> u64 {
    match iv {
        IvMode::Caller => 1,
        IvMode::HsmWriteback => 2,
        IvMode::HsmAppended => 3,
        IvMode::HsmPrepended => 4,
    }
}

const fn iv_mode(number: u64) -> Option<IvMode> {
    Some(match number {
        1 => IvMode::Caller,
        2 => IvMode::HsmWriteback,
        3 => IvMode::HsmAppended,
        4 => IvMode::HsmPrepended,
        _ => return None,
    })
}

/// PKCS#11 3.0; the bindings stop at 2.40.
const CKM_AES_KEY_WRAP_KWP: u64 = 0x210B;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_read_as_it_was_written_and_nothing_else_is() {
        let oaep = |hash, mac| Recipe::Oaep { mechanism: 9, hash, mac };
        let by_value = |value_len, readable| Recipe::ByValue { mechanism: 0x2109, value_len, readable };
        let recipes = [
            Recipe::Gcm { mechanism: 0x1087, iv: IvMode::Caller },
            Recipe::Gcm { mechanism: 0x1087, iv: IvMode::HsmWriteback },
            Recipe::Gcm { mechanism: 0x1087, iv: IvMode::HsmAppended },
            Recipe::Gcm { mechanism: 0x8000_1087, iv: IvMode::HsmPrepended },
            Recipe::KeyWrap { mechanism: 0x210B },
            Recipe::CbcHmac { mechanism: 0x1085, mac: 0x251 },
            oaep(OaepHash::Sha1, None),
            oaep(OaepHash::Sha256, Some(0x251)),
            by_value(false, true),
            by_value(true, false),
        ];
        let mut frame = Frame::new();
        for recipe in recipes {
            frame.clear();
            recipe.put(&mut frame).unwrap();
            assert_eq!(Recipe::take(&mut Fields::of(frame.body())), Ok(recipe));
        }
        let good = frame.body().to_vec();
        for at in [0, 9, 17] {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                if let Ok(read) = Recipe::take(&mut Fields::of(&bad)) {
                    frame.clear();
                    read.put(&mut frame).unwrap();
                    assert_eq!(frame.body(), bad, "byte {at} = {byte}");
                }
            }
        }
    }
}
