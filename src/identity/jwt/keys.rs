//! Which keys does an issuer sign by? A JWK set (RFC 7517) becomes the public keys that fit the algorithms we take.
//! Secret keys, keys for encryption and kinds that we do not know are passed over and never used.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::crypto::{PublicKey, RsaHash};

/// What a token may be signed by. There is no `none` and no HMAC: nobody can switch them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Rs256, Self::Es256, Self::Es384, Self::EdDsa];

    /// The name in tokens, key sets and the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }
}

/// One key, with the one algorithm that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    /// A point, or the 32 bytes of Ed25519.
    Curve(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

/// The usable keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than any issuer's.
    #[error("the key set is larger than {MOST_BYTES} bytes")]
    TooLarge,
    /// Not a JWK set.
    #[error("not a JWK set: {0}")]
    Malformed(String),
    /// More than any issuer has.
    #[error("the key set has more than {MOST_KEYS} keys")]
    TooMany,
    /// A key says one thing and holds another.
    #[error("the key {0:?} is malformed")]
    Key(String),
    /// A token could not say which one it means.
    #[error("two keys share the id {0:?}")]
    SharedId(String),
    /// A set that verifies nothing.
    #[error("the key set has no key for signatures that are taken (RS256, ES256, ES384, EdDSA)")]
    Empty,
}

/// Bytes of a set at most.
pub const MOST_BYTES: usize = 256 * 1024;
const MOST_KEYS: usize = 64;
/// An id is looked at for each token and stands in nothing else.
const MOST_ID: usize = 256;

#[derive(Deserialize)]
struct RawSet<'a> {
    #[serde(borrow)]
    keys: Vec<RawKey<'a>>,
}

/// Members beyond these (`x5c`, `x5t`, ...) are not read: only the key itself counts.
#[derive(Deserialize)]
struct RawKey<'a> {
    #[serde(borrow)]
    kty: std::borrow::Cow<'a, str>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads a set.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MOST_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let raw: RawSet<'_> =
            serde_json::from_slice(text).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if raw.keys.len() > MOST_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        for key in raw.keys {
            let Some(key) = key.read()? else { continue };
            if keys.iter().any(|other| other.id == key.id && key.id.is_some()) {
                return Err(KeySetError::SharedId(key.id.unwrap_or_default()));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key that a token means, if it also serves the token's algorithm: the one with this id, or without an id the
    /// only one there is.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<PublicKey<'_>, NoKey> {
        let found = match (id, self.0.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)).ok_or(NoKey::Unknown)?,
            (None, [only]) => only,
            (None, _) => return Err(NoKey::Unnamed),
        };
        if found.algorithm == algorithm { Ok(found.public()) } else { Err(NoKey::OtherAlgorithm) }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: nothing verifies.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, for people.
    pub fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|key| key.id.as_deref().unwrap_or("-")).collect()
    }
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// No key has the id: the set may be old.
    Unknown,
    /// There are several, and the token names none.
    Unnamed,
    /// The key is for another algorithm than the token claims.
    OtherAlgorithm,
}

impl Key {
    fn public(&self) -> PublicKey<'_> {
        match (&self.material, self.algorithm) {
            (Material::Rsa { modulus, exponent }, _) => PublicKey::Rsa { modulus, exponent, hash: RsaHash::Sha256 },
            (Material::Curve(point), Algorithm::Es384) => PublicKey::EcdsaP384(point),
            (Material::Curve(point), Algorithm::EdDsa) => PublicKey::Ed25519(point),
            (Material::Curve(point), Algorithm::Es256 | Algorithm::Rs256) => PublicKey::EcdsaP256(point),
        }
    }
}

impl RawKey<'_> {
    /// The key; None if it is not one that verifies a signature that we take.
    fn read(self) -> Result<Option<Key>, KeySetError> {
        let signs = self.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let algorithm = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("EC", Some("P-384")) => Algorithm::Es384,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return Ok(None),
        };
        let says = self.alg.as_deref();
        if !signs
            || says
                .is_some_and(|says| says != algorithm.name() && !(says == "Ed25519" && algorithm == Algorithm::EdDsa))
        {
            return Ok(None);
        }
        let name = self.kid.clone().unwrap_or_else(|| "-".to_owned());
        if self.kid.as_ref().is_some_and(|id| id.is_empty() || id.len() > MOST_ID) {
            return Err(KeySetError::Key(name.chars().take(32).collect()));
        }
        let material = self.material(algorithm).ok_or(KeySetError::Key(name))?;
        Ok(Some(Key { id: self.kid, algorithm, material }))
    }

    fn material(&self, algorithm: Algorithm) -> Option<Material> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let exactly = |text: &Option<String>, size: usize| bytes(text).filter(|bytes| bytes.len() == size);
        let point = |size| Some(Material::Curve([vec![4], exactly(&self.x, size)?, exactly(&self.y, size)?].concat()));
        match algorithm {
            Algorithm::Es256 => point(32),
            Algorithm::Es384 => point(48),
            Algorithm::EdDsa => Some(Material::Curve(exactly(&self.x, 32)?)),
            Algorithm::Rs256 => {
                let (modulus, exponent) = (bytes(&self.n)?, bytes(&self.e)?);
                // RFC 7518, 6.3.1: without leading zeros; ring asks for 2,048 bits at least, and so here already.
                let fine = modulus.first() != Some(&0) && (256..=1024).contains(&modulus.len());
                (fine && !exponent.is_empty() && exponent.len() <= 4).then_some(Material::Rsa { modulus, exponent })
            }
        }
    }
}
