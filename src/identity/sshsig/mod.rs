//! Did a person sign this with an SSH key? SSHSIG (OpenSSH's PROTOCOL.sshsig, as `ssh-keygen -Y sign` writes it) by Ed25519,
//! ECDSA over P-256 and P-384, RSA with SHA-2, and by FIDO2 tokens (`sk-`), whose flags and counter are handed on.
//!
//! This module never decides whose key it is, nor whether a touch is enough: `ssh-keygen -Y verify` asks for neither touch
//! nor PIN, so whoever believes a signature looks at its [`Presence`].

mod key;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use key::SshKey;
use key::{Kind, MOST, exactly};
use wire::{Fields, put_string};

use crate::crypto::{self, PublicKey, RsaHash, verify_signature};

/// Why a key or a signature is none that we believe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// The bytes are not what they should be.
    #[error("it is not readable: {0}")]
    Malformed(&'static str),
    /// A kind of key, signature or hash that is not verified here.
    #[error(
        "{0} is not verified here: use ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ssh-rsa with SHA-2, \
         sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com"
    )]
    Algorithm(String),
    /// A key that is too short, or that takes rubbish for a signature.
    #[error("it is too weak: {0}")]
    Weak(&'static str),
    /// Signed for something else.
    #[error("it was signed for the namespace {found:?} and not for {wanted:?}: `ssh-keygen -Y sign -n {wanted}`")]
    Namespace {
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Another message, or another key.
    #[error("the signature is not of this message by this key")]
    Forged,
}

/// What a signature says of the person at the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing: a key in a file or an agent.
    Unknown,
    /// What a FIDO2 token signed with it.
    Token {
        /// It was touched (UP).
        touched: bool,
        /// The person gave a PIN or a fingerprint (UV).
        verified: bool,
        /// The token's counter; 0 for ever where it has none.
        counter: u32,
    },
}

/// A signature that has been read and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    key: SshKey,
    namespace: String,
    hash: Hash,
    made: Made,
}

/// The hash of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

/// The inner signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    /// Only of RSA.
    rsa: Option<RsaHash>,
    /// As the verifier takes it: of ECDSA `r || s`.
    bytes: Vec<u8>,
    /// Of a FIDO2 token: its flags and its counter.
    token: Option<(u8, u32)>,
}

impl SshSignature {
    /// Reads the armoured form, of at most 16 KiB.
    pub fn parse(armoured: &str) -> Result<Self, SshError> {
        if armoured.len() > MOST {
            return Err(SshError::Malformed("a signature is at most 4 KiB long"));
        }
        // It is kept as it is, in documents that hold nothing else.
        if !armoured.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            return Err(SshError::Malformed("it holds something other than printable ASCII and line feeds"));
        }
        let inner = armoured.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let inner = inner.ok_or(SshError::Malformed("it does not stand between BEGIN and END SSH SIGNATURE"))?;
        let text: String = inner.split_ascii_whitespace().collect();
        let blob = STANDARD.decode(text).map_err(|_| SshError::Malformed("it is not base64"))?;
        Self::of_blob(&blob)
    }

    /// Reads what the armour holds.
    pub fn of_blob(blob: &[u8]) -> Result<Self, SshError> {
        let mut fields = Fields(blob);
        if fields.bytes(MAGIC.len())? != MAGIC {
            return Err(SshError::Malformed("it does not begin with SSHSIG"));
        }
        if fields.number()? != VERSION {
            return Err(SshError::Malformed("its version is not 1"));
        }
        let key = SshKey::of_blob(fields.string()?)?;
        let namespace = fields.text()?.to_owned();
        if namespace.is_empty() {
            return Err(SshError::Malformed("it has no namespace"));
        }
        // "Ignored" by the format; a signer that puts something there is not one that we know.
        if !fields.string()?.is_empty() {
            return Err(SshError::Malformed("its reserved field is not empty"));
        }
        let hash = match fields.text()? {
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            other => return Err(SshError::Algorithm(printable(other))),
        };
        let made = Made::read(fields.string()?, &key)?;
        fields.end()?;
        Ok(Self { key, namespace, hash, made })
    }

    /// The key that it says made it.
    pub const fn key(&self) -> &SshKey {
        &self.key
    }

    /// The counter that it says its token had; believed only of a signature that was verified.
    pub fn claimed_counter(&self) -> Option<u32> {
        self.made.token.map(|(_, counter)| counter)
    }

    /// Whether its key signed this message for this namespace, and what it says of the person.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<Presence, SshError> {
        if self.namespace != namespace {
            let (found, wanted) = (printable(&self.namespace), namespace.to_owned());
            return Err(SshError::Namespace { found, wanted });
        }
        let signed = self.signed(message)?;
        let by = |key, message: &[u8]| {
            verify_signature(key, message, &self.made.bytes).map_err(|_| SshError::Forged).map(|()| Presence::Unknown)
        };
        match &self.key.kind {
            Kind::Ed25519(public) => by(PublicKey::Ed25519(public), &signed),
            Kind::EcdsaP256(point) => by(PublicKey::EcdsaP256(point), &signed),
            Kind::EcdsaP384(point) => by(PublicKey::EcdsaP384(point), &signed),
            Kind::Rsa { modulus, exponent } => {
                let hash = self.made.rsa.ok_or(SshError::Forged)?;
                by(PublicKey::Rsa { modulus, exponent, hash }, &signed)
            }
            Kind::SkEd25519(public, application) => {
                self.by_token(application, &signed, |message| by(PublicKey::Ed25519(public), message))
            }
            Kind::SkEcdsaP256(point, application) => {
                self.by_token(application, &signed, |message| by(PublicKey::EcdsaP256(point), message))
            }
        }
    }

    /// What the key signs: `SSHSIG || namespace || reserved || hash || H(message)`.
    fn signed(&self, message: &[u8]) -> Result<Vec<u8>, SshError> {
        let mut out = MAGIC.to_vec();
        put_string(&mut out, self.namespace.as_bytes())?;
        put_string(&mut out, b"")?;
        match self.hash {
            Hash::Sha256 => {
                put_string(&mut out, b"sha256")?;
                put_string(&mut out, &crypto::sha256(&[message]))?;
            }
            Hash::Sha512 => {
                put_string(&mut out, b"sha512")?;
                put_string(&mut out, &crypto::sha512(&[message]))?;
            }
        }
        Ok(out)
    }

    /// A FIDO2 token signs `SHA-256(application) || flags || counter || SHA-256(message)`.
    fn by_token(
        &self,
        application: &str,
        signed: &[u8],
        verify: impl Fn(&[u8]) -> Result<Presence, SshError>,
    ) -> Result<Presence, SshError> {
        let (flags, counter) = self.made.token.ok_or(SshError::Forged)?;
        let mut message = crypto::sha256(&[application.as_bytes()]).to_vec();
        message.push(flags);
        message.extend_from_slice(&counter.to_be_bytes());
        message.extend_from_slice(&crypto::sha256(&[signed]));
        verify(&message)?;
        Ok(Presence::Token { touched: flags & TOUCHED != 0, verified: flags & VERIFIED != 0, counter })
    }
}

impl Made {
    fn read(bytes: &[u8], key: &SshKey) -> Result<Self, SshError> {
        let mut fields = Fields(bytes);
        let name = fields.text()?;
        let rsa = match (name, &key.kind) {
            ("rsa-sha2-256", Kind::Rsa { .. }) => Some(RsaHash::Sha256),
            ("rsa-sha2-512", Kind::Rsa { .. }) => Some(RsaHash::Sha512),
            // `ssh-rsa` names a signature with SHA-1.
            ("ssh-rsa", Kind::Rsa { .. }) => {
                return Err(SshError::Algorithm("a signature by RSA with SHA-1".to_owned()));
            }
            (name, _) if name == key.algorithm() => None,
            (other, _) => return Err(SshError::Algorithm(format!("a signature of the kind {}", printable(other)))),
        };
        let inner = fields.string()?;
        let bytes = match &key.kind {
            Kind::Ed25519(_) | Kind::SkEd25519(..) => exactly::<64>(inner)?.to_vec(),
            Kind::EcdsaP256(_) | Kind::SkEcdsaP256(..) => pair::<32>(inner)?,
            Kind::EcdsaP384(_) => pair::<48>(inner)?,
            Kind::Rsa { .. } => inner.to_vec(),
        };
        let token = if key.is_in_token() { Some((fields.byte()?, fields.number()?)) } else { None };
        fields.end()?;
        Ok(Self { rsa, bytes, token })
    }
}

/// `mpint r || mpint s` as two numbers of N bytes each.
fn pair<const N: usize>(bytes: &[u8]) -> Result<Vec<u8>, SshError> {
    let mut fields = Fields(bytes);
    let mut out = Vec::with_capacity(2 * N);
    for _ in 0..2 {
        let number = fields.natural()?;
        let zeros = N.checked_sub(number.len()).ok_or(SshError::Malformed("a number is too long for its curve"))?;
        out.extend(std::iter::repeat_n(0, zeros));
        out.extend_from_slice(number);
    }
    fields.end()?;
    Ok(out)
}

/// What somebody else wrote, for a message of ours.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// User presence (CTAP 2.1, authenticator data).
const TOUCHED: u8 = 0x01;
/// User verification.
const VERIFIED: u8 = 0x04;
