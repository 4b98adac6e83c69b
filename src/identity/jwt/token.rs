//! What does a JSON Web Token say? A strict reader of the compact form (RFC 7515, RFC 7519).
//! This module never verifies and never believes: a header names no key but by its id, and nothing it brings is used.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::JwtError;

/// Bytes of a token at most, looked at before anything else. Projected tokens have about 1,000, those of providers that
/// put groups into them a few thousand.
pub const MOST_BYTES: usize = 8 * 1024;

/// A token in its parts; nothing of it is verified.
pub struct Unverified<'a> {
    /// What was signed.
    pub signed: &'a [u8],
    /// The header.
    pub header: Header,
    /// The claims.
    pub claims: Claims,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What is read of a header. `jwk`, `jku`, `x5c` and `x5u` are not: keys come from the configured set alone.
#[derive(Deserialize)]
pub struct Header {
    /// The algorithm that the signer claims.
    pub alg: String,
    /// The key's id.
    pub kid: Option<String>,
    typ: Option<String>,
    #[serde(default)]
    crit: Present,
    #[serde(default)]
    b64: Present,
    #[serde(default)]
    zip: Present,
    #[serde(default)]
    enc: Present,
}

/// Whether a member is there at all, whatever it holds.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| Self(true))
    }
}

/// What is read of the claims. A name that is given twice is refused by the reader.
#[derive(Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The subject.
    pub sub: String,
    /// Whom it is meant for.
    pub aud: Audience,
    /// Its end.
    pub exp: Option<NumericDate>,
    /// Its beginning.
    pub nbf: Option<NumericDate>,
    /// When it was made.
    pub iat: Option<NumericDate>,
}

/// One or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A text.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Audience {
    /// Whether one of ours is among them.
    pub fn names(&self, ours: &[String]) -> bool {
        match self {
            Self::One(one) => ours.contains(one),
            Self::Many(many) => many.iter().any(|one| ours.contains(one)),
        }
    }
}

/// Seconds since 1970, with or without a fraction; a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct NumericDate(f64);

impl NumericDate {
    /// In whole seconds, if it is a time at all. Later than 2^53 is nobody's time.
    pub fn seconds(self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 2^53 nothing is lost"
        )]
        ((0.0..9_007_199_254_740_992.0).contains(&self.0)).then_some(self.0 as u64)
    }
}

/// Whether a text could be a token of this kind: three parts.
pub fn looks_like(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'.').count() == 2
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub fn read(text: &'a [u8]) -> Result<Self, JwtError> {
        if text.len() > MOST_BYTES {
            return Err(JwtError::TooLarge);
        }
        let malformed = |_| JwtError::Malformed;
        let last = text.iter().rposition(|byte| *byte == b'.').ok_or(JwtError::Malformed)?;
        let (signed, signature) = text.split_at_checked(last).ok_or(JwtError::Malformed)?;
        let mut parts = signed.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(JwtError::Malformed);
        };
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(malformed)?;
        header.check()?;
        Ok(Self {
            signed,
            claims: serde_json::from_slice(&decode(claims)?).map_err(malformed)?,
            signature: decode(signature.get(1..).unwrap_or_default())?,
            header,
        })
    }
}

impl Header {
    /// An extension that must be understood is not; and tokens that were made for something else stay there.
    fn check(&self) -> Result<(), JwtError> {
        if [&self.crit, &self.b64, &self.zip, &self.enc].iter().any(|member| member.0) {
            return Err(JwtError::Extension);
        }
        let fits = |typ: &str| {
            ["jwt", "at+jwt", "application/jwt", "application/at+jwt"]
                .iter()
                .any(|taken| typ.eq_ignore_ascii_case(taken))
        };
        if self.typ.as_deref().is_none_or(fits) { Ok(()) } else { Err(JwtError::OtherType) }
    }
}
