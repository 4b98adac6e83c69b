//! People who sign decisions, with keys in files and in tokens, made from a number. What they sign is SSHSIG, written here.
#![allow(dead_code, reason = "each test binary uses some of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::clock::Wall;
use keyward::identity::sshsig::SshKey;
use keyward::policy::approval::{Decision, Word};
use keyward::policy::roster::{Credential, Member};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// A key of a person.
pub struct Signer {
    pair: Ed25519KeyPair,
    token: bool,
}

/// Touched, and a PIN was given.
pub const TOUCHED: u8 = 0x01;
pub const VERIFIED: u8 = 0x04;

impl Signer {
    /// A key in a file.
    pub fn software(seed: u8) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), token: false }
    }

    /// A key in a FIDO2 token.
    pub fn token(seed: u8) -> Self {
        Self { token: true, ..Self::software(seed) }
    }

    /// The public key.
    pub fn key(&self) -> SshKey {
        SshKey::of_blob(&self.blob()).unwrap()
    }

    /// Signs; a token is touched and sees a PIN.
    pub fn sign(&self, namespace: &str, text: &str, counter: u32) -> String {
        self.sign_with(namespace, text, TOUCHED | VERIFIED, counter)
    }

    /// Signs with these flags of a token.
    pub fn sign_with(&self, namespace: &str, text: &str, flags: u8, counter: u32) -> String {
        let hashed = ring::digest::digest(&ring::digest::SHA512, text.as_bytes());
        let signed =
            [b"SSHSIG".to_vec(), string(namespace.as_bytes()), string(b""), string(b"sha512"), string(hashed.as_ref())];
        let told = if self.token { [&[flags][..], &counter.to_be_bytes()].concat() } else { Vec::new() };
        let message = match self.token {
            true => [sha256(b"ssh:"), told.clone(), sha256(&signed.concat())].concat(),
            false => signed.concat(),
        };
        let made = [string(self.kind()), string(self.pair.sign(&message).as_ref()), told].concat();
        let blob = [
            b"SSHSIG".to_vec(),
            1_u32.to_be_bytes().to_vec(),
            string(&self.blob()),
            string(namespace.as_bytes()),
            string(b""),
            string(b"sha512"),
            string(&made),
        ];
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob.concat()))
    }

    const fn kind(&self) -> &'static [u8] {
        if self.token { b"sk-ssh-ed25519@openssh.com" } else { b"ssh-ed25519" }
    }

    fn blob(&self) -> Vec<u8> {
        let application = if self.token { string(b"ssh:") } else { Vec::new() };
        [string(self.kind()), string(self.pair.public_key().as_ref()), application].concat()
    }
}

/// A member of a roster with these keys, all enrolled at once.
pub fn member(person: &str, enrolled: Wall, keys: &[&Signer]) -> Member {
    let credentials = keys.iter().map(|signer| Credential { key: signer.key(), enrolled, revoked: None }).collect();
    let recertify_by = Wall(enrolled.0 + 90 * 86_400_000_000);
    Member { person: person.parse().unwrap(), since: enrolled, recertify_by, acknowledgement: [7; 32], credentials }
}

/// A decision of a person.
pub fn decision(ceremony: &str, digest: [u8; 32], word: Word, person: &str, expires_s: u64) -> Decision {
    let reason = "-".to_owned();
    Decision { ceremony: ceremony.to_owned(), digest, word, person: person.parse().unwrap(), reason, expires_s }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}
