//! Who does a JSON Web Token prove? A configured issuer's signature over issuer, audience, subject and time.
//! This module never takes a key out of a token, and never an algorithm that the configuration does not name.

mod keys;
mod source;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::client::{FetchUrl, Trust};
use crate::clock::{BoxFuture, SharedClock, Wall};
use crate::crypto::{sha256, verify_signature};
use crate::names::Name;

pub use keys::{Algorithm, KeySet, KeySetError, NoKey};
pub use source::{Changed, ProviderStatus};
pub use token::looks_like;

use source::Held;
use token::{Claims, Unverified};

/// One `[jwt.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Its name, by which principals refer to it.
    pub name: Name,
    /// The `iss` of its tokens, to the letter.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audience: Vec<String>,
    /// What its tokens may be signed by.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// How often a URL is asked without a reason.
    pub refresh: Duration,
    /// How long keys serve after they could last be read.
    pub stale_for: Duration,
    /// By how much the issuer's clock may differ from ours.
    pub skew: Duration,
}

/// Where the keys of a provider are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, looked at every few seconds.
    File(PathBuf),
    /// A URL, and how its server is believed.
    Url(FetchUrl, Trust),
}

/// A subject of a provider: what a principal is configured with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwtSubject {
    /// The provider.
    pub provider: Name,
    /// The `sub` of its tokens, to the letter.
    pub subject: Arc<str>,
}

/// Why a token proves nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Too long to be looked at.
    #[error("the token is larger than {} bytes", token::MOST_BYTES)]
    TooLarge,
    /// Not three parts of base64url, or not the JSON that it should be.
    #[error("the token is malformed")]
    Malformed,
    /// `crit`, or something that changes what is signed.
    #[error("the token uses an extension that is not taken")]
    Extension,
    /// Made for something else.
    #[error("the token is of another type")]
    OtherType,
    /// No provider has this issuer.
    #[error("the issuer is not configured")]
    Issuer,
    /// `none`, HMAC, or one that the provider may not use.
    #[error("the algorithm is not allowed")]
    Algorithm,
    /// No key with this id; the set may be old.
    #[error("no key of the issuer has this id")]
    UnknownKey,
    /// Several keys, and the token names none.
    #[error("the token names no key, and the issuer has several")]
    KeyUnnamed,
    /// The key that it names is for another algorithm.
    #[error("the key is for another algorithm")]
    KeyMismatch,
    /// The keys could not be read, or not for too long.
    #[error("the keys of the issuer are not known")]
    NoKeys,
    /// It is not signed by that key.
    #[error("the signature does not verify")]
    Signature,
    /// Meant for somebody else.
    #[error("the audience is another")]
    Audience,
    /// Without an end, or past it.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// A subject that no principal could have.
    #[error("the subject is not 1 to 512 printable characters")]
    Subject,
}

impl JwtError {
    /// The name in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "jwt_too_large",
            Self::Malformed => "jwt_malformed",
            Self::Extension => "jwt_extension",
            Self::OtherType => "jwt_type",
            Self::Issuer => "jwt_issuer",
            Self::Algorithm => "jwt_algorithm",
            Self::UnknownKey => "jwt_key_unknown",
            Self::KeyUnnamed => "jwt_key_unnamed",
            Self::KeyMismatch => "jwt_key_mismatch",
            Self::NoKeys => "jwt_keys_missing",
            Self::Signature => "jwt_signature",
            Self::Audience => "jwt_audience",
            Self::Expired => "jwt_expired",
            Self::NotYet => "jwt_not_yet",
            Self::Subject => "jwt_subject",
        }
    }
}

/// The configured providers with the keys that they have at the moment.
pub struct Providers {
    all: Vec<Provider>,
    /// Tokens whose signature was verified, by their digest; time is looked at for each use.
    seen: Cache<[u8; 32], Seen>,
}

struct Provider {
    settings: ProviderSettings,
    held: Held,
}

#[derive(Clone)]
struct Seen {
    who: JwtSubject,
    life: Life,
    /// The provider, and the keys that it had.
    at: usize,
    generation: u64,
}

/// When a token is valid, in seconds since 1970.
#[derive(Clone, Copy)]
struct Life {
    from: u64,
    to: u64,
}

/// A verified signature saves about 100 µs at each further request with the same token.
const SEEN: usize = 1_024;
/// `system:serviceaccount:NAMESPACE:NAME` has at most 339.
const MOST_SUBJECT: usize = 512;

impl Providers {
    pub(super) fn new(settings: &[ProviderSettings]) -> Self {
        let provider = |settings: &ProviderSettings| Provider { settings: settings.clone(), held: Held::new() };
        Self { all: settings.iter().map(provider).collect(), seen: Cache::new(SEEN) }
    }

    /// Whether any is configured.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Verifies a token.
    pub(super) fn verify(&self, text: &[u8], now: Wall) -> Result<JwtSubject, JwtError> {
        if text.len() > token::MOST_BYTES {
            return Err(JwtError::TooLarge);
        }
        let digest = sha256(&[text]);
        if let Some(seen) = self.seen.get(&digest)
            && let Some(provider) = self.all.get(seen.at)
            && provider.held.generation() == seen.generation
        {
            seen.life.check(now, provider.settings.skew)?;
            return Ok(seen.who);
        }
        let token = Unverified::read(text)?;
        let (at, provider) = self.of_issuer(&token.claims.iss)?;
        let (who, life, generation) = provider.verify(&token, now)?;
        self.seen.insert(digest, Seen { who: who.clone(), life, at, generation });
        Ok(who)
    }

    /// If a token names a key that its provider may have by now: asks for the keys, and resolves when they were looked at.
    pub(super) fn learn(&self, text: &[u8], clock: &SharedClock) -> Option<BoxFuture<'static, ()>> {
        if !matches!(self.verify(text, clock.wall()), Err(JwtError::UnknownKey | JwtError::NoKeys)) {
            return None;
        }
        let token = Unverified::read(text).ok()?;
        let (_, provider) = self.of_issuer(&token.claims.iss).ok()?;
        provider.held.ask(clock)
    }

    fn of_issuer(&self, issuer: &str) -> Result<(usize, &Provider), JwtError> {
        let found = self.all.iter().enumerate().find(|(_, provider)| provider.settings.issuer == issuer);
        found.ok_or(JwtError::Issuer)
    }
}

impl Provider {
    fn verify(&self, token: &Unverified<'_>, now: Wall) -> Result<(JwtSubject, Life, u64), JwtError> {
        let algorithm = Algorithm::named(&token.header.alg).ok_or(JwtError::Algorithm)?;
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(JwtError::Algorithm);
        }
        let keys = self.held.keys();
        if keys.set.is_empty() {
            return Err(JwtError::NoKeys);
        }
        let key = keys.set.find(token.header.kid.as_deref(), algorithm).map_err(|why| match why {
            NoKey::Unknown => JwtError::UnknownKey,
            NoKey::Unnamed => JwtError::KeyUnnamed,
            NoKey::OtherAlgorithm => JwtError::KeyMismatch,
        })?;
        verify_signature(key, token.signed, &token.signature).map_err(|_| JwtError::Signature)?;
        let Claims { aud, sub, .. } = &token.claims;
        if !aud.names(&self.settings.audience) {
            return Err(JwtError::Audience);
        }
        if !is_subject(sub) {
            return Err(JwtError::Subject);
        }
        let life = Life::of(&token.claims)?;
        life.check(now, self.settings.skew)?;
        let who = JwtSubject { provider: self.settings.name.clone(), subject: sub.as_str().into() };
        Ok((who, life, keys.generation))
    }
}

/// Whether a principal could have this subject: it stands in records as it is.
pub fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() <= MOST_SUBJECT && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

impl Life {
    /// A token must say when it ends; one that was made in the future is not valid yet either.
    fn of(claims: &Claims) -> Result<Self, JwtError> {
        let to = claims.exp.and_then(token::NumericDate::seconds).ok_or(JwtError::Expired)?;
        let mut from = 0;
        for beginning in [claims.nbf, claims.iat].into_iter().flatten() {
            from = beginning.seconds().ok_or(JwtError::Malformed)?.max(from);
        }
        Ok(Self { from, to })
    }

    fn check(self, now: Wall, skew: Duration) -> Result<(), JwtError> {
        let (now, skew) = (now.0 / 1_000_000, skew.as_secs());
        if now >= self.to.saturating_add(skew) {
            return Err(JwtError::Expired);
        }
        if now.saturating_add(skew) < self.from { Err(JwtError::NotYet) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
